"""HumanEva-I from its official files: joints from markers as the release code v1.1 computes them, without MATLAB.

docs/datasets/humaneva.md says where each convention comes from. "Toolbox" is the release code.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from isopose.camera import Camera, project, world_to_camera
from isopose.datasets.body_shape import SPINE_SHARE
from isopose.datasets.marker_files import read_c3d, read_mat
from isopose.datasets.mat_files import check_variables
from isopose.datasets.raw_files import Part, places
from isopose.datasets.sources import check_known, runs
from isopose.datasets.store import Clip, View
from isopose.datasets.text_files import numbers, read_text, rotation
from isopose.datasets.worker import Worker
from isopose.errors import UserError
from isopose.skeleton import JOINTS, NUM_JOINTS, index

NAME = "humaneva"
PARTS = ("train", "validate")
FPS = 60.0
_log = logging.getLogger(__name__)


class Trial(NamedTuple):
    """Frames of a trial 1: the first part is for validation, the rest for training; counted from 1, ends included."""

    first: int
    split: int
    last: int

    def frames(self, part: str) -> np.ndarray:
        """The frame numbers of a part."""
        start, stop = (self.split + 1, self.last) if part == "train" else (self.first, self.split)
        return np.arange(start, stop + 1)


TRIALS: Mapping[tuple[str, str], Trial] = MappingProxyType(
    {
        ("S1", "Walking"): Trial(6, 590, 1203),
        ("S1", "Jog"): Trial(6, 367, 740),
        ("S1", "Box"): Trial(6, 385, 789),
        ("S2", "Walking"): Trial(6, 438, 876),
        ("S2", "Jog"): Trial(6, 398, 795),
        ("S2", "Box"): Trial(6, 382, 734),
        ("S3", "Walking"): Trial(6, 448, 939),
        ("S3", "Jog"): Trial(6, 401, 842),
        ("S3", "Box"): Trial(6, 512, 1021),
    }
)
"""@he_dataset/he_dataset.m; trial 2 has no ground truth and trial 3 no video."""

CAMERAS = ("C1", "C2", "C3")
"""The colour cameras, whose views are given."""

SYNCHRONISED = (*CAMERAS, "BW1", "BW2", "BW3", "BW4")
"""The order in which sync_stream.m reads the offsets."""

SIZE = (640, 480)

MARKERS = (
    *("RASI", "LASI", "LPSI", "RELB", "STRN", "LTHI", "LWRA", "LELB", "T10", "RWRA", "RUPA", "RKNE", "RBAK", "LKNE"),
    *("CLAV", "RSHO", "LSHO", "C7", "RTIB", "LTIB", "LBHD", "RBHD", "RFHD", "LFHD", "LANK", "LHEE", "RANK", "LTOE"),
    *("RTOE", "RHEE", "LFIN", "RWRB", "RFIN", "LWRB", "RTHI", "LUPA", "RPSI"),
)
FOREARMS = (("RFRM", "RFRA"), ("LFRM", "LFRA"))
"""The 39 markers without which a frame is invalid; two of them have two names (@mocap_stream/cur_frame.m)."""

HALF_MARKER = 7.0
PELVIS_BACK = -50.0
HEAD_LENGTH = 316.103
"""Millimetres, of the toolbox: half a marker, pelvis origin to torso end along x, neck to the head's top."""

JOINT_NAMES = tuple(name for name in JOINTS if name not in ("spine", "neck"))
"""The 15 joints that the data set has. The other two are derived, and not valid."""

FARTHEST = 100.0


PARAMETERS = {"part": str, "subjects": (list, NoneType), "actions": (list, NoneType)}


def read_source(root: Path, _: Path, options: Mapping[str, Any]) -> Iterator[Clip]:
    """The clips that a source's parameters ask for."""
    return read_clips(root, options["part"], options["subjects"], options["actions"])


def read_clips(
    root: Path, part: str, subjects: Sequence[str] | None = None, actions: Sequence[str] | None = None
) -> Iterator[Clip]:
    """Clips of the files under `root`: the stretches of valid frames of each trial 1, in a part (train, validate).

    60 frames a second; views from C1, C2 and C3 are projections, as the toolbox's project2d. Attributes: `part`,
    `first_frame` (from 1), and `first_image`, the frame of each camera's video (from 1) that shows the clip's first.
    """
    if part not in PARTS:
        raise UserError(f"{NAME}: has no part '{part}'; expected one of {', '.join(PARTS)}")
    for wanted, axis, what in ((subjects, 0, "subject"), (actions, 1, "action")):
        check_known(wanted, sorted({trial[axis] for trial in TRIALS}), what, NAME)
    with Worker() as worker:
        for subject, action in TRIALS:
            if (subjects is None or subject in subjects) and (actions is None or action in actions):
                yield from _trial_clips(root, subject, action, part, worker)


def _trial_clips(root: Path, subject: str, action: str, part: str, worker: Worker) -> Iterator[Clip]:
    body = read_body(root, subject, worker)
    path = _mocap(root, subject, f"{action}_1")
    markers = _read_markers(path, worker)
    start, step, images = synchronise(read_offsets(root, subject, action))
    frames = TRIALS[subject, action].frames(part)
    joints, valid = joint_centres(markers, start + (frames - 1) * step, body, path)
    cameras = {name: read_calibration(root / subject / "Calibration_Data" / f"{name}.cal") for name in CAMERAS}
    if not valid.all():
        lost = f"{(~valid).sum()} of {len(valid)}"
        _log.warning("%s: %s: %s frames of the part '%s' are invalid", NAME, path, lost, part)
    for stretch in runs(valid):
        clip = Clip(
            id=f"{subject}_{action}_{frames[stretch.start]:04d}",
            joints3d=to_skeleton(joints[stretch]),
            joint_valid=np.array([name in JOINT_NAMES for name in JOINTS]),
            subject=subject,
            action=action,
            fps=FPS,
            source=NAME,
            attributes={
                "part": part,
                "first_frame": int(frames[stretch.start]),
                "first_image": [int(images[i] + frames[stretch.start] - 1) for i in range(len(CAMERAS))],
            },
            cameras=cameras,
        )
        _check_head(clip)
        for name, camera in cameras.items():
            clip.views[name] = View(name, _project(clip, camera, f"{path}: from {name}").astype(np.float32))
        yield clip


def _check_head(clip: Clip) -> None:
    """A head below the shoulders is a known fault (S3, Walking); the joint is then marked, not the clip dropped."""
    height = clip.joints3d[..., 2]
    if (height[:, index("head")] < height[:, index("thorax")]).any():
        clip.joint_valid[index("head")] = False
        _log.warning("%s: %s: the head is below the thorax in some frames: marked as not valid", NAME, clip.id)


def _project(clip: Clip, camera: Camera, what: str) -> np.ndarray:
    try:
        return project(world_to_camera(clip.joints3d, camera), camera)
    except ValueError:
        raise UserError(f"{what}: the person is behind the camera; copy Calibration_Data again") from None


def _mocap(root: Path, subject: str, name: str) -> Path:
    """A motion capture file: the .mat that the toolbox prefers, else the .c3d that it was made from."""
    part = _mocap_part(subject, name)
    return next(iter(places(root, part)), root / part.inner)


def _mocap_part(subject: str, name: str) -> Part:
    place = f"{subject}/Mocap_Data/{name}"
    return Part(f"{place}.c3d", preferred=f"{place}.mat", look=_look_at_mocap)


def _look_at_mocap(path: Path) -> None:
    if path.suffix == ".mat":
        check_variables(path, ("Markers", "ParameterGroup"))
    else:
        read_c3d(path)


def _offset_files(subject: str, action: str) -> list[str]:
    return [f"{subject}/Sync_Data/{action}_1_({camera}).ofs" for camera in SYNCHRONISED]


class Markers:
    """Points (F, N, 3), mm, by name; zero where they were not seen."""

    def __init__(self, points: np.ndarray, labels: Sequence[str], path: Path) -> None:
        self.points, self.labels, self.path = points, labels, path

    def find(self, *names: str) -> int:
        """Index of the first label that contains one of the names (labels have a prefix), as MarkerName2MarkerId.m."""
        for number, label in enumerate(self.labels):
            if any(name in label for name in names):
                return number
        raise UserError(
            f"{self.path}: has no point {' or '.join(names)}; expected HumanEva's markers and joint centres"
        )

    def __getitem__(self, name: str) -> np.ndarray:
        return self.points[:, self.find(name)]

    def seen(self, number: int) -> np.ndarray:
        """Whether a point was seen (F,): by the toolbox's rule, its coordinates do not add up to zero."""
        return self.points[:, number].sum(-1) != 0


def _read_markers(path: Path, worker: Worker) -> Markers:
    expected = "HumanEva's motion capture (Markers and ParameterGroup of the toolbox's readc3d, or a C3D file)"
    arrays = worker.read(read_mat if path.suffix == ".mat" else read_c3d, path, expected)
    points, labels = arrays["points"], [str(label) for label in arrays["labels"]]
    if not (np.abs(points) < 1000 * FARTHEST).all():
        raise UserError(f"{path}: has coordinates that are no numbers or beyond {FARTHEST:g} m; expected mm")
    return Markers(points, labels, path)


class Body(NamedTuple):
    """Measures of a subject, mm: half the distance of the shoulders, and how far shoulders lie above their joints."""

    torso: float
    left: float
    right: float


def read_body(root: Path, subject: str, worker: Worker) -> Body:
    """The first column of ComputeLimbParameters.m that joints depend on: from the static trial and the .mp file."""
    static = _read_markers(_mocap(root, subject, "Static"), worker)
    shoulders = float(np.linalg.norm(static["LSHO"] - static["RSHO"], axis=-1).mean())
    return Body(shoulders / 2 - HALF_MARKER, *_shoulder_offsets(root / subject / "Mocap_Data" / f"{subject}.mp"))


def _shoulder_offsets(path: Path) -> list[float]:
    """Left and right, mm, of the lines `$name = value` of a Vicon .mp file."""
    lines = (line.lstrip(" $").partition("=") for line in read_text(path, "a Vicon .mp file").splitlines())
    measures = [(key.strip(), value.strip()) for key, equals, value in lines if equals]
    offsets = []
    for name in ("LShoulderOffset", "RShoulderOffset"):
        found = next((value for key, value in measures if name in key), "nothing")
        offsets.append(float(numbers([found], 1, f"{path}: {name}")[0]))
    return offsets


def read_calibration(path: Path) -> Camera:
    """A .cal file: fc (2), cc (2), alpha (1), kc (5), R (9) by rows, T (3) mm, with X_cam = R X + T (ReadSpicaCalib.m).

    These are Bouguet's: his distortion is OpenCV's, his skew a multiple of the focal length.
    """
    expected = "HumanEva's calibration: 22 numbers"
    values = numbers(read_text(path, expected).split(), 22, f"{path}: its content")
    (fx, fy), (cx, cy), alpha = values[:2], values[2:4], values[4]
    if not min(fx, fy) > 0:
        raise UserError(f"{path}: has no positive focal length; expected {expected}")
    turn = rotation(values[10:19].reshape(3, 3), f"{path}: numbers 11 to 19")
    intrinsic = np.array([[fx, alpha * fx, cx], [0, fy, cy], [0, 0, 1]])
    return Camera(intrinsic, turn, -turn.T @ values[19:] / 1000, values[5:10], SIZE)


def read_offsets(root: Path, subject: str, action: str) -> np.ndarray:
    """The .ofs files (7, 3) of a trial: an image, the motion capture frame at its time, frames an image; from 1."""
    files = [root / name for name in _offset_files(subject, action)]
    values = np.stack([_offset(path) for path in files])
    if not (values[:, 2] > 0).all():
        raise UserError(f"{files[0].parent}: an offset of {action}_1 has no positive rate; expected frames an image")
    return values


def _offset(path: Path) -> np.ndarray:
    return numbers(read_text(path, "HumanEva's offsets: 3 numbers").split(), 3, f"{path}: its content")


def synchronise(offsets: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Common time of the streams (sync_stream.m), of offsets (C, 3).

    Returns the motion capture frame of frame 1 and the motion capture frames a frame, and the image (C,) of each camera
    that is frame 1; all from 1.
    """
    image, capture, rate = offsets.T
    image = image + (capture[0] - capture) / rate
    step = rate.mean()
    start = capture[0] - step * (image.min() - 1)
    image = image - image.min() + 1
    if start < 1:
        image, start = image - (start - 1) / step, 1.0
    return float(start), float(step), np.floor(image + 0.5).astype(int)


def joint_centres(markers: Markers, times: np.ndarray, body: Body, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The 15 joints (T, 15, 3), mm, at motion capture frames `times` (T,), from 1, and which are valid (T,).

    @mocap_stream/cur_frame.m; where it has two points for a joint (thorax, elbows, knees), their mean, as its error.m
    and the field's conversion of the data set take it. Order: JOINT_NAMES.
    """
    centre = _Centres(markers, times)
    thorax, pelvis_origin = centre.at("TRXO"), centre.at("PELO")
    pelvis_axes, length = centre.axes("PELO"), centre.length("TRXO", "PELO")
    pelvis = pelvis_origin + pelvis_axes[:, :, 0] * PELVIS_BACK
    torso_top = pelvis + _turned(pelvis_axes, np.arctan2(body.torso / 2, length), length)
    found = {"pelvis": pelvis, "thorax": (torso_top + thorax) / 2}
    found["head"] = thorax + HEAD_LENGTH * centre.axes("HEDO")[:, :, 2]
    for side, offset in (("l", body.left), ("r", body.right)):
        s = side.upper()
        hip, knee = centre.at(f"{s}FEP"), centre.at(f"{s}FEO")
        thigh, shin = centre.length(f"{s}FEP", f"{s}FEO"), centre.length(f"{s}FEO", f"{s}TIO")
        knee_of_thigh = hip - centre.axes(f"{s}FEO")[:, :, 2] * thigh[:, None]
        found |= {f"{side}_hip": hip, f"{side}_knee": (knee_of_thigh + knee) / 2}
        found[f"{side}_ankle"] = knee - centre.axes(f"{s}TIO")[:, :, 2] * shin[:, None]
        shoulder, upper = centre.at(f"{s}CLO"), centre.length(f"{s}CLO", f"{s}HUO")
        lower, angle = centre.length(f"{s}HUO", f"{s}RAO"), np.arctan2(offset / 2, upper)
        arm = centre.axes(f"{s}HUO")
        elbow = shoulder + _turned(arm, -angle, -upper)
        # the lower arm keeps its distance from where the upper arm ended before it was turned
        other = elbow + centre.at(f"{s}HUO") - (shoulder + _turned(arm, 0 * angle, -upper))
        found |= {f"{side}_shoulder": shoulder, f"{side}_elbow": (elbow + other) / 2}
        found[f"{side}_wrist"] = other + _turned(centre.axes(f"{s}RAO"), angle, -lower)
    joints = np.stack([found[name] for name in JOINT_NAMES], axis=1)
    if not centre.valid.any():
        raise UserError(f"{path}: none of its frames {times[0]:.1f} to {times[-1]:.1f} has all markers; copy it again")
    return joints, centre.valid


def _turned(axes: np.ndarray, angle: np.ndarray, length: np.ndarray) -> np.ndarray:
    """The vector (0, 0, length) of a segment with axes (T, 3, 3) in columns, turned by yRotation.m's angle (T,)."""
    x, z = -np.sin(angle) * length, np.cos(angle) * length
    return axes[:, :, 0] * x[:, None] + axes[:, :, 2] * z[:, None]


class _Centres:
    """Points and segments at fractional frames: points by lines, axes by great circles (MarkerCoord2Xform.m).

    `valid` (T,) becomes false where something that was asked for was not seen.
    """

    def __init__(self, markers: Markers, times: np.ndarray) -> None:
        self.markers = markers
        last = len(markers.points) - 1
        before = np.floor(times).astype(int) - 1
        self.share = times - np.floor(times)
        self.valid = (before >= 0) & (before < last)
        self.before = np.clip(before, 0, max(last - 1, 0))
        self.after = np.minimum(self.before + 1, last)
        self.ceil = np.where(self.share > 0, self.after, self.before)
        for names in (*((name,) for name in MARKERS), *FOREARMS):
            seen = markers.seen(markers.find(*names))
            self.valid &= seen[self.before] & seen[self.ceil]

    def _ends(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        points = self.markers.points[:, number]
        ends = points[self.before], points[self.after]
        for end in ends:
            self.valid &= (end != 0).any(-1)
        return ends

    def at(self, name: str) -> np.ndarray:
        """A point (T, 3), mm."""
        first, second = self._ends(self.markers.find(name))
        return first + self.share[:, None] * (second - first)

    def length(self, one: str, other: str) -> np.ndarray:
        """Distance (T,) of two points, mm: the mean of the captured frames around."""
        distance = np.linalg.norm(self.markers[one] - self.markers[other], axis=-1)
        return (distance[self.before] + distance[self.ceil]) / 2

    def axes(self, origin: str) -> np.ndarray:
        """Axes (T, 3, 3), x, y, z in columns, of the segment whose four points begin at `origin`: o, z, x, y."""
        number = self.markers.find(origin)
        if number + 3 >= len(self.markers.labels):
            raise UserError(f"{self.markers.path}: ends at {origin}; expected three points of its axes after it")
        first, second = (Rotation.from_matrix(axes) for axes in self._segments(number))
        turn = first.inv() * second
        return (first * Rotation.from_rotvec(self.share[:, None] * turn.as_rotvec())).as_matrix()

    def _segments(self, number: int) -> list[np.ndarray]:
        ends = zip(*(self._ends(number + offset) for offset in (0, 2, 3, 1)), strict=True)
        return [self._checked(np.stack([x - o, y - o, z - o], axis=-1)) for o, x, y, z in ends]

    def _checked(self, axes: np.ndarray) -> np.ndarray:
        """Axes of length one; where they are none, those of the world, and the frame is invalid."""
        length = np.linalg.norm(axes, axis=1, keepdims=True)
        axes = axes / np.where(length > 0, length, 1)
        good = np.linalg.det(axes) > 0.5
        self.valid &= good
        return np.where(good[:, None, None], axes, np.eye(3))


def to_skeleton(joints: np.ndarray) -> np.ndarray:
    """The 17 joints (F, 17, 3), m, of the 15 (F, 15, 3), mm: spine and neck are points on the lines to the thorax."""
    whole = np.zeros((len(joints), NUM_JOINTS, 3))
    whole[:, [index(name) for name in JOINT_NAMES]] = joints / 1000
    pelvis, thorax, head = (whole[:, index(name)] for name in ("pelvis", "thorax", "head"))
    whole[:, index("spine")] = pelvis + SPINE_SHARE * (thorax - pelvis)
    whole[:, index("neck")] = (thorax + head) / 2
    return whole


def _subject_files(subject: str) -> Iterator[Part]:
    yield Part(f"{subject}/Mocap_Data/{subject}.mp", look=_shoulder_offsets)
    yield _mocap_part(subject, "Static")
    for camera in CAMERAS:
        yield Part(f"{subject}/Calibration_Data/{camera}.cal", look=read_calibration)
    for action in (action for name, action in TRIALS if name == subject):
        yield _mocap_part(subject, f"{action}_1")
        for offsets in _offset_files(subject, action):
            yield Part(offsets, look=_offset)
    yield Part(f"{subject}/Image_Data", use="images", sample="*.avi")


FILES = tuple(part for subject in sorted({subject for subject, _ in TRIALS}) for part in _subject_files(subject))
