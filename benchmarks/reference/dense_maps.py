"""Heatmaps stored plainly: every pixel in half precision, one dataset, no compression."""

import h5py
import numpy as np


def write(path, maps):
    """Write maps (N, 17, H, W)."""
    with h5py.File(path, "w") as file:
        file["maps"] = maps.astype(np.float16)
