"""Cost of the heatmap embedding: a training step on the estimator's heatmaps against one on its keypoints alone."""

import pytest
import torch

from isopose.config import merge
from isopose.training.lifter import Trainer, load_data

STEPS = 10


@pytest.fixture(scope="module")
def trainer(params, demo):
    """`trainer(kind)` is a fresh training of the table's "+ multi-stride TCN" row with this kind of embedding."""
    torch.set_num_threads(params["lifter"]["threads"])
    files = [demo("synthetic/detections/train3d.h5"), None, demo("synthetic/detections/validation.h5")]
    stores = {"synthetic": demo("labelled/synthetic.h5")}
    row = merge(params["lifter"], params["variants"]["multi_stride"]["set"])

    def fresh(kind):
        options = merge(row, {"embedding": {"kind": kind}, "seed": params["seed"], "device": "cpu"})
        data = load_data(*files, stores, with_maps=kind == "conv")
        return Trainer(data, options, options["learning_rates"][0], options["steps"])

    yield fresh
    torch.use_deterministic_algorithms(False)  # as a training demands them, and other benchmarks do not


def test_step_on_heatmaps_against_step_on_coordinates(compare, trainer):
    heatmaps, coordinates = trainer("conv"), trainer("coordinates")
    # A new lifter answers with the mean pose, so the first losses agree exactly if both saw the same clips.
    assert heatmaps.step()["pose"] == coordinates.step()["pose"]

    def steps(training):
        return [training.step()["pose"].item() for _ in range(STEPS)]

    losses = compare(lambda: steps(heatmaps), lambda: steps(coordinates), wanted=2, rounds=5, cost=True)
    assert torch.tensor(losses).isfinite().all()
