"""The square crop around a person and its exact inverse.

A box is (centre x, centre y, side) in image pixels. Crop pixels at resolution ``size`` put the centre of the
first pixel at 0, so the crop spans [-0.5, size - 0.5].
"""

import numpy as np
from scipy.ndimage import uniform_filter1d

from isopose.arrays import check_array


def boxes_around(joints2d: np.ndarray, margin: float = 1.25, smoothing: int = 1) -> np.ndarray:
    """Square boxes (F, 3) around 2D joints (F, J, 2), px, as a person detector and tracker would give them.

    The side is ``margin`` times the longer side of the joints' bounding box; centre and side are averaged over
    ``smoothing`` frames, as trackers do, so that the crop does not jump from frame to frame. ValueError for a joint
    that is NaN and for a frame whose box would have no size.
    """
    check_array("joints2d", joints2d, ("F", "J", 2), finite=True)
    low, high = joints2d.min(axis=1), joints2d.max(axis=1)
    boxes = np.concatenate([(low + high) / 2, margin * (high - low).max(axis=1, keepdims=True)], axis=1)
    if smoothing > 1:
        boxes = uniform_filter1d(boxes, size=smoothing, axis=0, mode="nearest")
    empty = np.flatnonzero(boxes[:, 2] <= 0)
    if len(empty):
        raise ValueError(
            f"joints2d: all joints of frame {empty[0]} are in one place; expected (F, J, 2) with an extent"
        )
    return boxes.astype(np.float32)


def image_to_crop(points: np.ndarray, boxes: np.ndarray, size: int) -> np.ndarray:
    """Image pixels (F, J, 2) to crop pixels at resolution ``size``; boxes (F, 3)."""
    centre, side = boxes[:, None, :2], boxes[:, None, 2:]
    return (points - centre) * (size / side) + (size - 1) / 2


def crop_to_image(points: np.ndarray, boxes: np.ndarray, size: int) -> np.ndarray:
    """Exact inverse of :func:`image_to_crop`."""
    centre, side = boxes[:, None, :2], boxes[:, None, 2:]
    return (points - (size - 1) / 2) * (side / size) + centre


def crop_intrinsics(K: np.ndarray, boxes: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Focal lengths and principal point, both (F, 2), of each frame's crop at resolution ``size``.

    K (3, 3), image pixels; boxes (F, 3). ``focal * (x, y) / z + centre`` is then a crop pixel, lens distortion aside.
    """
    focal = K[[0, 1], [0, 1]] * (size / boxes[:, 2:])
    centre = image_to_crop(np.broadcast_to(K[:2, 2], (len(boxes), 1, 2)), boxes, size)[:, 0]
    return focal, centre
