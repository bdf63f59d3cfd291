"""3DPW (von Marcard et al., ECCV 2018): people outdoors before a moving camera, at 30 fps.

The conventions and their sources: docs/datasets/three_dpw.md.
"""

import logging
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from isopose.camera import UPRIGHT, Camera, project
from isopose.datasets.body_shape import DIMENSIONS
from isopose.datasets.raw_files import CACHE, Part, listed, locate
from isopose.datasets.sources import check_known, runs
from isopose.datasets.store import Clip, View
from isopose.datasets.worker import Arrays, Worker
from isopose.errors import UserError
from isopose.skeleton import JOINTS

SOURCE = "3dpw"
FPS = 30.0
SPLITS = ("train", "validation", "test")
CAMERA = "camera"

EXPECTED = "a sequence of 3DPW (sequenceFiles/<split>/<sequence>.pkl)"

SMPL_JOINTS = (
    *("pelvis", "l_hip", "r_hip", "spine1", "l_knee", "r_knee", "spine2", "l_ankle", "r_ankle", "spine3"),
    *("l_foot", "r_foot", "neck", "l_collar", "r_collar", "head", "l_shoulder", "r_shoulder", "l_elbow", "r_elbow"),
    *("l_wrist", "r_wrist", "l_hand", "r_hand"),
)
"""The 24 joints of ``jointPositions``, in order."""

JOINT_TABLE: Mapping[str, str] = MappingProxyType(
    {name: name for name in JOINTS if name in SMPL_JOINTS and name not in ("neck", "head")}
    # SMPL's neck is at the base of the neck, its head at the height of the ears; it has no top of the head
    | {"spine": "spine2", "thorax": "neck", "neck": "head"}
)
"""The SMPL joint in the place of each of the 17 joints; ``head``, the top of the head, has none."""

CROWN = DIMENSIONS["head"].mean / DIMENSIONS["neck"].mean
"""Ears to the top of the head over shoulders to ears: where the missing ``head`` is put, on the line of these two."""

_LARGEST = 1e4
"""Largest coordinate, m, and largest pixel that is taken for one."""

_ROTATION_TOLERANCE = 1e-3

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PoseSequence:
    """One file: P people, F frames.

    joints (P, F, 24, 3), m, in the file's world; extrinsics (F, 4, 4), from there to the camera, which moves; K (3, 3);
    valid (P, F) bool: the camera is aligned to the person; detections (P, F, 18, 3): px and confidence, in OpenPose's
    order.
    """

    name: str
    genders: tuple[str, ...]
    joints: np.ndarray
    extrinsics: np.ndarray
    K: np.ndarray
    valid: np.ndarray
    detections: np.ndarray


PARAMETERS = {"splits": list}


def read_source(root: Path, cache: Path, options: Mapping[str, Any]) -> Iterator[Clip]:
    """The clips that a source's parameters ask for."""
    return read_clips(root, options["splits"], cache)


def read_clips(root: Path, splits: Sequence[str] = SPLITS, cache: Path = CACHE) -> Iterator[Clip]:
    """A clip for every person and every run of valid frames: ``downtown_bus_00_1``, or ``downtown_bus_00_1_f0034``
    for a run from frame 34 where some frames are not valid.

    World frame: the camera's own, turned z up, since the camera moves; ``camera_joints`` are exact.
    UserError for a missing or broken file, or an unknown split.
    """
    check_known(splits, SPLITS, "split", SOURCE)
    folder = locate(root, FILES[0], cache)
    with Worker() as worker:
        for split in splits:
            paths = listed(folder / split, "*.pkl")
            if not paths:
                raise UserError(f"{folder / split}: holds no .pkl; expected the sequences of 3DPW; copy them there")
            for path in paths:
                yield from _clips(read_sequence(path, worker), split)


def read_sequence(path: Path, worker: Worker) -> PoseSequence:
    """One file, checked. UserError if it is broken, or not of 3DPW's layout."""
    arrays = worker.read(load, path, EXPECTED)
    people, frames = arrays["joints"].shape[:2]
    sequence = PoseSequence(
        path.stem,
        tuple(arrays["genders"].tolist()),
        arrays["joints"].reshape(people, frames, len(SMPL_JOINTS), 3),
        *(arrays[name] for name in ("extrinsics", "K", "valid")),
        arrays["detections"].swapaxes(-1, -2),
    )
    _check(path, sequence)
    return sequence


def _check(path: Path, sequence: PoseSequence) -> None:
    used = sequence.valid.any(0)
    rotation = sequence.extrinsics[used][:, :3, :3]
    K = sequence.K
    faults = {
        "jointPositions": _unlikely(sequence.joints[sequence.valid]),
        "cam_poses": _unlikely(sequence.extrinsics[used])
        or bool(np.abs(rotation @ rotation.swapaxes(-1, -2) - np.eye(3)).max(initial=0) > _ROTATION_TOLERANCE)
        or bool((np.linalg.det(rotation) < 0).any()),
        "cam_intrinsics": _unlikely(K) or not (K[[0, 1], [0, 1]] > 0).all() or not (K[:2, 2] > 0).all(),
    }
    for name, wrong in faults.items():
        if wrong:
            raise UserError(
                f"{path}: '{name}' holds values that cannot be; expected {EXPECTED}, metres, px and rigid motions; "
                f"copy it from the source again"
            )


def _unlikely(values: np.ndarray) -> bool:
    return not (np.abs(values) < _LARGEST).all()  # NaN too


def _clips(sequence: PoseSequence, split: str) -> Iterator[Clip]:
    points = sequence.joints @ sequence.extrinsics[:, :3, :3].swapaxes(-1, -2)
    points = points + sequence.extrinsics[:, None, :3, 3]
    before = (points[..., 2] > 0).all(-1)
    for person, valid in enumerate(sequence.valid & before):
        name = f"{sequence.name}_{person}"
        if not valid.all():
            _log.warning("3dpw: %s: left out %d of %d frames, not valid", name, (~valid).sum(), len(valid))
        for run in runs(valid):
            whole = run == slice(0, len(valid))
            clip_name = name if whole else f"{name}_f{run.start:04d}"
            yield _clip(clip_name, sequence, person, points[person, run], run.start, split)


def _clip(name: str, sequence: PoseSequence, person: int, smpl: np.ndarray, first: int, split: str) -> Clip:
    """A clip of SMPL joints (F, 24, 3), m, camera frame."""
    points = np.full((len(smpl), len(JOINTS), 3), np.nan)
    for joint, source in JOINT_TABLE.items():
        points[:, JOINTS.index(joint)] = smpl[:, SMPL_JOINTS.index(source)]
    thorax, ears = (points[:, JOINTS.index(joint)] for joint in ("thorax", "neck"))
    points[:, JOINTS.index("head")] = ears + CROWN * (ears - thorax)
    # the principal point is the middle of the image; the file says no more of its size
    size = (round(2 * sequence.K[0, 2]), round(2 * sequence.K[1, 2]))
    camera = Camera(sequence.K, UPRIGHT, np.zeros(3), size=size)
    return Clip(
        id=name,
        joints3d=points @ UPRIGHT,
        joint_valid=np.array([joint in JOINT_TABLE for joint in JOINTS]),
        subject=f"{sequence.name}_{person}",
        action="_".join(sequence.name.split("_")[1:-1]) or sequence.name,
        fps=FPS,
        source=SOURCE,
        attributes={
            "split": split,
            "gender": sequence.genders[person],
            "image_folder": f"imageFiles/{sequence.name}",
            "first_image": first,
        },
        cameras={CAMERA: camera},
        views={CAMERA: View(CAMERA, project(points, camera))},
    )


def load(path: Path) -> Arrays:
    """Read a sequence's pickle, in a worker: its arrays by the names of :class:`PoseSequence`, shapes checked."""
    with path.open("rb") as file:
        content = _Unpickler(file, encoding="latin1").load()
    if not isinstance(content, dict):
        raise ValueError(f"is a {type(content).__name__}, not a dictionary")
    people = len(_people(content, "jointPositions"))
    first = np.shape(_people(content, "jointPositions")[0]) if people else ()
    frames = first[0] if first else 0
    if not frames:
        raise ValueError("'jointPositions' has no people or no frames")
    genders = _people(content, "genders", people)
    return {
        "joints": _stack(content, "jointPositions", people, (frames, 3 * len(SMPL_JOINTS))),
        "detections": _stack(content, "poses2d", people, (frames, 3, 18)),
        "valid": _stack(content, "campose_valid", people, (frames,)) > 0,
        "extrinsics": _array("cam_poses", content.get("cam_poses"), (frames, 4, 4)),
        "K": _array("cam_intrinsics", content.get("cam_intrinsics"), (3, 3)),
        "genders": np.array([str(gender)[:1] for gender in genders]),
    }


def _people(content: Mapping[str, Any], key: str, people: int | None = None) -> Any:
    """A field that has an entry for each of the people."""
    values = content.get(key)
    if not isinstance(values, list | tuple) and not (isinstance(values, np.ndarray) and values.ndim):
        raise ValueError(f"'{key}' is {'missing' if values is None else 'no list of people'}")
    if people is not None and len(values) != people:
        raise ValueError(f"'{key}' has {len(values)} entries for {people} people")
    return values


def _stack(content: Mapping[str, Any], key: str, people: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.stack([_array(key, value, shape) for value in _people(content, key, people)])


def _array(key: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    if value is None:
        raise ValueError(f"'{key}' is missing")
    array = np.asarray(value)
    if array.dtype.kind not in "fiub" or array.shape != shape:
        raise ValueError(f"'{key}' holds {array.dtype} {array.shape}, not numbers {shape}")
    return array.astype(np.float64)


class _Unpickler(pickle.Unpickler):
    """Builds containers, strings, numbers and numpy arrays, and refuses anything else before it is called."""

    # Python 2's numpy and numpy 1 write numpy.core, numpy 2 numpy._core
    _ALLOWED = frozenset(
        {("numpy", "ndarray"), ("numpy", "dtype")}
        | {(f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")}
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"names {module}.{name}, which is no numpy array")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


FILES = (
    Part("sequenceFiles", "sequenceFiles.zip", sample="*/*.pkl", count=60, look=load),
    Part("imageFiles", use="images", sample="*/*.jpg"),
)
