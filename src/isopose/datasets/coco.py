"""COCO 2017 keypoints: people in images, and detections in COCO's format of results.

The files are large (train: 238 MB) and are read an element at a time. The conventions and their sources:
docs/datasets/coco.md.
"""

from array import array
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from isopose.datasets.images import People, Results, to_skeleton
from isopose.datasets.json_stream import WHOLE, read_elements
from isopose.datasets.raw_files import CACHE, Part, locate
from isopose.datasets.sources import check_known
from isopose.errors import UserError

SOURCE = "coco"
SPLITS = ("train", "val")

EXPECTED = "person_keypoints_<split>2017.json of COCO"
EXPECTED_RESULTS = "COCO keypoint results, a list of {image_id, category_id, keypoints, score}"

KEYPOINTS = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow"),
    *("right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle"),
    "right_ankle",
)
"""``categories[0].keypoints`` of the file: the order of :data:`isopose.joint_sets.COCO`."""

PERSON = 1
"""Id of the category."""

HALF_PIXEL = 0.5
"""A box counts from the image's corner, a keypoint in whole pixels: the corner is at -0.5 there."""

_LARGEST = 1e6


def read_people(root: Path, split: str, cache: Path = CACHE) -> People:
    """Everyone annotated in a split, crowds and people without keypoints too; scores do not count those.

    UserError for an unknown split, or a missing or broken file.
    """
    check_known([split], SPLITS, "split", SOURCE)
    path = locate(root, ANNOTATIONS[split], cache)
    names: dict[int, str] = {}
    columns = _Columns()
    named = False
    for key, element in read_elements(path, ("images", "annotations", "categories"), EXPECTED):
        if key == "images":
            _checked(path, EXPECTED, "an image", element, lambda image: names.update([_image(image, split)]))
        elif key == "categories":
            named |= _checked(path, EXPECTED, "a category", element, _is_person)
        else:
            _checked(path, EXPECTED, "an annotation", element, columns.add)
    if not named:
        raise UserError(f"{path}: has no category of people with COCO's 17 keypoints in order; expected {EXPECTED}")
    lacking = set(columns.image_ids) - names.keys()
    if lacking:
        raise UserError(f"{path}: has no image {min(lacking)}, which an annotation names; expected {EXPECTED}")
    return columns.people(split, names)


def read_results(path: Path) -> Results:
    """Detections in COCO's format of results, made elsewhere, as the skeleton's joints. UserError if broken."""
    image_ids, scores, values = array("q"), array("d"), array("d")

    def add(element: Mapping[str, Any]) -> None:
        keypoints = _numbers(element["keypoints"], 3 * len(KEYPOINTS))
        score = _numbers([element["score"]], 1)
        if _whole(element["category_id"]) != PERSON:
            return
        image_ids.append(_whole(element["image_id"]))
        values.extend(keypoints)
        scores.extend(score)

    for _, element in read_elements(path, (WHOLE,), EXPECTED_RESULTS):
        _checked(path, EXPECTED_RESULTS, "a detection", element, add)
    keypoints = np.array(values).reshape(-1, len(KEYPOINTS), 3)
    points, confidence = to_skeleton(SOURCE, keypoints[..., :2], keypoints[..., 2])
    return Results(np.array(image_ids), points, confidence, np.array(scores))


class _Columns:
    """The annotations' numbers, packed: a list of Python's floats would be eight times as large."""

    def __init__(self) -> None:
        self.image_ids, self.keypoints, self.boxes, self.counted = array("q"), array("d"), array("d"), array("b")

    def add(self, annotation: Mapping[str, Any]) -> None:
        keypoints = _numbers(annotation["keypoints"], 3 * len(KEYPOINTS))
        box = _numbers(annotation["bbox"], 4)
        image_id, crowd, count = (_whole(annotation[key]) for key in ("image_id", "iscrowd", "num_keypoints"))
        if any(value not in (0, 1, 2) for value in keypoints[2::3]):
            raise ValueError("a visibility is not 0, 1 or 2")
        if _whole(annotation["category_id"]) != PERSON:
            raise ValueError(f"its category is not {PERSON}")
        self.image_ids.append(image_id)
        self.keypoints.extend(keypoints)
        self.boxes.extend(box)
        self.counted.append(crowd == 0 and count > 0)

    def people(self, split: str, names: Mapping[int, str]) -> People:
        keypoints = np.array(self.keypoints, np.float32).reshape(-1, len(KEYPOINTS), 3)
        labelled = keypoints[..., 2] > 0
        boxes = np.array(self.boxes).reshape(-1, 4)
        return People(
            source=SOURCE,
            split=split,
            joint_set="coco",
            images=np.array([names[image_id] for image_id in self.image_ids], str),
            points=np.where(labelled[..., None], keypoints[..., :2], np.float32(np.nan)),
            labelled=labelled,
            visible=keypoints[..., 2] == 2,
            boxes=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1) - HALF_PIXEL,
            head_sizes=np.full(len(boxes), np.nan),
            counted=np.array(self.counted, bool),
        )


def _image(image: Mapping[str, Any], split: str) -> tuple[int, str]:
    name = image["file_name"]
    if not isinstance(name, str) or PurePosixPath(name).name != name:
        raise ValueError(f"its file_name is {name!r:.80}")
    return _whole(image["id"]), f"{split}2017/{name}"


def _is_person(category: Mapping[str, Any]) -> bool:
    return category["id"] == PERSON and tuple(category["keypoints"]) == KEYPOINTS


def _checked(path: Path, expected: str, what: str, element: Any, use: Callable[[Any], Any]) -> Any:
    """Use an element; a UserError where it lacks something or holds something else."""
    try:
        return use(element)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        found = " ".join(repr(element).split())[:80]
        raise UserError(
            f"{path}: {what} is broken ({reason}) in {found}; expected {expected}; copy it from the source again"
        ) from error


def _numbers(values: Any, count: int) -> array:
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"not a list of {count} numbers")
    numbers = array("d", values)
    if not all(abs(value) <= _LARGEST for value in numbers):
        raise ValueError("a number is too large")
    return numbers


def _whole(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 62:
        raise ValueError(f"{value!r:.40} is no whole number")
    return int(value)


def look(path: Path) -> None:
    """Read up to the first annotation, and the end."""
    elements = read_elements(path, ("images", "annotations"), EXPECTED)
    key, element = next(((key, element) for key, element in elements if key == "annotations"), ("", None))
    _checked(path, EXPECTED, "an annotation", element, _Columns().add)
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 100))
        if not file.read().rstrip().endswith(b"}"):
            raise UserError(f"{path}: is cut short; expected {EXPECTED}; copy it from the source again")


ANNOTATIONS = {
    split: Part(f"annotations/person_keypoints_{split}2017.json", "annotations_trainval2017.zip", look=look)
    for split in SPLITS
}
FILES = (
    *ANNOTATIONS.values(),
    *(Part(f"{split}2017", use="images", sample="*.jpg") for split in SPLITS),
)
