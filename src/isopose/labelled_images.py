"""Labelled crops of people, which the 2D estimator learns from: the one layout of rendered and of recorded ones.

An HDF5 file, described in docs/rendering.md. Only this module knows the layout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from isopose.arrays import check_array
from isopose.crops import image_to_crop
from isopose.errors import UserError
from isopose.files import atomic_path
from isopose.skeleton import NUM_JOINTS


@dataclass(frozen=True)
class Images:
    """Labelled crops.

    ``images`` ``(N, S, S, 3)`` uint8 RGB; ``joints2d`` ``(N, 17, 2)`` heatmap px, 0 where not labelled; ``visible``
    ``(N, 17)`` bool; ``labelled`` ``(N, 17)`` bool: whether anything is known of the joint; ``head_size`` ``(N,)``
    heatmap px, NaN where unknown; ``map_size`` is the heatmaps' side.
    """

    images: np.ndarray
    joints2d: np.ndarray
    visible: np.ndarray
    labelled: np.ndarray
    head_size: np.ndarray
    map_size: int

    @classmethod
    def read(cls, path: Path) -> Images:
        """Read an image file whole."""
        names = ("images", "joints2d", "visible", "labelled", "head_size")
        try:
            with h5py.File(path, "r") as file:
                images = cls(*(file[name][()] for name in names), map_size=int(file.attrs["map_size"]))
            check_array("joints2d", images.joints2d, (len(images.images), NUM_JOINTS, 2), finite=True)
        except (OSError, KeyError, ValueError) as error:
            raise UserError(
                f"{path}: not a file of labelled images ({error}); expected {', '.join(names)}, map_size; delete it "
                "and run again"
            ) from error
        return images

    @property
    def size(self) -> int:
        """Side of the crops, px."""
        return self.images.shape[1]

    @property
    def measured(self) -> np.ndarray:
        """Visible joints ``(N, 17)`` that a detection can be measured against: of people whose head's size is known."""
        return self.visible & self.labelled & np.isfinite(self.head_size)[:, None]


def jittered(boxes: np.ndarray, options: Mapping[str, Any], rng: np.random.Generator) -> np.ndarray:
    """Boxes (N, 3) scaled by up to 1 +- scale and shifted by up to shift sides each way."""
    draws = rng.uniform(-1, 1, boxes.shape)
    centre = boxes[:, :2] + options["shift"] * boxes[:, 2:] * draws[:, :2]
    return np.concatenate([centre, boxes[:, 2:] * (1 + options["scale"] * draws[:, 2:])], axis=1)


def crop_labels(
    points: np.ndarray,
    visible: np.ndarray,
    labelled: np.ndarray,
    head_size: np.ndarray,
    boxes: np.ndarray,
    map_size: int,
) -> dict[str, np.ndarray]:
    """Labels in the crops of boxes (N, 3), px: what a file of images holds.

    points (N, 17, 2) image px, NaN where not labelled; visible, labelled (N, 17): a joint beyond the crop is not
    visible; head_size (N,) image px.
    """
    found = image_to_crop(points, boxes, map_size)
    inside = ((found >= -0.5) & (found < map_size - 0.5)).all(axis=-1)
    return {
        "joints2d": np.where(labelled[..., None], found, 0).astype(np.float32),
        "visible": visible & labelled & inside,
        "labelled": labelled,
        "head_size": (head_size * map_size / boxes[:, 2]).astype(np.float32),
    }


@contextmanager
def create(path: Path, shape: tuple[int, int], labels: Mapping[str, np.ndarray], **attributes: Any) -> Iterator[Any]:
    """Open a new file of N images of side S, shape (N, S), with its labels; yields the dataset of the pixels.

    It appears under its name only when the block ends well.
    """
    count, size = shape
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update({"kind": "images", "version": 1, **attributes})
        for name, values in labels.items():
            file.create_dataset(name, data=values, track_times=False)
        # One image a chunk, so that training may read any of them; noise leaves little to compress.
        options = {"chunks": (1, size, size, 3), "track_times": False, **hdf5plugin.Zstd(clevel=1)}
        yield file.create_dataset("images", (count, size, size, 3), np.uint8, **options)
