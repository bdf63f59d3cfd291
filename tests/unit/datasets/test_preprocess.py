import json
import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from isopose.camera import project
from isopose.datasets import cmu_mocap
from isopose.datasets.preprocess import app, run
from isopose.datasets.sources import MIRROR_VARIABLE, Request
from isopose.datasets.store import SequenceStore
from isopose.errors import UserError
from isopose.skeleton import BONES

MIRROR = os.environ.get(MIRROR_VARIABLE)
needs_mirror = pytest.mark.skipif(not MIRROR, reason=f"{MIRROR_VARIABLE} names no folder with the real archives")

OPTIONS = {
    "reader": "synthetic",
    "fps": 50,
    "subjects": ["S1"],
    "actions": ["walking", "waving"],
    "speeds": [1.0, 2.0],
    "clips_per_action": 1,
    "seconds": 1.0,
    "max_seconds": None,
    "cameras": ["cam1", "cam3"],
    "occluded": True,
    "occluder": {"seconds": [0.1, 0.5]},
    "camera": {"min_depth": 2.0},
    "seed": 1,
}


def test_store_holds_what_was_asked_for(tmp_path):
    output = tmp_path / "sequences.h5"
    result = CliRunner().invoke(app, ["--output", str(output), "--params", json.dumps(OPTIONS)])
    assert result.exit_code == 0, result.output
    with SequenceStore(output) as store:
        assert store.clips() == ["S1_walking_0", "S1_walking_0@2.0", "S1_waving_0", "S1_waving_0@2.0"]
        clip = store.read("S1_walking_0@2.0")
    assert (clip.subject, clip.action, clip.fps, clip.source) == ("S1", "walking", 50.0, "synthetic")
    assert clip.attributes["speed"] == 2.0
    assert set(clip.views) == {"cam1", "cam3", "cam1_occluded", "cam3_occluded"}
    for name, view in clip.views.items():
        assert view.visible is None
        assert (view.occluders is not None) == name.endswith("_occluded")
        pixels = project(clip.camera_joints(name), clip.cameras[view.camera])
        np.testing.assert_allclose(view.joints2d, pixels, atol=0.01)
    assert clip.views["cam1"].seed == clip.views["cam1_occluded"].seed != clip.views["cam3"].seed


def test_same_parameters_same_bytes(tmp_path):
    for name in ("a.h5", "b.h5"):
        run(tmp_path / name, OPTIONS, None, tmp_path)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reader": "kinect"}, "kinect.*synthetic"),
        ({"cameras": ["cam9"]}, "cam9.*cam1"),
        ({"occluder": {"second": [1, 2]}}, "occluder.second.*seconds"),
        ({"actions": ["flying"]}, "flying.*walking"),
        ({"clips_per_action": None}, "clips_per_action"),
        (
            {"reader": "bandai_namco", "subjects": None, "actions": None},
            "no mirror and no download; .* set ISOPOSE_DATA_MIRROR",
        ),
        ({"reader": "cmu_mocap", "subjects": ["99"], "actions": None}, "no subject '99'"),
        ({"reader": "cmu_mocap", "subjects": ["01"], "actions": None}, "no clip of cmu_mocap"),
    ],
)
def test_wrong_parameters_are_one_line_and_leave_no_file(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path / "out.h5", OPTIONS | change, None, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_missing_mirror_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder; set ISOPOSE_DATA_MIRROR"):
        run(tmp_path / "out.h5", OPTIONS, tmp_path / "nowhere", tmp_path)


def test_index_is_complete():
    index = cmu_mocap.read_index()
    assert len(index) == 115
    assert sum(row["qc_ok"] == "1" for row in index) == 107
    assert {row["fps_true"] for row in index if row["subject"] == "60"} == {"60"}
    assert all(row["action"].replace("_", "").isalpha() and row["action"].islower() for row in index)
    assert all(len(row["sha256"]) == 64 and len(row["source_commit"]) == 40 for row in index)


def test_without_a_mirror_files_come_from_pinned_addresses(tmp_path, monkeypatch):
    asked = []

    def retrieve(url, known_hash, fname, path):
        asked.append((url, known_hash))
        raise OSError("no network")

    monkeypatch.setattr("pooch.retrieve", retrieve)
    request = Request(50, ["13"], ["boxing"], [1.0], None, 0, cache=tmp_path)
    with pytest.raises(UserError, match=r"13_.*\.bvh: cannot be fetched \(no network\)"):
        next(cmu_mocap.read_clips(request))
    url, known_hash = asked[0]
    row = next(row for row in cmu_mocap.read_index() if row["subject"] == "13" and row["action"] == "boxing")
    assert url == f"https://raw.githubusercontent.com/{row['source_repo']}/{row['source_commit']}/{row['source_path']}"
    assert known_hash == f"sha256:{row['sha256']}"


@needs_mirror
@pytest.mark.parametrize(
    ("reader", "fps", "actions", "subjects", "clips"),
    [("cmu_mocap", 50, ["boxing"], ["13", "01"], ["13_18"]), ("bandai_namco", 30, ["kick"], None, ["kick_normal_001"])],
)
def test_real_archives(reader, fps, actions, subjects, clips, tmp_path, tmp_path_factory):
    cache = Path(tmp_path_factory.getbasetemp()) / "cache"
    change = {"reader": reader, "fps": fps, "actions": actions, "subjects": subjects, "max_seconds": 2.0}
    run(tmp_path / "out.h5", OPTIONS | change, Path(MIRROR), cache)
    with SequenceStore(tmp_path / "out.h5") as store:
        assert [name for name in store.clips() if "@" not in name][0] in clips
        for name in store.clips():
            clip = store.read(name)
            lengths = np.stack([np.linalg.norm(clip.joints3d[:, b] - clip.joints3d[:, a], axis=-1) for a, b in BONES])
            assert np.ptp(lengths, axis=1).max() < 1e-5
            assert len(clip.joints3d) <= 2 * fps and clip.fps == fps
            assert clip.camera_joints("cam1")[..., 2].min() > 2
