import pytest
import torch

from isopose.errors import UserError
from isopose.models.dilated_tcn import DilatedTCN
from isopose.models.tcn import MultiStrideTCN


def randomised(model):
    """Give the zero-initialised head and the normalisation random numbers, as training would."""
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) - (0 if "var" in name else 0.5))
    return model.double().eval()


MODELS = {
    "multi_stride": lambda frames: MultiStrideTCN(6, width=8, frames=frames),
    "one_stride": lambda frames: MultiStrideTCN(6, width=8, strides=[1], frames=frames, max_layers=50),
    "dilated": lambda frames: DilatedTCN(6, width=8, frames=frames),
}


@pytest.fixture(params=MODELS)
def build(request):
    return lambda frames: randomised(MODELS[request.param](frames))


@pytest.mark.parametrize("frames", [16, 27, 64])
def test_a_prediction_sees_its_window_and_no_more_than_t_frames(build, frames):
    model = build(frames)
    x = torch.randn(1, 101, 6, dtype=torch.float64, requires_grad=True)
    model(x)[0, 50].sum().backward()
    seen = x.grad.abs().sum(-1)[0].nonzero()[:, 0]
    assert seen[-1] - seen[0] + 1 == model.receptive_field <= frames
    assert seen[0] == 50 - model.reach


def test_the_answer_does_not_depend_on_how_the_clip_is_cut(build):
    model = build(32)
    x = torch.randn(2, 120, 6, dtype=torch.float64)
    whole = model(x)
    assert whole.shape == (2, 120, 17, 3)
    for start, stop in ((0, 70), (20, 100), (35, 120)):
        inner = slice(start + model.reach if start else 0, stop - model.reach if stop < 120 else 120)
        piece = model(x[:, start:stop])
        torch.testing.assert_close(
            piece[:, inner.start - start : inner.stop - start], whole[:, inner], atol=1e-5, rtol=0
        )


def test_a_clip_shorter_than_the_window_is_lifted(build):
    assert build(64)(torch.randn(1, 1, 6, dtype=torch.float64)).shape == (1, 1, 17, 3)


def test_the_layers_of_a_branch_follow_from_t():
    model = MultiStrideTCN(6, width=8, strides=[1, 2, 3, 5, 7], frames=64, max_layers=100)
    assert [len(branch.blocks) for branch in model.branches] == [63 // (2 * s) for s in (1, 2, 3, 5, 7)]


def test_a_stride_that_does_not_fit_is_refused():
    with pytest.raises(UserError, match="stride of 7"):
        MultiStrideTCN(6, frames=14)
    with pytest.raises(UserError, match="at least 3"):
        DilatedTCN(6, frames=2)
