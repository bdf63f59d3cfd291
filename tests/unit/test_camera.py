import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from isopose import camera as cam

SEEDS = st.integers(0, 2**31 - 1)
HUMAN36M = {
    "one": (-0.2071, 0.2478, -0.0014, -0.0010, -0.0031),
    "two": (-0.1942, 0.2404, -0.0027, -0.0016, 0.0068),
}
"""Distortions of two of Human3.6M's cameras."""
K = np.array([[1145.0, 0, 512], [0, 1143.0, 515], [0, 0, 1]])


def random_camera(seed: int, distorted: bool = True) -> cam.Camera:
    rng = np.random.default_rng(seed)
    distortion = np.array([-0.2, 0.2, -0.003, 0.001, -0.005]) if distorted else np.zeros(5)
    return cam.Camera(K, Rotation.random(random_state=rng).as_matrix(), rng.normal(size=3), distortion)


@settings(deadline=None, max_examples=30)
@given(SEEDS)
def test_world_to_camera_and_back_is_the_identity(seed):
    camera = random_camera(seed)
    points = np.random.default_rng(seed).normal(size=(4, 17, 3))
    moved = cam.world_to_camera(points, camera)
    np.testing.assert_allclose(cam.camera_to_world(moved, camera), points, atol=1e-12)
    np.testing.assert_allclose(cam.world_to_camera(camera.T, camera), 0, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(SEEDS)
def test_back_project_inverts_project(seed):
    camera = random_camera(seed)
    rng = np.random.default_rng(seed)
    points = np.concatenate([rng.uniform(-1, 1, (50, 2)), rng.uniform(3, 8, (50, 1))], axis=1)
    recovered = cam.back_project(cam.project(points, camera), points[:, 2], camera)
    np.testing.assert_allclose(recovered, points, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(HUMAN36M)), st.floats(0, 1000), st.floats(0, 1000), st.floats(0.2, 20))
def test_project_inverts_back_project_over_the_whole_image(lens, u, v, depth):
    camera = cam.Camera(K, np.eye(3), np.zeros(3), np.array(HUMAN36M[lens]))
    point = cam.back_project(np.array([u, v]), np.array(depth), camera)
    assert point[2] == depth
    np.testing.assert_allclose(cam.project(point, camera), [u, v], atol=1e-9)
    straight = cam.project(point, cam.Camera(K, np.eye(3), np.zeros(3)))
    np.testing.assert_allclose(cam.undistort(np.array([u, v]), camera), straight, atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.integers(-200, 200).filter(bool), st.floats(0, 2 * np.pi), st.floats(1, 600))
def test_radial_distortion_is_inverted_as_the_root_of_a_cubic(thousandths, angle, radius):
    """r_d = r + k1 r^3 has one root that grows out of r_d."""
    f, k1 = 1145.0, thousandths / 1000
    camera = cam.Camera(np.array([[f, 0, 500], [0, f, 500], [0, 0, 1]]), np.eye(3), np.zeros(3), np.eye(5)[0] * k1)
    direction = np.array([np.cos(angle), np.sin(angle)])
    roots = np.roots([k1, 0, 1, -radius / f])
    expected = min(root.real for root in roots if abs(root.imag) < 1e-9 and root.real > 0)
    found = (cam.undistort(500 + radius * direction, camera) - 500) / f
    np.testing.assert_allclose(found, expected * direction, atol=1e-6)


def test_a_pixel_that_no_point_is_seen_at_is_told():
    camera = cam.Camera(K, np.eye(3), np.zeros(3), np.array([-0.4, 0, 0, 0, 0]))
    pixels = np.array([[500.0, 500.0], [0.0, 0.0], [np.nan, 3.0]])
    assert np.isnan(cam.undistort(pixels[[0, 2]], camera)[1]).any()
    with pytest.raises(ValueError, match="pixels: 1 of 3 have no inverse under the distortion"):
        cam.undistort(pixels, camera)


def test_points_that_are_not_before_the_camera_are_told():
    points = np.array([[0.0, 0, 4], [0, 0, 0], [1, 1, -3]])
    with pytest.raises(ValueError, match=r"points: 2 of 3 points are not before the camera; .* \(..., 3\), m, z > 0"):
        cam.project(points, random_camera(0))
    with pytest.raises(ValueError, match=r"points: shape \(3, 2\); expected \(..., 3\)"):
        cam.project(points[:, :2], random_camera(0))


def test_a_point_that_is_nan_has_a_pixel_that_is_nan_and_the_others_their_own():
    points = np.array([[0.5, 0.2, 4], [np.nan, np.nan, np.nan]])
    pixels = cam.project(points, random_camera(0))
    assert np.isnan(pixels[1]).all()
    np.testing.assert_array_equal(pixels[0], cam.project(points[0], random_camera(0)))


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


def test_opencvs_twelve_coefficients_written_out_for_one_point():
    """The formula of OpenCV's calib3d page, with its names."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = distortion = np.linspace(-0.2, 0.3, 12)
    x, y = 0.3, -0.2
    r = np.hypot(x, y)
    radial = (1 + k1 * r**2 + k2 * r**4 + k3 * r**6) / (1 + k4 * r**2 + k5 * r**4 + k6 * r**6)
    expected = [
        x * radial + 2 * p1 * x * y + p2 * (r**2 + 2 * x**2) + s1 * r**2 + s2 * r**4,
        y * radial + p1 * (r**2 + 2 * y**2) + 2 * p2 * x * y + s3 * r**2 + s4 * r**4,
    ]
    np.testing.assert_allclose(cam.distort(np.array([x, y]), distortion), expected, rtol=1e-12)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.floats(0.1, 50), st.floats(-100, 100))
def test_weak_perspective_fit_recovers_a_known_scale_and_shift(seed, scale, shift):
    xy = np.random.default_rng(seed).normal(size=(3, 17, 2))
    found, moved = cam.fit_weak_perspective(xy, scale * xy + shift)
    np.testing.assert_allclose(found[:, 0, 0], scale, rtol=1e-6)
    np.testing.assert_allclose(moved[:, 0], shift, atol=1e-5 * max(1, scale))


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.integers(-16, 16), st.booleans())
def test_weak_perspective_fit_is_the_weighted_least_squares_solution(seed, exponent, correlated):
    """Against lstsq in float64, pose by pose; only the ratios of the weights matter, however small all are."""
    rng = np.random.default_rng(seed)
    xy, target, weights = rng.normal(0, 0.4, (3, 17, 2)), rng.normal(30, 5, (3, 17, 2)), rng.uniform(size=(3, 17))
    weights[:, :5] = 0
    target = target + 40 * xy if correlated else target
    scales, shifts = cam.fit_weak_perspective(xy, target, weights * 10.0**exponent)
    for points, image, weight, scale, shift in zip(xy, target, weights, scales, shifts, strict=True):
        design = np.zeros((34, 3))
        design[:17, 0], design[17:, 0] = points[:, 0], points[:, 1]
        design[:17, 1] = design[17:, 2] = 1
        root = np.sqrt(np.tile(weight, 2))
        solution = np.linalg.lstsq(design * root[:, None], image.T.ravel() * root, rcond=None)[0]
        if solution[0] <= 0:  # the points resemble no image from the front
            centre = [np.average(p, axis=0, weights=weight) for p in (points, image)]
            solution = [1, *(centre[1] - centre[0])]
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
