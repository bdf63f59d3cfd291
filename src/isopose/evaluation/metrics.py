"""Errors of 3D poses: arrays `(..., J, 3)`, one value a pose, in the unit of the poses; numpy or torch in, same out.

All J joints count, a zeroed root included (the habit of the field). A NaN makes the error of its pose NaN; in
:func:`pck_3d` and :func:`auc_3d` its joint is not near. These are scores and no losses: the gradient of a distance of
exactly zero, the root's, is NaN.
"""

from typing import Any

import numpy as np

from isopose.arrays import check_array, library
from isopose.camera import ArrayT


def mpjpe(predicted: ArrayT, target: ArrayT) -> ArrayT:
    """Mean per joint position error (protocol 1), `(...)`."""
    return _distance(predicted, target).mean(-1)


def p_mpjpe(predicted: ArrayT, target: ArrayT) -> ArrayT:
    """MPJPE after the best similarity transform of each pose (protocol 2), `(...)`."""
    return mpjpe(procrustes(predicted, target), target)


def n_mpjpe(predicted: ArrayT, target: ArrayT) -> ArrayT:
    """MPJPE after the best scale of each pose about its root, `(...)`."""
    _check_pair(predicted, target)
    fit = (predicted * target).sum((-2, -1))[..., None, None]
    size = (predicted**2).sum((-2, -1))[..., None, None]
    return mpjpe(predicted * (fit / _or_one(size)), target)


def mpjve(predicted: ArrayT, target: ArrayT) -> ArrayT:
    """Mean per joint velocity error, unit a frame: `(..., T, J, 3)` -> `(..., T - 1)`."""
    return mpjpe(_steps("predicted", predicted), _steps("target", target))


def acceleration_error(predicted: ArrayT, target: ArrayT) -> ArrayT:
    """Mean per joint acceleration error, unit a frame^2: `(..., T, J, 3)` -> `(..., T - 2)`, none of a short clip."""
    first, second = (
        _steps(name, _steps(name, poses)) for name, poses in (("predicted", predicted), ("target", target))
    )
    return mpjpe(first, second)


def pck_3d(predicted: ArrayT, target: ArrayT, threshold: float = 0.150) -> ArrayT:
    """Share of joints nearer than the threshold (MPI-INF-3DHP: strictly less than 150 mm), `(...)` in 0..1."""
    return _share_within(_distance(predicted, target), threshold)


def auc_3d(predicted: ArrayT, target: ArrayT, limit: float = 0.150, steps: int = 31) -> ArrayT:
    """Mean of :func:`pck_3d` over `steps` thresholds from 0 to the limit (MPI-INF-3DHP: every 5 mm), `(...)`."""
    distance = _distance(predicted, target)
    return sum(_share_within(distance, threshold) for threshold in np.linspace(0, limit, steps).tolist()) / steps


def mean_angle_error(predicted: ArrayT, target: ArrayT) -> ArrayT:
    """Euclidean distance of the Euler angles `(..., J, 3)` of each pose (Martinez et al., CVPR 2017), `(...)`."""
    _check_pair(predicted, target)
    return ((predicted - target) ** 2).sum((-2, -1)) ** 0.5


def procrustes(predicted: ArrayT, target: ArrayT) -> ArrayT:
    """Predicted poses `(..., J, 3)` moved, turned and scaled onto the target in least squares; no reflection.

    Umeyama, TPAMI 1991, for all poses at once.
    """
    _check_pair(predicted, target)
    lib = library(predicted)
    centre_p, centre_t = predicted.mean(-2)[..., None, :], target.mean(-2)[..., None, :]
    p, t = predicted - centre_p, target - centre_t
    # A NaN would stop the decomposition of all poses; it comes back with p and t.
    u, singular, vt = lib.linalg.svd(lib.nan_to_num(p.swapaxes(-1, -2) @ t))
    sign = lib.ones_like(singular)
    sign[..., 2] = 1 - 2 * (lib.linalg.det(u @ vt) < 0)
    rotation = (u * sign[..., None, :]) @ vt
    spread = (p**2).sum((-2, -1))
    scale = (singular * sign).sum(-1) / _or_one(spread)
    return scale[..., None, None] * (p @ rotation) + centre_t


def _distance(predicted: Any, target: Any) -> Any:
    """Distance of each joint, `(..., J)`."""
    _check_pair(predicted, target)
    return ((predicted - target) ** 2).sum(-1) ** 0.5


def _share_within(distance: Any, threshold: float) -> Any:
    return (distance < threshold).sum(-1) / distance.shape[-1]


def _steps(name: str, poses: Any) -> Any:
    """Change from each frame to the next, `(..., T - 1, J, 3)`."""
    check_array(name, poses, (..., "T", "J", 3))
    return poses[..., 1:, :, :] - poses[..., :-1, :, :]


def _or_one(size: Any) -> Any:
    """A divisor: 1 where it would be zero, which is where a pose has collapsed to a point."""
    return size + (size == 0)


def _check_pair(predicted: Any, target: Any) -> None:
    """Only leading axes may differ, and be broadcast: one joint must not stand for all."""
    check_array("predicted", predicted, (..., "J", 3))
    check_array("target", target, (..., predicted.shape[-2], 3))
