from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.unit.conftest import SMALL_LIFTER

from isopose.camera import project
from isopose.crops import boxes_around, crop_to_image
from isopose.datasets.store import Detections, DetectionStore, SequenceStore, ViewKey
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
from isopose.sparse_maps import SparseMaps

KEY = ViewKey("test", "a", "cam1")


def random_lifter(**changes):
    torch.manual_seed(0)
    model = Lifter(SMALL_LIFTER | changes)
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
    embedding = SMALL_LIFTER["embedding"] | {"kind": kind}
    poses = lift(random_lifter(embedding=embedding, architecture=architecture), detections, camera)
    assert poses.shape == (40, 17, 3)
    assert poses.dtype == np.float32
    assert (poses[:, 0] == 0).all()
    assert np.isfinite(poses).all()


def test_an_untrained_lifter_answers_with_the_mean_pose(view):
    model = Lifter(SMALL_LIFTER)
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
        Lifter(SMALL_LIFTER | {"architecture": "transformer"})


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


KINDS = ("conv", "linear", "coordinates", "coordinates_confidence")


def first_frames(detections, count):
    maps = SparseMaps.from_dense(detections.maps.dense(np.arange(count)))
    return Detections(*(getattr(detections, name)[:count] for name in ("keypoints", "confidence", "boxes")), maps)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ["multi_stride", "dilated"])
@pytest.mark.parametrize("frames", [1, 3])
def test_clips_shorter_than_the_receptive_field_are_lifted(view, kind, architecture, frames):
    """The clip's ends are repeated: a clip of one frame is lifted as one in which nothing moves."""
    model = random_lifter(embedding=SMALL_LIFTER["embedding"] | {"kind": kind}, architecture=architecture)
    assert model.tcn.receptive_field > frames
    short = first_frames(view[0], frames)
    poses = lift(model, short, view[1])
    assert poses.shape == (frames, 17, 3)
    last = np.concatenate([np.arange(frames), np.full(20, frames - 1)])
    still = Detections(
        *(getattr(short, name)[last] for name in ("keypoints", "confidence", "boxes")),
        SparseMaps.from_dense(short.maps.dense(last)),
    )
    np.testing.assert_allclose(lift(model, still, view[1])[:frames], poses, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_view_in_which_every_joint_is_occluded_is_lifted(view, kind):
    nothing = Detections(
        np.zeros((5, 17, 2), np.float32),
        np.zeros((5, 17), np.float32),
        view[0].boxes[:5],
        SparseMaps.from_dense(np.zeros((5, 17, 16, 16))),
    )
    poses = lift(random_lifter(embedding=SMALL_LIFTER["embedding"] | {"kind": kind}), nothing, view[1], flip=True)
    assert np.isfinite(poses).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("keypoints", np.full((40, 17, 2), np.nan), r"1360 of 1360 numbers are NaN .* finite \(40, 17, 2\)"),
        ("keypoints", np.zeros((40, 16, 2)), r"shape \(40, 16, 2\); expected \(40, 17, 2\)"),
        ("confidence", np.zeros((39, 17)), r"shape \(39, 17\); expected \(40, 17\)"),
        ("boxes", np.full((40, 3), np.inf), r"120 of 120 numbers are NaN or infinite"),
    ],
)
def test_detections_that_cannot_be_lifted_are_told(view, kind, name, value, message):
    model = random_lifter(embedding=SMALL_LIFTER["embedding"] | {"kind": kind})
    with pytest.raises(ValueError, match=rf"detections.{name}: {message}"):
        lift(model, replace(view[0], **{name: value}), view[1])


@pytest.mark.parametrize("shape", [(40, 17, 8, 8), (40, 17, 32, 32), (40, 16, 16, 16), (39, 17, 16, 16)])
@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_maps_that_the_lifter_was_not_trained_for_are_told(view, kind, shape):
    """Smaller maps would be read as the upper rows of larger ones."""
    other = replace(view[0], maps=SparseMaps.from_dense(np.ones(shape)))
    model = random_lifter(embedding=SMALL_LIFTER["embedding"] | {"kind": kind})
    expected = r"expected \(40, 17, 16, 16\), those that the lifter was trained for"
    with pytest.raises(ValueError, match=rf"detections.maps: shape \({shape[0]}, {shape[1]}, {shape[2]}.*{expected}"):
        lift(model, other, view[1])


def test_a_view_without_frames_is_told(view):
    with pytest.raises(ValueError, match="clip without frames"):
        lift(
            random_lifter(embedding=SMALL_LIFTER["embedding"] | {"kind": "coordinates"}),
            first_frames(view[0], 0),
            view[1],
        )


def test_weights_that_do_not_fit_their_configuration_are_told(tmp_path):
    model = random_lifter()
    for name, value, message in (
        ("width", 16, r"weights .* is \(8.*\); expected \(16.*more\); make it again"),
        ("strides", [1, 2, 3], r"tcn.branches.2.\S+ is missing; expected \(.*more\)"),
        ("strides", [1], r"tcn.branches.1.\S+ is \(.*\); expected none .*more\)"),
    ):
        model.config = SMALL_LIFTER | {name: value}
        model.save(tmp_path / "lifter.safetensors")
        with pytest.raises(UserError, match=f"lifter.safetensors: .*{message}"):
            Lifter.load(tmp_path / "lifter.safetensors")
    model.config = {name: value for name, value in SMALL_LIFTER.items() if name != "width"}
    model.save(tmp_path / "lifter.safetensors")
    with pytest.raises(UserError, match="lifter.safetensors: its configuration is not that of a lifter .*width"):
        Lifter.load(tmp_path / "lifter.safetensors")
