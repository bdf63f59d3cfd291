from dataclasses import replace

import h5py
import numpy as np
import pytest

from isopose.camera import Camera
from isopose.datasets.store import (
    Clip,
    Detections,
    DetectionStore,
    PoseStore,
    SequenceStore,
    View,
    ViewKey,
    select,
)
from isopose.errors import UserError
from isopose.sparse_maps import SparseMaps


def make_clip(name: str = "S1_walking_0", subject: str = "S1", speed: float = 1.0, frames: int = 6) -> Clip:
    rng = np.random.default_rng(len(name))
    camera = Camera(np.diag([1000.0, 1000, 1]), np.eye(3), np.array([0.0, 0, -5]), np.zeros(5), (640, 480))
    joints2d = rng.normal(size=(frames, 17, 2)).astype(np.float32)
    occluders = np.full((frames, 2, 4), np.nan, np.float32)
    views = {
        "cam1": View("cam1", joints2d, rng.random((frames, 17)) > 0.5, None, 3),
        "cam1_occluded": View("cam1", joints2d, None, occluders, 3),
    }
    joints3d = rng.normal(size=(frames, 17, 3)).astype(np.float32)
    attributes = {"speed": speed}
    return Clip(name, joints3d, np.ones(17, bool), subject, "walking", 50.0, "toy", attributes, {"cam1": camera}, views)


def write(path, *clips):
    with SequenceStore.create(path) as store:
        for clip in clips:
            store.write(clip)


def test_a_clip_comes_back_as_it_was_written(tmp_path):
    clip = make_clip()
    write(tmp_path / "s.h5", clip)
    with SequenceStore(tmp_path / "s.h5") as store:
        assert store.clips() == [clip.id]
        found = store.read(clip.id)
    np.testing.assert_array_equal(found.joints3d, clip.joints3d)
    assert (found.subject, found.action, found.fps, found.source) == ("S1", "walking", 50.0, "toy")
    assert found.attributes == {"speed": 1.0}
    assert found.cameras["cam1"].size == (640, 480)
    np.testing.assert_array_equal(found.views["cam1"].visible, clip.views["cam1"].visible)
    assert found.views["cam1"].occluders is None and found.views["cam1_occluded"].visible is None
    assert np.isnan(found.views["cam1_occluded"].occluders).all()
    np.testing.assert_allclose(found.camera_joints("cam1")[..., 2], clip.joints3d[..., 2] + 5, rtol=1e-6)


def test_the_same_content_gives_the_same_bytes(tmp_path):
    for name in ("a.h5", "b.h5"):
        write(tmp_path / name, make_clip())
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_failed_writer_leaves_nothing_behind(tmp_path):
    with pytest.raises(RuntimeError), SequenceStore.create(tmp_path / "s.h5") as store:
        store.write(make_clip())
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_selections_filter_by_subject_speed_and_occlusion(tmp_path):
    write(tmp_path / "s.h5", make_clip("a"), make_clip("b", "S2"), make_clip("c@2.0", speed=2.0))
    stores = {"toy": tmp_path / "s.h5"}
    base = {"source": "toy", "cameras": ["cam1"]}
    assert [k.clip for k in select(stores, [base])] == ["a", "b", "c@2.0"]
    assert [k.clip for k in select(stores, [base | {"subjects": ["S2"]}])] == ["b"]
    assert [k.clip for k in select(stores, [base | {"speeds": [2.0]}])] == ["c@2.0"]
    assert select(stores, [base | {"subjects": ["S2"], "occluded": True}]) == [ViewKey("toy", "b", "cam1_occluded")]


def test_an_empty_or_overlapping_selection_is_refused(tmp_path):
    write(tmp_path / "s.h5", make_clip("a"), replace(make_clip("b", "S2"), action="jogging"))
    stores = {"toy": tmp_path / "s.h5"}
    base = {"source": "toy", "cameras": ["cam1"]}
    with pytest.raises(UserError, match="no view matches"):
        select(stores, [base | {"actions": ["walking"], "subjects": ["S2"]}])
    with pytest.raises(UserError, match="no view cam2 in the selection"):
        select(stores, [base | {"cameras": ["cam1", "cam2"]}])
    with pytest.raises(UserError, match="same view"):
        select(stores, [base, base])


@pytest.mark.parametrize(("key", "value"), [("subjects", "S9"), ("actions", "wlaking"), ("speeds", 2.0)])
def test_a_name_in_a_selection_that_no_clip_has_is_refused_beside_others_that_are_there(tmp_path, key, value):
    write(tmp_path / "s.h5", make_clip("a"))
    here = {"subjects": "S1", "actions": "walking", "speeds": 1.0}[key]
    selection = {"source": "toy", "cameras": ["cam1"], key: [here, value]}
    with pytest.raises(UserError, match=rf"no clip has '{value}', .* in its {key}; expected one of {here}; check"):
        select({"toy": tmp_path / "s.h5"}, [selection])


def test_a_selection_of_a_source_that_is_not_given_is_refused(tmp_path):
    write(tmp_path / "s.h5", make_clip("a"))
    with pytest.raises(UserError, match="is of 'other'; give --store other=PATH"):
        select({"toy": tmp_path / "s.h5"}, [{"source": "other", "cameras": ["cam1"]}])


def test_detections_and_poses_come_back(tmp_path):
    rng = np.random.default_rng(0)
    key = ViewKey("toy", "a", "cam1")
    maps = SparseMaps.from_dense(rng.random((4, 17, 8, 8)) ** 6)
    found = Detections(rng.normal(size=(4, 17, 2)), rng.random((4, 17)), rng.random((4, 3)), maps)
    with DetectionStore.create(tmp_path / "d.h5") as store:
        store.write(key, found)
    with DetectionStore(tmp_path / "d.h5") as store:
        assert store.keys() == [key]
        again = store.read(key)
    np.testing.assert_allclose(again.keypoints, found.keypoints, rtol=1e-6)
    np.testing.assert_array_equal(again.maps.dense(), maps.dense())
    poses = rng.normal(size=(4, 17, 3)).astype(np.float32)
    with PoseStore.create(tmp_path / "p.h5", lifter="full") as store:
        store.write(key, poses)
    with PoseStore(tmp_path / "p.h5") as store:
        np.testing.assert_array_equal(store.read(key), poses)
        assert store.attributes["lifter"] == "full"
        with pytest.raises(UserError, match="toy/b/cam1"):
            store.read(ViewKey("toy", "b", "cam1"))


def test_detections_without_maps_come_back_in_image_pixels(tmp_path):
    rng = np.random.default_rng(0)
    key = ViewKey("toy", "a", "cam1")
    points = rng.uniform(200, 700, (5, 17, 2))
    boxes = np.tile(np.float32([450, 450, 620]), (5, 1))
    with DetectionStore.create(tmp_path / "d.h5") as store:
        store.write(key, Detections.from_image(points, None, boxes, 24))
    with DetectionStore(tmp_path / "d.h5") as store:
        again = store.read(key)
    np.testing.assert_allclose(again.image_keypoints, points, atol=1e-4)
    np.testing.assert_allclose(again.keypoints, (points - 450) * 24 / 620 + 11.5, atol=1e-5)
    assert again.maps is None and again.map_size == 24 and (again.confidence == 1).all()
    with pytest.raises(ValueError, match="without heatmaps, which embedding.kind conv and linear need; expected coord"):
        again.heatmaps()


def test_a_view_with_neither_maps_nor_a_size_is_refused(tmp_path):
    key = ViewKey("toy", "a", "cam1")
    with DetectionStore.create(tmp_path / "d.h5") as store:
        store.write(key, Detections.from_image(np.ones((2, 17, 2)), None, np.ones((2, 3)), 8))
    with h5py.File(tmp_path / "d.h5", "a") as file:
        del file[str(key)].attrs["map_size"]
    with DetectionStore(tmp_path / "d.h5") as store, pytest.raises(UserError, match="neither maps nor crop_size"):
        store.read(key)


def test_stores_with_maps_are_laid_out_as_ever(tmp_path):
    maps = SparseMaps.from_dense(np.zeros((2, 17, 8, 8)))
    with DetectionStore.create(tmp_path / "d.h5") as store:
        store.write(
            ViewKey("toy", "a", "cam1"), Detections(np.ones((2, 17, 2)), np.ones((2, 17)), np.ones((2, 3)), maps)
        )
    with h5py.File(tmp_path / "d.h5") as file:
        assert dict(file.attrs) == {"kind": "detections", "version": 1}
        view = file["toy/a/cam1"]
        assert set(view) == {"keypoints", "confidence", "boxes", "maps"} and not view.attrs
        assert set(view["maps"]) == {"pointer", "pixel", "value"}
        assert dict(view["maps"].attrs) == {"joints": 17, "size": 8}


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all", None])
def test_a_broken_or_foreign_file_is_named_in_one_line(tmp_path, content):
    path = tmp_path / "s.h5"
    if content is None:
        with h5py.File(path, "w") as file:
            file.attrs["kind"] = "poses"
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"s\.h5.*expected an isopose sequences store") as error:
        SequenceStore(path)
    assert "\n" not in str(error.value)


def test_image_keypoints_lie_where_the_crop_does():
    boxes = np.array([[100.0, 50.0, 64.0]])
    corners = np.array([[[-0.5, -0.5], [7.5, 7.5], [3.5, 3.5]]])
    found = Detections(corners, np.ones((1, 3)), boxes, SparseMaps.from_dense(np.zeros((1, 3, 8, 8))))
    np.testing.assert_allclose(found.image_keypoints[0], [[68, 18], [132, 82], [100, 50]])
