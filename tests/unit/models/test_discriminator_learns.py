"""What the discriminator is for: people it never saw, in motion or with their frames in random order."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from isopose.datasets.synthetic import generate
from isopose.models.discriminator import Discriminator
from isopose.training import losses

FRAMES = 24
ACTIONS = ("walking", "jogging", "boxing", "waving", "kicking", "jumping")


def real_clips(subjects, seed):
    """30 clips a subject (180, 24, 17, 3), m, root-relative, y down, 50 frames a second."""
    motions = [
        generate(subject, action, 1.0, 5 * FRAMES / 50, 50, seed + index)
        for subject in subjects
        for index, action in enumerate(ACTIONS)
    ]
    x, y, z = np.moveaxis(np.concatenate(motions).reshape(-1, FRAMES, 17, 3), -1, 0)
    clips = torch.from_numpy(np.stack([x, -z, y], -1)).float()
    return clips - clips[:, :, :1]


def shuffled(clips, generator):
    order = torch.rand(clips.shape[:2], generator=generator).argsort(1)
    return clips.take_along_dim(order[..., None, None], 1)


@pytest.fixture(scope="module")
def seen():
    return real_clips(["S1", "S2", "S3", "S4", "S5", "S6"], seed=0)


@pytest.fixture(scope="module")
def held_out():
    """Other subjects, other variations of the actions; real and shuffled."""
    clips = real_clips(["S7", "S8", "S9", "S10", "S11", "S12"], seed=100)
    return clips, shuffled(clips, torch.Generator().manual_seed(1))


def trained(clips, objective, **options):
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    discriminator = Discriminator(width=16, **options)
    discriminator.fit_scales(clips)
    optimizer = torch.optim.Adam(discriminator.parameters(), 1e-3, betas=(0.5, 0.99))
    for _ in range(200):
        real, fake = clips[torch.randint(len(clips), (2, 16), generator=generator)]
        real, fake = (
            losses.rotate(batch, losses.random_rotations(16, generator)) for batch in (real, shuffled(fake, generator))
        )
        optimizer.zero_grad()
        losses.discriminator_loss(discriminator, real, fake, objective, generator).backward()
        optimizer.step()
    return discriminator


@torch.no_grad()
def values(discriminator, real, fake):
    """A clip's mean logit, of real clips and of fake ones."""
    return discriminator(real).mean(1), discriminator(fake).mean(1)


def auroc(real_values, fake_values):
    return roc_auc_score([1] * len(real_values) + [0] * len(fake_values), torch.cat([real_values, fake_values]))


@pytest.mark.parametrize(
    ("objective", "upper_triangle"), [("non_saturating", False), ("least_squares", False), ("least_squares", True)]
)
def test_it_tells_motion_from_frames_in_random_order(seen, held_out, objective, upper_triangle):
    discriminator = trained(seen, objective, upper_triangle=upper_triangle)
    assert auroc(*values(discriminator, *held_out)) > 0.9


def test_the_spatial_kind_cannot_as_each_frame_is_a_valid_pose(seen, held_out):
    discriminator = trained(seen, "least_squares", kind="spatial")
    assert auroc(*values(discriminator, *held_out)) == pytest.approx(0.5, abs=0.05)


def test_the_critic_of_wgan_gp_ranks_motion_higher_and_its_slope_is_one(seen, held_out):
    """How far a clip is from the fakes differs from action to action, so each clip is compared with its own shuffle."""
    discriminator = trained(seen, "wgan_gp")
    real_values, fake_values = values(discriminator, *held_out)
    assert (real_values > fake_values).float().mean() > 0.8
    clips = losses.interpolates(*held_out, torch.Generator().manual_seed(2)).requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(clips).mean(1).sum(), clips)
    assert gradient.flatten(1).norm(dim=1).mean().item() == pytest.approx(1, abs=0.4)
