"""Speed of lifting: a clip of 2,000 frames in one pass against one window of the receptive field a frame."""

import numpy as np
import pytest
import torch
from reference import lifting as reference
from torch import nn

from isopose.camera import Camera
from isopose.datasets.store import Detections
from isopose.heatmaps import decode, render
from isopose.models.lifter import Lifter, lift
from isopose.sparse_maps import SparseMaps

FRAMES = 2000


@pytest.fixture(scope="module")
def lifter(params):
    """The full lifter untrained, with weights drawn where a new one has zeros and would always say the same."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Lifter(params["lifter"] | {"map_size": params["images"]["map_size"]}).eval()
    model.embedding.output.reset_parameters()
    model.embedding.summary.reset_parameters()
    nn.init.normal_(model.tcn.head.weight)
    return model


@pytest.fixture(scope="module")
def clip(params):
    """Detections of joints that swing about the crop, and their camera."""
    rng = np.random.default_rng(0)
    size, time = params["images"]["map_size"], np.arange(FRAMES)[:, None, None] / 50
    swing = np.sin(rng.uniform(1, 6, (17, 2)) * time + rng.uniform(0, 6, (17, 2)))
    maps = render((size / 2 + size / 4 * swing).astype(np.float32), size, params["estimator"]["sigma"])
    boxes = np.tile(np.float32([500, 500, 400]), (FRAMES, 1))
    intrinsics = np.array([[1145.0, 0, 500], [0, 1145, 500], [0, 0, 1]])
    return Detections(*decode(maps), boxes, SparseMaps.from_dense(maps)), Camera(intrinsics, np.eye(3), np.zeros(3))


def test_one_pass_against_a_window_a_frame(compare, lifter, clip):
    few = np.linspace(0, FRAMES - 1, FRAMES // 20).astype(int)  # both ends of the clip among them
    result, expected = compare(
        lambda: lift(lifter, *clip),
        lambda: reference.by_window(lifter, *clip, few),
        wanted=5,
        scale=FRAMES / len(few),
        rounds=1,
    )
    assert np.abs(result[few] - expected).max() < 1e-5


def test_one_pass_against_windows_of_embeddings(compare, lifter, clip):
    result, expected = compare(
        lambda: lift(lifter, *clip),
        lambda: reference.by_window_of_embeddings(lifter, *clip, np.arange(FRAMES)),
        wanted=1,
    )
    assert np.abs(result - expected).max() < 1e-5
