import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import procrustes as scipy_procrustes
from scipy.spatial.transform import Rotation

from isopose.evaluation import metrics

SEEDS = st.integers(0, 2**31 - 1)
ALL = ("mpjpe", "p_mpjpe", "n_mpjpe", "mpjve", "acceleration_error", "pck_3d", "auc_3d", "mean_angle_error")


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


def similarity(rng):
    """A random scale, rotation and shift of poses (..., J, 3)."""
    scale, shift = np.exp(rng.uniform(-3, 3)), rng.normal(0, 10, 3)
    turn = Rotation.random(random_state=rng).as_matrix()
    return scale, lambda poses: scale * poses @ turn + shift


def horn(predicted, target):
    """The best similarity transform of a pose (J, 3) by Horn's quaternion (JOSA A, 1987), which cannot reflect."""
    p, t = predicted - predicted.mean(0), target - target.mean(0)
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = p.T @ t
    symmetric = [
        [xx + yy + zz, yz - zy, zx - xz, xy - yx],
        [yz - zy, xx - yy - zz, xy + yx, zx + xz],
        [zx - xz, xy + yx, yy - xx - zz, yz + zy],
        [xy - yx, zx + xz, yz + zy, zz - xx - yy],
    ]
    w, x, y, z = np.linalg.eigh(symmetric)[1][:, -1]
    turned = Rotation.from_quat([x, y, z, w]).apply(p)
    return turned * (turned * t).sum() / (p**2).sum() + target.mean(0)


@settings(deadline=None, max_examples=30)
@given(SEEDS)
def test_p_mpjpe_does_not_see_how_a_pose_is_moved_turned_or_scaled(seed):
    rng = np.random.default_rng(seed)
    predicted, target = rng.normal(size=(2, 5, 17, 3))
    expected = metrics.p_mpjpe(predicted, target)
    scale, move = similarity(rng)
    np.testing.assert_allclose(metrics.p_mpjpe(move(predicted), target), expected, rtol=1e-9)
    np.testing.assert_allclose(metrics.p_mpjpe(move(predicted), move(target)), scale * expected, rtol=1e-9)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.sampled_from(["any", "near", "mirrored", "flat"]))
def test_procrustes_is_horns_closed_form(seed, kind):
    rng = np.random.default_rng(seed)
    predicted, target = rng.normal(size=(2, 17, 3))
    if kind == "near":
        predicted = target + 0.1 * predicted
    elif kind == "mirrored":
        predicted = similarity(rng)[1](target * [-1, 1, 1]) + 0.01 * predicted
    elif kind == "flat":
        predicted = similarity(rng)[1](predicted * [1, 1, 0])
    np.testing.assert_allclose(metrics.procrustes(predicted, target), horn(predicted, target), atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.floats(0.01, 100))
def test_n_mpjpe_does_not_see_the_scale_and_is_least_squares_in_each_pose(seed, scale):
    predicted, target = np.random.default_rng(seed).normal(size=(2, 4, 17, 3))
    errors = metrics.n_mpjpe(predicted, target)
    np.testing.assert_allclose(metrics.n_mpjpe(scale * predicted, target), errors, rtol=1e-9)
    for p, t, error in zip(predicted, target, errors, strict=True):
        best = np.linalg.lstsq(p.reshape(-1, 1), t.ravel(), rcond=None)[0][0]
        assert error == pytest.approx(np.linalg.norm(best * p - t, axis=-1).mean(), rel=1e-9)


def test_mpjve_sees_a_drift_and_no_offset(poses):
    target = poses[1]
    offset, drift = np.array([0.3, -0.1, 2.0]), np.array([0.03, 0.0, -0.04])
    np.testing.assert_allclose(metrics.mpjve(target + offset, target), 0, atol=1e-12)
    moved = target + drift * np.arange(6)[:, None, None]
    np.testing.assert_allclose(metrics.mpjve(moved, target), np.full((4, 5), 0.05), rtol=1e-9)
    np.testing.assert_allclose(metrics.acceleration_error(moved, target), 0, atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=17), SEEDS)
def test_pck_and_auc_by_counting(fives, seed):
    """Whole multiples of 5 mm, so that joints lie exactly on the thresholds."""
    distances = 5 * np.array(fives)
    rng = np.random.default_rng(seed)
    target = rng.integers(-900, 900, (len(distances), 3)).astype(float)
    predicted = target.copy()
    predicted[np.arange(len(distances)), rng.integers(0, 3, len(distances))] += distances
    near = sum(1 for distance in distances if distance < 150)
    assert metrics.pck_3d(predicted, target, 150) == near / len(distances)
    shares = [sum(distance < limit for distance in distances) / len(distances) for limit in range(0, 151, 5)]
    assert len(shares) == 31
    assert metrics.auc_3d(predicted, target, 150) == pytest.approx(sum(shares) / 31, rel=1e-12)


def test_mean_angle_error_by_a_loop(poses):
    predicted, target = poses
    for clip, frame in np.ndindex(4, 6):
        total = sum(
            (predicted[clip, frame, j, a] - target[clip, frame, j, a]) ** 2 for j in range(17) for a in range(3)
        )
        assert metrics.mean_angle_error(predicted, target)[clip, frame] == pytest.approx(np.sqrt(total))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_torch_and_numpy_agree(name, dtype):
    rng = np.random.default_rng(3)
    target = rng.normal(size=(3, 5, 17, 3)).astype(dtype)
    predicted = target + rng.normal(0, 0.1, target.shape).astype(dtype)
    predicted[0, 2], predicted[1, 1] = 0, target[1, 1] * [-1, 1, 1]
    metric = getattr(metrics, name)
    expected, result = metric(predicted, target), metric(torch.from_numpy(predicted), torch.from_numpy(target))
    assert isinstance(result, torch.Tensor)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-9 if dtype == np.float64 else 2e-4, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_another_number_of_joints_is_told(name, kind):
    metric, poses = getattr(metrics, name), kind(np.ones((4, 17, 3)))
    with pytest.raises(ValueError, match=r"target: shape \(\d, 16, 3\); expected \(..., 17, 3\)"):
        metric(poses, poses[:, :16])
    with pytest.raises(ValueError, match=r"target: shape \(\d, 1, 3\); expected \(..., 17, 3\)"):
        metric(poses, poses[:, :1])  # must not be taken for the target of every joint
    with pytest.raises(ValueError, match=r"predicted: shape \(\d, 17, 2\); expected \(..., (T, )?J, 3\)"):
        metric(poses[..., :2], poses[..., :2])


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_a_nan_spoils_its_own_pose_alone(poses, kind):
    predicted, target = poses[0].copy(), poses[1]
    predicted[1, 3, 5, 0] = np.nan
    for name in ("mpjpe", "p_mpjpe", "n_mpjpe", "mean_angle_error"):
        result = np.asarray(getattr(metrics, name)(kind(predicted), kind(target)))
        assert np.argwhere(np.isnan(result)).tolist() == [[1, 3]]
        np.testing.assert_allclose(result[0], getattr(metrics, name)(poses[0][0], target[0]))
        assert np.isnan(np.asarray(getattr(metrics, name)(kind(target), kind(predicted)))[1, 3])
    same = target.copy()
    same[1, 3, 5, 0] = np.nan
    for metric in (metrics.pck_3d, metrics.auc_3d):
        full = metric(target, target)
        expected = np.where(np.arange(24).reshape(4, 6) == 9, full * 16 / 17, full)
        np.testing.assert_allclose(np.asarray(metric(kind(same), kind(target))), expected, rtol=1e-6)


def test_a_clip_of_one_frame_has_no_velocity_and_a_pose_is_no_clip():
    pose = np.ones((1, 17, 3))
    assert metrics.mpjve(pose, pose).shape == metrics.acceleration_error(pose, pose).shape == (0,)
    with pytest.raises(ValueError, match=r"predicted: shape \(17, 3\); expected \(..., T, J, 3\)"):
        metrics.mpjve(pose[0], pose[0])
