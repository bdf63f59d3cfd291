import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from isopose.camera import Camera, project
from isopose.datasets.store import Clip, PoseStore, SequenceStore, View, ViewKey
from isopose.errors import UserError
from isopose.evaluation import evaluate, metrics

FRAMES = {"a": 30, "b": 12}


@pytest.fixture
def files(tmp_path):
    """Two clips of different actions, clean and with an occluder in frames 5 to 9 (0.1 s at 50 fps)."""
    rng = np.random.default_rng(0)
    front = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    camera = Camera(np.array([[1000.0, 0, 500], [0, 1000, 500], [0, 0, 1]]), front, np.array([0, -5.0, 1]))
    with SequenceStore.create(tmp_path / "labelled.h5") as sequences, PoseStore.create(tmp_path / "poses.h5") as poses:
        for clip_id, frames in FRAMES.items():
            speed = 1.0 if clip_id == "a" else 0.1
            joints = rng.normal(0, 0.3, (17, 3)) + np.arange(frames)[:, None, None] * [speed / 50, 0, 0] + [0, 0, 1]
            clip = Clip(clip_id, joints, np.ones(17, bool), "S1", f"act {clip_id}", 50.0, "test", {"speed": speed})
            clip.cameras["cam1"] = camera
            clip.views["cam1"] = View("cam1", np.zeros((frames, 17, 2)))
            keypoints = project(clip.camera_joints("cam1"), camera)
            occluders = np.full((frames, 1, 4), np.nan)
            occluders[5:10, 0] = [0, 0, 999, 999]
            visible = np.ones((frames, 17), bool)
            clip.views["cam1"] = View("cam1", keypoints, visible)
            hidden = visible & (np.abs(np.arange(frames) - 7) > 2)[:, None]
            clip.views["cam1_occluded"] = View("cam1", keypoints, hidden, occluders)
            sequences.write(clip)
            for view in clip.views:
                truth = clip.camera_joints(view)
                poses.write(ViewKey("test", clip_id, view), truth - truth[:, :1] + rng.normal(0, 0.04, truth.shape))
    return tmp_path


def run(folder, name="scores"):
    arguments = ["--poses", folder / "poses.h5", "--store", f"test={folder / 'labelled.h5'}"]
    arguments += ["--output", folder / f"{name}.csv", "--metrics", folder / f"{name}.json"]
    arguments += ["--params", json.dumps({"bootstrap_samples": 200})]
    result = CliRunner().invoke(evaluate.app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    scores = pd.read_csv(folder / f"{name}.csv", keep_default_na=False)
    return scores, json.loads((folder / f"{name}.json").read_text())


def each_view(folder):
    with SequenceStore(folder / "labelled.h5") as sequences, PoseStore(folder / "poses.h5") as poses:
        for key in poses.keys():  # noqa: SIM118
            truth = sequences.read(key.clip).camera_joints(key.view)
            yield key, 1000 * poses.read(key).astype(float), 1000 * (truth - truth[:, :1]).astype(float)


def test_sums_give_back_every_average(files):
    scores, overall = run(files)
    assert scores["frames"].sum() == 2 * sum(FRAMES.values()) == overall["frames"]
    assert overall["clips"] == 2
    errors = {name: [] for name in evaluate.COUNTS}
    for key, predicted, target in each_view(files):
        rows = scores[(scores["clip"] == key.clip) & (scores["view"] == key.view)]
        values = {
            "mpjpe": metrics.mpjpe(predicted, target),
            "p_mpjpe": metrics.p_mpjpe(predicted, target),
            "n_mpjpe": metrics.n_mpjpe(predicted, target),
            "pck": metrics.pck_3d(predicted, target, 150),
            "auc": metrics.auc_3d(predicted, target, 150),
            "mpjve": metrics.mpjve(predicted, target),
            "acceleration_error": metrics.acceleration_error(predicted, target),
        }
        for name, value in values.items():
            assert rows[name].sum() == pytest.approx(value.sum(), abs=0.01)
            assert rows[evaluate.COUNTS[name]].sum() == len(value)
            errors[name].append((key.clip, value))
    for name, pairs in errors.items():
        by_action = [np.concatenate([v for clip, v in pairs if clip == wanted]) for wanted in FRAMES]
        assert overall[name]["frames"] == pytest.approx(np.concatenate(by_action).mean(), abs=1e-4)
        assert overall[name]["actions"] == pytest.approx(np.mean([v.mean() for v in by_action]), abs=1e-4)
        low, high = overall[name]["interval"]
        assert low <= overall[name]["actions"] <= high


def test_frames_are_split_by_occlusion_and_speed(files):
    scores, _ = run(files)
    occluded = scores[scores["occluded_view"]]
    assert set(scores.loc[~scores["occluded_view"], "occlusion_seconds"]) == {"none"}
    for clip, frames in FRAMES.items():
        counts = occluded[occluded["clip"] == clip].groupby("occlusion_seconds")["frames"].sum()
        assert counts.to_dict() == {"<0.2": 5, "none": frames - 5}
    hidden = occluded[occluded["occlusion_seconds"] == "<0.2"]
    assert set(hidden["occluded_joints"]) == {17}
    assert set(scores.loc[scores["clip"] == "a", "motion_speed"]) == {"medium"}
    assert set(scores.loc[scores["clip"] == "b", "motion_speed"]) == {"slow"}
    assert set(scores["speed"]) == {1.0, 0.1}


def test_the_same_bytes_again(files):
    run(files)
    run(files, "again")
    for suffix in ("csv", "json"):
        assert (files / f"scores.{suffix}").read_bytes() == (files / f"again.{suffix}").read_bytes()


@pytest.mark.parametrize("frames", [1, 2])
def test_very_short_clips(frames):
    pose = np.zeros((frames, 17, 3))
    errors = evaluate.errors(pose, pose, np.ones(17, bool))
    assert {len(values) for values in errors.values()} == {frames}
    assert errors["velocity_frames"].sum() == frames - 1
    assert errors["acceleration_frames"].sum() == 0


def test_what_cannot_be_scored_is_named(files):
    with pytest.raises(UserError, match="poses of 'test'; give --store test=PATH"):
        evaluate.score(files / "poses.h5", {})
    with SequenceStore(files / "labelled.h5") as store, SequenceStore.create(files / "bare.h5") as bare:
        for clip in map(store.read, store.clips()):
            clip.views = {name: replace(view, visible=None) for name, view in clip.views.items()}
            bare.write(clip)
    with pytest.raises(UserError, match="'test/a/cam1' has no visibility"):
        evaluate.score(files / "poses.h5", {"test": files / "bare.h5"})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda poses: np.where(np.arange(17)[:, None] == 4, np.nan, poses), "36 of 612 numbers are NaN"),
        (lambda poses: poses[:1], r"shape \(1, 17, 3\); expected \(12, 17, 3\)"),
    ],
)
def test_poses_that_would_be_scored_wrongly_are_refused(files, spoil, message):
    """Unnoticed, a NaN would add nothing to the sums, and one frame would stand for all."""
    with PoseStore(files / "poses.h5") as source, PoseStore.create(files / "spoilt.h5") as target:
        for key in source.keys():  # noqa: SIM118
            poses = source.read(key)
            target.write(key, spoil(poses) if key.clip == "b" else poses)
    with pytest.raises(UserError, match=f"spoilt.h5: 'test/b/cam1': poses: {message}"):
        evaluate.score(files / "spoilt.h5", {"test": files / "labelled.h5"})
