"""From the joints of MPII (16) and COCO (17) to the skeleton's 17: keypoints, confidence and heatmaps.

Which of the 17 are exact (the source has a joint of that place) and which are derived is data: the tables below,
explained in docs/joint_sets.md with the sources of the joint orders.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from isopose.camera import ArrayT
from isopose.heatmaps import decode
from isopose.skeleton import JOINTS


class Rule(NamedTuple):
    """How one joint of the skeleton comes about: a weighted mean of source joints; the weights' sum is one."""

    kind: Literal["exact", "derived"]
    weights: Mapping[str, float]


def _exact(source: str) -> Rule:
    return Rule("exact", {source: 1.0})


def _derived(**weights: float) -> Rule:
    return Rule("derived", weights)


@dataclass(frozen=True)
class JointSet:
    """The K joints of a data set, in its order, and the rule of each of the skeleton's 17 joints.

    Its methods raise ValueError for arrays of another number of joints.
    """

    name: str
    joints: tuple[str, ...]
    rules: Mapping[str, Rule]

    @property
    def mirror(self) -> tuple[int, ...]:
        """Permutation of the K joints that exchanges left and right, as :data:`isopose.skeleton.MIRROR`."""
        other = {"l_": "r_", "r_": "l_"}
        return tuple(self.joints.index(other.get(name[:2], name[:2]) + name[2:]) for name in self.joints)

    def keypoints(self, points: ArrayT) -> ArrayT:
        """Joints (..., 17, D) of points (..., K, D) with D = 2 or 3, any unit; numpy or torch in, same out."""
        source, is_numpy = self._tensor(points, -2)
        sums = [
            sum(weight * source[..., index, :] for index, weight in zip(indices, weights, strict=True))
            for indices, weights in self._sources()
        ]
        return _like(torch.stack(sums, -2), is_numpy)

    def confidence(self, values: ArrayT) -> ArrayT:
        """Confidence or visibility (..., 17) of values (..., K): a derived joint has the smallest of its sources'."""
        source, is_numpy = self._tensor(values, -1)
        return _like(torch.stack([source[..., indices].amin(-1) for indices, _ in self._sources()], -1), is_numpy)

    def heatmaps(self, maps: ArrayT) -> ArrayT:
        """Heatmaps (..., 17, H, W) of maps (..., K, H, W); numpy or torch in, same out.

        A derived joint's map: the sources' maps moved by whole pixels until their peaks meet, the smallest of them
        at every pixel, moved so that it decodes to within half a pixel (each way) of the keypoint derived from the
        sources' decoded keypoints. It is as high as the lowest of their peaks, which must not be negative, and as
        wide as they are; a place outside the map leaves what of it is inside.
        """
        source, is_numpy = self._tensor(maps, -3)
        places = self.keypoints(decode(source)[0])
        mapped = [
            source[..., indices[0], :, :] if len(indices) == 1 else _meeting(source[..., indices, :, :], place)
            for (indices, _), place in zip(self._sources(), places.unbind(-2), strict=True)
        ]
        return _like(torch.stack(mapped, -3), is_numpy)

    def _sources(self) -> list[tuple[list[int], list[float]]]:
        """Indices and weights of the source joints of each joint of the skeleton."""
        weights = [self.rules[name].weights for name in JOINTS]
        return [([self.joints.index(source) for source in each], list(each.values())) for each in weights]

    def _tensor(self, values: ArrayT, axis: int) -> tuple[Tensor, bool]:
        if values.shape[axis] != len(self.joints):
            raise ValueError(
                f"axis {axis} of {tuple(values.shape)} is not the {len(self.joints)} joints of {self.name}"
            )
        return torch.as_tensor(values), isinstance(values, np.ndarray)


def _like(values: Tensor, is_numpy: bool) -> ArrayT:
    return values.numpy() if is_numpy else values


def _meeting(maps: Tensor, place: Tensor) -> Tensor:
    """One map (..., H, W) of the sources' maps (..., S, H, W) with its peak at place (..., 2), map px."""
    width = maps.shape[-1]
    peak = maps.flatten(-2).argmax(-1)
    column, row = peak % width, peak // width
    met = _moved(maps, column[..., :1] - column, row[..., :1] - row).amin(-3)
    offset = (place - decode(met)[0]).round().long()
    return _moved(met, offset[..., 0], offset[..., 1])


def _moved(maps: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Maps (..., H, W) moved right and down by whole pixels (...); zero where nothing comes from."""
    height, width = maps.shape[-2:]
    column = torch.arange(width, device=maps.device) - right[..., None]
    row = torch.arange(height, device=maps.device) - down[..., None]
    inside = ((row >= 0) & (row < height))[..., :, None] & ((column >= 0) & (column < width))[..., None, :]
    pixel = row.clamp(0, height - 1)[..., :, None] * width + column.clamp(0, width - 1)[..., None, :]
    return maps.flatten(-2).gather(-1, pixel.flatten(-2)).view_as(maps) * inside


_LIMBS = {name: _exact(name) for name in JOINTS if name[:2] in ("l_", "r_")}

SPINE = 0.476
"""Share of the way from pelvis to thorax at which the spine joint lies: 233 of 490 mm in Human3.6M's skeleton."""

NOSE_HEIGHT = 1 / 3
"""Share of the way from MPII's upper neck (the chin's height) to its head top at which the nose lies: nose to top is
then two thirds of MPII's head, as in :func:`isopose.evaluation.keypoints.head_size`."""

CROWN = 130 / 213
"""Ears to the top of the head over shoulders to ears, mm in ANSUR II as in :mod:`isopose.datasets.body_shape`."""

HUMAN36M = JointSet("human36m", JOINTS, {name: _exact(name) for name in JOINTS})
"""The skeleton itself: what this project's own estimators detect."""

MPII = JointSet(
    "mpii",
    (
        *("r_ankle", "r_knee", "r_hip", "l_hip", "l_knee", "l_ankle", "pelvis", "thorax", "upper_neck", "head_top"),
        *("r_wrist", "r_elbow", "r_shoulder", "l_shoulder", "l_elbow", "l_wrist"),
    ),
    _LIMBS
    | {
        "pelvis": _exact("pelvis"),
        "spine": _derived(pelvis=1 - SPINE, thorax=SPINE),
        "thorax": _exact("thorax"),
        "neck": _derived(upper_neck=1 - NOSE_HEIGHT, head_top=NOSE_HEIGHT),
        "head": _exact("head_top"),
    },
)

COCO = JointSet(
    "coco",
    (
        *("nose", "l_eye", "r_eye", "l_ear", "r_ear", "l_shoulder", "r_shoulder", "l_elbow", "r_elbow"),
        *("l_wrist", "r_wrist", "l_hip", "r_hip", "l_knee", "r_knee", "l_ankle", "r_ankle"),
    ),
    _LIMBS
    | {
        "pelvis": _derived(l_hip=0.5, r_hip=0.5),
        "spine": _derived(l_hip=(1 - SPINE) / 2, r_hip=(1 - SPINE) / 2, l_shoulder=SPINE / 2, r_shoulder=SPINE / 2),
        "thorax": _derived(l_shoulder=0.5, r_shoulder=0.5),
        "neck": _exact("nose"),
        "head": _derived(l_ear=(1 + CROWN) / 2, r_ear=(1 + CROWN) / 2, l_shoulder=-CROWN / 2, r_shoulder=-CROWN / 2),
    },
)

JOINT_SETS = {joint_set.name: joint_set for joint_set in (HUMAN36M, MPII, COCO)}
