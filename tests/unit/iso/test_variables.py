import copy

import numpy as np
import pytest
import torch
from tests.unit.conftest import SMALL_LIFTER

from isopose.datasets.store import DetectionStore, SequenceStore
from isopose.iso.optimise import optimise
from isopose.iso.projection import torso
from isopose.iso.variables import VARIABLES, latent, network
from isopose.iso.weights import weighting
from isopose.models.lifter import Lifter, lift, observe

CONFIG = SMALL_LIFTER | {"dropout": 0.3}
KEYPOINTS = CONFIG | {"embedding": {"kind": "coordinates_confidence", "width": 1, "channels": 1}}


def untrained(config):
    """A lifter whose answers differ from frame to frame."""
    torch.manual_seed(0)
    model = Lifter(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.nn.init.normal_(model.mean_pose, std=0.3)
    return model.eval()


@pytest.fixture(scope="module")
def views(motion):
    """Detections and cameras of the clips of train.h5: 40, 40, 6 and 6 frames."""
    with DetectionStore(motion / "train.h5") as detections, SequenceStore(motion / "sequences.h5") as sequences:
        return [(detections.read(k), sequences.read(k.clip).cameras[k.view]) for k in detections.keys()]  # noqa: SIM118


def clips(model, views):
    return [observe(*view, model.uses_maps) for view in views]


def detected(views):
    """Keypoints and confidence of all frames."""
    return [np.concatenate([getattr(found, name) for found, _ in views]) for name in ("keypoints", "confidence")]


@pytest.mark.parametrize("kind", VARIABLES)
@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        CONFIG | {"architecture": "dilated", "box": False},
        CONFIG | {"embedding": {"kind": "linear", "width": 8}},
        KEYPOINTS,
    ],
)
def test_all_clips_in_one_pass_are_lifted_as_each_alone(kind, config, views):
    model = untrained(config)
    variables = VARIABLES[kind](model, clips(model, views))
    expected = np.concatenate([lift(model, *view) for view in views])
    assert np.abs(np.diff(expected, axis=0)).max() > 0.01
    np.testing.assert_allclose(variables.decode().detach(), expected, atol=1e-5)


def test_a_latent_vector_moves_the_frames_that_see_it_and_no_other_clip(views):
    model = untrained(CONFIG)
    variables = latent(model, clips(model, views))
    (vectors,) = variables.tensors
    assert vectors.shape == (1, 92, 16) and not variables.shared
    for frame, seen_from, seen_to in ((50, 46, 54), (40, 40, 44), (39, 35, 39), (91, 87, 91)):
        poses = variables.decode()
        (gradient,) = torch.autograd.grad(poses[frame].square().sum(), vectors)
        moved = gradient[0].abs().sum(-1).nonzero()[:, 0]
        assert (moved.min().item(), moved.max().item()) == (seen_from, seen_to)


def test_one_batch_of_latent_vectors_equals_clip_by_clip(views):
    model = untrained(CONFIG)
    settings = dict(weighting=weighting("constant"), iterations=8, learning_rate=0.05, tolerance=1e-3)
    keypoints, confidence = detected(views)
    lengths = [len(found.boxes) for found, _ in views]

    def refined(views, keypoints, confidence):
        variables = latent(model, clips(model, views))
        start, lengths = variables.decode().detach().numpy(), [len(found.boxes) for found, _ in views]
        return optimise(start, keypoints, confidence, lengths=lengths, variables=variables, **settings)

    batch = refined(views, keypoints, confidence)
    parts = zip(views, *(np.split(array, np.cumsum(lengths)[:-1]) for array in (keypoints, confidence)), strict=True)
    single = [refined([view], *part) for view, *part in parts]
    moved = np.abs(batch.pose - np.concatenate([lift(model, *view) for view in views])).max()
    np.testing.assert_allclose(batch.pose, np.concatenate([result.pose for result in single]), atol=0.01 * moved)
    assert batch.iterations.tolist() == [result.iterations.item() for result in single]


@pytest.mark.parametrize(("kind", "learning_rate"), [("network", 3e-3), ("latent", 0.1)])
def test_the_objective_falls_and_the_lifter_itself_stays(kind, learning_rate, views):
    model = untrained(CONFIG)
    before = copy.deepcopy(model.state_dict())
    variables = VARIABLES[kind](model, clips(model, views))
    start = variables.decode().detach()
    result = optimise(
        start,
        *detected(views),
        lengths=[len(found.boxes) for found, _ in views],
        weighting=weighting("constant"),
        iterations=30,
        learning_rate=learning_rate,
        projection=torso,
        variables=variables,
    )
    assert result.trace["total"][-1] < 0.9 * result.trace["total"][0]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    torch.testing.assert_close(result.pose, variables.decode().detach())
    assert (result.pose[:, 0] == 0).all()


def test_network_weights_take_the_path_of_adam_on_eq_10(views):
    """Written anew: the lifter clip by clip, Eq. 10 as one autograd expression, torch's plain Adam."""
    model = untrained(KEYPOINTS).double()
    observations = clips(model, views)
    for clip in observations:
        for name in ("coordinates", "confidence", "box"):
            object.__setattr__(clip, name, getattr(clip, name).double())
    keypoints = torch.from_numpy(detected(views)[0]).double()
    start = torch.cat([model(clip)[0] for clip in observations]).detach()
    settings = dict(iterations=10, learning_rate=1e-3, smoothness=0.2)

    def fit(pose, keypoints, confidence):
        return lambda poses: 5 * poses[..., :2] + 8, pose.new_full((len(pose),), 5)

    result = optimise(
        start,
        keypoints,
        torch.ones(92, 17),
        weighting=weighting("constant"),
        lengths=[40, 40, 6, 6],
        projection=fit,
        variables=network(model, observations),
        **settings,
    )
    adam = torch.optim.Adam(model.parameters(), settings["learning_rate"], fused=False, foreach=False)
    for _ in range(settings["iterations"]):
        poses = [model(clip)[0] for clip in observations]
        loss = (5 * torch.cat(poses)[..., :2] + 8 - keypoints).square().sum()
        loss = loss + settings["smoothness"] * sum((5 * clip.diff(dim=0)).square().sum() for clip in poses)
        adam.zero_grad()
        loss.backward()
        adam.step()
    expected = torch.cat([model(clip)[0] for clip in observations]).detach()
    assert (expected - start).abs().max() > 0.01
    torch.testing.assert_close(result.pose, expected, rtol=0, atol=1e-7)
