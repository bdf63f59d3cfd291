import numpy as np
import pytest
import torch
from scipy.spatial import procrustes as scipy_procrustes
from scipy.spatial.transform import Rotation

from isopose.evaluation import metrics


@pytest.fixture
def poses():
    rng = np.random.default_rng(0)
    return rng.normal(size=(4, 6, 17, 3)), rng.normal(size=(4, 6, 17, 3))


def test_mpjpe_by_a_loop_in_numpy_and_torch(poses):
    predicted, target = poses
    expected = np.zeros((4, 6))
    for clip, frame, joint in np.ndindex(4, 6, 17):
        difference = predicted[clip, frame, joint] - target[clip, frame, joint]
        expected[clip, frame] += np.sqrt(difference @ difference) / 17
    np.testing.assert_allclose(metrics.mpjpe(predicted, target), expected)
    result = metrics.mpjpe(*map(torch.from_numpy, poses))
    np.testing.assert_allclose(result.numpy(), expected)


def test_p_mpjpe_agrees_with_scipy_where_no_reflection_is_better(poses):
    target = poses[1]
    predicted = target + 0.1 * poses[0]  # near enough that the best orthogonal map is a rotation
    for p, t, error in zip(
        predicted.reshape(-1, 17, 3), target.reshape(-1, 17, 3), metrics.p_mpjpe(predicted, target).ravel(), strict=True
    ):
        standard_t, standard_p, _ = scipy_procrustes(t, p)
        size = np.linalg.norm(t - t.mean(0))
        assert error == pytest.approx(size * np.linalg.norm(standard_t - standard_p, axis=-1).mean(), rel=1e-9)


def test_p_mpjpe_does_not_reflect(poses):
    target = poses[1][0, 0]
    mirrored = target * [-1, 1, 1]
    assert metrics.p_mpjpe(mirrored, target) > 0.1
    assert np.linalg.norm(mirrored - target) > 0.1
    # The best rotation by scipy, which never reflects, with its best scale.
    p, t = mirrored - mirrored.mean(0), target - target.mean(0)
    turned = Rotation.align_vectors(t, p)[0].apply(p)
    aligned = turned * (turned * t).sum() / (turned**2).sum()
    assert metrics.p_mpjpe(mirrored, target) == pytest.approx(np.linalg.norm(aligned - t, axis=-1).mean(), rel=1e-6)


def test_p_mpjpe_is_blind_to_similarity_transforms(poses):
    target = poses[1]
    turn = Rotation.random(random_state=1).as_matrix()
    np.testing.assert_allclose(metrics.p_mpjpe(3 * target @ turn + [1, 2, 3], target), 0, atol=1e-12)


def test_n_mpjpe_is_the_least_over_scales(poses):
    predicted, target = (p[0, 0] for p in poses)
    scale = np.linalg.lstsq(predicted.reshape(-1, 1), target.ravel(), rcond=None)[0][0]
    expected = np.linalg.norm(scale * predicted - target, axis=-1).mean()
    assert metrics.n_mpjpe(predicted, target) == pytest.approx(expected)
    assert metrics.n_mpjpe(7 * target, target) == pytest.approx(0, abs=1e-12)


def test_velocity_and_acceleration_by_a_loop(poses):
    predicted, target = (p[0] for p in poses)
    difference = predicted - target
    speed = [np.linalg.norm(difference[t + 1] - difference[t], axis=-1).mean() for t in range(5)]
    change = [
        np.linalg.norm(difference[t + 1] - 2 * difference[t] + difference[t - 1], axis=-1).mean() for t in range(1, 5)
    ]
    np.testing.assert_allclose(metrics.mpjve(predicted, target), speed)
    np.testing.assert_allclose(metrics.acceleration_error(predicted, target), change)


def test_pck_is_strict_and_auc_averages_it():
    target = np.zeros((1, 4, 3))
    predicted = target.copy()
    predicted[0, :, 0] = [0, 0.049, 0.150, 0.2]
    assert metrics.pck_3d(predicted, target).tolist() == [0.5]
    thresholds = np.linspace(0, 0.150, 31)
    expected = np.mean([metrics.pck_3d(predicted, target, threshold) for threshold in thresholds])
    assert metrics.auc_3d(predicted, target).item() == pytest.approx(expected)


def test_mean_angle_error_is_the_norm_over_all_angles():
    target = np.zeros((2, 5, 3))
    predicted = target.copy()
    predicted[1, 2] = [0.3, 0, 0.4]
    np.testing.assert_allclose(metrics.mean_angle_error(predicted, target), [0, 0.5])


def test_a_collapsed_pose_has_finite_errors():
    target = np.random.default_rng(0).normal(size=(2, 17, 3))
    for metric in (metrics.p_mpjpe, metrics.n_mpjpe):
        assert np.isfinite(metric(np.zeros_like(target), target)).all()
