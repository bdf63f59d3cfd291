import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from isopose.camera import Camera
from isopose.evaluation import keypoints
from isopose.skeleton import SYMMETRIC_PAIRS


def test_pckh_by_loop():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 30, (20, 17, 2))
    detected = truth + rng.normal(0, 1.5, truth.shape)
    head = rng.uniform(2, 5, 20)
    visible = rng.random((20, 17)) < 0.7
    hits = [
        np.hypot(*(detected[i, j] - truth[i, j])) <= 0.5 * head[i]
        for i in range(20)
        for j in range(17)
        if visible[i, j]
    ]
    assert 0 < np.mean(hits) < 1
    assert keypoints.pckh(detected, truth, head, visible) == pytest.approx(np.mean(hits))


def test_pckh_threshold_is_inclusive():
    truth, head, visible = np.zeros((1, 1, 2)), np.array([4.0]), np.ones((1, 1), bool)
    assert keypoints.pckh(truth + [2.0, 0], truth, head, visible) == 1
    assert keypoints.pckh(truth + [2.001, 0], truth, head, visible) == 0


def test_auroc():
    rng = np.random.default_rng(0)
    visible = rng.random((15, 17)) < 0.6
    confidence = np.round(0.3 * visible + rng.random((15, 17)), 1)  # rounded: ties
    seen, hidden = confidence[visible], confidence[~visible]
    wins = np.mean([(a > b) + 0.5 * (a == b) for a in seen for b in hidden])
    assert keypoints.auroc(confidence, visible) == pytest.approx(wins)
    assert keypoints.auroc(confidence, visible) == roc_auc_score(visible.ravel(), confidence.ravel())


def test_auroc_needs_both_kinds():
    assert np.isnan(keypoints.auroc(np.ones((2, 17)), np.ones((2, 17), bool)))


def test_left_right_confusion():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 1000, (4, 17, 2))
    head, visible = np.full(4, 2.0), np.ones((4, 17), bool)
    detected = truth.copy()
    assert keypoints.left_right_confusion(detected, truth, head, visible) == 0
    right, left = SYMMETRIC_PAIRS[2]
    detected[1, [right, left]] = truth[1, [left, right]] + 0.5  # confused
    detected[2, right] = truth[2, left] + 5.0  # wrong, but not on the mirror joint
    detected[3, 0] = truth[3, right]  # the pelvis has no mirror joint
    assert keypoints.left_right_confusion(detected, truth, head, visible) == pytest.approx(2 / (4 * 12))
    visible[1, left] = False
    assert keypoints.left_right_confusion(detected, truth, head, visible) == pytest.approx(1 / (4 * 12 - 1))


def test_head_size_of_a_head_at_five_metres():
    joints = np.zeros((1, 17, 3))
    joints[0, 9:11] = [(0, -0.1, 5), (0, -0.23, 5)]
    camera = Camera(np.diag([1000.0, 1000.0, 1.0]), np.eye(3), np.zeros(3))
    np.testing.assert_allclose(keypoints.head_size(joints, camera), [1.5 * 0.13 * 1000 / 5])
