import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from isopose import camera as cam

K = np.array([[1145.0, 0, 512], [0, 1143.0, 515], [0, 0, 1]])


def random_camera(seed: int, distorted: bool = True) -> cam.Camera:
    rng = np.random.default_rng(seed)
    distortion = np.array([-0.2, 0.2, -0.003, 0.001, -0.005]) if distorted else np.zeros(5)
    return cam.Camera(K, Rotation.random(random_state=rng).as_matrix(), rng.normal(size=3), distortion)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31 - 1))
def test_world_to_camera_and_back_is_the_identity(seed):
    camera = random_camera(seed)
    points = np.random.default_rng(seed).normal(size=(4, 17, 3))
    moved = cam.world_to_camera(points, camera)
    np.testing.assert_allclose(cam.camera_to_world(moved, camera), points, atol=1e-12)
    np.testing.assert_allclose(cam.world_to_camera(camera.T, camera), 0, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31 - 1))
def test_back_project_inverts_project(seed):
    camera = random_camera(seed)
    rng = np.random.default_rng(seed)
    points = np.concatenate([rng.uniform(-1, 1, (50, 2)), rng.uniform(3, 8, (50, 1))], axis=1)
    recovered = cam.back_project(cam.project(points, camera), points[:, 2], camera)
    np.testing.assert_allclose(recovered, points, atol=1e-6)


def test_project_matches_opencv_model_written_out_for_one_point():
    camera = random_camera(0)
    x, y, z = 0.3, -0.2, 4.0
    a, b = x / z, y / z
    r2 = a**2 + b**2
    k1, k2, p1, p2, k3 = camera.distortion
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    u = K[0, 0] * (a * radial + 2 * p1 * a * b + p2 * (r2 + 2 * a**2)) + K[0, 2]
    v = K[1, 1] * (b * radial + p1 * (r2 + 2 * b**2) + 2 * p2 * a * b) + K[1, 2]
    np.testing.assert_allclose(cam.project(np.array([x, y, z]), camera), [u, v], rtol=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31 - 1), st.floats(0.1, 50), st.floats(-100, 100))
def test_weak_perspective_fit_recovers_a_known_scale_and_shift(seed, scale, shift):
    xy = np.random.default_rng(seed).normal(size=(3, 17, 2))
    found, moved = cam.fit_weak_perspective(xy, scale * xy + shift)
    np.testing.assert_allclose(found[:, 0, 0], scale, rtol=1e-6)
    np.testing.assert_allclose(moved[:, 0], shift, atol=1e-5 * max(1, scale))


def test_weak_perspective_fit_is_the_weighted_least_squares_solution():
    rng = np.random.default_rng(1)
    xy, target, weights = rng.normal(size=(17, 2)), rng.normal(size=(17, 2)), rng.uniform(size=17)
    target = target + 2 * xy
    design = np.zeros((34, 3))
    design[:17, 0], design[17:, 0] = xy[:, 0], xy[:, 1]
    design[:17, 1] = design[17:, 2] = 1
    root = np.sqrt(np.tile(weights, 2))
    solution = np.linalg.lstsq(design * root[:, None], target.T.ravel() * root, rcond=None)[0]
    scale, shift = cam.fit_weak_perspective(xy, target, weights)
    np.testing.assert_allclose([scale.item(), *shift.ravel()], solution, rtol=1e-9)


def test_weak_perspective_fit_without_weight_leaves_points_alone():
    scale, shift = cam.fit_weak_perspective(np.ones((17, 2)), np.zeros((17, 2)), np.zeros(17))
    assert scale.item() == 1
    np.testing.assert_array_equal(shift, np.zeros((1, 2)))


def test_weak_perspective_fit_in_torch_agrees_with_numpy():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    xy, target = rng.normal(size=(5, 17, 2)), rng.normal(size=(5, 17, 2))
    for ours, theirs in zip(
        cam.fit_weak_perspective(torch.tensor(xy), torch.tensor(target)),
        cam.fit_weak_perspective(xy, target),
        strict=True,
    ):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-12)
