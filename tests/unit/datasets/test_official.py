import json

import numpy as np
import pytest
from tests.unit.conftest import swinging_skeleton
from tests.unit.datasets.generators import human36m as official_h36m
from tests.unit.datasets.generators import humaneva as official_humaneva
from tests.unit.datasets.generators import mpi_inf_3dhp as official_3dhp
from tests.unit.datasets.generators import three_dpw as official_3dpw
from typer.testing import CliRunner

from isopose.camera import project
from isopose.datasets import humaneva, mpi_inf_3dhp, three_dpw
from isopose.datasets.mpi_inf_3dhp import Sequence3D
from isopose.datasets.official import RAW_VARIABLE, resample
from isopose.datasets.preprocess import app, parse, run
from isopose.datasets.store import Clip, SequenceStore, View
from isopose.errors import UserError

COMMON = {"occluded": False, "occluder": {}, "seed": 1}
HUMAN36M = COMMON | {"reader": "human36m", "fps": 50, "subjects": ["S11"], "actions": ["Directions"]}


@pytest.fixture
def raw(tmp_path):
    """Human3.6M's S11, two trials of Directions, 9 frames each."""
    release = official_h36m.Release(tmp_path / "raw" / "human36m")
    release.add_metadata()
    for name in ("Directions", "Directions 1"):
        release.add("S11", name, 9)
    return tmp_path / "raw"


def read(raw, options):
    before = {path: path.stat().st_mtime_ns for path in raw.rglob("*")}
    output = raw.parent / "out.h5"
    run(output, options, None, raw.parent / "cache", raw)
    assert {path: path.stat().st_mtime_ns for path in raw.rglob("*")} == before
    with SequenceStore(output) as store:
        return [store.read(clip) for clip in store.clips()]


def test_human36m_keeps_its_cameras_and_views(raw, tmp_path):
    options = ["--output", str(tmp_path / "out.h5"), "--params", json.dumps(HUMAN36M)]
    options += ["--cache", str(tmp_path / "cache")]
    result = CliRunner().invoke(app, options, env={RAW_VARIABLE: str(raw)})
    assert result.exit_code == 0, result.output
    with SequenceStore(tmp_path / "out.h5") as store:
        assert store.clips() == ["S11_Directions", "S11_Directions_1"]
        clip = store.read("S11_Directions")
    assert set(clip.views) == set(clip.cameras) == {"54138969", "55011271", "58860488", "60457274"}
    assert (clip.fps, clip.attributes["recorded_fps"], clip.attributes["split"]) == (50, 50, "test")
    for name, view in clip.views.items():
        assert view.occluders is None
        np.testing.assert_allclose(view.joints2d, project(clip.camera_joints(name), clip.cameras[name]), atol=0.05)


def test_half_the_rate_is_every_second_frame(raw):
    whole, half = read(raw, HUMAN36M)[0], read(raw, HUMAN36M | {"fps": 25})[0]
    assert (half.fps, half.attributes["recorded_fps"]) == (25, 50)
    np.testing.assert_array_equal(half.joints3d, whole.joints3d[::2])
    for name in whole.views:
        np.testing.assert_array_equal(half.views[name].joints2d, whole.views[name].joints2d[::2])


def test_occluders_come_as_second_views_of_the_same_camera(raw):
    clip = read(raw, HUMAN36M | {"occluded": True})[0]
    assert len(clip.views) == 8
    for name in clip.cameras:
        hidden = clip.views[f"{name}_occluded"]
        assert hidden.camera == name
        assert np.isfinite(hidden.occluders).any()
        np.testing.assert_array_equal(hidden.joints2d, clip.views[name].joints2d)


def test_humaneva_lacks_joints_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(humaneva, "TRIALS", {("S1", "Box"): humaneva.Trial(6, 9, 14)})
    official_humaneva.write_subject(tmp_path / "raw" / "humaneva", "S1", ["Box"], 40)
    options = {"reader": "humaneva", "fps": 60, "part": "validate", "subjects": None, "actions": None}
    (clip,) = read(tmp_path / "raw", COMMON | options)
    assert set(clip.views) == {"C1", "C2", "C3"}
    assert 0 < clip.joint_valid.sum() < 17


def test_mpi_inf_3dhp_is_brought_to_one_rate(tmp_path, monkeypatch):
    monkeypatch.setattr(mpi_inf_3dhp, "SEQUENCES", {"S1/Seq1": Sequence3D(12, 25)})
    motion = swinging_skeleton(12, 0.4)
    official_3dhp.write_train(tmp_path / "raw" / "mpi_inf_3dhp", "S1/Seq1", motion)
    options = COMMON | {"reader": "mpi_inf_3dhp", "part": "train", "subjects": ["S1"]}
    slow, fast = (read(tmp_path / "raw", options | {"fps": fps})[0] for fps in (25, 50))
    assert (len(slow.joints3d), len(fast.joints3d)) == (12, 23)
    np.testing.assert_array_equal(fast.joints3d[::2], slow.joints3d)
    between = (slow.joints3d[1:] + slow.joints3d[:-1]) / 2
    np.testing.assert_allclose(fast.joints3d[1::2], between, atol=1e-6)


def test_three_dpw_reads_its_splits(tmp_path):
    sequences = {(split, f"{split}_00"): official_3dpw.sequence(f"{split}_00", 1) for split in ("train", "test")}
    official_3dpw.write(tmp_path / "raw" / "three_dpw", sequences)
    options = COMMON | {"reader": "three_dpw", "fps": 30, "splits": ["test"]}
    clips = read(tmp_path / "raw", options)
    expected = list(three_dpw.read_clips(tmp_path / "raw" / "three_dpw", ["test"], tmp_path / "cache"))
    assert [clip.id for clip in clips] == [clip.id for clip in expected] == ["test_00_0"]
    np.testing.assert_array_equal(clips[0].joints3d, expected[0].joints3d.astype(np.float32))


def test_attributes_of_frames_follow_the_frames():
    points = np.zeros((5, 17, 3), np.float32)
    visible = np.arange(5)[:, None] % 2 * np.ones((1, 17)) > 0
    clip = Clip("a", points, np.ones(17, bool), "S1", "walk", 50.0, "x", {"activity": np.arange(5), "part": "test"})
    clip.views["c"] = View("c", points[..., :2], visible=visible)
    found = resample(clip, 20)
    assert len(found.joints3d) == 2  # at 0 and 0.05 s of 0.08 s: frames 0 and 2.5
    np.testing.assert_array_equal(found.attributes["activity"], [0, 2])
    np.testing.assert_array_equal(found.views["c"].visible, visible[[0, 2]])
    assert found.attributes["part"] == "test"


def test_an_absent_dataset_is_named_with_its_card(tmp_path):
    with pytest.raises(UserError, match=r"raw/human36m: no such folder.*docs/datasets/human36m.md.*ISOPOSE_RAW_DATA"):
        run(tmp_path / "out.h5", HUMAN36M, None, tmp_path / "cache", tmp_path / "raw")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cameras": ["cam1"]}, "unknown parameter 'cameras'"),
        ({"camera": {}}, "unknown parameter 'camera'"),
        ({"part": "train"}, "unknown parameter 'part'"),
        ({"reader": "humaneva"}, "parameter 'part' is missing"),
        ({"reader": "kinect"}, "kinect.*synthetic.*human36m"),
    ],
)
def test_a_parameter_that_does_not_apply_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        parse(json.dumps(HUMAN36M | change))
