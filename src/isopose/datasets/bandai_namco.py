"""Bandai-Namco Research Motiondataset-1 (CC BY-NC 4.0): its joint table and its clips, at their native 30 fps."""

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import numpy as np

from isopose.datasets import bvh
from isopose.datasets.body_shape import reshape, sample_body
from isopose.datasets.bvh import JointRule
from isopose.datasets.kinematics import playback_times
from isopose.datasets.raw_files import Part
from isopose.datasets.sources import (
    MIRROR_VARIABLE,
    Request,
    check_extracted,
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


def _name(path: Path) -> str:
    return path.stem.removeprefix(_PREFIX)


def _action(path: Path) -> str:
    return _name(path).split("_")[0]


def _locate(request: Request) -> list[Path]:
    """The motion files of the requested actions. The archive's own list, checksums and all, says which there are."""
    if request.mirror is None:
        raise UserError(
            f"bandai_namco: there is no mirror and no download; expected {ARCHIVE} in the folder that "
            f"{MIRROR_VARIABLE} names; set {MIRROR_VARIABLE}"
        )
    folder = extract_archive(request.mirror, ARCHIVE, ARCHIVE_SHA256, request.cache)
    root = folder / "bandai_namco_1"
    listed = {root / name: checksum for name, checksum in read_checksums(root / "SHA256SUMS").items()}
    motions = sorted(path for path in listed if path.suffix == ".bvh")
    check_known(request.actions, sorted({_action(path) for path in motions}), "action", "bandai_namco")
    wanted = [path for path in motions if request.actions is None or _action(path) in request.actions]
    check_extracted({path: listed[path] for path in wanted}, folder)
    return wanted


def read_clips(request: Request) -> Iterator[Clip]:
    """Clips of the requested actions (the archive's contents: walk, run, bow ...), named ``walk_normal_001@2.0``."""
    check_known(request.subjects, [SUBJECT], "subject", "bandai_namco")
    paths = _locate(request)
    motions = bvh.read_many(paths, bvh.needed_joints(JOINT_TABLE))
    body = sample_body(SUBJECT)
    for path, motion in zip(paths, motions, strict=True):
        for speed in request.speeds:
            times = playback_times(len(motion.root), SOURCE_FPS, request.fps, speed)
            times = times[middle(len(times), request.fps, request.max_seconds)]
            joints = reshape(bvh.to_skeleton(motion.at(times), JOINT_TABLE), body)
            yield Clip(
                id=clip_id(_name(path), speed),
                joints3d=joints.astype(np.float32),
                joint_valid=np.ones(NUM_JOINTS, bool),
                subject=SUBJECT,
                action=_action(path),
                fps=float(request.fps),
                source="bandai_namco",
                attributes={"speed": float(speed), "style": _name(path).split("_")[1]} | body.attributes(),
            )


FILES = (Part(ARCHIVE, checksum=ARCHIVE_SHA256),)
