"""Human3.6M: clips with their own cameras and views, joint angles, and the community's .npz, from files as downloaded.

Layouts, conventions, known faults and the sources of all: docs/datasets/human36m.md. Clips come one at a time, and of
the archives one subject's at a time is unpacked, so memory does not grow with the dataset.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from isopose.camera import Camera, project, world_to_camera
from isopose.datasets.human36m_files import read_cdf, read_npz, read_npz_symmetry
from isopose.datasets.human36m_metadata import FILE, Metadata, Trial, read_metadata
from isopose.datasets.raw_files import ASIDE, Part, locate, places
from isopose.datasets.sources import check_known
from isopose.datasets.store import Clip, View
from isopose.datasets.worker import Worker
from isopose.errors import UserError
from isopose.skeleton import NUM_JOINTS

FPS = 50.0

TRAIN_SUBJECTS = ("S1", "S5", "S6", "S7", "S8")
TEST_SUBJECTS = ("S9", "S11")
SUBJECTS = TRAIN_SUBJECTS + TEST_SUBJECTS

JOINT_INDICES = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
"""Of the file's 32 joints, those of :data:`isopose.skeleton.JOINTS`."""

BROKEN_VIDEOS: Mapping[tuple[str, str], str] = MappingProxyType({("S11", "Directions"): "54138969"})
"""Trials of which one camera's video cannot be decoded; their poses are whole."""

SHIFTED = frozenset({("S9", "Greeting"), ("S9", "SittingDown 1"), ("S9", "Waiting 1")})
"""Trials whose poses lie beside the person in the videos."""

ANGLE_JOINTS = (
    *("Hips", "RightUpLeg", "RightLeg", "RightFoot", "RightToeBase", "LeftUpLeg", "LeftLeg", "LeftFoot"),
    *("LeftToeBase", "Spine", "Spine1", "Neck", "Head", "LeftShoulder", "LeftArm", "LeftForeArm", "LeftHand"),
    *("LeftHandThumb", "L_Wrist_End", "RightShoulder", "RightArm", "RightForeArm", "RightHand", "RightHandThumb"),
    "R_Wrist_End",
)
"""The joints that D3_Angles has rotations of, in its order."""

LARGEST_COORDINATE = 100.0
"""m; a joint farther out is a broken file."""

LARGEST_DISAGREEMENT = 5.0
"""px; between D2_Positions and the projected D3_Positions, median of a view. They are equal but for rounding."""

NPZ_SECONDS = 60.0
"""The longest that one subject of a community file may take: 0.2 GB are unpacked for it."""

_EXPECTED_2D = "data_2d_h36m_*.npz of VideoPose3D"
_COLUMNS = MappingProxyType({"D3_Positions": 96, "D2_Positions": 64, "D3_Angles": 78})
_OTHER_NAMES = MappingProxyType({"TakingPhoto": "Photo", "WalkingDog": "WalkDog", "WalkingTogether": "WalkTogether"})


@dataclass(frozen=True)
class Angles:
    """Joint angles of one trial: root (F, 3), m, world; rotations (F, 25, 3, 3), child to parent frame."""

    id: str
    subject: str
    action: str
    root: np.ndarray
    rotations: np.ndarray


@dataclass(frozen=True)
class DetectedView:
    """2D detections of one view without heatmaps: points (F, K, 2), image px; confidence (F, K), or None.

    joint_set: what the K joints are, a key of ``isopose.joint_sets.JOINT_SETS``.
    """

    clip: str
    view: str
    points: np.ndarray
    confidence: np.ndarray | None
    joint_set: str


class JointLayout(NamedTuple):
    """Number of joints of a community file, and which are left and right."""

    joints: int
    left: tuple[int, ...]
    right: tuple[int, ...]


JOINT_LAYOUTS = MappingProxyType(
    {
        "human36m": JointLayout(17, (4, 5, 6, 11, 12, 13), (1, 2, 3, 14, 15, 16)),
        "mpii": JointLayout(16, (3, 4, 5, 13, 14, 15), (0, 1, 2, 10, 11, 12)),
        "coco": JointLayout(17, (1, 3, 5, 7, 9, 11, 13, 15), (2, 4, 6, 8, 10, 12, 14, 16)),
    }
)
"""By the key of ``isopose.joint_sets.JOINT_SETS`` that has the same order."""


PARAMETERS = {"subjects": (list, NoneType), "actions": (list, NoneType)}


def read_source(root: Path, cache: Path, options: Mapping[str, Any]) -> Iterator[Clip]:
    """The clips that a source's parameters ask for; of the community's file those of subjects without D3_Positions."""
    subjects, actions = options["subjects"] or SUBJECTS, options["actions"]
    check_known(subjects, SUBJECTS, "subject", "human36m")
    others = [s for s in subjects if (root / NPZ).is_file() and not places(root, PARTS[s, "D3_Positions"])]
    if official := [subject for subject in subjects if subject not in others]:
        yield from read_clips(root, cache, official, actions)
    if others:
        yield from read_npz_clips(root, others, actions)


def read_clips(
    root: Path, cache: Path, subjects: Sequence[str] = SUBJECTS, actions: Sequence[str] | None = None
) -> Iterator[Clip]:
    """Clips at 50 fps from D3_Positions, with the four cameras of metadata.xml and a view from each.

    A view's joints2d are D2_Positions, or without that archive the projection of the joints. cache: where archives are
    unpacked. actions: of the 15, or None for all. Attributes: ``trial`` (the files' name), ``subaction``, ``split``,
    ``shifted``, ``broken_video`` (a camera, or ""), ``frames2d_cut`` (frames that a 2D track had more), and where there
    is D2 ``projection_error`` (px, the largest median of a view).
    """
    metadata = read_metadata(root)
    with Worker() as worker:
        for subject, trials in _trials(metadata, subjects, actions):
            poses = locate(root, PARTS[subject, "D3_Positions"], cache)
            part2d = PARTS[subject, "D2_Positions"]
            tracks = locate(root, part2d, cache) if places(root, part2d) else None
            for trial in trials:
                joints = _joints(worker, poses / f"{trial.name}.cdf")
                clip = _clip(subject, trial, joints, metadata.cameras[subject])
                for name, view in clip.views.items() if tracks is not None else ():
                    path = tracks / f"{trial.name}.{name}.cdf"
                    _replace(clip, view, path, _pose(worker, path, "D2_Positions"))
                yield clip


def read_npz_clips(
    root: Path, subjects: Sequence[str] = SUBJECTS, actions: Sequence[str] | None = None
) -> Iterator[Clip]:
    """As :func:`read_clips`, from the community's data_3d_h36m.npz and metadata.xml; joints2d are projected.

    A trial that the file lacks is an error, but for those of a broken video, which its makers left out.
    """
    metadata, path = read_metadata(root), root / NPZ
    with Worker(NPZ_SECONDS) as worker:
        for subject, trials in _trials(metadata, subjects, actions):
            found = worker.read(read_npz, path, f"{NPZ} of VideoPose3D", "positions_3d", subject)
            poses = {clip_id(subject, name): pose for name, pose in found.items()}
            for trial in trials:
                pose = poses.get(clip_id(subject, trial.name))
                if pose is None and (subject, trial.name) in BROKEN_VIDEOS:
                    continue
                if pose is None:
                    raise UserError(f"{path}: has no {subject} {trial.name}; expected all trials; download it again")
                if pose.ndim != 3 or pose.shape[1:] != (32, 3) or not len(pose):
                    raise UserError(
                        f"{path}: {subject} {trial.name} is {pose.shape}; expected (F, 32, 3); download it again"
                    )
                joints = _checked(path, pose[:, list(JOINT_INDICES)])
                yield _clip(subject, trial, joints, metadata.cameras[subject])


def read_detections(
    path: Path, cameras: Mapping[str, Collection[str]], subjects: Sequence[str] = SUBJECTS
) -> Iterator[DetectedView]:
    """The views of a community file ``data_2d_h36m_<detector>.npz``: (F, K, 2) px, or with confidence (F, K, 3).

    cameras: of each subject, in the order of the file's tracks. The K joints are one of JOINT_LAYOUTS, as the file's
    left and right joints tell; Human3.6M's in a file that does not say. Tracks may have more frames than the clip of
    their id. A trial with a track too few is accepted where one camera's video is broken: the others are meant.
    """
    check_known(subjects, sorted(cameras), "subject", "human36m")
    with Worker(NPZ_SECONDS) as worker:
        joint_set, joints = _joint_set(path, worker)
        for subject in subjects:
            tracks = worker.read(read_npz, path, _EXPECTED_2D, "positions_2d", subject)
            for trial in sorted({name.partition("/")[0] for name in tracks}):
                views = list(cameras[subject])
                found = [tracks[f"{trial}/{i}"] for i in range(len(views) + 1) if f"{trial}/{i}" in tracks]
                if len(found) == len(views) - 1 and (subject, trial) in BROKEN_VIDEOS:
                    views.remove(BROKEN_VIDEOS[subject, trial])
                if len(found) != len(views):
                    raise UserError(
                        f"{path}: {subject} {trial} has {len(found)} tracks; expected one a camera, {len(views)}"
                    )
                for view, track in zip(views, found, strict=True):
                    if track.ndim != 3 or track.shape[1] != joints or track.shape[2] not in (2, 3):
                        raise UserError(
                            f"{path}: {subject} {trial} {view} is {track.shape}; expected (F, {joints}, 2) or "
                            f"(F, {joints}, 3), the joints of {joint_set}"
                        )
                    points = track[..., :2].astype(np.float64)
                    confidence = track[..., 2] if track.shape[2] == 3 else None
                    yield DetectedView(clip_id(subject, trial), view, points, confidence, joint_set)


def _joint_set(path: Path, worker: Worker) -> tuple[str, int]:
    """The joint set of a community file, a key of JOINT_LAYOUTS, and its number of joints."""
    sides = worker.read(read_npz_symmetry, path, _EXPECTED_2D)
    if not sides:
        return "human36m", NUM_JOINTS
    for joint_set, layout in JOINT_LAYOUTS.items():
        if all(tuple(sorted(sides[side])) == getattr(layout, side) for side in sides):
            return joint_set, layout.joints
    raise UserError(
        f"{path}: its left joints are {sides['left'].tolist()!s:.80}; expected those of {', '.join(JOINT_LAYOUTS)}; "
        "give another file"
    )


def read_angles(
    root: Path, cache: Path, subjects: Sequence[str] = SUBJECTS, actions: Sequence[str] | None = None
) -> Iterator[Angles]:
    """Joint angles at 50 fps from D3_Angles: per joint degrees about z, x, y, R = Rz Rx Ry."""
    with Worker() as worker:
        for subject, trials in _trials(read_metadata(root), subjects, actions):
            folder = locate(root, PARTS[subject, "D3_Angles"], cache)
            for trial in trials:
                path = folder / f"{trial.name}.cdf"
                pose = _pose(worker, path, "D3_Angles")
                turns = Rotation.from_euler("ZXY", pose[:, 3:].reshape(-1, 3), degrees=True).as_matrix()
                rotations = turns.reshape(len(pose), len(ANGLE_JOINTS), 3, 3)
                hips = _checked(path, pose[:, :3] / 1000)
                yield Angles(clip_id(subject, trial.name), subject, action_of(trial.name), hips, rotations)


def protocol_angles(rotations: np.ndarray) -> np.ndarray:
    """Euler angles (F, 25, 3), rad, of rotations (F, 25, 3, 3), as the human dynamics protocol compares them.

    About x, y, z with R = Rz Ry Rx; the root's are zero, as it does not count (Martinez et al., CVPR 2017).
    """
    turns = Rotation.from_matrix(rotations.reshape(-1, 3, 3)).as_euler("ZYX")[:, ::-1]
    angles = turns.reshape(*rotations.shape[:-2], 3).copy()
    angles[..., 0, :] = 0
    return angles


def action_of(name: str) -> str:
    """One of the 15 actions, as the literature names them, of a file name as ``TakingPhoto 1``."""
    action = name.split(" ")[0]
    return _OTHER_NAMES.get(action, action)


def clip_id(subject: str, name: str) -> str:
    """Id of a clip, the same whichever spelling a file has: ``S9_Photo_1``."""
    return "_".join([subject, action_of(name), *name.split(" ")[1:]])


def _trials(
    metadata: Metadata, subjects: Sequence[str], actions: Sequence[str] | None
) -> Iterator[tuple[str, list[Trial]]]:
    """Each subject with the trials asked for."""
    check_known(subjects, SUBJECTS, "subject", "human36m")
    known = sorted({action_of(trial.name) for trial in metadata.trials[SUBJECTS[0]]})
    check_known(actions, known, "action", "human36m")
    for subject in subjects:
        yield subject, [t for t in metadata.trials[subject] if actions is None or action_of(t.name) in actions]


def _pose(worker: Worker, path: Path, kind: str) -> np.ndarray:
    """The numbers (F, columns) of a .cdf, float64."""
    columns = _COLUMNS[kind]
    if not path.is_file():
        raise UserError(f"{path}: is missing; expected the trials that metadata.xml names; download {kind} again")
    pose = worker.read(read_cdf, path, f"a CDF file of {kind}, {columns} columns", columns)["pose"]
    if not np.isfinite(pose).all():
        bad = int((~np.isfinite(pose)).sum())
        raise UserError(f"{path}: {bad} of {pose.size} numbers are NaN or infinite; expected none; download it again")
    return pose.astype(np.float64)


def _joints(worker: Worker, path: Path) -> np.ndarray:
    pose = _pose(worker, path, "D3_Positions")
    return _checked(path, pose.reshape(len(pose), 32, 3)[:, list(JOINT_INDICES)] / 1000)


def _checked(path: Path, points: np.ndarray) -> np.ndarray:
    """Points (..., 3), m, unless they cannot be a person's in a room."""
    if not (np.abs(points) <= LARGEST_COORDINATE).all():
        raise UserError(
            f"{path}: has a coordinate that is NaN or beyond {LARGEST_COORDINATE:g} m; expected a person in a room; "
            "download it again"
        )
    return points


def _clip(subject: str, trial: Trial, joints: np.ndarray, cameras: Mapping[str, Camera]) -> Clip:
    clip = Clip(
        id=clip_id(subject, trial.name),
        joints3d=joints.astype(np.float32),
        joint_valid=np.ones(NUM_JOINTS, bool),
        subject=subject,
        action=action_of(trial.name),
        fps=FPS,
        source="human36m",
        attributes={
            "trial": trial.name,
            "subaction": trial.subaction,
            "split": "test" if subject in TEST_SUBJECTS else "train",
            "shifted": (subject, trial.name) in SHIFTED,
            "broken_video": BROKEN_VIDEOS.get((subject, trial.name), ""),
            "frames2d_cut": 0,
        },
        cameras=dict(cameras),
    )
    for name, camera in cameras.items():
        try:
            pixels = project(world_to_camera(joints, camera), camera)
        except ValueError as error:
            raise UserError(
                f"human36m: {subject} {trial.name}, camera {name}: {error}; download poses and code again"
            ) from error
        clip.views[name] = View(name, pixels.astype(np.float32))
    return clip


def _replace(clip: Clip, view: View, path: Path, track: np.ndarray) -> None:
    """Put D2_Positions (F or more, 64), px, in the place of the projected joints, once the two agree."""
    frames = len(clip.joints3d)
    if len(track) < frames:
        raise UserError(f"{path}: has {len(track)} frames; expected at least the {frames} of D3_Positions")
    pixels = track.reshape(len(track), 32, 2)[:frames, list(JOINT_INDICES)]
    error = float(np.median(np.linalg.norm(pixels - view.joints2d, axis=-1)))
    if error > LARGEST_DISAGREEMENT:
        raise UserError(
            f"{path}: lies {error:.0f} px from the projected D3_Positions; expected the same trial, and metadata.xml "
            "of the same release; download them again"
        )
    view.joints2d = pixels.astype(np.float32)
    clip.attributes["projection_error"] = max(error, clip.attributes.get("projection_error", 0.0))
    clip.attributes["frames2d_cut"] = max(len(track) - frames, clip.attributes["frames2d_cut"])


def _poses(subject: str, kind: str, count: int, use: str = "") -> Part:
    return Part(
        f"{subject}/MyPoseFeatures/{kind}",
        f"Poses_{kind}_{subject}.tgz",
        use=use,
        sample="*.cdf",
        count=count,
        look=partial(read_cdf, columns=_COLUMNS[kind]),
        instead=NPZ if kind == "D3_Positions" else "",
    )


NPZ = "data_3d_h36m.npz"
"""The community's poses, read of subjects whose D3_Positions are not there."""

PARTS = {
    (subject, kind): _poses(subject, kind, *rest)
    for subject in SUBJECTS
    for kind, *rest in (
        ("D3_Positions", 30),
        ("D2_Positions", 120, "2D tracks: joints are projected"),
        ("D3_Angles", 30, ASIDE),
    )
}
FILES = (
    FILE,
    *PARTS.values(),
    *(Part(f"{s}/Videos", use="images", sample="*.mp4", count=120) for s in SUBJECTS),
)
