from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.unit.conftest import SMALL_LIFTER, swinging_skeleton

from isopose.datasets.store import DetectionStore, SequenceStore, ViewKey
from isopose.evaluation.dynamics import (
    HORIZONS,
    angle_errors,
    errors_by_horizon,
    first_future_frames,
    predict_future,
    zero_velocity,
)
from isopose.evaluation.inverse_kinematics import bone_lengths, positions, rotations
from isopose.models.lifter import Lifter, observe
from isopose.occlusion.masking import hide
from isopose.sparse_maps import SparseMaps


@pytest.fixture
def view(motion):
    with DetectionStore(motion / "train.h5") as detections, SequenceStore(motion / "sequences.h5") as sequences:
        return detections.read(ViewKey("test", "a", "cam1")), sequences.read("a").cameras["cam1"]


def random_lifter(kind):
    torch.manual_seed(0)
    model = Lifter(SMALL_LIFTER | {"embedding": SMALL_LIFTER["embedding"] | {"kind": kind}})
    torch.nn.init.normal_(model.tcn.head.weight)
    return model.eval()


@pytest.mark.parametrize("kind", ["coordinates", "coordinates_confidence"])
def test_the_future_follows_from_keypoints_alone(view, kind):
    detections, camera = view
    without = replace(detections, maps=None, crop_size=detections.map_size)
    model = random_lifter(kind)
    with_maps = predict_future(model, detections, camera, 30, 10)
    np.testing.assert_array_equal(predict_future(model, without, camera, 30, 10), with_maps)


@pytest.mark.parametrize("kind", ["conv", "coordinates", "coordinates_confidence"])
def test_the_future_cannot_leak(view, kind):
    detections, camera = view
    model = random_lifter(kind)
    poses = predict_future(model, detections, camera, 30, 10)
    assert poses.shape == (10, 17, 3)
    rng = np.random.default_rng(0)
    changed = replace(detections, **{k: getattr(detections, k).copy() for k in ("keypoints", "confidence", "boxes")})
    changed.keypoints[30:], changed.confidence[30:] = rng.random((10, 17, 2)), rng.random((10, 17))
    changed.boxes[30:] += 100
    dense = detections.maps.dense()
    dense[30:] = rng.random((10, 17, 16, 16))
    changed = replace(changed, maps=SparseMaps.from_dense(dense))
    assert np.array_equal(predict_future(model, changed, camera, 30, 10), poses)
    changed.keypoints[29] += 1
    changed.confidence[29] += 1
    dense[29] = 0.5
    changed = replace(changed, maps=SparseMaps.from_dense(dense))
    assert not np.array_equal(predict_future(model, changed, camera, 30, 10), poses)


@pytest.mark.parametrize("kind", ["conv", "coordinates", "coordinates_confidence"])
def test_the_future_is_masked_as_in_training(view, kind):
    detections, camera = view
    model = random_lifter(kind)
    held = replace(detections, boxes=detections.boxes.copy())
    held.boxes[30:] = held.boxes[29]
    keep = torch.arange(40)[None, :, None].expand(1, 40, 17) < 30
    with torch.no_grad():
        expected = model(hide(observe(held, camera, model.uses_maps), keep))[0, 30:].numpy()
    np.testing.assert_allclose(predict_future(model, detections, camera, 30, 10), expected, atol=1e-6)


def test_it_predicts_beyond_the_end_of_a_view_and_refuses_what_was_not_observed(view):
    model = random_lifter("coordinates")
    assert predict_future(model, *view, 40, 50).shape == (50, 17, 3)
    for observed, future in ((0, 5), (41, 5), (30, 0)):
        with pytest.raises(ValueError, match="expected 1 to 40"):
            predict_future(model, *view, observed, future)


def test_the_stretches_are_those_published_for_walking():
    """Starts of the observed frames of S5 Walking as others list them, per trial."""
    published = np.array([[1087, 1145, 660, 201], [955, 332, 304, 54]])
    eight = first_future_frames((1500, 1200), 8)
    assert eight.shape == (4, 2)
    assert np.array_equal(eight.T - 50, published)


def test_the_newer_sampling_goes_on_where_the_older_ends():
    lengths = (1500, 1200)
    many = first_future_frames(lengths, 256)
    assert many.shape == (128, 2)
    assert np.array_equal(many[:4], first_future_frames(lengths, 8))
    assert (many.min(0) >= 16 + 50).all() and (many.max(0) + 100 <= lengths).all()
    with pytest.raises(ValueError, match="more than 166 frames"):
        first_future_frames((166, 1500), 8)


def stretches():
    return np.stack([swinging_skeleton(25, phase) for phase in (0.0, 1.0, 2.0)])


def test_angle_error_by_a_loop_over_frames_and_angles():
    target = stretches()
    predicted = target + 0.02 * np.random.default_rng(0).normal(size=target.shape)
    errors = angle_errors(predicted, target)
    assert errors.shape == (3, 25)
    for s in range(3):
        ours, theirs = ([_euler(pose) for pose in rotations(p[s])] for p in (predicted, target))
        for t in range(25):
            total = 0.0
            for joint in range(1, 17):
                for axis in range(3):
                    if np.std([frame[joint][axis] for frame in theirs]) > 1e-4:
                        total += (ours[t][joint][axis] - theirs[t][joint][axis]) ** 2
            np.testing.assert_allclose(errors[s, t], total**0.5, atol=1e-9)


def _euler(local):
    """Of R = Rz Ry Rx, read off its entries."""
    return [(np.arctan2(R[2, 1], R[2, 2]), -np.arcsin(R[2, 0]), np.arctan2(R[1, 0], R[0, 0])) for R in local]


def test_ground_truth_and_its_own_kinematics_have_no_error():
    target = stretches()
    again = positions(rotations(target), bone_lengths(target), target[..., 0, :])
    assert angle_errors(again, target).max() < 1e-6
    assert angle_errors(target, target).max() == 0


def test_standing_still_is_worse_the_farther_a_steady_motion_goes():
    target = stretches()[:, :8]
    still = zero_velocity(target[:, 0], 8)
    assert still.shape == target.shape
    assert np.array_equal(still[:, 5], target[:, 0])
    errors = angle_errors(still, target).mean(0)
    assert errors[0] == 0 and (np.diff(errors) > 0).all()


def test_horizons_are_read_at_25_frames_a_second():
    assert [1000 / 25 * (k + 1) for k in HORIZONS.values()] == list(HORIZONS)
    target = stretches()
    still = zero_velocity(target[:, 0], 25)
    errors = errors_by_horizon(still, target)
    for horizon, k in HORIZONS.items():
        assert errors[horizon]["mean_angle_error"] == pytest.approx(angle_errors(still, target)[:, k].mean())
        distance = np.linalg.norm(still[:, k] - target[:, k], axis=-1).mean()
        assert errors[horizon]["mpjpe"] == pytest.approx(distance)
