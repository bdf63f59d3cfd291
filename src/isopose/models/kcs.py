"""Kinematic chain space: inner products of bone vectors within a frame and their change over time (paper 3.2)."""

import torch
from torch import Tensor

from isopose.arrays import check_array
from isopose.skeleton import BONES, NUM_JOINTS

_PARENT = [parent for parent, _ in BONES]
_CHILD = [child for _, child in BONES]
_UPPER = [row * len(BONES) + column for row in range(len(BONES)) for column in range(row, len(BONES))]


def spatial_kcs(pose: Tensor) -> Tensor:
    """Psi = B^T B (paper 3.2): joints (..., 17, 3), m, to the bones' inner products (..., 16, 16), m^2.

    The diagonal holds squared bone lengths, the rest the angles between bones weighted by their lengths.
    """
    check_array("pose", pose, (..., NUM_JOINTS, 3))
    bones = pose[..., _CHILD, :] - pose[..., _PARENT, :]
    return bones @ bones.transpose(-1, -2)


def temporal_kcs(pose: Tensor, interval: int = 1) -> Tensor:
    """Phi = Psi(t + interval) - Psi(t) (Eq. 4): joints (..., T, 17, 3), m, to (..., T, 16, 16), m^2.

    The last ``interval`` frames have no successor and get zeros, so that Psi and Phi can be joined frame by frame.
    """
    check_array("pose", pose, (..., "T", NUM_JOINTS, 3))
    return temporal_difference(spatial_kcs(pose), interval)


def temporal_difference(psi: Tensor, interval: int) -> Tensor:
    """Psi(t + interval) - Psi(t) along the frames of psi (..., T, 16, 16), zero where there is no successor."""
    if interval < 1:
        raise ValueError(f"interval: {interval}; expected at least 1 frame")
    change = psi[..., interval:, :, :] - psi[..., :-interval, :, :]
    end = psi.new_zeros(*psi.shape[:-3], min(interval, psi.shape[-3]), *psi.shape[-2:])
    return torch.cat([change, end], dim=-3)


def upper_triangle(matrix: Tensor) -> Tensor:
    """The 136 numbers on and above the diagonal of symmetric matrices (..., 16, 16), row by row: (..., 136)."""
    return matrix.flatten(-2)[..., _UPPER]
