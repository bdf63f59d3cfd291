"""Scores of 2D detections: PCKh, visible against invisible by confidence, left-right confusion."""

from __future__ import annotations

import numpy as np

from isopose.arrays import check_array
from isopose.camera import Camera, check_before_camera
from isopose.skeleton import MIRROR, NUM_JOINTS, index

_NECK, _HEAD = index("neck"), index("head")
_HEAD_SIZES_PER_BONE = 1.5


def head_size(joints: np.ndarray, camera: Camera) -> np.ndarray:
    """Head size, image px, of camera-frame joints ``(..., 17, 3)``, m; returns ``(...)``.

    One and a half times the bone from the nose's height to the top of the head, about 0.2 m: what MPII's PCKh
    measures by (0.6 times the diagonal of the head's box). It is taken in space and divided by the
    head's depth, so a bowed head is not a small one. ValueError for another number of joints and for a head that is
    not before the camera.
    """
    check_array("joints", joints, (..., NUM_JOINTS, 3))
    check_before_camera("joints", joints[..., [_HEAD], :])
    length = _HEAD_SIZES_PER_BONE * np.linalg.norm(joints[..., _HEAD, :] - joints[..., _NECK, :], axis=-1)
    return length * np.sqrt(np.linalg.det(camera.K[:2, :2])) / joints[..., _HEAD, 2]


def correct(detected: np.ndarray, truth: np.ndarray, head_size: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Which detections lie within ``threshold`` head sizes of the truth.

    ``detected`` and ``truth`` are ``(..., J, 2)`` px, ``head_size`` ``(...)`` px; returns ``(..., J)`` bool. A joint
    that is NaN is not correct.
    """
    check_array("detected", detected, (..., "J", 2))
    check_array("truth", truth, (..., detected.shape[-2], 2))
    distance = np.linalg.norm(detected - truth, axis=-1)
    return distance <= threshold * np.asarray(head_size)[..., None]


def pckh(
    detected: np.ndarray,
    truth: np.ndarray,
    head_size: np.ndarray,
    visible: np.ndarray,
    threshold: float = 0.5,
) -> float:
    """PCKh: share of the visible joints ``(..., J)`` detected within ``threshold`` head sizes, in 0..1."""
    hits = correct(detected, truth, head_size, threshold)[visible]
    return float(hits.mean()) if hits.size else float("nan")


def auroc(confidence: np.ndarray, visible: np.ndarray) -> float:
    """Probability that a visible joint is more confident than an invisible one; NaN where one kind is missing.

    ``confidence`` and ``visible`` are of one shape. ValueError for a confidence that is NaN.
    """
    from sklearn.metrics import roc_auc_score  # here: its import is slow, and most jobs need no such score

    check_array("confidence", confidence, visible.shape, finite=True)
    labels = np.ravel(visible)
    if labels.all() or not labels.any():
        return float("nan")
    return float(roc_auc_score(labels, np.ravel(confidence)))


def left_right_confusion(
    detected: np.ndarray,
    truth: np.ndarray,
    head_size: np.ndarray,
    visible: np.ndarray,
    threshold: float = 0.5,
) -> float:
    """Share of visible paired joints detected on their mirror joint instead, in 0..1.

    Confused means within ``threshold`` head sizes of the mirror joint and not of the joint itself: from the side
    the two coincide, and nothing is confused. Arguments as in :func:`pckh`, ``J`` being the skeleton's 17 joints.
    """
    check_array("detected", detected, (..., NUM_JOINTS, 2))
    mirror = np.asarray(MIRROR)
    paired = visible & (mirror != np.arange(len(mirror)))
    own = correct(detected, truth, head_size, threshold)
    confused = correct(detected, truth[..., mirror, :], head_size, threshold) & ~own
    return float(confused[paired].mean()) if paired.any() else float("nan")
