"""Heatmaps as they are stored and trained on: sparse and in 8 bits. Free of torch, which scoring does not need."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from isopose.arrays import check_array

MAP_THRESHOLD = 26 / 255
"""Values below this are stored as zero; every other pixel is kept within 1/255."""

LARGEST_MAP = 256
"""Side of the largest map whose pixels have 16-bit numbers."""


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
    def from_dense(cls, maps: Any, threshold: float = MAP_THRESHOLD) -> "SparseMaps":
        """Quantise and sparsify dense maps (F, K, size, size), numpy or torch, clipped to [0, 1]; size at most 256."""
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

    def part(self, start: int, stop: int) -> "SparseMaps":
        """The maps of the frames from start to stop."""
        pointer = self.pointer[start * self.joints : stop * self.joints + 1]
        pixels = slice(pointer[0], pointer[-1])
        return SparseMaps(pointer - pointer[0], self.pixel[pixels], self.value[pixels], self.joints, self.size)

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
