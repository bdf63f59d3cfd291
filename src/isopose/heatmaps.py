"""Heatmaps: rendering, decoding, and the sparse 8-bit form in which they are stored and trained on."""

from dataclasses import dataclass

import numpy as np
import torch

from isopose.arrays import check_array
from isopose.camera import ArrayT

MAP_THRESHOLD = 26 / 255
"""Values below this are stored as zero; every other pixel is kept within 1/255."""

LARGEST_MAP = 256
"""Side of the largest map whose pixels have 16-bit numbers."""


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


@dataclass(frozen=True)
class SparseMaps:
    """Whole heatmaps without their zeros: the non-zero pixels of each (frame, joint), joint after joint.

    pointer (F*K + 1,) int64: where each map's pixels start; pixel (N,) uint16: row * size + column;
    value (N,) uint8: 255 is 1.0. Second modes are kept: any pixel above MAP_THRESHOLD is within 1/255.
    """

    pointer: np.ndarray
    pixel: np.ndarray
    value: np.ndarray
    joints: int
    size: int

    @classmethod
    def from_dense(cls, maps: np.ndarray | torch.Tensor, threshold: float = MAP_THRESHOLD) -> "SparseMaps":
        """Quantise and sparsify dense maps (F, K, size, size) with values in [0, 1] (clipped); size at most 256."""
        maps = np.asarray(maps)
        check_array("maps", maps, ("F", "K", maps.shape[-1], maps.shape[-1]), finite=True)
        frames, joints, size, _ = maps.shape
        if size > LARGEST_MAP:
            raise ValueError(f"maps: {size} pixels wide; expected (F, K, size, size), at most {LARGEST_MAP}")
        flat = np.clip(maps.reshape(frames * joints, size * size), 0, 1)
        row, pixel = np.nonzero(flat >= threshold)
        value = np.rint(flat[row, pixel] * 255).astype(np.uint8)
        pointer = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=frames * joints))])
        return cls(pointer.astype(np.int64), pixel.astype(np.uint16), value, joints, size)

    @property
    def frames(self) -> int:
        """Number of frames F."""
        return (len(self.pointer) - 1) // self.joints

    def entries(self, frames: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Non-zero pixels of the chosen frames: (position in ``frames``, joint, pixel, value in 0..1)."""
        frames = np.arange(self.frames) if frames is None else np.asarray(frames)
        rows = (frames[:, None] * self.joints + np.arange(self.joints)).ravel()
        counts = self.pointer[rows + 1] - self.pointer[rows]
        before = np.concatenate([[0], np.cumsum(counts)[:-1]])
        source = np.arange(counts.sum()) + np.repeat(self.pointer[rows] - before, counts)
        owner = np.repeat(np.arange(len(rows)), counts)
        value = self.value[source].astype(np.float32) / 255
        return owner // self.joints, owner % self.joints, self.pixel[source].astype(np.int64), value

    def dense(self, frames: np.ndarray | None = None) -> np.ndarray:
        """Dense maps (F, K, size, size) float32 of the chosen frames (all by default)."""
        count = self.frames if frames is None else len(frames)
        maps = np.zeros((count, self.joints, self.size * self.size), np.float32)
        frame, joint, pixel, value = self.entries(frames)
        maps[frame, joint, pixel] = value
        return maps.reshape(count, self.joints, self.size, self.size)
