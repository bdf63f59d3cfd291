"""Scores of a whole detection store: what :mod:`isopose.evaluation.keypoints` says of all its views together."""

import numpy as np

from isopose.datasets.store import Clip, Detections
from isopose.evaluation import keypoints


class Quality:
    """Collects what is needed to score detections against the labels, view after view."""

    def __init__(self) -> None:
        self._views: list[tuple[np.ndarray, ...]] = []
        self._frames = 0
        self._squared_error, self._largest_error, self._pixels = 0.0, 0.0, 0

    def add(self, clip: Clip, view_name: str, detections: Detections, maps: np.ndarray | None = None) -> None:
        """Take the detections of a view and, where they have maps, the dense ones ``(F, 17, M, M)`` before storage.

        A clip of 2D labels alone has no head size to measure by: its frames count, and are not held against the labels;
        nor are joints that the dataset lacks.
        """
        view = clip.views[view_name]
        self._frames += len(detections.boxes)
        if not clip.only_2d:
            head = keypoints.head_size(clip.camera_joints(view_name), clip.cameras[view.camera])
            valid = np.broadcast_to(clip.joint_valid, view.visible.shape)
            points, confidence = detections.image_keypoints, detections.confidence
            self._views.append((points, view.joints2d, head, view.visible & valid, confidence, valid))
        if maps is not None:
            error = np.abs(detections.maps.dense() - maps)
            self._squared_error += float(np.square(error).sum(dtype=np.float64))
            self._largest_error = max(self._largest_error, float(error.max()))
            self._pixels += maps.size

    def summary(self, stored_bytes: int) -> dict[str, float]:
        """Scores of all views; ``stored_bytes`` is the size of the detection file, to compare with fp16 maps.

        Those against the labels are of the views that have them, and left out where none has.
        """
        scores = {"frames": self._frames, "bytes_per_frame": stored_bytes / self._frames}
        if self._views:
            points, truth, head, visible, confidence, valid = map(np.concatenate, zip(*self._views, strict=True))
            labelled = (points, truth, head, visible)
            scores |= {
                "visible_share": float(visible[valid].mean()),
                "pckh": keypoints.pckh(*labelled),
                "auroc": keypoints.auroc(confidence[valid], visible[valid]),
                "left_right_confusion": keypoints.left_right_confusion(*labelled),
            }
        if self._pixels:
            scores |= {
                "dense_fp16_ratio": 2 * self._pixels / stored_bytes,
                "storage_rms_error": (self._squared_error / self._pixels) ** 0.5,
                "storage_max_error": self._largest_error,
            }
        return scores
