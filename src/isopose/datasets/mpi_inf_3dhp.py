"""MPI-INF-3DHP: the official annotations of the training sequences (S*) and of the test set (TS*).

docs/datasets/mpi_inf_3dhp.md says where each convention comes from. A clip's world is scaled, cameras and all, so that
its root-relative poses are the official evaluation's (univ_annot3) while its projections stay the annotated pixels.
"""

import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any, NamedTuple

import numpy as np

from isopose.camera import Camera, camera_to_world, world_to_camera
from isopose.datasets.mat_files import check_variables
from isopose.datasets.raw_files import Part, places, read_content
from isopose.datasets.sources import check_known, runs
from isopose.datasets.store import Clip, View
from isopose.datasets.text_files import MAX_TEXT_BYTES, numbers, read_text, rotation
from isopose.datasets.worker import READ_SECONDS, Arrays, Worker
from isopose.errors import UserError
from isopose.skeleton import MIRROR, NUM_JOINTS

NAME = "mpi_inf_3dhp"
PARTS = ("train", "test")
_log = logging.getLogger(__name__)

VNECT_CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)
"""The set 'vnect' of mpii_get_camera_set.m: chest and knee height, and two that look down."""


class Sequence3D(NamedTuple):
    """A training sequence: frames of its videos, frames a second (mpii_get_sequence_info.m)."""

    frames: int
    fps: float


SEQUENCES: Mapping[str, Sequence3D] = MappingProxyType(
    {
        "S1/Seq1": Sequence3D(6416, 25),
        "S1/Seq2": Sequence3D(12430, 50),
        "S2/Seq1": Sequence3D(6502, 25),
        "S2/Seq2": Sequence3D(6081, 25),
        "S3/Seq1": Sequence3D(12488, 50),
        "S3/Seq2": Sequence3D(12283, 50),
        "S4/Seq1": Sequence3D(6171, 25),
        "S4/Seq2": Sequence3D(6675, 25),
        "S5/Seq1": Sequence3D(12820, 50),
        "S5/Seq2": Sequence3D(12312, 50),
        "S6/Seq1": Sequence3D(6188, 25),
        "S6/Seq2": Sequence3D(6145, 25),
        "S7/Seq1": Sequence3D(6239, 25),
        "S7/Seq2": Sequence3D(6320, 25),
        "S8/Seq1": Sequence3D(6468, 25),
        "S8/Seq2": Sequence3D(6054, 25),
    }
)

SHORT_VIDEOS = frozenset({("S6/Seq2", 2)})
"""Videos that end long before their annotations."""

FLIPPED = MappingProxyType({"S4/Seq2": slice(3759, 5853)})
"""Frames whose left and right are exchanged in the annotations as first published."""


class TestSequence(NamedTuple):
    """A test sequence: its valid frames, scene, image size (px) and calibration file."""

    valid: int
    scene: str
    size: tuple[int, int]
    calibration: str


_STUDIO = ((2048, 2048), "test_util/camera_calibration/ts1-4cameras.calib")
_OUTDOOR = ((1920, 1080), "test_util/camera_calibration/ts5-6cameras.calib")

TEST_SEQUENCES: Mapping[str, TestSequence] = MappingProxyType(
    {
        "TS1": TestSequence(603, "green_screen", *_STUDIO),
        "TS2": TestSequence(540, "green_screen", *_STUDIO),
        "TS3": TestSequence(505, "no_green_screen", *_STUDIO),
        "TS4": TestSequence(553, "no_green_screen", *_STUDIO),
        "TS5": TestSequence(276, "outdoor", *_OUTDOOR),
        "TS6": TestSequence(452, "outdoor", *_OUTDOOR),
    }
)
TEST_FPS = 25.0
"""Assumed: no public source states it."""

TEST_ZIP = "mpi_inf_3dhp_test_set.zip"
TEST_FOLDERS = ("mpi_inf_3dhp_test_set/mpi_inf_3dhp_test_set", "mpi_inf_3dhp_test_set")
"""Where get_testset.sh unpacks the zip to, and the zip's own folder."""

TRAIN_JOINTS = (4, 23, 24, 25, 18, 19, 20, 3, 5, 6, 7, 9, 10, 11, 14, 15, 16)
"""Index of each of the skeleton's joints among the 28 of annot.mat: thorax is 'neck', neck 'head', head 'head_top'."""

TEST_JOINTS = (14, 8, 9, 10, 11, 12, 13, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4)
"""The same among the 17 of annot_data.mat ('relevant' of mpii_get_joint_set.m)."""

ANNOTATED_JOINTS = 28
TRAIN_VARIABLES = ("annot2", "annot3", "univ_annot3", "cameras")
MAX_FRAMES = 20_000
FARTHEST = 100.0
"""Metres: an annotation farther away is none."""

LARGEST_RESIDUAL = 20.0
"""Pixels, median: above it annot2 is not the projection of annot3, whichever the convention."""

BYTES_A_SECOND = 2**20
"""The slowest reading that is waited for: an annot.mat has hundreds of MB, and the machine may be busy."""

MAX_TEST_BYTES = 2**25
"""Of an annot_data.mat, which has a few MB."""


PARAMETERS = {"part": str, "subjects": (list, NoneType)}


def read_source(root: Path, _: Path, options: Mapping[str, Any]) -> Iterator[Clip]:
    """The clips that a source's parameters ask for."""
    return read_clips(root, options["part"], options["subjects"])


def read_clips(
    root: Path, part: str, subjects: Sequence[str] | None = None, cameras: Sequence[int] = VNECT_CAMERAS
) -> Iterator[Clip]:
    """Clips of the files under `root`, at their own frame rate.

    part "train": one clip a sequence, of subjects S1 to S8, with a view from each of the cameras (0 to 13).
    part "test": one clip a stretch of valid frames, of subjects TS1 to TS6, with its one view; its action is the scene
    and its attribute `activity` (F,) the official activity of each frame, 1 to 7.
    """
    if part not in PARTS:
        raise UserError(f"{NAME}: has no part '{part}'; expected one of {', '.join(PARTS)}")
    known = sorted({name.split("/")[0] for name in (SEQUENCES if part == "train" else TEST_SEQUENCES)})
    check_known(subjects, known, "subject", NAME)
    with Worker() as worker:
        for subject in known if subjects is None else subjects:
            yield from (
                _test_clips(root, subject, worker)
                if part == "test"
                else (_train_clip(root, name, cameras, worker) for name in SEQUENCES if name.startswith(f"{subject}/"))
            )


def read_calibration(path: Path) -> dict[int, Camera]:
    """The cameras of a camera.calibration (Skeletool, y up, mm) in this project's frames (z up, m)."""
    expected = "MPI-INF-3DHP's camera.calibration (Skeletool Camera Calibration File V1.0)"
    lines = [line.split() for line in read_text(path, expected).splitlines()]
    lines = [words for words in lines if words]
    keys = ("name", "sensor", "size", "animated", "intrinsic", "extrinsic", "radial")
    if not lines or lines[0][:1] != ["Skeletool"]:
        raise UserError(f"{path}: has another first line; expected {expected}")
    cameras = {}
    for start in range(1, len(lines), len(keys)):
        block = lines[start : start + len(keys)]
        if tuple(words[0] for words in block) != keys:
            raise UserError(f"{path}: camera {len(cameras)} lacks a line; expected {', '.join(keys)}")
        values = {words[0]: words[1:] for words in block}
        name, camera = _skeletool_camera(values, f"{path}: camera {len(cameras)}")
        cameras[name] = camera
    return cameras


def _skeletool_camera(values: Mapping[str, list[str]], what: str) -> tuple[int, Camera]:
    name = int(numbers(values["name"], 1, f"{what}: name")[0])
    width, height = numbers(values["size"], 2, f"{what}: size")
    if numbers(values["radial"], 1, f"{what}: radial")[0]:
        raise UserError(f"{what}: has a distortion; expected radial 0, as the data set has")
    intrinsic = numbers(values["intrinsic"], 16, f"{what}: intrinsic").reshape(4, 4)[:3, :3]
    if not intrinsic[0, 0] > 0 or not intrinsic[1, 1] > 0:
        raise UserError(f"{what}: intrinsic has no positive focal length; copy the file from the source again")
    extrinsic = numbers(values["extrinsic"], 16, f"{what}: extrinsic").reshape(4, 4)
    turn = rotation(extrinsic[:3, :3], f"{what}: extrinsic")
    centre = -turn.T @ extrinsic[:3, 3] / 1000
    return name, _y_up_camera(intrinsic, turn, centre, (int(width), int(height)))


Y_UP_TO_Z_UP = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
"""(x, y, z) -> (z, x, y): from a world with y up to this project's, z up."""


def _y_up_camera(intrinsic: np.ndarray, turn: np.ndarray, centre: np.ndarray, size: tuple[int, int]) -> Camera:
    """A camera given in a world with y up, m."""
    return Camera(intrinsic, turn @ Y_UP_TO_Z_UP.T, Y_UP_TO_Z_UP @ centre, size=size)


def _train_clip(root: Path, name: str, cameras: Sequence[int], worker: Worker) -> Clip:
    path = root / name / "annot.mat"
    if path.is_file():
        worker.seconds = READ_SECONDS + path.stat().st_size / BYTES_A_SECOND
    used = tuple(number for number in cameras if (name, number) not in SHORT_VIDEOS)
    if len(used) < len(cameras):
        _log.warning("%s: %s: left out the views whose video is too short", NAME, name)
    calibrated = read_calibration(root / name / "camera.calibration")
    for number in used:
        if number not in calibrated:
            raise UserError(f"{root / name / 'camera.calibration'}: has no camera {number}; it has {list(calibrated)}")
    arrays = worker.read(read_train_mat, path, "MPI-INF-3DHP's annot.mat (MATLAB 5 to 7)", used, SEQUENCES[name].frames)
    if len(arrays["annot3"]) < SEQUENCES[name].frames:
        _log.warning("%s: has %d of %d frames", path, len(arrays["annot3"]), SEQUENCES[name].frames)
    joints, scale = universal(arrays["annot3"] / 1000, arrays["univ_annot3"] / 1000, path)
    pixels = arrays["annot2"]
    if name in FLIPPED:
        mirrored = is_flipped(joints, FLIPPED[name])
        joints, pixels = (_mirror(each, FLIPPED[name]) if mirrored else each for each in (joints, pixels))
    scaled = {number: _scaled(calibrated[number], scale) for number in used}
    world = camera_to_world(joints, scaled[used[0]])
    for number, points in zip(used, pixels, strict=True):
        _check_projection(world_to_camera(world, scaled[number]), scaled[number], points, f"{path}: camera {number}")
    subject, sequence = name.split("/")
    views = {f"cam{number}": points for number, points in zip(used, pixels, strict=True)}
    return _clip(
        f"{subject}_{sequence}",
        world,
        {f"cam{number}": camera for number, camera in scaled.items()},
        views,
        subject=subject,
        action=sequence,
        fps=SEQUENCES[name].fps,
        attributes={"scale": scale, "first_image": 1},
    )


def read_train_mat(path: Path, cameras: tuple[int, ...], frames: int) -> Arrays:
    """In the worker: annot2 (C, F, 17, 2) px of cameras, annot3 and univ_annot3 (F, 17, 3) mm of the first of them.

    Only the first `frames` rows: where a video is shorter than its annotations, they are what it shows.
    """
    from scipy.io import loadmat

    names = TRAIN_VARIABLES[:3]
    content = loadmat(path, appendmat=False, variable_names=TRAIN_VARIABLES)
    for name in TRAIN_VARIABLES:
        if name not in content:
            raise UserError(f"{path}: has no '{name}'; expected {', '.join(names)} and cameras")
    listed = [int(number) for number in content["cameras"].ravel()]
    for number in cameras:
        if number not in listed:
            raise UserError(f"{path}: has no camera {number}; it has {listed}")
    cells = {name: content[name].ravel() for name in names}

    def joints(name: str, number: int, axes: int) -> np.ndarray:
        rows = cells[name][listed.index(number)]
        shape, width = getattr(rows, "shape", ()), ANNOTATED_JOINTS * axes
        if len(shape) != 2 or shape[1] != width or not 0 < shape[0] <= MAX_FRAMES or rows.dtype.kind != "f":
            raise UserError(f"{path}: {name} of camera {number} is {shape}; expected (frames, {width}) numbers")
        return rows[:frames].reshape(-1, ANNOTATED_JOINTS, axes)[:, list(TRAIN_JOINTS)].astype(np.float64)

    if any(len(cell) != len(listed) for cell in cells.values()):
        raise UserError(f"{path}: has not {len(listed)} cells in each of {', '.join(names)}, one a camera")
    first = {name: joints(name, cameras[0], 3) for name in names[1:]}
    pixels = [joints("annot2", number, 2) for number in cameras]
    if len({len(each) for each in (*first.values(), *pixels)}) > 1:
        raise UserError(f"{path}: its cameras have different numbers of frames; expected the same in all")
    return {"annot2": np.stack(pixels), **first}


def _test_clips(root: Path, name: str, worker: Worker) -> Iterator[Clip]:
    sequence = TEST_SEQUENCES[name]
    worker.seconds = READ_SECONDS
    path, member = _locate_test(root, f"{name}/annot_data.mat")
    arrays = worker.read(read_test_mat, path, f"MPI-INF-3DHP's {name}/annot_data.mat (MATLAB 7.3)", member)
    calibration, calibration_member = _locate_test(root, sequence.calibration)
    pose = worker.read(read_test_calibration, calibration, f"MPI-INF-3DHP's {sequence.calibration}", calibration_member)
    valid = arrays["valid_frame"]
    if valid.sum() != sequence.valid:
        raise UserError(f"{path}: {name} has {valid.sum()} valid frames; expected {sequence.valid}; copy it again")
    if not np.isin(arrays["activity"][valid], np.arange(1, 8)).all():
        raise UserError(f"{path}: {name} has activities other than 1 to 7 in valid frames")
    pixels = arrays["annot2"][valid]
    annotated = arrays["annot3"][valid] / 1000
    joints, scale = universal(annotated, arrays["univ_annot3"][valid] / 1000, path)
    camera = _y_up_camera(fit_intrinsics(annotated, pixels, path), pose["R"], pose["T"], sequence.size)
    _check_projection(joints, camera, pixels, f"{path}: {name}")
    camera = _scaled(camera, scale)
    world, position = camera_to_world(joints, camera), np.cumsum(valid) - 1
    for frames in runs(valid):
        part = slice(position[frames.start], position[frames.stop - 1] + 1)
        yield _clip(
            f"{name}_{frames.start + 1:06d}",
            world[part],
            {"cam0": camera},
            {"cam0": pixels[part]},
            subject=name,
            action=sequence.scene,
            fps=TEST_FPS,
            attributes={
                "scale": scale,
                "first_image": frames.start + 1,
                "image_folder": _image_folder(root, name),
                "activity": arrays["activity"][frames].astype(np.uint8),
            },
        )


def _image_folder(root: Path, name: str) -> str:
    """Where a test sequence's images are, or belong, under the dataset's folder: they are read unpacked alone."""
    folders = [f"{folder}/{name}/imageSequence" for folder in TEST_FOLDERS]
    return next((folder for folder in folders if (root / folder).is_dir()), folders[-1])


def _locate_test(root: Path, name: str) -> tuple[Path, str]:
    """A file of the test set and its name in it ("" if it is no zip): unpacked in any of its folders, or the zip."""
    part = _test_part(name)
    place = next(iter(places(root, part)), root / part.preferred)
    return place, part.inner if place == root / TEST_ZIP else ""


def _test_part(name: str, look: Callable[[Path], Any] | None = None) -> Part:
    return Part(f"{TEST_FOLDERS[1]}/{name}", TEST_ZIP, preferred=f"{TEST_FOLDERS[0]}/{name}", look=look, section="test")


def read_test_mat(path: Path, member: str = "") -> Arrays:
    """In the worker: annot2 (F, 17, 2) px, annot3, univ_annot3 (F, 17, 3) mm, valid_frame (F,), activity (F,)."""
    import h5py

    with h5py.File(io.BytesIO(read_content(path, member, MAX_TEST_BYTES)), "r") as file:
        valid = _dataset(file, "valid_frame", path, None).ravel() == 1
        frames = len(valid)
        arrays = {"valid_frame": valid, "activity": _dataset(file, "activity_annotation", path, (frames, 1)).ravel()}
        for name, axes in {"annot2": 2, "annot3": 3, "univ_annot3": 3}.items():
            values = _dataset(file, name, path, (frames, 1, NUM_JOINTS, axes))
            arrays[name] = values[:, 0, list(TEST_JOINTS)].astype(np.float64)
    return arrays


def _dataset(file: Any, name: str, path: Path, shape: tuple[int, ...] | None) -> np.ndarray:
    """An array of numbers of a MATLAB 7.3 file: its axes are in the opposite order of MATLAB's."""
    import h5py

    if not isinstance(file.get(name, getlink=True), h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
        raise UserError(f"{path}: has no array '{name}'; expected MPI-INF-3DHP's annot_data.mat")
    data = file[name]
    expected = shape or (data.shape[0] if data.shape else 0, 1)
    if data.shape != expected or not 0 < expected[0] <= MAX_FRAMES or data.dtype.kind not in "fuib":
        raise UserError(f"{path}: {name} is {data.shape} of {data.dtype}; expected {expected} numbers")
    if data.external or data.is_virtual:
        raise UserError(f"{path}: {name} is kept in another file; copy it from the source again")
    return data[()]


def read_test_calibration(path: Path, member: str = "") -> Arrays:
    """In the worker: rotation R (3, 3) and centre T (3,), m, y up, of the camera of a .calib (Captury)."""
    text = read_content(path, member, MAX_TEXT_BYTES).decode("latin-1")
    lines = [line.partition("#")[0].split() for line in text.splitlines()]
    values = {}
    for key in ("origin", "up", "right"):
        found = [words[1:] for words in lines if words[:1] == [key]]
        if len(found) != 1:
            raise UserError(f"{path}: has {len(found)} lines '{key}'; expected one, of the set's one camera")
        values[key] = numbers(found[0], 3, f"{path}: {key}")
    axes = np.stack([values["right"], -values["up"], np.cross(values["up"], values["right"])])
    return {"R": rotation(axes, f"{path}: up and right"), "T": values["origin"] / 1000}


def universal(annotated: np.ndarray, normalised: np.ndarray, path: Path) -> tuple[np.ndarray, float]:
    """Joints (F, J, 3), m, of camera-frame annot3 and univ_annot3, and the scale between the two.

    Root-relative they are univ_annot3, which the official evaluation compares with; the root is annot3's times the
    scale, so that projections stay where they are if univ_annot3 is annot3 scaled.
    """
    for name, joints in {"annot3": annotated, "univ_annot3": normalised}.items():
        if not (np.abs(joints) < FARTHEST).all():
            raise UserError(f"{path}: {name} has coordinates that are no numbers or beyond {FARTHEST:g} m")
    if not (annotated[..., 2] > 0).any():
        raise UserError(f"{path}: annot3 is behind the camera; expected camera-frame coordinates, mm, z away")
    relative, target = annotated - annotated[:, :1], normalised - normalised[:, :1]
    scale = float((relative * target).sum() / max((relative**2).sum(), 1e-12))
    if not 0.5 < scale < 2:
        raise UserError(f"{path}: univ_annot3 is {scale:.3g} times annot3; expected the same poses in the same unit")
    return scale * annotated[:, :1] + target, scale


def fit_intrinsics(joints: np.ndarray, pixels: np.ndarray, path: Path) -> np.ndarray:
    """K (3, 3) that projects camera-frame joints (F, J, 3) to pixels (F, J, 2): least squares, no skew.

    The .calib files have intrinsics, which public readers take in two ways; the annotations have no such doubt.
    """
    if not (joints[..., 2] > 0).all() or not np.isfinite(pixels).all():
        raise UserError(f"{path}: valid frames have joints behind the camera or without pixels; copy it again")
    intrinsics = np.eye(3)
    for axis in (0, 1):
        slopes = (joints[..., axis] / joints[..., 2]).ravel()
        design = np.stack([slopes, np.ones_like(slopes)], axis=1)
        intrinsics[axis, [axis, 2]] = np.linalg.lstsq(design, pixels[..., axis].ravel(), rcond=None)[0]
    if not (np.diag(intrinsics) > 0).all():
        raise UserError(f"{path}: annot2 is not the projection of annot3; expected a positive focal length")
    return intrinsics


def _scaled(camera: Camera, scale: float) -> Camera:
    """The camera in a world `scale` times as large."""
    return Camera(camera.K, camera.R, scale * camera.T, camera.distortion, camera.size)


def _check_projection(joints: np.ndarray, camera: Camera, pixels: np.ndarray, what: str) -> None:
    """Refuse annotated pixels that are not where the camera sees the camera-frame joints."""
    if not np.isfinite(pixels).all():
        raise UserError(f"{what}: annot2 has pixels that are no numbers; copy the file from the source again")
    with np.errstate(all="ignore"):
        seen = joints @ camera.K.T
        distance = np.linalg.norm(seen[..., :2] / seen[..., 2:] - pixels, axis=-1)
    residual = float(np.median(distance))
    if not residual <= LARGEST_RESIDUAL:
        raise UserError(
            f"{what}: annot2 lies {residual:.3g} px (median) from the projection of annot3; "
            f"expected at most {LARGEST_RESIDUAL:g}; copy annotations and calibration again, both of this sequence"
        )


def is_flipped(joints: np.ndarray, frames: slice) -> bool:
    """Whether left and right of joints (F, 17, 3) are exchanged in the frames: at both ends of these the motion goes on
    more smoothly with them exchanged back."""
    if len(joints) <= frames.stop:
        return False
    inside, outside = joints[[frames.start, frames.stop - 1]], joints[[frames.start - 1, frames.stop]]
    as_is, mirrored = (np.abs(each - outside).sum((1, 2)) for each in (inside, inside[:, list(MIRROR)]))
    return bool((mirrored < as_is).all())


def _mirror(values: np.ndarray, frames: slice) -> np.ndarray:
    """Values (..., F, 17, D) with left and right exchanged in the frames."""
    values = values.copy()
    values[..., frames, :, :] = values[..., frames, :, :][..., list(MIRROR), :]
    return values


def _clip(
    name: str, world: np.ndarray, cameras: dict[str, Camera], pixels: Mapping[str, np.ndarray], **fields: Any
) -> Clip:
    views = {camera: View(camera, points.astype(np.float32)) for camera, points in pixels.items()}
    return Clip(name, world, np.ones(NUM_JOINTS, bool), source=NAME, cameras=cameras, views=views, **fields)


FILES = (
    *(
        part
        for name in SEQUENCES
        for part in (
            Part(f"{name}/annot.mat", look=partial(check_variables, names=TRAIN_VARIABLES), section="train"),
            Part(f"{name}/camera.calibration", look=read_calibration, section="train"),
        )
    ),
    *(_test_part(f"{name}/annot_data.mat", read_test_mat) for name in TEST_SEQUENCES),
    *(_test_part(calibration, read_test_calibration) for calibration in (_STUDIO[1], _OUTDOOR[1])),
    *(Part(f"{name}/imageSequence", use="images", sample="video_*.avi") for name in SEQUENCES),
    *(
        _test_part(f"{name}/imageSequence")._replace(archive="", use="images", sample="img_*.jpg")
        for name in TEST_SEQUENCES
    ),
)
