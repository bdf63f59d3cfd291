"""MPII Human Pose (Andriluka et al., CVPR 2014): people in images, 16 joints; the MATLAB file, and HRNet's JSON of it.

The conventions and their sources: docs/datasets/mpii.md.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from isopose.datasets.images import People
from isopose.datasets.json_stream import WHOLE, read_elements
from isopose.datasets.mat_files import check_variables
from isopose.datasets.raw_files import CACHE, Part, locate
from isopose.datasets.sources import check_known
from isopose.datasets.worker import Arrays, Worker
from isopose.errors import UserError

SOURCE = "mpii"
SPLITS = ("train", "test")
JSON_SPLITS = ("train", "valid", "trainval", "test")

IMAGES = "images"

EXPECTED = "mpii_human_pose_v1_u12_1.mat of MPII Human Pose"
EXPECTED_JSON = "a list of {image, joints, joints_vis, center, scale}, HRNet's JSON of MPII"
EXPECTED_BOXES = "gt_valid.mat, the heads' boxes of HRNet's JSON of MPII"

JOINT_COUNT = 16

ORIGIN = 1.0
"""MATLAB's pixels: the first is 1."""

HEAD_SHARE = 0.6
"""PCKh's head size over the diagonal of the head's box."""

SCALE = 200.0
"""Pixels of a person of scale 1: the side of the box."""

RELEASE_SECONDS = 300.0
"""The longest that the MATLAB file may take: it has 25,000 images in nested structs."""

_LARGEST = 1e6


def head_size(box: np.ndarray) -> np.ndarray:
    """PCKh's head size (...), px, of heads' boxes (..., 4), px: 0.6 of the diagonal, as the official evaluation."""
    return HEAD_SHARE * np.linalg.norm(box[..., 2:] - box[..., :2], axis=-1)


def read_people(root: Path, split: str, cache: Path = CACHE) -> People:
    """Everyone in the images of a split, from the MATLAB file. The joints of test are not published: none is labelled.

    counted: those the file calls sufficiently separated (``single_person``) that have joints. UserError for an
    unknown split, or a missing or broken file.
    """
    check_known([split], SPLITS, "split", SOURCE)
    path = locate(root, RELEASE, cache)
    with Worker(seconds=RELEASE_SECONDS) as worker:
        arrays = worker.read(load_release, path, EXPECTED)
    chosen = {name: values[arrays["train"] == (split == "train")] for name, values in arrays.items()}
    _check(path, EXPECTED, chosen["points"][chosen["labelled"]], chosen["centres"], chosen["scales"])
    return People(
        source=SOURCE,
        split=split,
        joint_set="mpii",
        images=_image_paths(path, chosen["images"]),
        points=np.where(chosen["labelled"][..., None], chosen["points"] - ORIGIN, np.nan),
        labelled=chosen["labelled"],
        visible=chosen["visible"] & chosen["labelled"],
        boxes=_boxes(chosen["centres"], chosen["scales"]),
        head_sizes=head_size(chosen["heads"]),
        counted=chosen["single"] & chosen["labelled"].any(-1),
    )


def read_json(root: Path, split: str, cache: Path = CACHE) -> People:
    """The people of HRNet's ``annot/<split>.json``; their head sizes are known of valid alone (``gt_valid.mat``).

    ``joints_vis`` says which joints are labelled: hidden ones too, so visible is the same. UserError for an unknown
    split, or a missing or broken file.
    """
    check_known([split], JSON_SPLITS, "split", SOURCE)
    path = locate(root, JSON, cache) / f"{split}.json"
    people = [_json_person(path, element) for _, element in read_elements(path, (WHOLE,), EXPECTED_JSON)]
    if not people:
        raise UserError(f"{path}: holds nobody; expected {EXPECTED_JSON}")
    images, *columns = zip(*people, strict=True)
    points, labelled, centres, scales = map(np.array, columns)
    _check(path, EXPECTED_JSON, points[labelled], centres, scales)
    return People(
        source=SOURCE,
        split=split,
        joint_set="mpii",
        images=_image_paths(path, np.array(images)),
        points=np.where(labelled[..., None], points - ORIGIN, np.nan),
        labelled=labelled,
        visible=labelled,
        boxes=_boxes(centres, scales),
        head_sizes=_json_heads(path.with_name("gt_valid.mat"), len(people))
        if split == "valid"
        else np.full(len(people), np.nan),
        counted=labelled.any(-1),
    )


def _json_person(path: Path, element: Any) -> tuple[str, np.ndarray, np.ndarray, np.ndarray, float]:
    """Image, points (16, 2), labelled (16,), centre (2,) and scale of one entry; test has no joints."""
    try:
        labelled = _numbers(element.get("joints_vis", [0] * JOINT_COUNT), (JOINT_COUNT,)) > 0
        points = _numbers(element.get("joints", [[0, 0]] * JOINT_COUNT), (JOINT_COUNT, 2))
        centre, scale = _numbers(element["center"], (2,)), _numbers(element["scale"], ()).item()
        return str(element["image"]), points, labelled, centre, scale
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise UserError(
            f"{path}: an entry is broken ({reason}); expected {EXPECTED_JSON}; copy it from the source again"
        ) from error


def _numbers(values: Any, shape: tuple[int, ...]) -> np.ndarray:
    numbers = np.array(values)
    if numbers.dtype.kind not in "fiub" or numbers.shape != shape:
        raise ValueError(f"holds {numbers.dtype} {numbers.shape}, not numbers {shape}")
    return numbers.astype(np.float64)


def _json_heads(path: Path, count: int) -> np.ndarray:
    """Head sizes (N,), px, of the heads' boxes (2, 2, N): corner, then x and y, then person."""
    with Worker() as worker:
        boxes = worker.read(load_heads, path, EXPECTED_BOXES)["boxes"]
    if boxes.shape != (2, 2, count):
        raise UserError(f"{path}: headboxes_src is {boxes.shape}; expected (2, 2, {count}), a box for each person")
    sizes = head_size(boxes.reshape(4, count).T)
    if not ((sizes > 0) & (sizes < _LARGEST)).all():
        raise UserError(f"{path}: a head has no size; expected {EXPECTED_BOXES}; copy it from the source again")
    return sizes


def load_heads(path: Path) -> Arrays:
    """Read the heads' boxes of ``gt_valid.mat``, in a worker."""
    from scipy.io import loadmat

    boxes = loadmat(path, simplify_cells=False, variable_names=["headboxes_src"])["headboxes_src"]
    if boxes.dtype.kind not in "fiu":
        raise ValueError("'headboxes_src' is not numbers")
    return {"boxes": boxes.astype(np.float64)}


def _check(path: Path, expected: str, points: np.ndarray, centres: np.ndarray, scales: np.ndarray) -> None:
    likely = all((np.abs(values) <= _LARGEST).all() for values in (points, centres, scales))
    if not likely or not (scales > 0).all():
        raise UserError(f"{path}: holds places that cannot be; expected {expected}, px; copy it from the source again")


def _image_paths(path: Path, names: np.ndarray) -> np.ndarray:
    for name in names:
        if PurePosixPath(name).name != name or not name:
            raise UserError(f"{path}: an image is called {str(name)!r:.80}; expected the plain name of a file")
    return np.array([f"{IMAGES}/{name}" for name in names], str)


def _boxes(centres: np.ndarray, scales: np.ndarray) -> np.ndarray:
    half = SCALE / 2 * scales[:, None]
    return np.concatenate([centres - ORIGIN - half, centres - ORIGIN + half], axis=1)


def load_release(path: Path) -> Arrays:
    """Read the MATLAB file, in a worker: everyone who has a position and a scale, a row each."""
    from scipy.io import loadmat

    release = loadmat(path, simplify_cells=False, variable_names=["RELEASE"])["RELEASE"][0, 0]
    images, train, single = (release[name] for name in ("annolist", "img_train", "single_person"))
    if images.ndim != 2 or not images.dtype.names or not images.size == train.size == single.size:
        raise ValueError(f"'annolist', 'img_train' and 'single_person' have {images.size}, {train.size}, {single.size}")
    rows = [
        {"images": str(_only(_only(image["image"])["name"])), "train": bool(is_train == 1)} | person
        for image, is_train, alone in zip(images.ravel(), train.ravel(), single.ravel(), strict=True)
        for person in _people(image["annorect"], np.ravel(alone))
    ]
    if not rows:
        raise ValueError("has nobody")
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _people(rectangles: np.ndarray, single: np.ndarray) -> Iterator[dict[str, Any]]:
    """What is known of the people of an image; ``single``: indices, from 1, of those apart from others."""
    for number, rectangle in enumerate(rectangles.ravel() if rectangles.dtype.names else ()):
        place, scale = _get(rectangle, "objpos"), _get(rectangle, "scale")
        if place is None or scale is None:
            continue  # an image of a group; nothing is known of its people
        heads = [_get(rectangle, name) for name in ("x1", "y1", "x2", "y2")]
        points, labelled, visible = _joints(_get(rectangle, "annopoints"))
        yield {
            "centres": [float(_only(place[axis])) for axis in "xy"],
            "scales": float(scale),
            "heads": [np.nan if edge is None else float(edge) for edge in heads],
            "points": points,
            "labelled": labelled,
            "visible": visible,
            "single": number + 1 in single,
        }


def _joints(annotation: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (16, 2), labelled (16,) and visible (16,) of an ``annopoints``, which may be missing."""
    points, labelled, visible = np.zeros((JOINT_COUNT, 2)), np.zeros(JOINT_COUNT, bool), np.zeros(JOINT_COUNT, bool)
    listed = annotation["point"] if annotation is not None and "point" in (annotation.dtype.names or ()) else None
    for point in listed.ravel() if listed is not None and listed.dtype.names else ():
        joint = int(_only(point["id"]))
        if not 0 <= joint < JOINT_COUNT:
            raise ValueError(f"a joint's id is {joint}")
        points[joint] = [float(_only(point[axis])) for axis in "xy"]
        labelled[joint] = True
        # a number, a digit as text, or nothing: the ends of the head, from its box, are not marked and count as seen
        seen = _get(point, "is_visible")
        visible[joint] = seen is None or int(seen) > 0
    return points, labelled, visible


def _get(record: Mapping[str, Any], name: str) -> Any:
    """A struct's field, which is a 1 x 1 array; None where it is missing or empty."""
    value = record[name] if name in record.dtype.names else None
    return None if value is None or value.size == 0 else _only(value)


def _only(value: np.ndarray) -> Any:
    if value.size != 1:
        raise ValueError(f"holds {value.shape} in place of one value")
    return value.ravel()[0]


def look_at_json(path: Path) -> None:
    """Read the first entry of HRNet's JSON alone."""
    _json_person(path, next(read_elements(path, (WHOLE,), EXPECTED_JSON), ("", None))[1])


RELEASE = Part(
    "mpii_human_pose_v1_u12_2/mpii_human_pose_v1_u12_1.mat",
    "mpii_human_pose_v1_u12_2.zip",
    look=partial(check_variables, names=("RELEASE",)),
)
JSON = Part("annot", "annot.zip", use="HRNet's JSON", sample="*.json", look=look_at_json)
FILES = (RELEASE, Part(IMAGES, use="images", sample="*.jpg"), JSON)
