import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from isopose.camera import Camera, project
from isopose.crops import boxes_around, crop_intrinsics, image_to_crop
from isopose.iso import weights
from isopose.iso.optimise import optimise
from isopose.iso.projection import LEAST_DEPTH, fit_root, perspective, weak_perspective

CAMERA = Camera(np.array([[1100.0, 0, 480], [0, 1150, 520], [0, 0, 1]]), np.eye(3), np.zeros(3))
SIZE = 32


def scene(frames=30, seed=0):
    """Smooth poses `(F, 17, 3)`, where their roots are, the crop's focal lengths and centre, and exact keypoints."""
    rng = np.random.default_rng(seed)
    phase = np.arange(frames)[:, None, None] / 15
    pose = rng.normal(0, 0.4, (17, 3)) + 0.1 * np.sin(phase + rng.uniform(0, 6, (17, 3)))
    pose -= pose[:, :1]
    root = np.array([0.5, -0.2, 4.0]) + 0.02 * np.arange(frames)[:, None]
    image = project(pose + root[:, None], CAMERA)
    boxes = boxes_around(image).astype(np.float64)
    return (pose, root, *crop_intrinsics(CAMERA.K, boxes, SIZE), image_to_crop(image, boxes, SIZE))


def tensors(*arrays):
    return [torch.from_numpy(array) for array in arrays]


def test_perspective_projects_as_the_camera_and_the_crop_do():
    pose, root, focal, centre, keypoints = tensors(*scene())
    projection, scale = perspective(focal, centre)(pose, keypoints, torch.ones(pose.shape[:-1]))
    torch.testing.assert_close(projection(pose), keypoints, rtol=0, atol=1e-6)
    torch.testing.assert_close(scale, focal.mean(1) / root[:, 2], rtol=1e-6, atol=0)


def test_the_root_is_that_of_an_iterative_solver():
    rng = np.random.default_rng(1)
    pose, root, focal, centre, keypoints = scene(frames=5)
    keypoints = keypoints + rng.normal(0, 0.5, keypoints.shape)
    confidence = rng.uniform(0.1, 1, keypoints.shape[:-1])
    rays = (keypoints - centre[:, None]) / focal[:, None]
    found = fit_root(*tensors(pose, rays, confidence)).numpy()
    for frame in range(5):

        def off_the_ray(place, frame=frame):
            joints = pose[frame] + place
            gap = joints[:, :2] - rays[frame] * joints[:, 2:]
            return (np.sqrt(confidence[frame] + 1e-3)[:, None] * gap).ravel()

        expected = least_squares(off_the_ray, root[frame]).x
        np.testing.assert_allclose(found[frame], expected, atol=1e-5)


def test_keypoints_that_make_no_sense_leave_everyone_before_the_camera():
    pose, _, focal, centre, _ = scene()
    nonsense = np.random.default_rng(2).uniform(0, SIZE, pose.shape[:-1] + (2,))
    for confidence in (np.ones, np.zeros):
        root = fit_root(*tensors(pose, (nonsense - centre[:, None]) / focal[:, None], confidence(pose.shape[:-1])))
        assert (torch.from_numpy(pose[..., 2]) + root[:, 2:]).min() >= LEAST_DEPTH - 1e-9


def test_at_the_least_depth_the_root_is_still_the_best_one_beside_it():
    pose, _, focal, centre, keypoints = scene(frames=5)
    rays = (keypoints - centre[:, None]) / focal[:, None] * 50  # as large as if the person were nearer than can be
    found = fit_root(*tensors(pose, rays, np.ones(pose.shape[:-1]))).numpy()
    np.testing.assert_allclose(found[:, 2], LEAST_DEPTH - pose[..., 2].min(1))
    for frame in range(5):
        joints = pose[frame] + [0, 0, found[frame, 2]]
        gap = (rays[frame] * joints[:, 2:] - joints[:, :2]).mean(0)
        np.testing.assert_allclose(found[frame, :2], gap, atol=1e-9)


@pytest.mark.parametrize("place", [(16.0, 16.0), (15.5, 15.5), (0.0, 0.0), (75.5, 75.5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keypoints_in_one_place_tell_no_depth(place, dtype):
    """Empty heatmaps are decoded to their corner, all of them."""
    pose = torch.from_numpy(scene()[0]).to(dtype)
    keypoints = torch.tensor(place, dtype=dtype).expand(*pose.shape[:-1], 2)
    focal, centre = torch.full((len(pose), 2), 60.0), torch.full((len(pose), 2), 15.5)
    projection, scale = perspective(focal, centre)(pose, keypoints, torch.zeros(pose.shape[:-1], dtype=dtype))
    torch.testing.assert_close(60 / scale, LEAST_DEPTH - pose[..., 2].amin(1), rtol=1e-4, atol=0)
    assert projection(pose).isfinite().all()


def test_orth_of_a_frame_without_confidence_is_fitted_to_all_joints_alike():
    """At a scale of one pixel a metre, say, a weighting without confidence would pull the person to pieces."""
    pose, _, _, _, keypoints = tensors(*scene())
    alike = weak_perspective(pose, keypoints, torch.ones(pose.shape[:-1]))
    for confidence in (0.0, 1e-12):
        seen = torch.ones(pose.shape[:-1], dtype=torch.float64)
        seen[3] = confidence
        projection, scale = weak_perspective(pose, keypoints, seen)
        torch.testing.assert_close(scale, alike[1])
        torch.testing.assert_close(projection(pose), alike[0](pose))


def test_the_true_camera_leads_nearer_to_the_truth_than_orth():
    truth, _, focal, centre, keypoints = scene(frames=60)
    pose = truth + np.random.default_rng(3).normal(0, 0.04, truth.shape) * (np.arange(17) > 0)[:, None]
    after = {}
    for name, fit in {"orth": weak_perspective, "camera": perspective(*tensors(focal, centre))}.items():
        result = optimise(
            pose,
            keypoints,
            np.ones(pose.shape[:-1]),
            weighting=weights.weighting("constant"),
            learning_rate=1e-3,
            smoothness=0.0,
            projection=fit,
            reference=truth,
        )
        after[name] = result.trace["mpjpe"][-1]
        before = result.trace["mpjpe"][0]
    assert after["camera"] < 0.8 * before
    assert after["camera"] < after["orth"]
