"""Occluders that cross the image: which points they cover, and for how long."""

import numpy as np


def covered(points: np.ndarray, occluders: np.ndarray) -> np.ndarray:
    """Which points `(F, J, 2)`, px, lie inside any rectangle `(F, M, 4)`, px, as x0, y0, x1, y1: `(F, J)` bool.

    An absent rectangle is a row of NaN and covers nothing.
    """
    x, y = points[:, :, None, 0], points[:, :, None, 1]
    x0, y0, x1, y1 = np.moveaxis(occluders[:, None], -1, 0)
    return ((x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1)).any(-1)


def inside_image(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Which points `(..., 2)`, px, lie in an image of this width and height: `(...)` bool."""
    return ((points >= -0.5) & (points < np.asarray(size) - 0.5)).all(-1)


def run_lengths(flags: np.ndarray) -> np.ndarray:
    """For flags `(F,)` bool, how many frames the unbroken run of true flags around each frame has; 0 where false."""
    edges = np.flatnonzero(np.diff(flags.astype(np.int8), prepend=0, append=0))
    lengths = np.zeros(len(flags), dtype=int)
    for start, stop in edges.reshape(-1, 2):
        lengths[start:stop] = stop - start
    return lengths
