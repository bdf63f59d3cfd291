"""Errors of 3D poses: arrays `(..., J, 3)`, one value a pose, in the unit of the poses.

All J joints count, a zeroed root included (the habit of the field).
"""

from typing import Any

import numpy as np


def mpjpe(predicted: Any, target: Any) -> Any:
    """Mean per joint position error (protocol 1), `(...)`; numpy arrays or torch tensors."""
    return (((predicted - target) ** 2).sum(-1) ** 0.5).mean(-1)


def p_mpjpe(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """MPJPE after the best similarity transform of each pose (protocol 2), `(...)`."""
    return mpjpe(procrustes(predicted, target), target)


def n_mpjpe(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """MPJPE after the best scale of each pose about its root, `(...)`."""
    fit = (predicted * target).sum((-2, -1), keepdims=True)
    size = (predicted**2).sum((-2, -1), keepdims=True)
    return mpjpe(predicted * (fit / np.where(size > 0, size, 1)), target)


def mpjve(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean per joint velocity error, unit a frame: `(..., T, J, 3)` -> `(..., T - 1)`."""
    return mpjpe(np.diff(predicted, axis=-3), np.diff(target, axis=-3))


def acceleration_error(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean per joint acceleration error, unit a frame^2: `(..., T, J, 3)` -> `(..., T - 2)`."""
    return mpjpe(np.diff(predicted, n=2, axis=-3), np.diff(target, n=2, axis=-3))


def pck_3d(predicted: np.ndarray, target: np.ndarray, threshold: float = 0.150) -> np.ndarray:
    """Share of joints nearer than the threshold (MPI-INF-3DHP: strictly less than 150 mm), `(...)` in 0..1."""
    return (np.linalg.norm(predicted - target, axis=-1) < threshold).mean(-1)


def auc_3d(predicted: np.ndarray, target: np.ndarray, limit: float = 0.150, steps: int = 31) -> np.ndarray:
    """Mean of :func:`pck_3d` over `steps` thresholds from 0 to the limit (MPI-INF-3DHP: every 5 mm), `(...)`."""
    distance = np.linalg.norm(predicted - target, axis=-1)
    passed = steps - np.searchsorted(np.linspace(0, limit, steps), distance, side="right")
    return (passed / steps).mean(-1)


def mean_angle_error(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Euclidean distance of the Euler angles `(..., J, 3)` of each pose (Martinez et al., CVPR 2017), `(...)`."""
    return ((predicted - target) ** 2).sum((-2, -1)) ** 0.5


def procrustes(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Predicted poses `(..., J, 3)` moved, turned and scaled onto the target in least squares; no reflection.

    Umeyama, TPAMI 1991, for all poses at once.
    """
    centre_p, centre_t = predicted.mean(-2, keepdims=True), target.mean(-2, keepdims=True)
    p, t = predicted - centre_p, target - centre_t
    u, singular, vt = np.linalg.svd(np.swapaxes(p, -1, -2) @ t)
    sign = np.ones_like(singular)
    sign[..., 2] = np.where(np.linalg.det(u @ vt) < 0, -1, 1)
    rotation = (u * sign[..., None, :]) @ vt
    spread = (p**2).sum((-2, -1))
    scale = (singular * sign).sum(-1) / np.where(spread > 0, spread, 1)
    return scale[..., None, None] * (p @ rotation) + centre_t
