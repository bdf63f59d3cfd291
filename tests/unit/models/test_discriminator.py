import numpy as np
import pytest
import torch

from isopose.errors import UserError
from isopose.models.discriminator import Discriminator


@pytest.mark.parametrize(
    ("options", "inputs"),
    [
        ({}, 256 + 256 + 51),
        ({"coordinates": False}, 512),
        ({"kind": "spatial"}, 256 + 51),
        ({"kind": "spatial", "coordinates": False}, 256),
        ({"upper_triangle": True}, 136 + 136 + 51),
        ({"upper_triangle": True, "coordinates": False}, 272),
        ({"upper_triangle": True, "kind": "spatial"}, 136 + 51),
    ],
)
def test_one_logit_a_frame_from_the_groups_asked_for(options, inputs):
    model = Discriminator(width=8, **options)
    poses = torch.randn(3, 11, 17, 3, requires_grad=True)
    logits = model(poses)
    assert model.enter.in_channels == inputs
    assert logits.shape == (3, 11)
    logits.sum().backward()
    assert (poses.grad != 0).any()


def test_upper_triangles_tell_as_much_as_the_whole_matrices():
    """Weights of the whole matrices, those of the two halves added up, give the same logits."""
    torch.manual_seed(0)
    whole, upper = Discriminator(width=8).double(), Discriminator(width=8, upper_triangle=True).double()
    rows, columns = np.triu_indices(16)
    weights = whole.enter.weight.detach()
    psi, phi, rest = weights[:, :256].view(8, 16, 16), weights[:, 256:512].view(8, 16, 16), weights[:, 512:, 0]
    both = [(m + m.mT - torch.diag_embed(m.diagonal(dim1=1, dim2=2)))[:, rows, columns] for m in (psi, phi)]
    state = whole.state_dict() | {"enter.weight": torch.cat([*both, rest], 1)[..., None]}
    upper.load_state_dict(state)
    poses = torch.randn(2, 9, 17, 3, dtype=torch.float64)
    torch.testing.assert_close(upper(poses), whole(poses))


def test_a_spatial_discriminator_judges_frames_alone():
    torch.manual_seed(0)
    poses = torch.randn(1, 9, 17, 3, requires_grad=True)
    for kind, reach in (("spatial", 0), ("spatial_temporal", 3)):
        (gradient,) = torch.autograd.grad(Discriminator(kind=kind, width=8)(poses)[0, 4], poses)
        seen = gradient.abs().sum((-1, -2))[0].nonzero()[:, 0]
        assert (seen[0], seen[-1]) == (4 - min(reach, 2), 4 + reach)


@pytest.mark.parametrize("upper_triangle", [False, True])
def test_inputs_are_scaled_to_unit_mean_square_over_real_poses(upper_triangle):
    model = Discriminator(width=8, upper_triangle=upper_triangle)
    real = 0.3 * torch.randn(4, 20, 17, 3)
    model.fit_scales(real)
    for group, scale in zip(model._groups(real), model.scales, strict=True):
        torch.testing.assert_close((group / scale).square().mean(), torch.tensor(1.0))


@pytest.mark.parametrize("upper_triangle", [False, True])
def test_saved_and_loaded_it_says_the_same_and_other_files_are_refused(tmp_path, upper_triangle):
    model = Discriminator(width=8, layers=1, interval=2, upper_triangle=upper_triangle)
    model.fit_scales(torch.randn(2, 8, 17, 3))
    model.save(tmp_path / "discriminator.safetensors")
    poses = torch.randn(2, 8, 17, 3)
    loaded = Discriminator.load(tmp_path / "discriminator.safetensors")
    assert torch.equal(loaded(poses), model(poses))
    assert loaded.config == model.config
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="broken.safetensors"):
        Discriminator.load(tmp_path / "broken.safetensors")
    with pytest.raises(UserError, match="kind 'temporal' is unknown"):
        Discriminator(kind="temporal")


@pytest.mark.parametrize("kind", ["spatial", "spatial_temporal"])
@pytest.mark.parametrize("frames", [1, 2])
def test_short_clips_and_bones_without_length_get_finite_logits(kind, frames):
    """Two layers of kernel 3 see five frames."""
    model = Discriminator(kind=kind, width=8)
    for poses in (torch.randn(2, frames, 17, 3), torch.zeros(2, frames, 17, 3)):
        poses.requires_grad_(True)
        logits = model(poses)
        logits.sum().backward()
        assert logits.shape == (2, frames)
        assert logits.isfinite().all() and poses.grad.isfinite().all()


def test_real_clips_that_never_move_leave_finite_logits():
    model = Discriminator(width=8)
    real = torch.randn(3, 1, 17, 3).expand(3, 9, 17, 3)
    model.fit_scales(real)
    assert model.scales[1] == 1
    assert model(real).isfinite().all()


def test_what_are_no_clips_is_told():
    model = Discriminator(width=8)
    with pytest.raises(ValueError, match=r"poses: shape \(9, 17, 3\); expected \(B, T, 17, 3\)"):
        model(torch.zeros(9, 17, 3))
    with pytest.raises(ValueError, match=r"poses: shape \(2, 9, 16, 3\); expected \(B, T, 17, 3\)"):
        model(torch.zeros(2, 9, 16, 3))
    with pytest.raises(ValueError, match="clip without frames"):
        model(torch.zeros(2, 0, 17, 3))
    with pytest.raises(ValueError, match="real: 51 of 918 numbers are NaN"):
        model.fit_scales(torch.where(torch.arange(18).view(2, 9, 1, 1) == 4, torch.nan, torch.zeros(2, 9, 17, 3)))
    assert model(torch.full((1, 3, 17, 3), torch.nan)).isnan().all()


def test_weights_of_another_width_are_told(tmp_path):
    model = Discriminator(width=8)
    model.config["width"] = 16
    model.save(tmp_path / "wide.safetensors")
    with pytest.raises(UserError, match=r"wide.safetensors: .* enter.bias is \(8,\); expected \(16,\)"):
        Discriminator.load(tmp_path / "wide.safetensors")
    model.config["breadth"] = 16
    model.save(tmp_path / "broad.safetensors")
    with pytest.raises(
        UserError, match=r"broad.safetensors: its configuration is not that of a discriminator .*breadth"
    ):
        Discriminator.load(tmp_path / "broad.safetensors")
