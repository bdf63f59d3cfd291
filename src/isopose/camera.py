"""Pinhole cameras with OpenCV distortion: world, camera and image frames, and the weak-perspective fit.

World frame: metres, z up. Camera frame: metres, x right, y down, z away; ``X_cam = R (X_world - T)``.
Image: pixels, the centre of the top left pixel is (0, 0).
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isopose.arrays import check_array

if TYPE_CHECKING:
    import torch

ArrayT = TypeVar("ArrayT", np.ndarray, "torch.Tensor")

LARGEST_RESIDUAL = 1e-5
"""Accepted error of an inverted distortion, normalised image coordinates: about a hundredth of a pixel."""


@dataclass(frozen=True)
class Camera:
    """A calibrated camera.

    K (3, 3) px; R (3, 3) world to camera; T (3,) camera centre in the world, m;
    distortion (5,) OpenCV's k1, k2, p1, p2, k3, or (12,) with its k4, k5, k6 and thin prism s1 to s4; size (width,
    height) px.
    """

    K: np.ndarray
    R: np.ndarray
    T: np.ndarray
    distortion: np.ndarray = field(default_factory=lambda: np.zeros(5))
    size: tuple[int, int] = (1000, 1000)


UPRIGHT = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""Rotation from a world with z up to a camera that looks along y, level: where nothing is known of a camera's tilt."""


def world_to_camera(points: np.ndarray, camera: Camera) -> np.ndarray:
    """Move points (..., 3) from the world to the camera frame."""
    return (points - camera.T) @ camera.R.T


def camera_to_world(points: np.ndarray, camera: Camera) -> np.ndarray:
    """Move points (..., 3) from the camera frame to the world."""
    return points @ camera.R + camera.T


def distort(xy: np.ndarray, distortion: np.ndarray) -> np.ndarray:
    """Apply OpenCV's distortion, (5,) or (12,), to normalised image coordinates (..., 2)."""
    k1, k2, p1, p2, k3, *more = distortion
    x, y = xy[..., 0], xy[..., 1]
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    dx = 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    dy = p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    if more:
        k4, k5, k6, s1, s2, s3, s4 = more
        radial = radial / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
        dx, dy = dx + r2 * (s1 + r2 * s2), dy + r2 * (s3 + r2 * s4)
    return np.stack([x * radial + dx, y * radial + dy], axis=-1)


def project(points: np.ndarray, camera: Camera) -> np.ndarray:
    """Project camera-frame points (..., 3), m, to image pixels (..., 2).

    A point that is not before the camera has no image: ValueError. One that is NaN stays NaN.
    """
    check_array("points", points, (..., 3))
    check_before_camera("points", points)
    xy = distort(points[..., :2] / points[..., 2:], camera.distortion)
    return xy @ camera.K[:2, :2].T + camera.K[:2, 2]


def check_before_camera(name: str, points: Any) -> None:
    """Refuse (ValueError) camera-frame points (..., 3), m, numpy or torch, at z <= 0; NaN passes."""
    behind = int((points[..., 2] <= 0).sum())
    if behind:
        count = points[..., 2].size if isinstance(points, np.ndarray) else points[..., 2].numel()
        raise ValueError(
            f"{name}: {behind} of {count} points are not before the camera; expected camera-frame (..., 3), m, z > 0"
        )


def back_project(pixels: np.ndarray, depth: np.ndarray, camera: Camera, iterations: int = 20) -> np.ndarray:
    """Inverse of :func:`project` at a known depth (...), m: camera-frame points (..., 3).

    The distortion is inverted by fixed-point iteration, as OpenCV does. ValueError where that does not converge:
    far out, a strong distortion has no inverse. A pixel that is NaN gives NaN.
    """
    check_array("pixels", pixels, (..., 2))
    target = (pixels - camera.K[:2, 2]) @ np.linalg.inv(camera.K[:2, :2]).T
    xy = target
    if np.any(camera.distortion):
        with np.errstate(all="ignore"):  # of what diverges, told below
            for _ in range(iterations):
                xy = xy - (distort(xy, camera.distortion) - target)
            lost = np.isfinite(target) & ~(np.abs(distort(xy, camera.distortion) - target) <= LARGEST_RESIDUAL)
        if lost.any():
            count = f"{lost.any(-1).sum()} of {lost[..., 0].size}"
            raise ValueError(f"pixels: {count} have no inverse under the distortion {camera.distortion}")
    depth = np.asarray(depth)[..., None]
    return np.concatenate([xy * depth, depth], axis=-1)


def undistort(pixels: np.ndarray, camera: Camera) -> np.ndarray:
    """Pixels (..., 2) as the camera would show them without its lens's distortion."""
    points = back_project(pixels, np.ones(pixels.shape[:-1]), camera)
    return points[..., :2] @ camera.K[:2, :2].T + camera.K[:2, 2]


def fit_weak_perspective(xy: ArrayT, target: ArrayT, weights: ArrayT | None = None) -> tuple[ArrayT, ArrayT]:
    """Closed-form scale and shift with ``target ~ scale * xy + shift`` in least squares over the joints.

    xy, target (..., J, 2), numpy or torch; weights (..., J), of which only the ratios matter, or None. Returns
    scale (..., 1, 1) and shift (..., 1, 2). This is the scale and shift that the paper's Orth() in Eq. 3 and 8
    leaves out. A frame without weight gets scale 1 and shift 0; the scale is never negative. A NaN makes both NaN in
    its frame. ValueError where the numbers of joints differ.
    """
    check_array("target", target, (..., xy.shape[-2], 2))
    weights = xy[..., :1] * 0 + 1 if weights is None else weights[..., None]
    total = weights.sum(-2)[..., None, :]
    weights = weights / (total + (total <= 0))
    mean_xy = (weights * xy).sum(-2)[..., None, :]
    mean_target = (weights * target).sum(-2)[..., None, :]
    centred = (xy - mean_xy) * weights
    spread = (centred * (xy - mean_xy)).sum(-1).sum(-1)[..., None, None]
    covariance = (centred * (target - mean_target)).sum(-1).sum(-1)[..., None, None]
    degenerate = (spread <= 1e-12) | (covariance <= 0)
    scale = covariance * (~degenerate) / (spread + degenerate) + degenerate
    return scale, mean_target - scale * mean_xy
