import json

import numpy as np
import pytest
import torch
from tests.unit.conftest import SMALL_LIFTER
from typer.testing import CliRunner

from isopose import lifting
from isopose.datasets.store import DetectionStore, PoseStore, SequenceStore
from isopose.errors import UserError
from isopose.models.lifter import Lifter, lift


def test_every_view_is_lifted_into_the_pose_store(motion, tmp_path):
    torch.manual_seed(0)
    model = Lifter(SMALL_LIFTER)
    torch.nn.init.normal_(model.tcn.head.weight)
    model.eval().save(tmp_path / "lifter.safetensors")
    options = {
        "--store": f"test={motion / 'sequences.h5'}",
        "--detections": motion / "train.h5",
        "--lifter": tmp_path / "lifter.safetensors",
        "--output": tmp_path / "poses.h5",
        "--params": json.dumps({"flip": True, "threads": 1, "device": "cpu"}),
    }
    result = CliRunner().invoke(lifting.app, [str(part) for pair in options.items() for part in pair])
    assert result.exit_code == 0, result.exception
    with (
        DetectionStore(motion / "train.h5") as detections,
        SequenceStore(motion / "sequences.h5") as sequences,
        PoseStore(tmp_path / "poses.h5") as poses,
    ):
        assert poses.keys() == detections.keys()
        for key in poses.keys():  # noqa: SIM118
            camera = sequences.read(key.clip).cameras[key.view]
            expected = lift(model, detections.read(key), camera, flip=True)
            assert np.array_equal(poses.read(key), expected)


def test_the_mean_pose_answers_every_frame_alike(motion, tmp_path):
    model = Lifter(SMALL_LIFTER)
    model.mean_pose.copy_(torch.randn(17, 3))
    model.save(tmp_path / "lifter.safetensors")
    stores = {"test": motion / "sequences.h5"}
    lifting.run(motion / "train.h5", tmp_path / "lifter.safetensors", stores, tmp_path / "poses.h5", mean_pose=True)
    with DetectionStore(motion / "train.h5") as detections, PoseStore(tmp_path / "poses.h5") as poses:
        assert poses.keys() == detections.keys()
        for key in poses.keys():  # noqa: SIM118
            expected = np.broadcast_to(model.mean_pose.numpy(), detections.read(key).keypoints.shape[:2] + (3,))
            assert np.array_equal(poses.read(key), expected)


@pytest.mark.parametrize("kind", ["coordinates", "coordinates_confidence"])
def test_detections_without_maps_are_lifted_from_their_keypoints(motion, plain, tmp_path, kind):
    torch.manual_seed(0)
    model = Lifter(SMALL_LIFTER | {"embedding": {"kind": kind, "width": 16}})
    torch.nn.init.normal_(model.tcn.head.weight)
    model.save(tmp_path / "lifter.safetensors")
    poses = {}
    for folder in (motion, plain):
        output = tmp_path / f"{folder.name}.h5"
        lifting.run(
            folder / "train.h5", tmp_path / "lifter.safetensors", {"test": motion / "sequences.h5"}, output, flip=True
        )
        with PoseStore(output) as store:
            poses[folder] = [store.read(key) for key in store.keys()]  # noqa: SIM118
    for there, here in zip(poses[motion], poses[plain], strict=True):
        assert np.array_equal(there, here) and np.ptp(here) > 0.1


@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_a_lifter_that_needs_maps_says_who_does_not(motion, plain, tmp_path, kind):
    Lifter(SMALL_LIFTER | {"embedding": {"kind": kind, "width": 16}}).save(tmp_path / "lifter.safetensors")
    stores = {"test": motion / "sequences.h5"}
    message = (
        r"train\.h5: 'test/a/cam1': has keypoints without heatmaps.*expected coordinates or coordinates_confidence"
    )
    with pytest.raises(UserError, match=message) as refused:
        lifting.run(plain / "train.h5", tmp_path / "lifter.safetensors", stores, tmp_path / "poses.h5")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "poses.h5").exists()
