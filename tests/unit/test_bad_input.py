"""Input that is wrong, or at the edge of what is right: a defined result, or one error that names the argument.

Where a module's own tests have such cases (the lifter, inference stage optimisation, the Cylinder Man, KCS, metrics,
heatmaps, crops, checkpoints of lifters and discriminators), they are not repeated here.
"""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from tests.unit.conftest import SMALL_LIFTER

from isopose import lifting
from isopose.calibrate import labelled
from isopose.camera import Camera, camera_to_world, fit_weak_perspective, project, world_to_camera
from isopose.crops import boxes_around, image_to_crop
from isopose.datasets.occluders import Occluders, draw_occluders
from isopose.datasets.store import Clip, Detections, DetectionStore, SequenceStore, View, ViewKey
from isopose.datasets.studio import Studio, place_cameras
from isopose.datasets.synthetic import generate
from isopose.errors import UserError
from isopose.evaluation import keypoints, metrics
from isopose.heatmaps import decode, render
from isopose.models.hrnet import HRNet, load_estimator, save_estimator
from isopose.models.lifter import Lifter, observe
from isopose.occlusion.label import label
from isopose.sparse_maps import SparseMaps
from isopose.training import losses
from isopose.training.data import Frames, Sampler
from isopose.training.estimator import Images, heatmap_loss, target_maps
from isopose.training.views import to_box

UNIT = 0.1
CAMERA = Camera(np.array([[1000.0, 0, 500], [0, 1000, 500], [0, 0, 1]]), np.eye(3), np.zeros(3))
RNG = np.random.default_rng(0)
POSES = RNG.normal(0, 0.4, (3, 17, 3))
POINTS = 100 * POSES[..., :2]
HEADS = np.full(3, 20.0)
ALL, NONE = np.ones((3, 17), bool), np.zeros((3, 17), bool)
BOXES = torch.tensor([0.0, 0.0, 0.5]).double().expand(3, 3)


def tensor(array):
    return torch.from_numpy(np.asarray(array))


def with_nan(array, joint=5):
    """One joint of the second frame is NaN."""
    spoilt = array.copy()
    spoilt[1, joint] = np.nan
    return spoilt


REFUSED = {
    "NaN: confidence in AUROC": (
        lambda: keypoints.auroc(with_nan(np.ones((3, 17))), ALL & (np.arange(17) > 3)),
        r"confidence: 1 of 51 numbers are NaN or infinite; expected finite \(3, 17\)",
    ),
    "behind the camera: head size": (
        lambda: keypoints.head_size(POSES - [0, 0, 5], CAMERA),
        r"joints: 3 of 3 points are not before the camera; expected camera-frame \(..., 3\), m, z > 0",
    ),
    "behind the camera: crop coordinates of turned joints": (
        lambda: to_box(tensor(POSES - [0, 0, 5])[None], torch.ones(1, 3, 3)),
        r"joints: 51 of 51 points are not before the camera",
    ),
    "joints: head size": (
        lambda: keypoints.head_size(POSES[:, :16] + [0, 0, 5], CAMERA),
        r"joints: shape \(3, 16, 3\); expected \(..., 17, 3\)",
    ),
    "joints: PCKh": (
        lambda: keypoints.pckh(POINTS[:, :16], POINTS, HEADS, ALL),
        r"truth: shape \(3, 17, 2\); expected \(..., 16, 2\)",
    ),
    "joints: one detection for all": (
        lambda: keypoints.correct(POINTS, POINTS[:, :1], HEADS),
        r"truth: shape \(3, 1, 2\); expected \(..., 17, 2\)",
    ),
    "joints: left-right confusion": (
        lambda: keypoints.left_right_confusion(POINTS[:, :16], POINTS[:, :16], HEADS, ALL[:, :16]),
        r"detected: shape \(3, 16, 2\); expected \(..., 17, 2\)",
    ),
    "joints: weak perspective": (
        lambda: fit_weak_perspective(POINTS, POINTS[:, :1]),
        r"target: shape \(3, 1, 2\); expected \(..., 17, 2\)",
    ),
    "joints: Eq. 1": (
        lambda: losses.pose_loss(tensor(POSES), tensor(POSES[:, :1]), UNIT),
        r"target: shape \(3, 1, 3\); expected \(3, 17, 3\)",
    ),
    "joints: Eq. 2": (
        lambda: losses.multi_view_loss(
            tensor(POSES)[None], tensor(POSES[:, :16])[None], *torch.eye(3).double().expand(2, 1, 3, 3), UNIT
        ),
        r"target: shape \(1, 3, 16, 3\); expected \(1, 3, 17, 3\)",
    ),
    "joints: Eq. 3": (
        lambda: losses.projection_loss(tensor(POSES), tensor(POINTS[:, :16]), tensor(ALL[:, :16]), BOXES, UNIT),
        r"target: shape \(3, 16, 2\); expected \(..., 17, 2\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_error_names_the_argument_and_what_was_expected(case):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def eq3(poses=POSES, target=POINTS, visible=ALL):
    return losses.projection_loss(tensor(poses), tensor(target), tensor(visible), BOXES, UNIT).item()


OTHERS = np.delete(np.arange(17), 5)
TURN = torch.eye(3).double()[None]
NOISY = POINTS + 5 * POSES[..., 1:]

DEFINED = {
    "NaN: a joint that was not found is not correct": (
        lambda: keypoints.correct(with_nan(POINTS), POINTS, HEADS).sum(1),
        [17, 16, 17],
    ),
    "NaN: the 2D target of a hidden joint does not matter": (
        lambda: eq3(target=with_nan(NOISY), visible=ALL & (np.arange(17) != 5)),
        eq3(POSES[:, OTHERS], NOISY[:, OTHERS], ALL[:, OTHERS]),
    ),
    "NaN: that of a visible joint is no loss to go on with": (lambda: eq3(target=with_nan(NOISY)), np.nan),
    "NaN: weak perspective of other frames stays": (
        lambda: fit_weak_perspective(POSES[..., :2], with_nan(POINTS))[0][:, 0, 0],
        [100, np.nan, 100],
    ),
    "one frame: synthetic motion": (lambda: generate("S1", "walking", 1.0, 0.02, 50, seed=0).shape, [1, 17, 3]),
    "one frame: occluders": (
        lambda: draw_occluders(POINTS[:1] + 500, 50.0, (1000, 1000), Occluders(), 1, "a").shape[::2],
        [1, 4],
    ),
    "one frame: Eq. 2": (
        lambda: losses.multi_view_loss(tensor(POSES[None, :1]), tensor(POSES[None, :1]), TURN, TURN, UNIT).item(),
        0,
    ),
    "no length: P-MPJPE to a target without extent": (lambda: metrics.p_mpjpe(POSES, 0 * POSES), [0, 0, 0]),
    "no length: P-MPJPE of nothing to nothing": (lambda: metrics.p_mpjpe(0 * POSES, 0 * POSES), [0, 0, 0]),
    "no length: N-MPJPE to a target without extent": (lambda: metrics.n_mpjpe(POSES, 0 * POSES), [0, 0, 0]),
    "no length: N-MPJPE of nothing to nothing": (lambda: metrics.n_mpjpe(0 * POSES, 0 * POSES), [0, 0, 0]),
    "no length: a head without size is met by an exact detection alone": (
        lambda: keypoints.correct(POINTS + 0.1 * (np.arange(17) < 8)[:, None], POINTS, 0 * HEADS).sum(1),
        [9, 9, 9],
    ),
    "occluded: Eq. 3": (lambda: eq3(target=NOISY, visible=NONE), 0),
    "occluded: PCKh": (lambda: keypoints.pckh(POINTS, POINTS, HEADS, NONE), np.nan),
    "occluded: left-right confusion": (lambda: keypoints.left_right_confusion(POINTS, POINTS, HEADS, NONE), np.nan),
    "occluded: target and loss of the estimator": (
        lambda: heatmap_loss(torch.full((3, 17, 8, 8), 0.5), target_maps(tensor(POINTS), tensor(NONE), 8, 1.0)).item(),
        8 * 8 * 0.25,
    ),
}


@pytest.mark.parametrize("case", DEFINED)
def test_the_result_is_defined(case):
    call, expected = DEFINED[case]
    np.testing.assert_allclose(call(), expected, rtol=1e-6, atol=1e-12)


CLIP_KEY = ViewKey("test", "a", "cam1")


def still_person(frames=3):
    """A labelled clip of one camera in which nobody moves, and what a perfect estimator sees of it."""
    joints = np.repeat(generate("S1", "walking", 1.0, 0.02, 50, seed=0), frames, axis=0)
    cameras = place_cameras(joints, ["cam1"], "S1", 0, Studio())
    clip = Clip("a", joints, np.ones(17, bool), "S1", "walking", 50.0, "test", {}, cameras)
    clip.views["cam1"] = View("cam1", project(world_to_camera(joints, cameras["cam1"]), cameras["cam1"]))
    clip = label(clip, "perspective")
    boxes = boxes_around(clip.views["cam1"].joints2d)
    maps = render(image_to_crop(clip.views["cam1"].joints2d, boxes, 16), 16, 1.0)
    return clip, Detections(*decode(maps), boxes, SparseMaps.from_dense(maps))


def stored(folder, clip, detections):
    """Paths of a sequence store and a detection store."""
    with SequenceStore.create(folder / "sequences.h5") as store:
        store.write(clip)
    with DetectionStore.create(folder / "detections.h5") as store:
        store.write(CLIP_KEY, detections)
    return folder / "sequences.h5", folder / "detections.h5"


def test_a_clip_of_one_frame_is_labelled_and_trained_on(tmp_path):
    """Training clips repeat its frame."""
    clip, detections = still_person(frames=1)
    assert clip.views["cam1"].visible.shape == (1, 17)
    sequences, path = stored(tmp_path, clip, detections)
    frames = Frames.load(path, {"test": sequences}, with_maps=True)
    batch = Sampler(frames, 2, 5, torch.Generator().manual_seed(0), pairs=True, flip=0.5).draw()
    assert batch.poses.shape == (2, 5, 17, 3)
    assert torch.equal(batch.poses, batch.poses[:, :1].expand_as(batch.poses))
    assert batch.poses.isfinite().all()


def test_a_person_behind_the_camera_has_no_labels():
    clip, _ = still_person()
    clip.joints3d = camera_to_world(clip.camera_joints("cam1") - [0, 0, 20], clip.cameras["cam1"])
    with pytest.raises(ValueError, match=r"joints: 51 of 51 points are not before the camera"):
        label(clip, "perspective")


SPOILT = {
    "NaN": (
        lambda found: replace(found, keypoints=with_nan(found.keypoints)),
        r"detections.keypoints: 2 of 102 numbers are NaN or infinite; expected finite \(3, 17, 2\)",
    ),
    "joints": (
        lambda found: replace(found, confidence=found.confidence[:, :16]),
        r"detections.confidence: shape \(3, 16\); expected \(3, 17\)",
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_file_of_detections_that_are_none_is_named_by_every_reader(tmp_path, case):
    spoil, message = SPOILT[case]
    clip, detections = still_person()
    sequences, path = stored(tmp_path, clip, spoil(detections))
    Lifter(LIFTER).save(tmp_path / "lifter.safetensors")
    readers = [
        lambda: Frames.load(path, {"test": sequences}, with_maps=False),
        lambda: lifting.run(path, tmp_path / "lifter.safetensors", {"test": sequences}, tmp_path / "poses.h5"),
        lambda: labelled({"test": sequences}, path),
    ]
    for read in readers:
        with pytest.raises(UserError, match=rf"detections.h5: 'test/a/cam1': {message}; make it again"):
            read()


LIFTER = SMALL_LIFTER | {"embedding": {"kind": "conv", "width": 8, "channels": 4}}


def test_a_lifter_of_another_map_size_is_told_by_its_stage(tmp_path):
    sequences, path = stored(tmp_path, *still_person())
    Lifter(LIFTER | {"map_size": 32}).save(tmp_path / "lifter.safetensors")
    message = r"detections.h5: 'test/a/cam1': detections.maps: shape \(3, 17, 16, 16\); expected \(3, 17, 32, 32\)"
    with pytest.raises(UserError, match=message):
        lifting.run(path, tmp_path / "lifter.safetensors", {"test": sequences}, tmp_path / "poses.h5")
    assert not (tmp_path / "poses.h5").exists()


@pytest.mark.parametrize("kind", ["conv", "linear", "coordinates"])
def test_observations_of_another_skeleton_are_told_by_the_lifter(kind):
    clip, detections = still_person()
    seen = observe(detections, clip.cameras["cam1"], with_maps=True)
    model = Lifter(LIFTER | {"embedding": LIFTER["embedding"] | {"kind": kind}})
    with pytest.raises(ValueError, match=r"observations.coordinates: shape \(1, 3, 16, 2\); expected \(B, T, 17, 2\)"):
        model(replace(seen, coordinates=seen.coordinates[:, :, :16]))
    with pytest.raises(ValueError, match=r"observations.confidence: shape \(1, 3, 16\); expected \(B, T, 17\)"):
        model(replace(seen, confidence=seen.confidence[:, :, :16]))


def test_images_of_another_skeleton_are_told(tmp_path):
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file["images"] = np.zeros((2, 32, 32, 3), np.uint8)
        file["joints2d"], file["visible"], file["head_size"] = POINTS[:2, :16], ALL[:2, :16], HEADS[:2]
        file["labelled"] = ALL[:2, :16]
        file.attrs["map_size"] = 8
    with pytest.raises(UserError, match=r"images.h5: .*joints2d: shape \(2, 16, 2\); expected \(2, 17, 2\)"):
        Images.read(tmp_path / "images.h5")


def test_an_estimator_of_another_width_than_its_file_says_is_told(tmp_path):
    architecture = {"width": 8, "joints": 17, "stem": 8, "modules": [1], "blocks": 1, "bottlenecks": 1}
    config = {"architecture": architecture | {"width": 16}, "size": 64}
    save_estimator(HRNet(**architecture), config, tmp_path / "estimator.safetensors")
    message = r"estimator.safetensors: the weights of this estimator do not fit its configuration: .* expected \(17, 16"
    with pytest.raises(UserError, match=message):
        load_estimator(tmp_path / "estimator.safetensors")
