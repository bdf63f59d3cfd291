"""Penn Action (Zhang et al., ICCV 2013): 2,326 videos of 15 actions with 13 joints a frame, in 2D alone.

The conventions and their sources: docs/datasets/penn_action.md.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from isopose.camera import UPRIGHT, Camera
from isopose.datasets.images import Clip2D
from isopose.datasets.raw_files import CACHE, Part, listed, locate
from isopose.datasets.sources import check_known
from isopose.datasets.store import Clip, View
from isopose.datasets.worker import Arrays, Worker
from isopose.errors import UserError
from isopose.skeleton import JOINTS

SOURCE = "penn_action"

FRAMES = "Penn_Action/frames"

EXPECTED = "an annotation of Penn Action (labels/<number>.mat)"

PENN_JOINTS = (
    *("head", "l_shoulder", "r_shoulder", "l_elbow", "r_elbow", "l_wrist", "r_wrist"),
    *("l_hip", "r_hip", "l_knee", "r_knee", "l_ankle", "r_ankle"),
)
"""The 13 joints of ``x``, ``y`` and ``visibility``, in order; named as the skeleton's."""

ORIGIN = 1.0
"""MATLAB's pixels: the first is 1."""

SPLITS = ("train", "test")

CAMERA = "camera"

FOCAL = 1.145
"""Focal length over the longer side of the image, as of Human3.6M's cameras: Penn Action tells nothing of its own."""

_LARGEST = 1e5

PARAMETERS = {"splits": list, "actions": (list, NoneType)}


def read_source(root: Path, cache: Path, options: Mapping[str, Any]) -> Iterator[Clip]:
    """The clips that a source's parameters ask for, of 2D labels alone, at the rate that ``fps`` takes them to have."""
    check_known(options["splits"], SPLITS, "split", SOURCE)
    for found in read_clips(root, cache):
        if found.split in options["splits"] and found.action in (options["actions"] or [found.action]):
            yield without_3d(found, options["fps"])


def without_3d(found: Clip2D, fps: float) -> Clip:
    """The sequence of a video: joints3d NaN, one view, and a camera that is presumed, upright and at :data:`FOCAL`.

    Attributes: ``split``, ``viewpoint``, ``image_folder`` and ``first_image`` as 3DPW's, ``boxes`` (F, 4), px.
    """
    width, height = found.size
    K = np.array([[FOCAL * max(found.size), 0, width / 2], [0, FOCAL * max(found.size), height / 2], [0, 0, 1]])
    places = {"image_folder": f"{FRAMES}/{found.id}", "first_image": 1, "boxes": found.boxes.astype(np.float32)}
    return Clip(
        id=found.id,
        joints3d=np.full((len(found.points), len(JOINTS), 3), np.nan, np.float32),
        joint_valid=found.joint_valid,
        subject=found.id,
        action=found.action,
        fps=float(fps),
        source=SOURCE,
        attributes={"split": found.split, **found.attributes, **places},
        cameras={CAMERA: Camera(K, UPRIGHT, np.zeros(3), size=found.size)},
        views={CAMERA: View(CAMERA, found.points.astype(np.float32), visible=found.visible)},
    )


def read_clips(root: Path, cache: Path = CACHE) -> Iterator[Clip2D]:
    """A clip for every video, named by its number, ``0001``. UserError for a missing or broken file."""
    folder = locate(root, FILES[0], cache)
    paths = listed(folder, "*.mat")
    if not paths:
        raise UserError(f"{folder}: holds no .mat; expected the annotations of Penn Action; copy them there")
    with Worker() as worker:
        for path in paths:
            yield read_clip(path, worker)


def read_clip(path: Path, worker: Worker) -> Clip2D:
    """One video's annotation, checked. UserError if it is broken, or not of Penn Action's layout."""
    arrays = worker.read(load, path, EXPECTED)
    frames = len(arrays["points"])
    visible = np.zeros((frames, len(JOINTS)), bool)
    points = np.full((frames, len(JOINTS), 2), np.nan)
    places = [JOINTS.index(joint) for joint in PENN_JOINTS]
    visible[:, places] = arrays["visible"]
    points[:, places] = arrays["points"] - ORIGIN
    points[~visible] = np.nan
    if np.isnan(points[visible]).any() or (np.abs(points[visible]) > _LARGEST).any():
        raise UserError(f"{path}: a visible joint has no place; expected {EXPECTED}, px; copy it from the source again")
    height, width = arrays["size"].tolist()
    return Clip2D(
        id=path.stem,
        source=SOURCE,
        split="train" if arrays["train"] == 1 else "test",
        action=str(arrays["action"]),
        points=points,
        joint_valid=np.isin(JOINTS, PENN_JOINTS),
        visible=visible,
        boxes=_boxes(arrays["boxes"], frames) - ORIGIN,
        images=tuple(f"{FRAMES}/{path.stem}/{frame + 1:06d}.jpg" for frame in range(frames)),
        size=(width, height),
        attributes={"viewpoint": str(arrays["viewpoint"])},
    )


def _boxes(boxes: np.ndarray, frames: int) -> np.ndarray:
    """Boxes (F, 4); a file may have fewer or more of them than frames: NaN where there is none."""
    padded = np.full((frames, 4), np.nan)
    padded[: len(boxes)] = boxes[:frames]
    padded[~(np.abs(padded) <= _LARGEST).all(-1)] = np.nan
    return padded


def load(path: Path) -> Arrays:
    """Read an annotation, in a worker: points (F, 13, 2) px from 1, visible (F, 13), boxes, size and names, checked."""
    from scipy.io import loadmat

    content = loadmat(path, simplify_cells=False)
    numbers = {name: _numbers(content, name) for name in ("x", "y", "visibility", "bbox", "dimensions", "nframes")}
    frames, train = _one(numbers["nframes"], "nframes"), _one(_numbers(content, "train"), "train")
    for name in ("x", "y", "visibility"):
        if numbers[name].shape != (frames, len(PENN_JOINTS)) or frames < 1:
            raise ValueError(f"'{name}' is {numbers[name].shape}, not ({frames:g}, {len(PENN_JOINTS)})")
    if numbers["bbox"].ndim != 2 or numbers["bbox"].shape[1] != 4:
        raise ValueError(f"'bbox' is {numbers['bbox'].shape}, not ({frames:g}, 4)")
    size = numbers["dimensions"].ravel()[:2]
    if size.shape != (2,) or not (size >= 1).all() or not (size <= _LARGEST).all():
        raise ValueError(f"'dimensions' is {size.tolist()}, not height, width and frames")
    if train not in (1, -1, 0):
        raise ValueError(f"'train' is {train:g}, not 1 or -1")
    return {
        "points": np.stack([numbers["x"], numbers["y"]], axis=-1),
        "visible": numbers["visibility"] > 0,
        "boxes": numbers["bbox"],
        "size": size.astype(np.int64),
        "train": np.array(train),
        "action": _text(content, "action"),
        "viewpoint": _text(content, "pose"),
    }


def _numbers(content: dict, name: str) -> np.ndarray:
    value = content.get(name)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        raise ValueError(f"'{name}' is {'missing' if value is None else 'not numbers'}")
    return value.astype(np.float64)


def _one(value: np.ndarray, name: str) -> float:
    if value.size != 1:
        raise ValueError(f"'{name}' is {value.shape}, not one number")
    return value.item()


def _text(content: dict, name: str) -> np.ndarray:
    value = content.get(name)
    if not isinstance(value, np.ndarray) or value.dtype.kind != "U" or value.size != 1:
        raise ValueError(f"'{name}' is {'missing' if value is None else 'not text'}")
    return np.array(value.item())


FILES = (
    Part("Penn_Action/labels", "Penn_Action.tar.gz", sample="*.mat", count=2326, look=load),
    Part(FRAMES, use="images", sample="*/*.jpg"),
)
