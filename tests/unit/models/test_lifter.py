import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from isopose.camera import project
from isopose.crops import boxes_around, crop_to_image
from isopose.datasets.store import DetectionStore, SequenceStore, ViewKey
from isopose.errors import UserError
from isopose.models.lifter import (
    Lifter,
    lift,
    map_to_crop,
    mirror_observations,
    mirror_pose,
    normalised_boxes,
    observe,
    to_crop,
)
from isopose.skeleton import MIRROR

CONFIG = {
    "architecture": "multi_stride",
    "embedding": {"kind": "conv", "width": 16, "channels": 8},
    "box": True,
    "strides": [1, 2],
    "frames": 16,
    "width": 8,
    "max_layers": 2,
    "dropout": 0.0,
    "map_size": 16,
}
KEY = ViewKey("test", "a", "cam1")


def random_lifter(**changes):
    torch.manual_seed(0)
    model = Lifter(CONFIG | changes)
    torch.nn.init.normal_(model.tcn.head.weight)
    torch.nn.init.normal_(model.mean_pose)
    return model.eval()


@pytest.fixture
def view(motion):
    with DetectionStore(motion / "train.h5") as detections, SequenceStore(motion / "sequences.h5") as sequences:
        clip = sequences.read("a")
        return detections.read(KEY), clip.cameras["cam1"], clip.camera_joints("cam1")


@pytest.mark.parametrize("kind", ["conv", "linear", "coordinates", "coordinates_confidence"])
@pytest.mark.parametrize("architecture", ["multi_stride", "dilated"])
def test_a_view_is_lifted_in_one_pass_to_root_relative_poses(view, kind, architecture):
    detections, camera, _ = view
    embedding = CONFIG["embedding"] | {"kind": kind}
    poses = lift(random_lifter(embedding=embedding, architecture=architecture), detections, camera)
    assert poses.shape == (40, 17, 3)
    assert poses.dtype == np.float32
    assert (poses[:, 0] == 0).all()
    assert np.isfinite(poses).all()


def test_an_untrained_lifter_answers_with_the_mean_pose(view):
    model = Lifter(CONFIG)
    model.mean_pose.copy_(torch.randn(17, 3))
    expected = (model.mean_pose - model.mean_pose[0]).numpy()
    np.testing.assert_allclose(lift(model, *view[:2]), np.broadcast_to(expected, (40, 17, 3)), atol=1e-6)


def test_saved_and_loaded_it_says_the_same(view, tmp_path):
    model = random_lifter()
    for name in ("first", "second"):
        model.save(tmp_path / f"{name}.safetensors")
    loaded = Lifter.load(tmp_path / "first.safetensors")
    assert loaded.config == model.config
    assert np.array_equal(lift(loaded, *view[:2]), lift(model, *view[:2]))
    assert (tmp_path / "first.safetensors").read_bytes() == (tmp_path / "second.safetensors").read_bytes()


def test_files_that_hold_no_lifter_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="holds no lifter"):
        Lifter.load(path)
    path.write_bytes(b"no weights")
    with pytest.raises(UserError, match="weights.safetensors"):
        Lifter.load(path)
    with pytest.raises(UserError, match="'transformer' is unknown"):
        Lifter(CONFIG | {"architecture": "transformer"})


def test_the_box_and_the_crop_tell_where_the_keypoints_are_in_the_image(view):
    detections, camera, joints = view
    crop = to_crop(project(joints, camera), detections.boxes)
    box = normalised_boxes(detections.boxes, camera)[:, None]
    np.testing.assert_allclose(box[..., :2] + crop * box[..., 2:] / 2, joints[..., :2] / joints[..., 2:], atol=1e-5)
    corners = crop_to_image(np.array([[[-0.5, -0.5], [15.5, 15.5]]] * 40), detections.boxes, 16)
    np.testing.assert_allclose(to_crop(corners, detections.boxes), [[[-1, -1], [1, 1]]] * 40, atol=1e-4)


def test_mirrored_observations_are_those_of_the_mirrored_person(view):
    detections, camera, joints = view
    mirrored_joints = joints[:, MIRROR] * [-1, 1, 1]
    pixels = project(mirrored_joints, camera)
    boxes = detections.boxes * [-1, 1, 1] + [2 * camera.K[0, 2], 0, 0]
    np.testing.assert_allclose(boxes_around(pixels, 1.3), boxes, atol=0.01)
    seen = observe(detections, camera, with_maps=True)
    mirrored = mirror_observations(seen)
    np.testing.assert_allclose(mirrored.box[0], normalised_boxes(boxes, camera), atol=1e-5)
    pixel_side = 2 / 16
    assert np.abs(mirrored.coordinates[0].numpy() - to_crop(pixels, boxes)).max() < pixel_side
    twice = mirror_observations(mirrored)
    for name in ("coordinates", "confidence", "box"):
        assert torch.equal(getattr(twice, name), getattr(seen, name))
    dense = [
        torch.zeros(40 * 17, 256).index_put((o.maps.map_index, o.maps.pixel), o.maps.value) for o in (seen, mirrored)
    ]
    dense = [maps.view(40, 17, 16, 16) for maps in dense]
    assert torch.equal(dense[0][:, MIRROR].flip(-1), dense[1])
    assert torch.equal(mirror_pose(torch.from_numpy(joints)), torch.from_numpy(mirrored_joints.astype(np.float32)))


def test_flip_averages_with_the_mirrored_answer(view):
    model, seen = random_lifter(), observe(*view[:2], with_maps=True)
    with torch.no_grad():
        other = mirror_pose(model(mirror_observations(seen)))
        expected = (model(seen) + other) / 2
    np.testing.assert_allclose(lift(model, *view[:2], flip=True), expected[0], atol=1e-6)


def test_heatmap_pixels_and_image_pixels_reach_the_same_crop_coordinates(view):
    detections, _, _ = view
    from_image = to_crop(detections.image_keypoints, detections.boxes)
    np.testing.assert_allclose(map_to_crop(detections.keypoints, detections.map_size), from_image, atol=1e-5)
