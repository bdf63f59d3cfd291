"""What 2D datasets give: people in images, people in video without 3D, and detections made elsewhere.

Image px as in :mod:`isopose.camera`: the centre of the top left pixel is (0, 0). Boxes are x0, y0, x1, y1.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class People:
    """N annotated people of a dataset's images, with the dataset's own K joints.

    joint_set: a key of ``isopose.joint_sets.JOINT_SETS``; images (N,) paths under the dataset's folder; points
    (N, K, 2) px, NaN where not labelled; labelled (N, K) bool; visible (N, K) bool: labelled and not hidden; boxes
    (N, 4) px; head_sizes (N,) px, as PCKh measures them, NaN where unknown; counted (N,) bool: the official scores
    count them.
    """

    source: str
    split: str
    joint_set: str
    images: np.ndarray
    points: np.ndarray
    labelled: np.ndarray
    visible: np.ndarray
    boxes: np.ndarray
    head_sizes: np.ndarray
    counted: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def skeleton(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points (N, 17, 2) px, labelled (N, 17) and visible (N, 17) of the skeleton's joints.

        A derived joint is labelled and visible where all its sources are.
        """
        points, labelled, visible = to_skeleton(self.joint_set, self.points, self.labelled, self.visible)
        return points, labelled, visible


@dataclass(frozen=True)
class Clip2D:
    """A stretch of video with 2D labels alone.

    points (F, 17, 2) px, NaN where not visible; joint_valid (17,) bool: the dataset has the joint; visible (F, 17)
    bool; boxes (F, 4) px, NaN where there is none; images: F paths under the dataset's folder; size (width, height) px.
    """

    id: str
    source: str
    split: str
    action: str
    points: np.ndarray
    joint_valid: np.ndarray
    visible: np.ndarray
    boxes: np.ndarray
    images: tuple[str, ...]
    size: tuple[int, int]
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """N detections made elsewhere: image_ids (N,); points (N, 17, 2) px and confidence (N, 17) of the skeleton's
    joints, as given; scores (N,) of the people.
    """

    image_ids: np.ndarray
    points: np.ndarray
    confidence: np.ndarray
    scores: np.ndarray


def to_skeleton(joint_set: str, points: np.ndarray, *values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Points (..., K, 2) and values (..., K) of a joint set as those of the skeleton's 17; types stay."""
    # imported here: the processes that read foreign files import this module and have no memory for torch
    from isopose.joint_sets import JOINT_SETS

    rules = JOINT_SETS[joint_set]
    mapped = (rules.confidence(value.astype(np.float32)).astype(value.dtype) for value in values)
    return rules.keypoints(points), *mapped
