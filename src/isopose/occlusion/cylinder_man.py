"""Cylinder Man (paper 3.4, Eq. 7): which joints of a 3D skeleton are hidden behind its own body.

The body is ten cylinders. A joint is hidden when its projection falls into the rectangle a cylinder shows to the
camera and the joint lies behind the plane of that rectangle.
"""

from dataclasses import dataclass
from functools import reduce
from math import prod
from operator import and_
from typing import Any, Literal

import numpy as np
from scipy.special import expit

from isopose import skeleton
from isopose.arrays import check_array, library
from isopose.camera import check_before_camera
from isopose.portable import square_root

HEAD_RADIUS = 0.10
LIMB_RADIUS = 0.05
FRAMES_PER_BLOCK = 2048  # keeps the temporaries of one part in a core's cache
TINY = 1e-9  # metres; keeps a limb that points at the camera, whose rectangle is a line, from dividing by zero


@dataclass(frozen=True)
class Part:
    """A cylinder between two joints; it never occludes its `members`. A radius of None is the torso's."""

    name: str
    start: int
    end: int
    radius: float | None
    members: tuple[int, ...]


def _part(name: str, start: str, end: str, radius: float | None, *more_members: str) -> Part:
    members = tuple(skeleton.index(joint) for joint in (start, end, *more_members))
    return Part(name, members[0], members[1], radius, members)


PARTS = (
    _part("head", "thorax", "head", HEAD_RADIUS, "neck"),
    _part("torso", "pelvis", "thorax", None, "r_hip", "l_hip", "spine", "l_shoulder", "r_shoulder"),
    _part("l_upper_arm", "l_shoulder", "l_elbow", LIMB_RADIUS),
    _part("r_upper_arm", "r_shoulder", "r_elbow", LIMB_RADIUS),
    _part("l_lower_arm", "l_elbow", "l_wrist", LIMB_RADIUS),
    _part("r_lower_arm", "r_elbow", "r_wrist", LIMB_RADIUS),
    _part("l_thigh", "l_hip", "l_knee", LIMB_RADIUS),
    _part("r_thigh", "r_hip", "r_knee", LIMB_RADIUS),
    _part("l_lower_leg", "l_knee", "l_ankle", LIMB_RADIUS),
    _part("r_lower_leg", "r_knee", "r_ankle", LIMB_RADIUS),
)
THORAX = skeleton.index("thorax")
SHOULDERS = (skeleton.index("l_shoulder"), skeleton.index("r_shoulder"))


def visibility(
    joints: Any,
    *,
    form: Literal["hard", "soft"] = "hard",
    slope: float = 100.0,
    projection: Literal["perspective", "orthographic"] = "perspective",
) -> Any:
    """Visibility of every joint by the Cylinder Man (Eq. 7).

    Args:
        joints: `(..., 17, 3)`, camera frame, metres; numpy array or torch tensor. The perspective projection needs
            absolute positions, the orthographic one only relative ones.
        form: "hard" gives booleans; "soft" replaces each comparison by a sigmoid and is differentiable in torch.
        slope: steepness of the sigmoids of the soft form, per metre. Soft tends to hard as it grows.
        projection: "orthographic" (as in the paper) looks along z, "perspective" from the camera's centre.

    Returns:
        `(..., 17)`, of the same library: visible or not (hard, bool), or a degree of visibility in 0..1 (soft).

    Raises:
        ValueError: another number of joints, NaN, or, under perspective, a joint that is not before the camera.
    """
    if form not in ("hard", "soft") or projection not in ("perspective", "orthographic"):
        raise ValueError(f"unknown form {form!r} or projection {projection!r}")
    check_array("joints", joints, (..., skeleton.NUM_JOINTS, 3), finite=True)
    if projection == "perspective":
        check_before_camera("joints", joints)
    shape = tuple(joints.shape[:-2])
    frames = joints.reshape(prod(shape), skeleton.NUM_JOINTS, 3)
    blocks = [
        _visibility(frames[start : start + FRAMES_PER_BLOCK], form, slope, projection)
        for start in range(0, max(len(frames), 1), FRAMES_PER_BLOCK)
    ]
    return library(joints).concatenate(blocks).reshape(*shape, skeleton.NUM_JOINTS)


def _visibility(joints: Any, form: str, slope: float, projection: str) -> Any:
    """`(F, 17, 3)` -> `(F, 17)`."""
    lib = library(joints)
    # Coordinates first and frames last, so that every operation below runs over long contiguous rows.
    points = lib.stack([joints[..., axis].T for axis in range(3)])  # (3, 17, F)
    visible: dict[int, Any] = {}
    for part in PARTS:
        others = [joint for joint in range(skeleton.NUM_JOINTS) if joint not in part.members]
        margins = _margins(part, points, others, projection)
        if form == "hard":
            shown = ~reduce(and_, (margin > 0 for margin in margins))
        else:
            sigmoid = expit if lib is np else lib.sigmoid
            shown = 1 - prod(sigmoid(slope * margin) for margin in margins)
        for joint, value in zip(others, shown, strict=True):
            visible[joint] = visible[joint] * value if joint in visible else value
    return lib.stack([visible[joint] for joint in range(skeleton.NUM_JOINTS)], -1)


def _margins(part: Part, points: Any, others: list[int], projection: str) -> tuple[Any, Any, Any, Any]:
    """How far, in metres, each joint is from not being hidden by a part: it is hidden when all four are positive.

    `points` is `(3, 17, F)`; returns four arrays `(len(others), F)`: distance within either end and the sides of
    the rectangle ABCD, met along the joint's line of sight, and distance behind its plane (Eq. 7).
    """
    start, end = points[:, part.start], points[:, part.end]
    bone = end - start
    length = _norm(bone)
    along = bone / length
    radius = _torso_radius(points) if part.radius is None else part.radius
    if projection == "perspective":
        across = _cross(along, start + end)
    else:  # every line of sight is (0, 0, 1)
        across = library(points).stack([along[1], -along[0], 0 * along[0]])
    across = across / _norm(across)  # P_iA: perpendicular to the bone and to the line of sight
    normal = _cross(along, across)  # its sign is the one toward the camera

    joints = points[:, others]
    depth = _dot(normal, joints) - _dot(normal, start)
    if projection == "perspective":
        toward = [_dot(axis, joints) for axis in (normal, along, across)]
    else:
        toward = [normal[2], along[2], across[2]]
    # From the joint back along its line of sight to the plane of ABCD. A line that leaves the plane behind has
    # depth > 0, and the clip only keeps the division finite.
    reach = depth / toward[0].clip(max=-TINY)
    from_start = _dot(along, joints) - _dot(along, start) - reach * toward[1]
    from_axis = _dot(across, joints) - _dot(across, start) - reach * toward[2]
    return -depth, from_start, length - from_start, radius - abs(from_axis)


def _torso_radius(points: Any) -> Any:
    """Distance from the thorax to the shoulders (mean of both); points `(3, 17, F)` -> `(F,)`."""
    return sum(_norm(points[:, shoulder] - points[:, THORAX]) for shoulder in SHOULDERS) / 2


def _dot(a: Any, b: Any) -> Any:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _norm(a: Any) -> Any:
    return square_root(_dot(a, a) + TINY**2)


def _cross(a: Any, b: Any) -> Any:
    return library(a).stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])
