"""Bandai-Namco Research Motiondataset-1 (CC BY-NC 4.0): its joint table and its clips, at their native 30 fps."""

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import numpy as np

from isopose.datasets import bvh
from isopose.datasets.body_shape import reshape, sample_body
from isopose.datasets.bvh import JointRule
from isopose.datasets.kinematics import playback_times
from isopose.datasets.sources import (
    MIRROR_VARIABLE,
    Request,
    check_file,
    check_known,
    clip_id,
    extract_archive,
    middle,
    read_checksums,
)
from isopose.datasets.store import Clip
from isopose.errors import UserError
from isopose.skeleton import NUM_JOINTS

ARCHIVE = "bandai_namco/bandai_namco_1.tar.xz"
ARCHIVE_SHA256 = "e61db728213596fec0d2d3d7a27158345ecee9db033ee90444cbe23ae0734948"
SOURCE_FPS = 30.0
SUBJECT = "BN"
"""The archive names no performers: all motion is on one skeleton, here one subject."""

JOINT_TABLE = MappingProxyType(
    {
        "pelvis": JointRule(("UpperLeg_R", "UpperLeg_L")),
        "r_hip": JointRule(("UpperLeg_R",)),
        "r_knee": JointRule(("LowerLeg_R",)),
        "r_ankle": JointRule(("Foot_R",)),
        "l_hip": JointRule(("UpperLeg_L",)),
        "l_knee": JointRule(("LowerLeg_L",)),
        "l_ankle": JointRule(("Foot_L",)),
        "spine": JointRule(("Spine",)),
        "thorax": JointRule(("UpperArm_R", "UpperArm_L")),
        "neck": JointRule(("Head",)),
        # the end site has no length: the crown lies along the head's bone axis
        "head": JointRule(("Head",), (11.5, 0.0, 0.0)),
        "l_shoulder": JointRule(("UpperArm_L",)),
        "l_elbow": JointRule(("LowerArm_L",)),
        "l_wrist": JointRule(("Hand_L",)),
        "r_shoulder": JointRule(("UpperArm_R",)),
        "r_elbow": JointRule(("LowerArm_R",)),
        "r_wrist": JointRule(("Hand_R",)),
    }
)
"""The 17 joints in the file's skeleton (cm, joint frames with x along the bone)."""

_PREFIX = "dataset-1_"


def _locate(request: Request) -> dict[str, Path]:
    """Every motion file by its name without the prefix, as ``walk_normal_001``; checksums not yet looked at."""
    if request.mirror is None:
        raise UserError(f"bandai_namco: no mirror; set {MIRROR_VARIABLE} to the folder that holds {ARCHIVE}")
    folder = extract_archive(request.mirror, ARCHIVE, ARCHIVE_SHA256, request.cache) / "bandai_namco_1/data"
    return {path.stem.removeprefix(_PREFIX): path for path in sorted(folder.glob("*.bvh"))}


def read_clips(request: Request) -> Iterator[Clip]:
    """Clips of the requested actions (the archive's contents: walk, run, bow ...), named ``walk_normal_001@2.0``."""
    check_known(request.subjects, [SUBJECT], "subject", "bandai_namco")
    files = _locate(request)
    actions = {name: name.split("_")[0] for name in files}
    check_known(request.actions, sorted(set(actions.values())), "action", "bandai_namco")
    names = [name for name in files if request.actions is None or actions[name] in request.actions]
    root = files[names[0]].parents[1]
    checksums = read_checksums(root / "SHA256SUMS")
    for name in names:
        check_file(files[name], checksums[files[name].relative_to(root).as_posix()])
    motions = bvh.read_many([files[name] for name in names], bvh.needed_joints(JOINT_TABLE))
    body = sample_body(SUBJECT)
    for name, motion in zip(names, motions, strict=True):
        for speed in request.speeds:
            times = playback_times(len(motion.root), SOURCE_FPS, request.fps, speed)
            times = times[middle(len(times), request.fps, request.max_seconds)]
            joints = reshape(bvh.to_skeleton(motion.at(times), JOINT_TABLE), body)
            yield Clip(
                id=clip_id(name, speed),
                joints3d=joints.astype(np.float32),
                joint_valid=np.ones(NUM_JOINTS, bool),
                subject=SUBJECT,
                action=actions[name],
                fps=float(request.fps),
                source="bandai_namco",
                attributes={"speed": float(speed), "style": name.split("_")[1]} | body.attributes(),
            )
