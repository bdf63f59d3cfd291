import json

import numpy as np
import pytest
from typer.testing import CliRunner

from isopose.camera import Camera, project
from isopose.datasets.store import Clip, SequenceStore, View
from isopose.occlusion import label
from isopose.occlusion.cylinder_man import visibility

FRONT = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # world z up, seen along world y


@pytest.fixture
def clip():
    rng = np.random.default_rng(0)
    joints = (rng.normal(0, 0.4, (6, 17, 3)) + [0, 0, 1]).astype(np.float32)
    camera = Camera(
        np.array([[500.0, 0, 200], [0, 500, 200], [0, 0, 1]]), FRONT, np.array([0, -4.0, 1]), size=(400, 400)
    )
    clip = Clip("a", joints, np.ones(17, bool), "S1", "walking", 50.0, "test", {"speed": 1.0}, {"cam1": camera})
    clip.views["cam1"] = View("cam1", np.zeros((6, 17, 2)))
    clip.views["cam1"].joints2d = project(clip.camera_joints("cam1"), camera)
    occluders = np.full((6, 1, 4), np.nan, np.float32)
    occluders[2:4, 0] = [0, 0, 200, 399]
    clip.views["cam1_occluded"] = View("cam1", clip.views["cam1"].joints2d, occluders=occluders)
    return clip


def test_visible_is_cylinder_man_and_occluders_and_image(clip):
    labelled = label.label(clip, "perspective")
    points = clip.views["cam1"].joints2d
    own = visibility(clip.camera_joints("cam1")) & ((points >= -0.5) & (points < 399.5)).all(-1)
    np.testing.assert_array_equal(labelled.views["cam1"].visible, own)
    left = (points[..., 0] >= 0) & (points[..., 0] <= 200) & (points[..., 1] >= 0)
    left[[0, 1, 4, 5]] = False
    np.testing.assert_array_equal(labelled.views["cam1_occluded"].visible, own & ~left)
    assert (own & left).any()
    assert clip.views["cam1"].visible is None


def test_stage_copies_the_store(clip, tmp_path):
    paths = tmp_path / "in.h5", tmp_path / "out.h5"
    with SequenceStore.create(paths[0], note="kept") as store:
        store.write(clip)
    arguments = ["--sequences", paths[0], "--output", paths[1], "--params", json.dumps({"projection": "orthographic"})]
    result = CliRunner().invoke(label.app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    with SequenceStore(paths[1]) as store:
        copy = store.read("a")
        assert store.attributes["note"] == "kept"
    np.testing.assert_array_equal(copy.joints3d, clip.joints3d)
    expected = label.label(clip, "orthographic")
    for name, view in copy.views.items():
        np.testing.assert_array_equal(view.visible, expected.views[name].visible)


def test_a_store_without_views_passes_through(clip):
    clip.views.clear()
    assert label.label(clip, "perspective").views == {}


def test_labels_of_2d_data_alone_are_kept(clip):
    clip.joints3d[:] = np.nan
    seen = np.random.default_rng(1).random((6, 17)) < 0.5
    clip.views = {"cam1": View("cam1", clip.views["cam1"].joints2d, visible=seen)}
    np.testing.assert_array_equal(label.label(clip, "perspective").views["cam1"].visible, seen)
