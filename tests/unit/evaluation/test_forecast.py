import json

import numpy as np
import pandas as pd
import pytest
import torch
from tests.unit.conftest import SMALL_LIFTER, swinging_skeleton
from typer.testing import CliRunner

from isopose.camera import UPRIGHT, Camera, project, world_to_camera
from isopose.crops import boxes_around
from isopose.datasets.store import Clip, Detections, DetectionStore, SequenceStore, View, ViewKey
from isopose.errors import UserError
from isopose.evaluation import forecast
from isopose.evaluation.dynamics import first_future_frames, predict_future
from isopose.models.lifter import Lifter, lift
from isopose.skeleton import index

CAMERA = Camera(np.array([[500.0, 0, 500], [0, 500, 500], [0, 0, 1]]), UPRIGHT, np.array([0.0, -4, 1]))
SPEED = 0.004
"""Of the moving wrist, m a frame."""
CONFIG = SMALL_LIFTER | {"embedding": {"kind": "coordinates", "width": 16}}


def clip_of(trial, frames, moving):
    """A person who stands still but for a wrist that goes straight on."""
    joints = np.repeat(swinging_skeleton(1, 0.3), frames, axis=0)
    if moving:
        joints[:, index("l_wrist"), 2] += SPEED * np.arange(frames)
    action = "Walking" if moving else "Smoking"
    # as Human3.6M's files: the second trial's name sorts before the first's
    name = f"S5_{action}_1" if trial == 1 else f"S5_{action}"
    names = (name, joints, np.ones(17, bool), "S5", action, 25.0, "human36m", {"subaction": trial})
    points = project(world_to_camera(joints, CAMERA), CAMERA)
    return Clip(*names, {"camera": CAMERA}, {"camera": View("camera", points, np.ones((frames, 17), bool))})


@pytest.fixture
def files(tmp_path):
    """Detections without error of two trials of two actions, of different lengths, and a lifter."""
    with SequenceStore.create(tmp_path / "s5.h5") as store, DetectionStore.create(tmp_path / "found.h5") as found:
        for moving in (False, True):
            for trial, frames in ((1, 180), (2, 200)):
                clip = clip_of(trial, frames, moving)
                store.write(clip)
                points = clip.views["camera"].joints2d
                boxes = boxes_around(points)
                detected = Detections.from_image(points, None, boxes, 16)
                found.write(ViewKey("s5", clip.id, "camera"), detected)
    torch.manual_seed(0)
    model = Lifter(CONFIG)
    torch.nn.init.normal_(model.tcn.head.weight, std=0.1)
    model.eval().save(tmp_path / "lifter.safetensors")
    return tmp_path


def run(files):
    arguments = [f"--store=s5={files / 's5.h5'}", f"--detections={files / 'found.h5'}"]
    arguments += [f"--lifter={files / 'lifter.safetensors'}", f"--output={files / 'errors.csv'}"]
    params = json.dumps({"threads": 1, "device": "cpu"})
    result = CliRunner().invoke(forecast.app, [*arguments, "--params", params])
    if result.exit_code:
        raise result.exception
    return pd.read_csv(files / "errors.csv").set_index(["action", "sampling", "method", "horizon_ms"])


def test_standing_still_is_right_for_who_stands_still_and_late_for_who_moves(files):
    errors = run(files)
    still = errors.loc["Smoking"].xs("zero_velocity", level="method")
    assert (still[["mean_angle_error", "mpjpe"]] == 0).all(axis=None)
    for sampling in (8, 256):
        moving = errors.loc["Walking", sampling, "zero_velocity"]
        for horizon, frames in ((80, 2), (160, 4), (560, 14), (1000, 25)):  # from the last observed frame
            assert moving.loc[horizon, "mpjpe"] == pytest.approx(1000 * SPEED * frames / 17, abs=1e-3)
        assert moving["mean_angle_error"].is_monotonic_increasing and moving["mean_angle_error"].gt(0).all()
    assert (
        errors.loc[("Walking", 8)]["predictions"].eq(8).all()
        and errors.loc[("Smoking", 256)]["predictions"].eq(256).all()
    )


def test_the_lifter_sees_the_observed_frames_alone(files):
    """Its answer to a stretch is that of the fifty frames before it, cut out and padded by hand."""
    errors = run(files).loc["Walking", 8, "lifter"]
    model = Lifter.load(files / "lifter.safetensors")
    found = []
    with SequenceStore(files / "s5.h5") as store, DetectionStore(files / "found.h5") as detections:
        firsts = first_future_frames((180, 200), 8)
        for trial in (1, 2):
            clip, detected = (
                store.read(clip_of(trial, 1, True).id),
                detections.read(ViewKey("s5", clip_of(trial, 1, True).id, "camera")),
            )
            joints = clip.camera_joints("camera")
            for first in firsts[:, trial - 1]:
                seen = slice(first - 50, first)
                keypoints = np.concatenate([detected.keypoints[seen], np.full((25, 17, 2), 7.5, np.float32)])
                confidence = np.concatenate([detected.confidence[seen], np.zeros((25, 17), np.float32)])
                boxes = np.concatenate([detected.boxes[seen], np.repeat(detected.boxes[first - 1 : first], 25, 0)])
                pose = lift(model, Detections(keypoints, confidence, boxes, crop_size=16), CAMERA)[50:]
                truth = joints[first : first + 25] - joints[first : first + 25, :1]
                found.append(1000 * np.linalg.norm(pose - truth, axis=-1).mean(-1))
    for horizon, frame in ((80, 1), (400, 9), (1000, 24)):
        assert errors.loc[horizon, "mpjpe"] == pytest.approx(np.mean(found, axis=0)[frame], rel=1e-3)


def test_another_frame_rate_and_a_missing_trial_are_told(files):
    with SequenceStore(files / "s5.h5") as store:
        clips = [store.read(name) for name in store.clips()]
    for clip in clips:
        clip.fps = 60.0
    with SequenceStore.create(files / "s5.h5") as store:
        for clip in clips:
            store.write(clip)
    with pytest.raises(UserError, match="has 60 frames a second; expected a multiple of 25; set fps of its source"):
        run(files)
    for clip in clips:
        clip.fps = 25.0
    with SequenceStore.create(files / "s5.h5") as store, DetectionStore.create(files / "found.h5") as found:
        store.write(clips[0])
        points = clips[0].views["camera"].joints2d
        found.write(ViewKey("s5", clips[0].id, "camera"), Detections.from_image(points, None, boxes_around(points), 16))
    with pytest.raises(UserError, match=r"'Smoking' has the trials \[\('S5', 2\)\]; expected sub-actions 1 and 2"):
        run(files)


def test_at_twice_the_rate_the_lifter_sees_twice_the_frames_and_is_asked_for_the_same(files):
    """A motion at 50 frames a second: the baseline stands still as long as at 25."""
    with SequenceStore.create(files / "s5.h5") as store, DetectionStore.create(files / "found.h5") as found:
        for trial, frames in ((1, 360), (2, 399)):
            clip = clip_of(trial, frames, moving=True)
            clip.fps = 50.0
            store.write(clip)
            points = clip.views["camera"].joints2d
            detected = Detections.from_image(points, None, boxes_around(points), 16)
            found.write(ViewKey("s5", clip.id, "camera"), detected)
    errors = run(files).loc["Walking", 8]
    for horizon, frames in ((80, 4), (1000, 50)):  # of the recording, from the last observed frame of the protocol
        assert errors.loc[("zero_velocity", horizon), "mpjpe"] == pytest.approx(1000 * SPEED * frames / 17, abs=1e-3)
    model = Lifter.load(files / "lifter.safetensors")
    found = []
    with SequenceStore(files / "s5.h5") as store, DetectionStore(files / "found.h5") as detections:
        for trial, firsts in enumerate(first_future_frames((180, 200), 8).T, start=1):
            name = clip_of(trial, 1, True).id
            detected, joints = detections.read(ViewKey("s5", name, "camera")), store.read(name).camera_joints("camera")
            for first in 2 * firsts:
                pose = predict_future(model, detected.part(first - 100, first), CAMERA, 100, 50)
                truth = joints[first : first + 50] - joints[first : first + 50, :1]
                found.append(1000 * np.linalg.norm(pose - truth, axis=-1).mean(-1))
    mean = np.mean(found, axis=0)
    for horizon, frame in ((80, 2), (400, 18)):
        assert errors.loc[("lifter", horizon), "mpjpe"] == pytest.approx(mean[frame], rel=1e-3)
