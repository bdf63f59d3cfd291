import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from tests.unit.conftest import SMALL_LIFTER
from typer.testing import CliRunner

from isopose import lifting
from isopose.camera import Camera, project
from isopose.crops import boxes_around, image_to_crop
from isopose.datasets.store import Clip, Detections, DetectionStore, PoseStore, SequenceStore, View, ViewKey
from isopose.errors import UserError
from isopose.iso import refine
from isopose.models.discriminator import Discriminator
from isopose.models.lifter import Lifter
from isopose.sparse_maps import SparseMaps

PARAMS = {
    "weighting": {"kind": "soft", "sigma": 1.0},
    "projection": "weak_perspective",
    "variable": "pose",
    "iterations": 30,
    "learning_rate": 0.001,
    "smoothness": 0.05,
    "adversarial": 0.1,
    "adversarial_every": 5,
    "objective": "least_squares",
    "segment_frames": 8,
    "detach_weights": False,
    "tolerance": 0.0,
    "threads": 1,
    "device": "cpu",
}


@pytest.fixture
def files(tmp_path):
    """Two clips seen by one camera, exact detections with full confidence, and poses 3 cm off."""
    rng = np.random.default_rng(0)
    front = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    camera = Camera(np.array([[1000.0, 0, 500], [0, 1000, 500], [0, 0, 1]]), front, np.array([0, -5.0, 1]))
    names = ("sequences.h5", "poses.h5", "detections.h5")
    with (
        SequenceStore.create(tmp_path / names[0]) as sequences,
        PoseStore.create(tmp_path / names[1]) as poses,
        DetectionStore.create(tmp_path / names[2]) as detections,
    ):
        for clip_id, frames in {"a": 20, "b": 11}.items():
            phase = np.arange(frames)[:, None, None] / 15
            joints = rng.normal(0, 0.3, (17, 3)) + 0.1 * np.sin(phase + rng.uniform(0, 6, (17, 3))) + [0, 0, 1]
            clip = Clip(clip_id, joints, np.ones(17, bool), "S1", "walking", 50.0, "test", {}, {"cam1": camera})
            clip.views["cam1"] = View("cam1", np.zeros((frames, 17, 2)))
            joints = clip.camera_joints("cam1")
            clip.views["cam1"].joints2d = keypoints = project(joints, camera)
            sequences.write(clip)
            pose = joints - joints[:, :1] + rng.normal(0, 0.03, joints.shape) * (np.arange(17) > 0)[:, None]
            key = ViewKey("test", clip_id, "cam1")
            poses.write(key, pose)
            maps = SparseMaps.from_dense(np.zeros((frames, 17, 48, 48), np.float32))
            boxes = boxes_around(keypoints)
            points = image_to_crop(keypoints, boxes, 48)
            detections.write(key, Detections(points, np.full((frames, 17), 0.99), boxes, maps))
    write_models(tmp_path)
    return tmp_path


def write_models(folder):
    calibration = {"calibrator": {"kind": "temperature", "parameters": {"temperature": 1.0}}}
    (folder / "calibration.json").write_text(json.dumps(calibration))
    Discriminator(width=8, layers=1).save(folder / "discriminator.safetensors")


LIFTER = SMALL_LIFTER | {"max_layers": 1}


@pytest.fixture
def lifted(motion, tmp_path):
    """Two clips in two views, with heatmaps, and what an untrained lifter makes of them."""
    torch.manual_seed(0)
    lifter = Lifter(LIFTER)
    torch.nn.init.normal_(lifter.tcn.head.weight, std=0.1)
    lifter.mean_pose.copy_(0.3 * torch.randn(17, 3))
    lifter.save(tmp_path / "lifter.safetensors")
    for name, source in {"sequences.h5": "sequences.h5", "detections.h5": "train.h5"}.items():
        shutil.copy(motion / source, tmp_path / name)
    stores = {"test": tmp_path / "sequences.h5"}
    lifting.run(tmp_path / "detections.h5", tmp_path / "lifter.safetensors", stores, tmp_path / "poses.h5")
    write_models(tmp_path)
    return tmp_path


def run(folder, name="refined", lifter=None, **changes):
    paths = {
        "poses": "poses.h5",
        "detections": "detections.h5",
        "calibration": "calibration.json",
        "discriminator": "discriminator.safetensors",
        "output": f"{name}.h5",
        "trace": f"{name}.csv",
        "record": f"{name}.json",
    }
    arguments = ["--store", f"test={folder / 'sequences.h5'}", "--params", json.dumps(PARAMS | changes)]
    for option, path in paths.items():
        arguments += [f"--{option}", str(folder / path)]
    if lifter:
        arguments += ["--lifter", str(folder / lifter)]
    result = CliRunner().invoke(refine.app, arguments, env={"MLFLOW_TRACKING_URI": None}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return pd.read_csv(folder / f"{name}.csv")


def read(path):
    with PoseStore(path) as store:
        return {key.clip: store.read(key) for key in store.keys()}  # noqa: SIM118


def test_poses_trace_and_record(files):
    trace = run(files)
    assert trace["iteration"].tolist() == list(range(31))
    assert trace["mpjpe"].iloc[0] == pytest.approx(45, abs=3)
    assert trace["mpjpe"].iloc[-1] < trace["mpjpe"].iloc[0]
    refined, before = read(files / "refined.h5"), read(files / "poses.h5")
    assert {clip: pose.shape for clip, pose in refined.items()} == {"a": (20, 17, 3), "b": (11, 17, 3)}
    with SequenceStore(files / "sequences.h5") as store:
        truth = {clip: store.read(clip).camera_joints("cam1") for clip in "ab"}
    errors = [np.linalg.norm(refined[c] - (truth[c] - truth[c][:, :1]), axis=-1) for c in "ab"]
    assert trace["mpjpe"].iloc[-1] == pytest.approx(1000 * np.concatenate(errors).mean(), rel=1e-4)
    assert all((refined[clip][:, 0] == 0).all() and (before[clip][:, 0] == 0).all() for clip in "ab")
    record = json.loads((files / "refined.json").read_text())
    assert len(record["metrics"]["mpjpe"]) == 31
    assert record["summary"]["mpjpe_after"] < record["summary"]["mpjpe_before"]


def test_chunks_change_nothing(files, monkeypatch):
    whole = run(files)
    monkeypatch.setattr(refine, "CHUNK_FRAMES", 5)
    pieces = run(files, "pieces")
    pd.testing.assert_frame_equal(whole, pieces, rtol=1e-3)
    for one, other in zip(read(files / "refined.h5").values(), read(files / "pieces.h5").values(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_the_confidence_weighting_is_not_calibrated(files):
    calibration = {"calibrator": {"kind": "platt", "parameters": {"slope": 0.0, "offset": -50.0}}}
    (files / "calibration.json").write_text(json.dumps(calibration))
    raw, calibrated = (run(files, kind, weighting={"kind": kind}) for kind in ("confidence", "calibrated"))
    assert raw["reprojection"].iloc[0] > 0.1
    assert calibrated["reprojection"].iloc[0] < 1e-6


def test_the_same_bytes_again(files):
    run(files)
    run(files, "again")
    assert (files / "refined.h5").read_bytes() == (files / "again.h5").read_bytes()
    assert (files / "refined.csv").read_bytes() == (files / "again.csv").read_bytes()


def test_the_known_camera_leads_nearer_to_the_truth(files):
    weak, known = (run(files, name, projection=name) for name in ("weak_perspective", "perspective"))
    assert known["pixels"].iloc[0] < weak["pixels"].iloc[0]
    assert known["mpjpe"].iloc[-1] < weak["mpjpe"].iloc[-1]


def test_a_critic_of_upper_triangles_serves_as_any_discriminator(files):
    Discriminator(width=8, layers=1, upper_triangle=True).save(files / "discriminator.safetensors")
    term = run(files, objective="wgan_gp", weighting={"kind": "none"}, smoothness=0.0)["adversarial"]
    assert term.iloc[-1] < term.iloc[0]


def test_an_unknown_projection_is_refused_by_name(files):
    with pytest.raises(
        UserError, match="'projection' is 'fisheye'; expected one of weak_perspective, torso, perspective"
    ):
        run(files, projection="fisheye")


def without_maps(path):
    """Take the heatmaps from a detection store."""
    path.rename(path.with_suffix(".maps"))
    with DetectionStore(path.with_suffix(".maps")) as given, DetectionStore.create(path) as written:
        for key in given.keys():  # noqa: SIM118
            found = given.read(key)
            written.write(key, replace(found, maps=None, crop_size=found.map_size))


def test_keypoints_are_all_that_is_needed_of_the_detections(files):
    trace = run(files)
    without_maps(files / "detections.h5")
    pd.testing.assert_frame_equal(run(files, "plain"), trace)


def test_a_lifter_that_needs_maps_is_refused_without(lifted):
    without_maps(lifted / "detections.h5")
    with pytest.raises(UserError, match=r"detections\.h5: 'test/a/cam1': has keypoints without heatmaps") as refused:
        run(lifted, lifter="lifter.safetensors", variable="latent")
    assert "\n" not in str(refused.value)


def test_lens_distortion_is_taken_out_of_the_keypoints():
    K = np.array([[1000.0, 0, 500], [0, 1000, 500], [0, 0, 1]])
    pinhole, lens = (Camera(K, np.eye(3), np.zeros(3), np.array(d)) for d in ([0.0] * 5, [-0.2, 0.25, 1e-3, 2e-3, 0]))
    joints = np.random.default_rng(0).normal(0, 0.4, (6, 17, 3)) + [0.5, 0.2, 4]
    seen, expected = project(joints, lens), project(joints, pinhole)
    boxes = boxes_around(seen).astype(np.float64)
    maps = SparseMaps.from_dense(np.zeros((6, 17, 48, 48), np.float32))
    found = Detections(image_to_crop(seen, boxes, 48), np.ones((6, 17)), boxes, maps)
    assert np.abs(seen - expected).max() > 1
    keypoints = refine._pinhole_keypoints(found, lens)
    np.testing.assert_allclose(keypoints, image_to_crop(expected, boxes, 48), atol=1e-6)


@pytest.mark.parametrize("variable", ["network", "latent"])
def test_a_part_of_the_lifter_is_optimised_instead_of_the_pose(lifted, variable):
    settings = dict(iterations=10, learning_rate=0.01, weighting={"kind": "constant"})
    trace = run(lifted, variable, "lifter.safetensors", variable=variable, **settings)
    pose = run(lifted, "pose", "no such lifter", variable="pose", **settings)
    np.testing.assert_allclose(trace.iloc[0], pose.iloc[0], rtol=1e-3)
    assert trace["total"].iloc[-1] < trace["total"].iloc[0]
    assert trace["pixels"].iloc[-1] < trace["pixels"].iloc[0]
    for refined, before in zip(
        read(lifted / f"{variable}.h5").values(), read(lifted / "poses.h5").values(), strict=True
    ):
        assert refined.shape == before.shape and (refined[:, 0] == 0).all()
        assert np.abs(refined - before).max() > 1e-3
    inputs = {name: json.loads((lifted / f"{name}.json").read_text())["inputs"] for name in (variable, "pose")}
    assert [name for name in inputs[variable] if name not in inputs["pose"]] == [str(lifted / "lifter.safetensors")]


def test_batches_of_latent_vectors_change_nothing(lifted, monkeypatch):
    settings = dict(variable="latent", iterations=5, learning_rate=0.01)
    run(lifted, "whole", "lifter.safetensors", **settings)
    monkeypatch.setattr(refine, "CHUNK_FRAMES", 5)
    run(lifted, "pieces", "lifter.safetensors", **settings)
    for one, other in zip(read(lifted / "whole.h5").values(), read(lifted / "pieces.h5").values(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_a_variable_that_cannot_be_had_is_told_in_a_line(lifted):
    with pytest.raises(UserError, match="'variable' is 'weights'; expected one of pose, network, latent"):
        run(lifted, variable="weights")
    with pytest.raises(UserError, match="--lifter: is missing; expected the lifter that made the poses"):
        run(lifted, variable="latent")
    Lifter(LIFTER).save(lifted / "other.safetensors")
    with pytest.raises(UserError, match="poses.h5: are not what --lifter makes of .*detections.h5"):
        run(lifted, lifter="other.safetensors", variable="network")


def test_poses_that_are_no_numbers_are_named_with_the_view(files):
    with h5py.File(files / "poses.h5", "r+") as file:
        file["test/b/cam1/joints3d"][3, 5] = np.nan
    with pytest.raises(UserError, match=r"poses\.h5: 'test/b/cam1': poses: 3 of 561 numbers are NaN .*; make it again"):
        run(files)


def test_early_exit_ends_the_trace_with_what_stopped(files):
    trace = run(files, tolerance=0.2)
    assert trace["iteration"].tolist() == list(range(31))
    assert trace["moving"].iloc[0] == 1 and trace["moving"].iloc[-1] == 0
    assert (trace["moving"].diff().iloc[1:] <= 0).all()
    still = trace[trace["moving"] == 0].drop(columns="iteration")
    assert len(still) > 1 and (still == still.iloc[-1]).all().all()
