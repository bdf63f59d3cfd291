"""From a 3D pose to heatmap pixels, for Eq. 8: two readings of the paper's Orth(), and a true camera if it is known.

A projection is a function of the initial poses `(F, 17, 3)`, the keypoints `(F, 17, 2)` and their confidence
`(F, 17)` that returns how poses are projected, fitted once: refitted in every iteration, the scale would drift.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from isopose import skeleton
from isopose.camera import fit_weak_perspective
from isopose.portable import square_root

Projection = Callable[[Tensor], Tensor]
"""Poses `(F, 17, 3)`, m, root-relative camera frame -> heatmap pixels `(F, 17, 2)`."""

Fit = Callable[[Tensor, Tensor, Tensor], tuple[Projection, Tensor]]
"""Initial poses, keypoints, confidence -> the projection and its scale `(F,)`, heatmap pixels a metre."""

TORSO = tuple(map(skeleton.index, ("pelvis", "r_hip", "l_hip", "thorax", "l_shoulder", "r_shoulder")))
"""Joints whose mean and spread in the image centre and scale a torso-normalised person."""

LEAST_TORSO = 0.01
"""No torso of a pose spreads less in the image, m, even seen from above with one joint found."""

LEAST_DEPTH = 0.5
"""No joint is nearer to the camera, m: keeps a fit to hopeless keypoints from putting the person behind it."""

LEAST_SPREAD = 1e-12
"""Mean square by which rays must differ to tell a depth: a millionth of a metre, seen at a metre."""

LEAST_CONFIDENCE = 1e-3
"""Confidence that every keypoint has in the fits of the torso and of the root, which need at least two."""


def weak_perspective(pose: Tensor, keypoints: Tensor, confidence: Tensor) -> tuple[Projection, Tensor]:
    """Orth() of the paper: scale and shift of each frame in closed form, confident joints counting more.

    In a frame without any confidence all joints count alike: some weightings believe its keypoints nevertheless.
    """
    confidence = confidence + (confidence.sum(-1, keepdim=True) == 0)
    scale, shift = fit_weak_perspective(pose[..., :2], keypoints, confidence)
    return lambda poses: scale * poses[..., :2] + shift, scale[:, 0, 0]


def torso(pose: Tensor, keypoints: Tensor, confidence: Tensor) -> tuple[Projection, Tensor]:
    """Torso-normalised Orth(): pose and keypoints are each centred and scaled by their own torso.

    The four limbs and the head, where detections err most and poses differ, have no say in it. Confident joints count
    more (:func:`fit_torso`).
    """
    weight = confidence + LEAST_CONFIDENCE
    centre, size = fit_torso(pose[..., :2], weight)
    target, target_size = fit_torso(keypoints, weight)
    scale = target_size / size.clamp(min=LEAST_TORSO)
    return lambda poses: scale * (poses[..., :2] - centre) + target, scale[..., 0, 0]


def fit_torso(points: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean `(..., 1, 2)` of the torso's joints in the image, and their root mean square distance from it `(..., 1, 1)`.

    points `(..., 17, 2)`, in any unit; weight `(..., 17)`, of which only the ratios over :data:`TORSO` matter: not all
    zero there.
    """
    joints, weight = points[..., TORSO, :], weight[..., TORSO, None]
    weight = weight / weight.sum(-2, keepdim=True)
    centre = (weight * joints).sum(-2, keepdim=True)
    return centre, square_root((weight * (joints - centre).square()).sum((-2, -1), keepdim=True))


def perspective(focal: Any, centre: Any) -> Fit:
    """A pinhole camera of known focal lengths and principal point, both `(F, 2)`, heatmap pixels; numpy or torch.

    Where the person stands is fitted to the initial pose in closed form (:func:`fit_root`); see
    :func:`isopose.crops.crop_intrinsics` for the two arguments.
    """

    def fit(pose: Tensor, keypoints: Tensor, confidence: Tensor) -> tuple[Projection, Tensor]:
        f, c = (torch.as_tensor(values).to(pose)[:, None] for values in (focal, centre))
        root = fit_root(pose, (keypoints - c) / f, confidence + LEAST_CONFIDENCE)

        def project(poses: Tensor) -> Tensor:
            points = poses + root[:, None]
            return f * points[..., :2] / points[..., 2:] + c

        return project, f.mean((1, 2)) / root[:, 2]

    return fit


def fit_root(pose: Tensor, rays: Tensor, weight: Tensor) -> Tensor:
    """Place of the root `(F, 3)`, m, camera frame, from which the joints best lie on their lines of sight.

    pose `(F, 17, 3)`, root-relative; rays `(F, 17, 2)`: x / z and y / z of the detections; weight `(F, 17)`, of which
    only the ratios matter, not all zero. A joint at `pose + root` lies on its ray where `X - u Z = u z - x`, which is
    linear in the root: weighted least squares. Rays that all point one way tell no depth: the least one then.
    """
    weight = weight[..., None]
    weight = weight / weight.sum(1, keepdim=True)
    target = rays * pose[..., 2:] - pose[..., :2]
    mean_ray, mean_target = ((weight * values).sum(1, keepdim=True) for values in (rays, target))
    gap = rays - mean_ray
    spread = (weight * gap * gap).sum((1, 2)).clamp(min=LEAST_SPREAD)
    depth = -(weight * gap * (target - mean_target)).sum((1, 2)) / spread
    depth = torch.maximum(depth, LEAST_DEPTH - pose[..., 2].amin(1))[:, None]
    return torch.cat([mean_target[:, 0] + depth * mean_ray[:, 0], depth], dim=1)
