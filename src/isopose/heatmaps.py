"""Heatmaps: rendering and decoding. How they are stored: :mod:`isopose.sparse_maps`."""

import numpy as np
import torch

from isopose.arrays import check_array
from isopose.camera import ArrayT


def render(points: ArrayT, size: int, sigma: float) -> ArrayT:
    """Gaussian heatmaps (..., size, size) with peak 1 at points (..., 2), map pixels; numpy or torch in, same out.

    A point outside the map leaves only its slope, or nothing; one that is NaN is refused (ValueError).
    """
    is_numpy = isinstance(points, np.ndarray)
    points = torch.as_tensor(points)
    check_array("points", points, (..., 2), finite=True)
    grid = torch.arange(size, dtype=points.dtype, device=points.device)
    x = torch.exp(-((grid - points[..., :1]) ** 2) / (2 * sigma**2))
    y = torch.exp(-((grid - points[..., 1:]) ** 2) / (2 * sigma**2))
    maps = y[..., :, None] * x[..., None, :]
    return maps.numpy() if is_numpy else maps


def decode(maps: ArrayT) -> tuple[ArrayT, ArrayT]:
    """Peak of each map: points (..., 2), map pixels, shifted a quarter pixel toward the higher neighbour; height (...).

    maps (..., H, W), numpy or torch; the result is of the same kind. The height is not a probability until it
    is calibrated. A peak on the border is not shifted along that axis, as in the official HRNet code. An empty map
    has its peak, of height 0, at (0, 0); one that holds NaN, or integers, is refused (ValueError).
    """
    is_numpy = isinstance(maps, np.ndarray)
    maps = torch.as_tensor(maps)
    check_array("maps", maps, (..., "H", "W"))
    if not maps.is_floating_point():
        raise ValueError(
            f"maps: {maps.dtype}; expected floating point (..., H, W), the value of a certain joint being 1"
        )
    height, width = maps.shape[-2:]
    flat = maps.reshape(*maps.shape[:-2], height * width)
    peak, position = flat.max(dim=-1)
    if not peak.isfinite().all():  # a NaN counts as the largest
        raise ValueError(
            f"maps: {int((~peak.isfinite()).sum())} of {peak.numel()} hold NaN; expected (..., H, W) numbers"
        )
    column, row = position % width, position // width

    def shift(offset: int, inside: torch.Tensor) -> torch.Tensor:
        after = flat.gather(-1, (position + offset).clamp(max=height * width - 1)[..., None])[..., 0]
        before = flat.gather(-1, (position - offset).clamp(min=0)[..., None])[..., 0]
        return 0.25 * torch.sign(after - before) * inside

    x = column + shift(1, (column > 0) & (column < width - 1))
    y = row + shift(width, (row > 0) & (row < height - 1))
    points = torch.stack([x, y], dim=-1).to(maps.dtype)
    return (points.numpy(), peak.numpy()) if is_numpy else (points, peak)
