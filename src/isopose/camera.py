"""Pinhole cameras with OpenCV distortion: world, camera and image frames, and the weak-perspective fit.

World frame: metres, z up. Camera frame: metres, x right, y down, z away; ``X_cam = R (X_world - T)``.
Image: pixels, the centre of the top left pixel is (0, 0).
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

ArrayT = TypeVar("ArrayT", np.ndarray, "torch.Tensor")


@dataclass(frozen=True)
class Camera:
    """A calibrated camera.

    K (3, 3) px; R (3, 3) world to camera; T (3,) camera centre in the world, m;
    distortion (5,) OpenCV's k1, k2, p1, p2, k3; size (width, height) px.
    """

    K: np.ndarray
    R: np.ndarray
    T: np.ndarray
    distortion: np.ndarray = field(default_factory=lambda: np.zeros(5))
    size: tuple[int, int] = (1000, 1000)


def world_to_camera(points: np.ndarray, camera: Camera) -> np.ndarray:
    """Move points (..., 3) from the world to the camera frame."""
    return (points - camera.T) @ camera.R.T


def camera_to_world(points: np.ndarray, camera: Camera) -> np.ndarray:
    """Move points (..., 3) from the camera frame to the world."""
    return points @ camera.R + camera.T


def distort(xy: np.ndarray, distortion: np.ndarray) -> np.ndarray:
    """Apply OpenCV's radial and tangential distortion to normalised image coordinates (..., 2)."""
    k1, k2, p1, p2, k3 = distortion
    x, y = xy[..., 0], xy[..., 1]
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    dx = 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    dy = p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    return np.stack([x * radial + dx, y * radial + dy], axis=-1)


def project(points: np.ndarray, camera: Camera) -> np.ndarray:
    """Project camera-frame points (..., 3), m, to image pixels (..., 2)."""
    xy = distort(points[..., :2] / points[..., 2:], camera.distortion)
    return xy @ camera.K[:2, :2].T + camera.K[:2, 2]


def back_project(pixels: np.ndarray, depth: np.ndarray, camera: Camera, iterations: int = 20) -> np.ndarray:
    """Inverse of :func:`project` at a known depth (...), m: camera-frame points (..., 3).

    The distortion is inverted by fixed-point iteration, as OpenCV does.
    """
    target = (pixels - camera.K[:2, 2]) @ np.linalg.inv(camera.K[:2, :2]).T
    xy = target
    if np.any(camera.distortion):
        for _ in range(iterations):
            xy = xy - (distort(xy, camera.distortion) - target)
    depth = np.asarray(depth)[..., None]
    return np.concatenate([xy * depth, depth], axis=-1)


def undistort(pixels: np.ndarray, camera: Camera) -> np.ndarray:
    """Pixels (..., 2) as the camera would show them without its lens's distortion."""
    points = back_project(pixels, np.ones(pixels.shape[:-1]), camera)
    return points[..., :2] @ camera.K[:2, :2].T + camera.K[:2, 2]


def fit_weak_perspective(xy: ArrayT, target: ArrayT, weights: ArrayT | None = None) -> tuple[ArrayT, ArrayT]:
    """Closed-form scale and shift with ``target ~ scale * xy + shift`` in least squares over the joints.

    xy, target (..., J, 2), numpy or torch; weights (..., J) or None. Returns scale (..., 1, 1) and
    shift (..., 1, 2). This is the scale and shift that the paper's Orth() in Eq. 3 and 8 leaves out.
    A frame without weight gets scale 1 and shift 0; the scale is never negative.
    """
    weights = xy[..., :1] * 0 + 1 if weights is None else weights[..., None]
    total = weights.sum(-2)[..., None, :]
    safe_total = total + (total <= 0)
    mean_xy = (weights * xy).sum(-2)[..., None, :] / safe_total
    mean_target = (weights * target).sum(-2)[..., None, :] / safe_total
    centred = (xy - mean_xy) * weights
    spread = (centred * (xy - mean_xy)).sum(-1).sum(-1)[..., None, None]
    covariance = (centred * (target - mean_target)).sum(-1).sum(-1)[..., None, None]
    degenerate = (spread <= 1e-12) | (covariance <= 0)
    scale = covariance * (~degenerate) / (spread + degenerate) + degenerate
    return scale, mean_target - scale * mean_xy
