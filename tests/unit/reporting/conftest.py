"""Made-up inputs of the reporting stages, shaped as the other stages write them. No number here was measured."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from isopose import camera, skeleton
from isopose.crops import image_to_crop
from isopose.datasets.store import Clip, Detections, DetectionStore, PoseStore, SequenceStore, View, ViewKey
from isopose.sparse_maps import SparseMaps

ACTIONS = {"walk": 0.0, "jump": 12.0, "box": 5.0}
SECONDS = ("none", "<0.2", "0.2-0.5", ">1")


def make_scores(level, seed=0):
    """Grouped scores with an error of about ``level`` mm; sums over the frames of each line."""
    random = np.random.default_rng(seed)
    lines = []
    for subject in ("S9", "S10"):
        for action, extra in ACTIONS.items():
            for occluded in (False, True):
                for group, joints in enumerate((0, 2, 4, 8)):
                    frames = 20 + 5 * group + 10 * len(action)
                    error = level + extra + (3 * joints if occluded else 0) + random.normal(0, 0.5)
                    lines.append(
                        {
                            "source": "synthetic",
                            "subject": subject,
                            "action": action,
                            "clip": f"{subject}_{action}",
                            "view": "cam1_occluded" if occluded else "cam1",
                            "speed": 1.0,
                            "occluded_view": occluded,
                            "occluded_joints": joints,
                            "occlusion_seconds": SECONDS[group] if occluded else "none",
                            "motion_speed": ("slow", "medium", "fast", "fast")[group],
                            "frames": frames,
                            "mpjpe": error * frames,
                            "p_mpjpe": 0.8 * error * frames,
                            "velocity_frames": frames - 1,
                            "mpjve": 0.1 * error * (frames - 1),
                            "acceleration_frames": frames - 2,
                            "acceleration_error": 0.05 * error * (frames - 2),
                        }
                    )
    return pd.DataFrame(lines)


def make_metrics(level):
    """Overall metrics of a set of predictions."""
    names = ("mpjpe", "p_mpjpe", "n_mpjpe", "mpjve", "acceleration_error", "pck", "auc")
    values = {
        name: {"frames": level * factor, "actions": (level + 1) * factor, "interval": [level - 2, level + 2]}
        for name, factor in zip(names, (1, 0.8, 0.95, 0.1, 0.05, 0.01, 0.005), strict=True)
    }
    return values | {"frames": 900, "clips": 6}


def make_calibration():
    """A fitted calibration with its reliability tables; the last one has an empty bin."""
    lower = np.arange(5) / 5
    before = {
        "lower": lower.tolist(),
        "count": [10, 20, 5, 40, 30],
        "probability": (lower + 0.1).tolist(),
        "accuracy": [0.3, 0.4, 0.5, 0.6, 0.7],
    }
    after = before | {"count": [0, 30, 5, 40, 30], "probability": [None, *(lower[1:] + 0.1).tolist()]}
    after["accuracy"] = [None, 0.3, 0.5, 0.7, 0.9]
    fits = {kind: {"ece": 0.02, "reliability": after} for kind in ("temperature", "platt", "isotonic")}
    return {
        "kind": "platt",
        "ece_before": 0.12,
        "ece_after": 0.02,
        "reliability_before": before,
        "fits": fits,
    }


@pytest.fixture
def write_json(tmp_path):
    def write(name, value):
        path = tmp_path / name
        path.write_text(json.dumps(value), encoding="utf-8")
        return path

    return write


@pytest.fixture
def score_options(tmp_path):
    """Write scores for the given runs and return the command line's options for them."""

    def write(levels):
        options = []
        for seed, (run, level) in enumerate(levels.items()):
            path = tmp_path / f"{run.replace('/', '_')}.csv"
            make_scores(level, seed).to_csv(path, index=False)
            options += ["--scores", f"{run}={path}"]
        return options

    return write


@pytest.fixture
def standing():
    """A standing person (17, 3), m, world frame, z up, feet at z = 0, facing +x."""
    y = {"r": -1.0, "l": 1.0}
    positions = {"pelvis": (0, 0, 0.95), "spine": (0, 0, 1.2), "thorax": (0, 0, 1.45)}
    positions |= {"neck": (0.08, 0, 1.58), "head": (0, 0, 1.72)}
    for side, sign in y.items():
        legs = {"hip": (0.13, 0.93), "knee": (0.14, 0.5), "ankle": (0.15, 0.08)}
        arms = {"shoulder": (0.17, 1.42), "elbow": (0.2, 1.15), "wrist": (0.12, 1.1)}
        for name, (across, height) in (legs | arms).items():
            positions[f"{side}_{name}"] = (0.25 if name == "wrist" else 0, sign * across, height)
    return np.array([positions[name] for name in skeleton.JOINTS])


@pytest.fixture
def people(tmp_path, standing):
    """Stores of one clip of four frames: sequences, detections and two sets of poses, with their view."""
    frames = 4
    joints = standing + 0.02 * np.arange(frames)[:, None, None]
    rotation = np.array([[0, 1, 0], [0, 0, -1], [-1.0, 0, 0]])  # at +x, looking back along -x
    lens = camera.Camera(np.array([[1100, 0, 500], [0, 1100, 500], [0, 0, 1.0]]), rotation, np.array([4.5, 0, 1.0]))
    in_camera = camera.world_to_camera(joints, lens)
    points = camera.project(in_camera, lens)
    visible = np.ones((frames, 17), bool)
    visible[2, :4] = False
    clip = Clip("S9_walk", joints, np.ones(17, bool), "S9", "walk", 50.0, "synthetic")
    clip.cameras["cam1"] = lens
    clip.views["cam1"] = View("cam1", points, visible)
    key = ViewKey("synthetic", "S9_walk", "cam1")
    with SequenceStore.create(tmp_path / "sequences.h5") as store:
        store.write(clip)
    boxes = np.tile([500.0, 480.0, 520.0], (frames, 1))
    maps = SparseMaps.from_dense(np.zeros((frames, 17, 8, 8)))
    with DetectionStore.create(tmp_path / "detections.h5") as store:
        store.write(key, Detections(image_to_crop(points + 3, boxes, 8), np.ones((frames, 17)), boxes, maps))
    truth = in_camera - in_camera[:, :1]
    for name, error in (("base", 0.05), ("full", 0.02)):
        with PoseStore.create(tmp_path / f"{name}.h5") as store:
            store.write(key, truth + error * (np.arange(17) > 0)[:, None])
    return tmp_path


@pytest.fixture
def samples():
    """The functions that make inputs up."""
    return SimpleNamespace(scores=make_scores, metrics=make_metrics, calibration=make_calibration)
