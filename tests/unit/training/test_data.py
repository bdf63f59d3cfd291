import numpy as np
import pytest
import torch

from isopose.datasets.store import DetectionStore, SequenceStore
from isopose.errors import UserError
from isopose.skeleton import BONES, JOINTS
from isopose.training.data import Frames, Sampler, read_views
from isopose.training.losses import multi_view_loss, projection_loss


@pytest.fixture(scope="module")
def frames(motion):
    return Frames.load(motion / "train.h5", {"test": motion / "sequences.h5"}, with_maps=True)


def sampler(frames, clips=6, seed=0, **options):
    return Sampler(frames, clips, 16, torch.Generator().manual_seed(seed), **options)


def project_to_crop(poses, box):
    return 2 * (poses[..., :2] / poses[..., 2:] - box[..., None, :2]) / box[..., None, 2:]


def dense(maps, shape):
    result = torch.zeros(int(np.prod(shape)), maps.size**2)
    result.index_put_((maps.map_index, maps.pixel), maps.value, accumulate=True)
    return result.view(*shape, maps.size, maps.size)


def bone_lengths(poses):
    parents, children = zip(*BONES, strict=True)
    return (poses[..., list(children), :] - poses[..., list(parents), :]).norm(dim=-1)


def test_all_views_are_loaded_with_their_boundaries(frames, motion):
    assert np.diff(frames.starts).tolist() == [40, 40, 6, 6]
    assert frames.clips == [[0, 1], [2, 3]]
    with SequenceStore(motion / "sequences.h5") as store, DetectionStore(motion / "train.h5") as detections:
        key = detections.keys()[3]
        clip = store.read(key.clip)
        np.testing.assert_allclose(frames.joints3d[86:], clip.camera_joints(key.view))
        np.testing.assert_allclose(frames.rotations[3], clip.cameras[key.view].R, atol=1e-6)
        maps = detections.read(key).maps
        assert np.array_equal(frames.maps.dense(np.arange(86, 92)), maps.dense())
    crop = project_to_crop(frames.joints3d, frames.box)
    torch.testing.assert_close(frames.joints2d, crop, atol=1e-4, rtol=0)
    assert (frames.coordinates - frames.joints2d).abs().max() < 2 / 16


def test_mean_pose_is_the_mean_of_the_root_relative_poses(frames):
    joints = frames.joints3d.numpy()
    np.testing.assert_allclose(frames.mean_pose, (joints - joints[:, :1]).mean(0), atol=1e-5)


def test_batches_are_clips_of_consecutive_frames(frames):
    batch = sampler(frames, clips=40).draw()
    assert batch.poses.shape == (40, 16, 17, 3)
    assert batch.observations.coordinates.shape == (40, 16, 17, 2)
    relative = frames.joints3d - frames.joints3d[:, :1]
    seen = set()
    for clip in range(40):
        first = (relative - batch.poses[clip, 0]).flatten(1).abs().amax(1).argmin().item()
        view = np.searchsorted(frames.starts, first, side="right") - 1
        index = np.minimum(first + np.arange(16), frames.starts[view + 1] - 1)
        torch.testing.assert_close(batch.poses[clip], relative[index])
        torch.testing.assert_close(batch.joints2d[clip], frames.joints2d[index])
        torch.testing.assert_close(batch.observations.confidence[clip], frames.confidence[index])
        maps = dense(batch.observations.maps, (40, 16, 17))[clip]
        np.testing.assert_allclose(maps, frames.maps.dense(index), atol=1e-6)
        seen.add(int(view))
    assert seen == {0, 1, 2, 3}


def test_the_same_seed_draws_the_same_batch(frames):
    options = {"pairs": True, "flip": 0.5, "rotate3d": 0.5}
    first, second, other = (sampler(frames, seed=seed, **options).draw() for seed in (3, 3, 4))
    assert torch.equal(first.poses, second.poses)
    assert torch.equal(first.observations.maps.value, second.observations.maps.value)
    assert not torch.equal(first.poses, other.poses)


@pytest.mark.parametrize(
    "options",
    [{}, {"flip": 0.5}, {"rotate3d": 0.5}, {"flip": 0.5, "rotate3d": 1.0}, {"flip": 0.5, "virtual_views": 0.5}],
)
def test_pairs_agree_after_rotation_however_they_are_augmented(frames, options):
    batch = sampler(frames, clips=20, pairs=True, **options).draw()
    first, second = batch.poses.chunk(2)
    rotations = batch.rotations.chunk(2)
    assert multi_view_loss(first, second, *rotations, 0.1) < 1e-8
    assert (first - second).abs().amax((1, 2, 3)).min() > 0.01


def test_mirrored_clips_are_consistent(frames):
    plain, mirrored = (sampler(frames, flip=flip).draw() for flip in (1e-9, 1.0))
    torch.testing.assert_close(mirrored.poses[..., 1, 0], -plain.poses[..., 4, 0])
    torch.testing.assert_close(mirrored.joints2d[..., 3, 0], -plain.joints2d[..., 6, 0])
    torch.testing.assert_close(mirrored.visible[..., 12], plain.visible[..., 15])
    assert (mirrored.observations.coordinates - mirrored.joints2d).abs().max() < 2 / 16
    assert (torch.linalg.det(mirrored.rotations) < 0).all()


def test_rotated_skeletons_carry_their_2d_input_along(frames):
    plain, turned = (sampler(frames, rotate3d=rotate3d).draw() for rotate3d in (1e-9, 1.0))
    torch.testing.assert_close(bone_lengths(turned.poses), bone_lengths(plain.poses))
    assert (turned.poses - plain.poses).abs().amax((1, 2, 3)).min() > 0.01
    residual = [b.observations.coordinates - b.joints2d for b in (plain, turned)]
    torch.testing.assert_close(*residual, atol=1e-5, rtol=0)
    maps = dense(turned.observations.maps, (6, 16, 17))
    mass = maps.sum((-1, -2))
    axis = (2 * torch.arange(16) + 1) / 16 - 1
    mean = torch.stack([(maps.sum(-2) * axis).sum(-1), (maps.sum(-1) * axis).sum(-1)], -1) / mass[..., None]
    inside = turned.observations.coordinates.abs().amax(-1) < 0.6
    assert inside.float().mean() > 0.3
    assert (mean - turned.joints2d)[inside].abs().max() < 0.6 * 2 / 16


def test_virtual_views_carry_the_2d_input_along_and_hide_what_the_cylinder_man_does(frames):
    plain, virtual = (sampler(frames, virtual_views=share).draw() for share in (1e-9, 1.0))
    torch.testing.assert_close(bone_lengths(virtual.poses), bone_lengths(plain.poses))
    assert (virtual.poses - plain.poses).abs().amax((1, 2, 3)).min() > 0.01
    # The person stays as upright as it was: its height along the world's vertical does not change.
    heights = [torch.einsum("btkj,bj->btk", batch.poses, batch.rotations[..., 2]) for batch in (plain, virtual)]
    torch.testing.assert_close(*heights, atol=1e-5, rtol=0)
    seen, shown = virtual.observations, virtual.visible.bool()
    assert 0.02 < 1 - shown.float().mean() < 0.4
    assert (seen.coordinates[~shown] == 0).all() and (seen.confidence[~shown] == 0).all()
    assert (dense(seen.maps, (6, 16, 17))[~shown] == 0).all()
    residual = [(b.observations.coordinates - b.joints2d)[shown] for b in (plain, virtual)]
    torch.testing.assert_close(*residual, atol=1e-5, rtol=0)
    assert virtual.joints2d.abs().max() < 1  # the crop has followed
    still = sampler(frames, virtual_views=1e-9).draw()
    torch.testing.assert_close(still.observations.coordinates, sampler(frames).draw().observations.coordinates)


def test_what_is_missing_is_named(motion, tmp_path):
    with pytest.raises(UserError, match="--store <source>=<path>"):
        read_views(motion / "train.h5", {"other": motion / "sequences.h5"})
    with DetectionStore.create(tmp_path / "empty.h5"):
        pass
    with pytest.raises(UserError, match="holds no views"):
        read_views(tmp_path / "empty.h5", {})


def test_frames_without_maps_are_the_same_but_for_the_maps(motion, plain):
    stores = {"test": motion / "sequences.h5"}
    there, here = (Frames.load(folder / "train.h5", stores, with_maps=False) for folder in (motion, plain))
    for name in ("coordinates", "confidence", "box", "joints2d"):
        torch.testing.assert_close(getattr(here, name), getattr(there, name), rtol=0, atol=0)
    with pytest.raises(UserError, match=r"train\.h5: 'test/a/cam1': has keypoints without heatmaps"):
        Frames.load(plain / "train.h5", stores, with_maps=True)
    with pytest.raises(UserError, match=r"validation\.h5: 'test/b/cam1': has keypoints without heatmaps"):
        read_views(plain / "validation.h5", stores, with_maps=True)


def rewritten(motion, tmp_path, change):
    """The training role with its clips changed."""
    with SequenceStore(motion / "sequences.h5") as source, SequenceStore.create(tmp_path / "changed.h5") as target:
        for name in source.clips():
            clip = source.read(name)
            change(clip)
            target.write(clip)
    return Frames.load(motion / "train.h5", {"test": tmp_path / "changed.h5"}, with_maps=True)


def test_joints_that_a_dataset_lacks_are_no_labels(motion, tmp_path):
    def lacks_spine(clip):
        clip.joint_valid[JOINTS.index("spine")] = False

    frames = rewritten(motion, tmp_path, lacks_spine)
    valid = [name != "spine" for name in JOINTS]
    assert frames.valid.bool().tolist() == [valid] * 4 and not frames.only_2d
    assert not frames.visible[:, JOINTS.index("spine")].any() and frames.visible.any()
    batch = sampler(frames, flip=0.5).draw()
    assert batch.valid.bool().tolist() == [valid] * 6


def test_2d_labels_alone_give_the_projection_loss(motion, tmp_path):
    def forget(clip):
        clip.joints3d[:] = np.nan
        for view in clip.views.values():
            view.joints2d[~view.visible] = np.nan

    frames = rewritten(motion, tmp_path, forget)
    assert frames.only_2d
    batch = sampler(frames, flip=0.5).draw()
    predicted = torch.randn(batch.poses.shape, requires_grad=True)
    loss = projection_loss(predicted, batch.joints2d, batch.visible, batch.observations.box, 0.1)
    loss.backward()
    assert loss > 0 and predicted.grad.isfinite().all() and predicted.grad.any()
