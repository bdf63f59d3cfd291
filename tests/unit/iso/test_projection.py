import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from isopose.camera import Camera, project
from isopose.crops import boxes_around, crop_intrinsics, image_to_crop
from isopose.iso import weights
from isopose.iso.optimise import optimise
from isopose.iso.projection import LEAST_DEPTH, TORSO, fit_root, perspective, torso, weak_perspective
from isopose.skeleton import JOINTS

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
            return (np.sqrt(confidence[frame])[:, None] * gap).ravel()

        expected = least_squares(off_the_ray, root[frame]).x
        np.testing.assert_allclose(found[frame], expected, atol=1e-5)


def test_keypoints_that_make_no_sense_leave_everyone_before_the_camera():
    pose, _, focal, centre, _ = scene()
    nonsense = np.random.default_rng(2).uniform(0, SIZE, pose.shape[:-1] + (2,))
    for confidence in (np.ones, np.zeros):
        _, scale = perspective(*tensors(focal, centre))(*tensors(pose, nonsense, confidence(pose.shape[:-1])))
        depth = focal.mean(1) / scale.numpy()
        assert (pose[..., 2] + depth[:, None]).min() >= LEAST_DEPTH - 1e-9


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


def test_torso_by_a_loop():
    rng = np.random.default_rng(4)
    pose, _, _, _, keypoints = scene(frames=5)
    keypoints = keypoints + rng.normal(0, 1, keypoints.shape)
    confidence = rng.uniform(0, 1, keypoints.shape[:-1])
    projection, scale = torso(*tensors(pose, keypoints, confidence))
    projected = projection(torch.from_numpy(pose + 0.1)).numpy()
    names = ["pelvis", "r_hip", "l_hip", "thorax", "l_shoulder", "r_shoulder"]
    for frame in range(5):
        weights = {JOINTS.index(name): confidence[frame, JOINTS.index(name)] + 1e-3 for name in names}
        total = sum(weights.values())
        centres, sizes = [], []
        for points in (pose[frame, :, :2], keypoints[frame]):
            centres.append(sum(w * points[joint] for joint, w in weights.items()) / total)
            squares = sum(w * np.sum((points[joint] - centres[-1]) ** 2) for joint, w in weights.items())
            sizes.append(np.sqrt(squares / total))
        assert scale[frame].item() == pytest.approx(sizes[1] / sizes[0], rel=1e-9)
        for joint in range(17):
            normalised = (pose[frame, joint, :2] + 0.1 - centres[0]) / sizes[0]
            np.testing.assert_allclose(projected[frame, joint], centres[1] + sizes[1] * normalised, rtol=1e-9)


def test_limbs_that_were_found_in_the_wrong_place_do_not_move_the_torso():
    pose, _, _, _, _ = tensors(*scene())
    keypoints, confidence = 12 + 20 * pose[..., :2], torch.ones_like(pose[..., 0])
    limbs = [joint for joint in range(17) if joint not in TORSO]
    keypoints[:, limbs] += 9
    projection, scale = torso(pose, keypoints, confidence)
    torch.testing.assert_close(scale, torch.full_like(scale, 20))
    torch.testing.assert_close(projection(pose), 12 + 20 * pose[..., :2])


@pytest.mark.parametrize("seen", [0, 1])
def test_a_torso_of_which_too_little_was_found_is_fitted_to_all_its_joints(seen):
    pose, _, _, _, _ = tensors(*scene())
    confidence = torch.zeros_like(pose[..., 0])
    confidence[:, :seen] = 1
    _, scale = torso(pose, 12 + 20 * pose[..., :2], confidence)
    torch.testing.assert_close(scale, torch.full_like(scale, 20))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_torso_in_one_place_stays_finite(dtype):
    pose = torch.from_numpy(scene()[0]).to(dtype)
    place, confidence = torch.full((*pose.shape[:-1], 2), 7.0, dtype=dtype), torch.ones(pose.shape[:-1], dtype=dtype)
    for poses, keypoints in ((pose, place), (0 * pose, place), (0 * pose, pose[..., :2])):
        projection, scale = torso(poses, keypoints, confidence)
        assert projection(pose).isfinite().all() and scale.isfinite().all()


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
