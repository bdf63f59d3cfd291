import numpy as np
import torch
from scipy.spatial.transform import Rotation

from isopose.models.kcs import spatial_kcs, temporal_kcs
from isopose.skeleton import BONES


def random_poses(*shape):
    return torch.randn(*shape, 17, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_spatial_kcs_is_every_inner_product_of_bones():
    poses = random_poses(2, 3)
    psi = spatial_kcs(poses)
    assert psi.shape == (2, 3, 16, 16)
    pose = poses[1, 2].numpy()
    for m, (a, b) in enumerate(BONES):
        for n, (c, d) in enumerate(BONES):
            np.testing.assert_allclose(psi[1, 2, m, n], np.dot(pose[b] - pose[a], pose[d] - pose[c]))


def test_spatial_kcs_ignores_rotation_and_translation():
    poses = random_poses(5)
    rotation = torch.from_numpy(Rotation.random(rng=0).as_matrix())
    moved = poses @ rotation.T + torch.tensor([1.0, -2.0, 3.0])
    torch.testing.assert_close(spatial_kcs(moved), spatial_kcs(poses))


def test_temporal_kcs_is_zero_for_rigid_motion():
    rotations = torch.from_numpy(Rotation.random(7, rng=1).as_matrix())
    clip = torch.einsum("tij,kj->tki", rotations, random_poses()) + torch.randn(7, 1, 3, dtype=torch.float64)
    assert temporal_kcs(clip, 2).abs().max() < 1e-12


def test_temporal_kcs_is_the_change_of_psi_padded_at_the_end():
    poses = random_poses(2, 9)
    phi, psi = temporal_kcs(poses, interval=3), spatial_kcs(poses)
    assert phi.shape == (2, 9, 16, 16)
    for frame in range(6):
        torch.testing.assert_close(phi[:, frame], psi[:, frame + 3] - psi[:, frame])
    assert (phi[:, 6:] == 0).all()


def test_temporal_kcs_of_a_clip_shorter_than_the_interval_is_zero():
    assert torch.equal(temporal_kcs(random_poses(2), interval=3), torch.zeros(2, 16, 16, dtype=torch.float64))
