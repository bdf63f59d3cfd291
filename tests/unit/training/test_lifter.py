import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector
from typer.testing import CliRunner

from isopose.errors import UserError
from isopose.models.discriminator import Discriminator
from isopose.models.lifter import Lifter
from isopose.training import lifter as stage
from isopose.training.losses import OBJECTIVES

PARAMS = {
    "seed": 3,
    "threads": 1,
    "device": "cpu",
    "architecture": "multi_stride",
    "embedding": {"kind": "conv", "width": 32, "channels": 8},
    "box": True,
    "strides": [1, 3],
    "frames": 16,
    "width": 16,
    "max_layers": 2,
    "dropout": 0.1,
    "masking": {
        "share": 0.5,
        "point": 0.2,
        "frame": 0.2,
        "continuous_point": 0.2,
        "continuous_frame": 1.0,
        "max_length": 40,
        "shift": 0.1,
        "shift_pixels": 1,
        "swap": 0.1,
    },
    "flip": 0.5,
    "rotate3d": 0.5,
    "virtual_views": 0.5,
    "weights": {"multi_view": 0.5, "projection": 0.1, "adversarial": 0.01},
    "projection": "weak_perspective",
    "loss_unit": 0.1,
    "discriminator": {
        "kind": "spatial_temporal",
        "coordinates": True,
        "interval": 1,
        "width": 8,
        "layers": 1,
        "objective": "non_saturating",
        "rate": 0.1,
        "betas": [0.5, 0.99],
    },
    "steps": 6,
    "batch_clips": 4,
    "batch_clips_2d": 2,
    "learning_rates": [0.003, 0.001],
    "pilot_steps": 2,
    "ema_decay": 0.9,
    "validate_every": 4,
    "checkpoint": "best",
}
PLAIN = PARAMS | {
    "embedding": {"kind": "coordinates", "width": 1, "channels": 1},
    "masking": None,
    "flip": 0.0,
    "rotate3d": 0.0,
    "virtual_views": 0.0,
    "dropout": 0.0,
    "weights": {"multi_view": 0.0, "projection": 0.0, "adversarial": 0.0},
    "discriminator": None,
    "learning_rates": [0.01],
}


def load(motion, with_maps=True, train2d=True):
    only2d = motion / "only2d.h5" if train2d else None
    stores = {"test": motion / "sequences.h5"}
    return stage.load_data(motion / "train.h5", only2d, motion / "validation.h5", stores, with_maps)


def command(motion, folder, params, adversarial=True):
    folder.mkdir(exist_ok=True)
    options = {
        "--store": f"test={motion / 'sequences.h5'}",
        "--train3d": motion / "train.h5",
        "--validation": motion / "validation.h5",
        "--output": folder / "lifter.safetensors",
        "--record": folder / "record.json",
        "--key": "test/lifter/full/seed3",
        "--params": json.dumps(params),
    }
    if adversarial:
        options |= {"--train2d": motion / "only2d.h5", "--discriminator": folder / "discriminator.safetensors"}
    return CliRunner().invoke(stage.app, [str(part) for pair in options.items() for part in pair])


def test_the_same_seed_writes_the_same_bytes(motion, tmp_path):
    for name in ("first", "second"):
        result = command(motion, tmp_path / name, PARAMS)
        assert result.exit_code == 0, result.exception
    for name in ("lifter.safetensors", "discriminator.safetensors", "record.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    record = json.loads((tmp_path / "first" / "record.json").read_text())
    assert {"validation_mpjpe_mm", "mean_pose_mpjpe_mm", "learning_rate"} <= record["summary"].keys()
    assert [step for step, _ in record["metrics"]["validation_mpjpe_mm"]] == [4, 6]
    assert len(record["metrics"]["pilot_validation_mpjpe_mm"]) == 2
    expected = {"pose", "multi_view", "projection", "adversarial", "discriminator"}
    assert {f"loss_{name}" for name in expected} <= record["metrics"].keys()
    assert Lifter.load(tmp_path / "first" / "lifter.safetensors").config["strides"] == [1, 3]
    assert Discriminator.load(tmp_path / "first" / "discriminator.safetensors").config["width"] == 8


@pytest.mark.parametrize("architecture", ["multi_stride", "dilated"])
def test_a_tiny_lifter_learns_one_batch_by_heart(motion, architecture):
    data = load(motion, with_maps=False, train2d=False)
    trainer = stage.Trainer(data, PLAIN | {"architecture": architecture, "width": 32}, 0.01, steps=120)
    batch = trainer.samplers[0].draw()
    trainer.samplers = [SimpleNamespace(draw=lambda: batch, pairs=False)]
    losses = [trainer.step()["pose"].item() for _ in range(120)]
    assert losses[-1] < 0.01 * losses[0]


def test_the_learning_rate_is_chosen_on_validation(motion):
    data = load(motion, with_maps=False, train2d=False)
    params = PLAIN | {"learning_rates": [1e-9, 0.01, 1e-8], "pilot_steps": 80}
    logged = []
    assert stage.choose_learning_rate(data, params, lambda step, values: logged.append((step, values))) == 0.01
    errors = [values["pilot_validation_mpjpe_mm"] for _, values in logged]
    assert errors[1] == min(errors)


def test_the_mean_pose_error_and_the_validation_error_are_those_of_a_loop(motion):
    data = load(motion)
    trainer = stage.Trainer(data, PARAMS, 0.001, 1)
    mean = data.train3d.mean_pose.double().numpy()
    distances = []
    for view in data.validation:
        for pose in view.joints3d.astype(float):
            distances += [np.linalg.norm(joint - pose[0] - m) for joint, m in zip(pose, mean, strict=True)]
    expected = np.mean(distances)
    assert stage.mean_pose_mpjpe(mean, data.validation) == pytest.approx(expected, rel=1e-4)
    assert stage.validation_mpjpe(trainer.lifter, data.validation) == pytest.approx(expected, rel=1e-4)


def test_the_adversarial_gradient_reaches_the_lifter_alone(motion):
    trainer = stage.Trainer(load(motion), PARAMS, 0.001, 1)
    poses = torch.randn(2, 8, 17, 3, requires_grad=True)
    trainer._judge(poses).sum().backward()
    assert (poses.grad != 0).any()
    assert all(p.grad is None and p.requires_grad for p in trainer.discriminator.parameters())


def test_eq_3_with_the_known_camera_finds_no_fault_with_the_truth_of_mirrored_and_turned_clips(motion):
    data = load(motion)
    for projection, expected in {"perspective": 0, "weak_perspective": None, "torso": None}.items():
        trainer = stage.Trainer(data, PARAMS | {"projection": projection}, 0.001, 1)
        batch = trainer.samplers[1].draw()
        found = trainer._projection(batch.poses, batch).item()
        assert found < 1e-7 if expected == 0 else found > 1e-3


def with_objective(objective):
    return PARAMS | {"discriminator": PARAMS["discriminator"] | {"objective": objective}}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_trains_both_networks_and_the_same_again(motion, objective):
    data = load(motion)
    weights = []
    for _ in range(2):
        trainer = stage.Trainer(data, with_objective(objective), 0.01, 3)
        networks = (trainer.lifter, trainer.discriminator)
        before = [parameters_to_vector(network.parameters()).clone() for network in networks]
        terms = [trainer.step() for _ in range(3)]
        assert all(value.isfinite() for step in terms for value in step.values())
        weights.append([parameters_to_vector(network.parameters()) for network in networks])
        assert not any(torch.equal(old, new) for old, new in zip(before, weights[-1], strict=True))
    assert all(torch.equal(first, second) for first, second in zip(*weights, strict=True))


def test_an_unknown_objective_is_refused(motion):
    with pytest.raises(UserError, match="objective 'hinge' is unknown"):
        stage.Trainer(load(motion), with_objective("hinge"), 0.01, 1).step()


@pytest.mark.parametrize("other", [PARAMS | {"discriminator": None, "masking": None}, with_objective("wgan_gp")])
def test_variants_see_the_same_clips(motion, other):
    data = load(motion)
    first, second = (stage.Trainer(data, params, 0.001, 1) for params in (PARAMS, other))
    first.step()
    second.step()
    assert torch.equal(first.samplers[0].draw().poses, second.samplers[0].draw().poses)


def test_a_discriminator_without_a_place_to_write_it_is_refused(motion, tmp_path):
    result = command(motion, tmp_path, PARAMS, adversarial=False)
    assert "--discriminator" in str(result.exception)
