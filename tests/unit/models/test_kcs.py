import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from isopose.models.kcs import spatial_kcs, temporal_kcs, upper_triangle
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


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31 - 1), st.floats(0.1, 10))
def test_spatial_kcs_ignores_rotation_and_translation_and_squares_the_scale(seed, scale):
    rng = np.random.default_rng(seed)
    poses = torch.from_numpy(rng.normal(size=(5, 17, 3)))
    rotation = torch.from_numpy(Rotation.random(rng=rng).as_matrix())
    moved = scale * poses @ rotation.T + torch.from_numpy(rng.normal(0, 10, 3))
    torch.testing.assert_close(spatial_kcs(moved), scale**2 * spatial_kcs(poses), rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31 - 1), st.integers(1, 8))
def test_temporal_kcs_is_zero_for_rigid_motion_and_not_when_a_joint_bends(seed, interval):
    rng = np.random.default_rng(seed)
    rotations = torch.from_numpy(Rotation.random(7, rng=rng).as_matrix())
    body = torch.from_numpy(rng.normal(size=(7, 17, 3)))
    clip = torch.einsum("tij,tkj->tki", rotations, body[:1].expand(7, -1, -1))
    clip = clip + torch.from_numpy(rng.normal(0, 5, (7, 1, 3)))
    assert temporal_kcs(clip, interval).abs().max() < 1e-11
    clip[3:, 16] += 0.1
    changed = temporal_kcs(clip, 1).abs().amax((1, 2)) > 1e-4
    assert changed[2]


def test_temporal_kcs_is_the_change_of_psi_padded_at_the_end():
    poses = random_poses(2, 9)
    phi, psi = temporal_kcs(poses, interval=3), spatial_kcs(poses)
    assert phi.shape == (2, 9, 16, 16)
    for frame in range(6):
        torch.testing.assert_close(phi[:, frame], psi[:, frame + 3] - psi[:, frame])
    assert (phi[:, 6:] == 0).all()


def test_temporal_kcs_of_a_clip_shorter_than_the_interval_is_zero():
    assert torch.equal(temporal_kcs(random_poses(2), interval=3), torch.zeros(2, 16, 16, dtype=torch.float64))


def test_bones_without_length_have_inner_products_of_zero_and_finite_gradients():
    pose = torch.zeros(3, 17, 3, dtype=torch.float64, requires_grad=True)
    psi, phi = spatial_kcs(pose), temporal_kcs(pose)
    (psi.sum() + phi.sum()).backward()
    assert (psi == 0).all() and (phi == 0).all() and (pose.grad == 0).all()


@pytest.mark.parametrize("joints", [16, 32])
def test_another_skeleton_is_told(joints):
    for kcs in (spatial_kcs, temporal_kcs):
        with pytest.raises(ValueError, match=rf"pose: shape \(4, {joints}, 3\); expected \(..., (T, )?17, 3\)"):
            kcs(torch.zeros(4, joints, 3))
    with pytest.raises(ValueError, match=r"pose: shape \(17, 3\); expected \(..., T, 17, 3\)"):
        temporal_kcs(torch.zeros(17, 3))
    with pytest.raises(ValueError, match="interval: 0; expected at least 1 frame"):
        temporal_kcs(torch.zeros(4, 17, 3), interval=0)


@pytest.mark.parametrize("products", [spatial_kcs, temporal_kcs])
def test_upper_triangle_holds_all_that_the_matrix_does(products):
    matrices = products(random_poses(2, 5))
    numbers = upper_triangle(matrices)
    assert numbers.shape == (2, 5, 136)
    whole = np.zeros((2, 5, 16, 16))
    whole[..., *np.triu_indices(16)] = numbers
    whole = whole + np.triu(whole, 1).swapaxes(-1, -2)
    np.testing.assert_allclose(whole, matrices, atol=1e-12)
