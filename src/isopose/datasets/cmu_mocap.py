"""CMU motion capture (cgspeed's Daz-friendly BVH conversion): its index, its joint table, its clips.

The first frames of a file are a calibration pose and are dropped; the frame rate is the index's, not the header's
(which is wrong for subject 60); files that failed the index's quality check are left out and named in the log.
"""

import csv
import logging
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from types import MappingProxyType

import numpy as np

from isopose.datasets import bvh
from isopose.datasets.body_shape import reshape, sample_body
from isopose.datasets.bvh import JointRule
from isopose.datasets.kinematics import playback_times
from isopose.datasets.raw_files import Part
from isopose.datasets.sources import Request, check_extracted, check_known, clip_id, extract_archive, middle
from isopose.datasets.store import Clip
from isopose.errors import UserError
from isopose.skeleton import NUM_JOINTS

ARCHIVE = "cmu_mocap/cmu_mocap.tar.xz"
ARCHIVE_SHA256 = "b39fa53c41eb1949d6bfaba43946a5dac068e4a8303b7aecd5d76cdac2dcbb72"
_log = logging.getLogger(__name__)

SKIPPED_FRAMES = 4
"""Frames at the start that blend from the calibration pose."""

JOINT_TABLE = MappingProxyType(
    {
        "pelvis": JointRule(("rThigh", "lThigh")),
        "r_hip": JointRule(("rThigh",)),
        "r_knee": JointRule(("rShin",)),
        "r_ankle": JointRule(("rFoot",)),
        "l_hip": JointRule(("lThigh",)),
        "l_knee": JointRule(("lShin",)),
        "l_ankle": JointRule(("lFoot",)),
        "spine": JointRule(("abdomen", "chest")),
        "thorax": JointRule(("rShldr", "lShldr")),
        # the skeleton has no nose: Human3.6M's neck/nose is its skeleton's head joint, and so is this
        "neck": JointRule(("head",)),
        # nor a head end: the eyes sit 8 cm up and 8 cm ahead of the head joint, the crown straight above it
        "head": JointRule(("head",), (0.0, 11.5, 0.0)),
        "l_shoulder": JointRule(("lShldr",)),
        "l_elbow": JointRule(("lForeArm",)),
        "l_wrist": JointRule(("lHand",)),
        "r_shoulder": JointRule(("rShldr",)),
        "r_elbow": JointRule(("rForeArm",)),
        "r_wrist": JointRule(("rHand",)),
    }
)
"""The 17 joints in the file's skeleton (cm, joint frames with y up and z ahead)."""


def read_index() -> list[dict[str, str]]:
    """The rows of the archive's index that are needed here; see docs/datasets/cmu_mocap.md for the columns."""
    text = resources.files("isopose.datasets").joinpath("cmu_mocap_index.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _locate(rows: list[dict[str, str]], request: Request) -> list[Path]:
    """The files of index rows, from the mirror's archive or downloaded from where the index says."""
    if request.mirror is not None:
        folder = extract_archive(request.mirror, ARCHIVE, ARCHIVE_SHA256, request.cache)
        files = {folder / "cmu_mocap" / row["path"]: row["sha256"] for row in rows}
        check_extracted(files, folder)
        return list(files)
    return [_download(row, request.cache / "cmu_mocap") for row in rows]


def _download(row: dict[str, str], folder: Path) -> Path:
    import pooch

    url = "https://raw.githubusercontent.com/{source_repo}/{source_commit}/{source_path}".format(**row)
    try:
        path = pooch.retrieve(url, f"sha256:{row['sha256']}", fname=Path(row["path"]).name, path=folder)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{url}: cannot be fetched ({reason}); expected SHA-256 {row['sha256'][:16]}…; "
            f"check the network, or set ISOPOSE_DATA_MIRROR to a folder that holds {ARCHIVE}"
        ) from error
    return Path(path)


def read_clips(request: Request) -> Iterator[Clip]:
    """Clips of the requested subjects and actions, named ``13_18@2.0``, at ``fps`` by resampling rotations."""
    index = read_index()
    check_known(request.subjects, sorted({row["subject"] for row in index}), "subject", "cmu_mocap")
    check_known(request.actions, sorted({row["action"] for row in index}), "action", "cmu_mocap")
    asked = [
        row
        for row in index
        if (request.subjects is None or row["subject"] in request.subjects)
        and (request.actions is None or row["action"] in request.actions)
    ]
    rows = [row for row in asked if row["qc_ok"] == "1"]
    left_out = [f"{row['subject']}_{row['trial']}" for row in asked if row["qc_ok"] != "1"]
    if left_out:
        _log.warning("cmu_mocap: left out, failed the archive's quality check: %s", ", ".join(left_out))
    motions = bvh.read_many(_locate(rows, request), bvh.needed_joints(JOINT_TABLE))
    for row, motion in zip(rows, motions, strict=True):
        body = sample_body(row["subject"])
        source_fps = float(row["fps_true"])
        frames = len(motion.root) - SKIPPED_FRAMES
        for speed in request.speeds:
            times = SKIPPED_FRAMES + playback_times(frames, source_fps, request.fps, speed)
            times = times[middle(len(times), request.fps, request.max_seconds)]
            joints = reshape(bvh.to_skeleton(motion.at(times), JOINT_TABLE), body)
            yield Clip(
                id=clip_id(f"{row['subject']}_{row['trial']}", speed),
                joints3d=joints.astype(np.float32),
                joint_valid=np.ones(NUM_JOINTS, bool),
                subject=row["subject"],
                action=row["action"],
                fps=float(request.fps),
                source="cmu_mocap",
                attributes={"speed": float(speed), "description": row["description"], "source_fps": source_fps}
                | body.attributes(),
            )


FILES = (Part(ARCHIVE, checksum=ARCHIVE_SHA256),)
