"""The paper track's networks at their full size: what training and inference stage optimisation need of them runs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from isopose import config
from isopose.camera import project, world_to_camera
from isopose.crops import boxes_around, image_to_crop
from isopose.datasets.store import Clip, Detections, DetectionStore, SequenceStore, View, ViewKey
from isopose.datasets.studio import Studio, place_cameras
from isopose.datasets.synthetic import generate
from isopose.heatmaps import decode, render
from isopose.iso.optimise import optimise
from isopose.iso.weights import weighting
from isopose.models.hrnet import HRNet, initialise, normalise
from isopose.models.lifter import lift
from isopose.models.sizes import HRNET_KEYS
from isopose.skeleton import NUM_JOINTS
from isopose.sparse_maps import SparseMaps
from isopose.training import lifter as training
from isopose.training.estimator import heatmap_loss, target_maps

ROOT = Path(__file__).parents[2]
PARAMS = config.load(ROOT / "params.yaml", ROOT / "experiments/paper/params.yaml")
MAP_SIZE = 64
FRAMES = 70


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    """A training of the paper's lifter and discriminator on one clip from two cameras; nothing was learnt yet."""
    folder = tmp_path_factory.mktemp("paper")
    joints = generate("S1", "walking", 1.0, FRAMES / 50, 50, seed=0)
    cameras = place_cameras(joints, ["cam1", "cam2"], "S1", 0, Studio())
    clip = Clip("a", joints, np.ones(NUM_JOINTS, bool), "S1", "walking", 50.0, "test", {}, cameras)
    with DetectionStore.create(folder / "detections.h5") as detections:
        for name, camera in cameras.items():
            pixels = project(world_to_camera(joints, camera), camera)
            clip.views[name] = View(name, pixels, np.ones(pixels.shape[:2], bool))
            boxes = boxes_around(pixels)
            maps = render(image_to_crop(pixels, boxes, MAP_SIZE), MAP_SIZE, PARAMS["estimator"]["sigma"])
            found = Detections(*decode(maps), boxes, SparseMaps.from_dense(maps))
            detections.write(ViewKey("test", "a", name), found)
    with SequenceStore.create(folder / "sequences.h5") as sequences:
        sequences.write(clip)
    files = [folder / "detections.h5"] * 3
    data = training.load_data(*files, {"test": folder / "sequences.h5"}, with_maps=True)
    params = PARAMS["lifter"] | {"batch_clips": 2, "batch_clips_2d": 1, "seed": 1, "device": "cpu"}
    return training.Trainer(data, params, params["learning_rates"][-1], steps=10)


def assert_every_parameter_learns(model, before):
    """Every parameter has a finite gradient that is not zero, and differs from what it was before."""
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
        assert not torch.equal(parameter, before[name]), name


def copied(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_hrnet_w32_trains():
    """The second step is judged: blocks start as identity, so no gradient reaches inside them in the first."""
    torch.manual_seed(0)
    model = HRNet(**{key: PARAMS["estimator"][key] for key in HRNET_KEYS}, joints=NUM_JOINTS)
    initialise(model)
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    generator = torch.Generator().manual_seed(0)
    images = normalise(torch.randint(256, (1, 256, 256, 3), dtype=torch.uint8, generator=generator))
    points = MAP_SIZE * torch.rand(1, NUM_JOINTS, 2, generator=generator)
    visible = torch.arange(NUM_JOINTS)[None] > 2
    target = target_maps(points, visible, MAP_SIZE, PARAMS["estimator"]["sigma"])
    for _ in range(2):
        before = copied(model)
        maps = model(images)
        assert maps.shape == (1, NUM_JOINTS, MAP_SIZE, MAP_SIZE)
        loss = heatmap_loss(maps, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.isfinite()
    assert_every_parameter_learns(model, before)


def test_the_lifter_and_the_discriminator_train(trainer):
    """The third step is judged: the lifter's head starts at zero, and so does the last layer of f_E behind it."""
    lifter, discriminator = trainer.lifter, trainer.discriminator
    assert lifter.config["embedding"]["kind"] == "conv"
    assert (lifter.embedding.width, lifter.config["frames"], lifter.config["map_size"]) == (512, 64, MAP_SIZE)
    assert [branch.blocks[0].dilation for branch in lifter.tcn.branches] == [1, 2, 3, 5, 7]
    assert discriminator.enter.in_channels == 256 + 256 + 51
    for _ in range(3):
        before = copied(lifter), copied(discriminator)
        terms = trainer.step()
    assert terms.keys() == {"pose", "multi_view", "projection", "adversarial", "discriminator"}
    assert all(value.isfinite() for value in terms.values())
    assert_every_parameter_learns(lifter, before[0])
    assert_every_parameter_learns(discriminator, before[1])


def test_iso_runs_from_the_lifter_with_the_discriminator(trainer):
    view = trainer.data.validation[0]
    pose = lift(trainer.lifter, view.detections, view.clip.cameras["cam1"])
    settings = {key: PARAMS["iso"][key] for key in ("learning_rate", "smoothness", "adversarial", "segment_frames")}
    before = copied(trainer.discriminator)
    result = optimise(
        pose,
        view.detections.keypoints,
        view.detections.confidence,
        weighting=weighting("soft", sigma=1.0),
        iterations=5,
        discriminator=trainer.discriminator,
        objective=trainer.objective,
        **settings,
    )
    assert result.pose.shape == (FRAMES, NUM_JOINTS, 3)
    assert all(np.isfinite(values).all() for values in result.trace.values())
    assert (result.trace["adversarial"] > 0).all()
    for term in ("total", "reprojection", "pixels"):
        assert result.trace[term][-1] < result.trace[term][0]
    moved = np.abs(result.pose - pose).max((0, 2))
    assert moved[0] == 0 and (moved[1:] > 0).all()
    assert all(torch.equal(parameter, before[name]) for name, parameter in trainer.discriminator.named_parameters())
