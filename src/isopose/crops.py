"""The square crop around a person and its exact inverse.

A box is (centre x, centre y, side) in image pixels. Crop pixels at resolution ``size`` put the centre of the
first pixel at 0, so the crop spans [-0.5, size - 0.5].
"""

import numpy as np

from isopose.arrays import check_array


def boxes_around(joints2d: np.ndarray, margin: float = 1.25, smoothing: int = 1) -> np.ndarray:
    """Square boxes (F, 3) around 2D joints (F, J, 2), px, as a person detector and tracker would give them.

    The side is ``margin`` times the longer side of the joints' bounding box; centre and side are averaged over
    ``smoothing`` frames, as trackers do, so that the crop does not jump from frame to frame. ValueError for a joint
    that is NaN and for a frame whose box would have no size.
    """
    check_array("joints2d", joints2d, ("F", "J", 2), finite=True)
    boxes = _squares(joints2d.min(axis=1), joints2d.max(axis=1), margin, smoothing)
    empty = np.flatnonzero(boxes[:, 2] <= 0)
    if len(empty):
        raise ValueError(
            f"joints2d: all joints of frame {empty[0]} are in one place; expected (F, J, 2) with an extent"
        )
    return boxes.astype(np.float32)


def boxes_from_rectangles(rectangles: np.ndarray, margin: float = 1.25, smoothing: int = 1) -> np.ndarray:
    """Square boxes (F, 3) of a person's rectangles (F, 4), px, x0, y0, x1, y1, as :func:`boxes_around` makes them.

    A frame without a rectangle (NaN, or one without a size) has that of the nearest frame with one, of two as near the
    earlier. ValueError where no frame has one.
    """
    check_array("rectangles", rectangles, ("F", 4))
    sized = np.isfinite(rectangles).all(axis=1) & (rectangles[:, :2] < rectangles[:, 2:]).all(axis=1)
    present = np.flatnonzero(sized)
    if not len(present):
        raise ValueError(
            f"rectangles: none of {len(rectangles)} frames has one; expected (F, 4), NaN in some rows only"
        )
    middles = (present[1:] + present[:-1]) / 2
    filled = rectangles[present[np.searchsorted(middles, np.arange(len(rectangles)))]]
    return _squares(filled[:, :2], filled[:, 2:], margin, smoothing).astype(np.float32)


def rectangles_around(joints2d: np.ndarray) -> np.ndarray:
    """The rectangles (F, 4), px, of the joints (F, J, 2) that are not NaN; NaN where there are none."""
    check_array("joints2d", joints2d, ("F", "J", 2))
    known = np.isfinite(joints2d).all(axis=-1, keepdims=True)
    low = np.where(known, joints2d, np.inf).min(axis=1)
    high = np.where(known, joints2d, -np.inf).max(axis=1)
    return np.where(known.any(axis=1), np.concatenate([low, high], axis=1), np.nan)


def _squares(low: np.ndarray, high: np.ndarray, margin: float, smoothing: int) -> np.ndarray:
    """Boxes (F, 3) of rectangles from low (F, 2) to high (F, 2), averaged over ``smoothing`` frames."""
    from scipy.ndimage import uniform_filter1d  # here: its import is slow, and most jobs need no boxes

    boxes = np.concatenate([(low + high) / 2, margin * (high - low).max(axis=1, keepdims=True)], axis=1)
    return uniform_filter1d(boxes, size=smoothing, axis=0, mode="nearest") if smoothing > 1 else boxes


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
