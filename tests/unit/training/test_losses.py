import math

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares, minimize
from scipy.spatial.transform import Rotation
from scipy.stats import kstest

from isopose.camera import Camera, project
from isopose.crops import boxes_around
from isopose.errors import UserError
from isopose.models.lifter import normalised_boxes, to_crop
from isopose.skeleton import JOINTS
from isopose.training import losses

UNIT = 0.1
PROJECTIONS = ("weak_perspective", "torso", "perspective")
TORSO = [JOINTS.index(name) for name in ("pelvis", "r_hip", "l_hip", "thorax", "l_shoulder", "r_shoulder")]


def poses(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.4 * torch.randn(*shape, 17, 3, dtype=torch.float64, generator=generator)


def boxes(*shape):
    """Boxes of crops some metres away from the middle of the image."""
    generator = torch.Generator().manual_seed(9)
    return torch.tensor([0.05, -0.03, 0.4]) + 0.02 * torch.rand(*shape, 3, dtype=torch.float64, generator=generator)


def test_pose_loss_is_eq_1():
    predicted, target = poses(2, 3), poses(2, 3, seed=1)
    total = 0.0
    for clip in range(2):
        for frame in range(3):
            for joint in range(17):
                difference = (predicted - target)[clip, frame, joint].numpy() / UNIT
                total += difference @ difference
    assert losses.pose_loss(predicted, target, UNIT).item() == pytest.approx(total / (2 * 3 * 17))


def test_pose_loss_leaves_out_joints_that_are_no_labels():
    predicted, target = poses(2, 3), poses(2, 3, seed=1)
    counted = torch.ones(2, 17, dtype=bool)
    counted[0, [7, 9]] = False
    squares = (predicted - target).square().sum(-1).numpy() / UNIT**2
    terms = [squares[clip][:, counted[clip].numpy()].ravel() for clip in range(2)]
    found = losses.pose_loss(predicted, target, UNIT, counted[:, None])
    assert found.item() == pytest.approx(np.concatenate(terms).mean())


def test_multi_view_loss_is_eq_2():
    first_rotation, second_rotation = Rotation.random(2, rng=0), Rotation.random(2, rng=1)
    world = poses(2, 5)
    views = [
        torch.from_numpy(np.stack([w.numpy() @ r.T for w, r in zip(world, rotation.as_matrix(), strict=True)]))
        for rotation in (first_rotation, second_rotation)
    ]
    matrices = [torch.from_numpy(r.as_matrix()) for r in (first_rotation, second_rotation)]
    assert losses.multi_view_loss(*views, *matrices, UNIT).item() == pytest.approx(0, abs=1e-20)
    error = poses(2, 5, seed=2)
    expected = (error.numpy() ** 2).sum(-1).mean() / UNIT**2
    found = losses.multi_view_loss(views[0], views[1] + error, *matrices, UNIT)
    assert found.item() == pytest.approx(expected)


def test_projection_loss_is_eq_3_with_the_best_weak_perspective_camera():
    predicted = poses(3)
    target = 120 * predicted[..., :2] + 500 + 10 * poses(3, seed=1)[..., :2]
    visible = torch.rand(3, 17, generator=torch.Generator().manual_seed(0)) < 0.7
    squares, count = 0.0, 0
    for pose, points, seen in zip(predicted.numpy(), target.numpy(), visible.numpy(), strict=True):
        xy, points = pose[seen, :2], points[seen]

        def misfit(camera, xy=xy, points=points):
            return ((camera[0] * xy + camera[1:] - points) ** 2).sum()

        camera = minimize(misfit, [100, 500, 500], method="BFGS", options={"gtol": 1e-8}).x
        squares += misfit(camera) / camera[0] ** 2
        count += seen.sum()
    found = losses.projection_loss(predicted, target, visible, boxes(3), UNIT)
    assert found.item() == pytest.approx(squares / count / UNIT**2, rel=1e-6)


def test_projection_loss_is_eq_3_of_torso_normalised_points():
    predicted = poses(3)
    target = 120 * predicted[..., :2] + 500 + 10 * poses(3, seed=1)[..., :2]
    visible = torch.rand(3, 17, generator=torch.Generator().manual_seed(0)) < 0.7
    squares, count = 0.0, 0
    for pose, points, seen in zip(predicted.numpy(), target.numpy(), visible.numpy(), strict=True):
        torso = [joint for joint in TORSO if seen[joint]]
        centres = [np.mean([place[joint] for joint in torso], axis=0) for place in (pose[:, :2], points)]
        sizes = [
            np.sqrt(np.mean([np.sum((place[joint] - centre) ** 2) for joint in torso]))
            for place, centre in zip((pose[:, :2], points), centres, strict=True)
        ]
        for joint in np.flatnonzero(seen):
            here, there = (pose[joint, :2] - centres[0]) / sizes[0], (points[joint] - centres[1]) / sizes[1]
            squares += np.sum((sizes[0] * (here - there)) ** 2)
            count += 1
    found = losses.projection_loss(predicted, target, visible, boxes(3), UNIT, "torso")
    assert found.item() == pytest.approx(squares / count / UNIT**2, rel=1e-9)


def test_projection_loss_is_eq_3_with_the_known_camera():
    predicted, box = poses(2, 3), boxes(2, 3)
    target = poses(2, 3, seed=1)[..., :2]
    visible = torch.rand(2, 3, 17, generator=torch.Generator().manual_seed(0)) < 0.7
    squares, count = 0.0, 0
    for frame in np.ndindex(2, 3):
        seen = visible[frame].numpy()
        pose, rays = predicted[frame][seen].numpy(), (box[frame][:2] + target[frame][seen] * box[frame][2] / 2).numpy()

        def off_the_ray(place, pose=pose, rays=rays):
            joints = pose + place
            return (joints[:, :2] - rays * joints[:, 2:]).ravel()

        root = least_squares(off_the_ray, [0, 0, 4.0], xtol=1e-12, ftol=1e-12, gtol=1e-12).x
        root[2] = max(root[2], 0.5 - predicted[frame][:, 2].min().item())
        root[:2] = np.mean(rays * (pose[:, 2:] + root[2]) - pose[:, :2], axis=0)
        joints = pose + root
        squares += np.sum((root[2] * (joints[:, :2] / joints[:, 2:] - rays)) ** 2)
        count += seen.sum()
    found = losses.projection_loss(predicted, target, visible, box, UNIT, "perspective")
    assert found.item() == pytest.approx(squares / count / UNIT**2, rel=1e-6)


def test_the_known_camera_finds_no_fault_with_the_truth_however_near():
    camera = Camera(np.array([[1100.0, 0, 480], [0, 1100, 520], [0, 0, 1]]), np.eye(3), np.zeros(3))
    truth = poses(4) - poses(4)[:, :1]
    image = project((truth + torch.tensor([0.4, -0.1, 2.5])).numpy(), camera)
    box = boxes_around(image)
    target, box = torch.from_numpy(to_crop(image, box)), torch.from_numpy(normalised_boxes(box, camera))
    found = {p: losses.projection_loss(truth.float(), target, torch.ones(4, 17), box, UNIT, p) for p in PROJECTIONS}
    assert found["perspective"].item() < 1e-8
    assert found["weak_perspective"].item() > 0.01 and found["torso"].item() > 0.01


@pytest.mark.parametrize("projection", ["weak_perspective", "torso"])
def test_projection_loss_has_the_unit_of_the_pose(projection):
    predicted, target = poses(3), poses(3, seed=1)[..., :2]
    small, large = (
        losses.projection_loss(predicted, scale * target + 7, torch.ones(3, 17), boxes(3), UNIT, projection)
        for scale in (1, 1000)
    )
    torch.testing.assert_close(small, large)


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_projection_loss_ignores_hidden_joints_and_frames_that_tell_nothing(projection):
    predicted = poses(2).requires_grad_()
    target = poses(2, seed=1)[..., :2]
    visible = torch.ones(2, 17, dtype=torch.bool)
    visible[0, 5] = False
    visible[1, 1:] = False
    loss = losses.projection_loss(predicted, target, visible, boxes(2), UNIT, projection)
    loss.backward()
    gradient = predicted.grad
    assert (gradient[1] == 0).all()
    assert (gradient[0, 5] == 0).all()
    assert (gradient[..., 2] == 0).all() == (projection != "perspective")
    assert (gradient[0, 6, :2] != 0).all()
    moved = target.clone()
    moved[0, 5] = torch.nan
    moved[1] = torch.nan
    assert losses.projection_loss(predicted, moved, visible, boxes(2), UNIT, projection) == loss
    nothing = losses.projection_loss(predicted, target, torch.zeros(2, 17), boxes(2), UNIT, projection)
    assert nothing.item() == 0


def test_a_frame_of_whose_torso_one_joint_is_seen_tells_a_torso_nothing():
    visible = torch.ones(2, 17)
    visible[1, TORSO[1:]] = 0
    predicted, target, box = poses(2), poses(2, seed=1)[..., :2], boxes(2)
    both = losses.projection_loss(predicted, target, visible, box, UNIT, "torso")
    assert both == losses.projection_loss(predicted[:1], target[:1], visible[:1], box[:1], UNIT, "torso")


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("collapsed", ["pose", "target"])
def test_projection_loss_of_what_has_collapsed_stays_finite(projection, collapsed):
    predicted = poses(1, seed=1).float()
    target = poses(1)[..., :2].float()
    predicted, target = (0 * predicted, target) if collapsed == "pose" else (predicted, 0 * target)
    predicted.requires_grad_()
    loss = losses.projection_loss(predicted, target, torch.ones(1, 17), boxes(1).float(), UNIT, projection)
    loss.backward()
    assert 0 < loss.item() < 5 / UNIT**2
    assert predicted.grad.isfinite().all()


def test_an_unknown_projection_is_refused_by_name():
    with pytest.raises(UserError, match="'fisheye' is unknown; expected one of weak_perspective, torso, perspective"):
        losses.projection_loss(poses(1), poses(1)[..., :2], torch.ones(1, 17), boxes(1), UNIT, "fisheye")


def test_random_rotations_are_eq_5():
    rotations = losses.random_rotations(4000, torch.Generator().manual_seed(0)).double().numpy()
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), np.eye(3)[None].repeat(4000, 0), atol=1e-6)
    gamma, alpha, beta = Rotation.from_matrix(rotations).as_euler("ZXY").T
    for angle, bound in ((alpha, 0.2 * math.pi), (beta, math.pi), (gamma, 0.2 * math.pi)):
        assert np.abs(angle).max() <= bound + 1e-6
        assert np.abs(angle).max() > 0.99 * bound
        assert angle.std() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_rotate_turns_every_frame_of_a_clip():
    rotations = losses.random_rotations(2, torch.Generator().manual_seed(0)).double()
    clips = poses(2, 3)
    turned = losses.rotate(clips, rotations)
    np.testing.assert_allclose(turned[1, 2, 7], rotations[1].numpy() @ clips[1, 2, 7].numpy())


def test_gan_objectives():
    real, fake = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.5, -3.0]])

    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    def discriminator_loss(objective):
        return losses.discriminator_loss(lambda logits: logits, real, fake, objective, torch.Generator()).item()

    expected = -sum(math.log(sigmoid(r)) + math.log(1 - sigmoid(f)) for r, f in ((2, 0.5), (-1, -3))) / 2
    assert discriminator_loss("non_saturating") == pytest.approx(expected)
    expected = -(math.log(sigmoid(0.5)) + math.log(sigmoid(-3))) / 2
    assert losses.generator_loss(fake, "non_saturating").item() == pytest.approx(expected)
    assert discriminator_loss("least_squares") == pytest.approx((1 + 4 + 0.25 + 9) / 4)
    assert losses.generator_loss(fake, "least_squares").item() == pytest.approx((0.25 + 16) / 2)
    assert losses.generator_loss(fake, "wgan_gp").item() == pytest.approx((3 - 0.5) / 2)


@pytest.mark.parametrize(("reals", "fakes"), [(3, 5), (5, 3)])
def test_wgan_gp_of_a_linear_critic(reals, fakes):
    """The gradient of a clip's mean logit is slope / T wherever the interpolates are."""
    real, fake, slope = poses(reals, 4), poses(fakes, 4, seed=1), 3 * poses(4, seed=2)
    found = losses.discriminator_loss(
        lambda clips: (clips * slope).sum((2, 3)) + 7, real, fake, "wgan_gp", torch.Generator()
    )
    real_logits, fake_logits = (
        np.array([[np.vdot(a, x) for a, x in zip(slope.numpy(), clip, strict=True)] for clip in clips.numpy()])
        for clips in (real, fake)
    )
    penalty = (np.linalg.norm(slope.numpy().ravel()) / 4 - 1) ** 2
    assert found.item() == pytest.approx(fake_logits.mean() - real_logits.mean() + 10 * penalty)


def test_gradient_penalty_of_a_quadratic_critic_and_how_it_changes_with_the_critic():
    """Logits s |x_t|^2 / 2: the gradient of a clip's mean is s x / T."""
    clips = poses(3, 4)
    steepness = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    penalty = losses.gradient_penalty(lambda x: steepness * x.square().sum((2, 3)) / 2, clips)
    penalty.backward()
    norms = np.array([np.linalg.norm(clip.numpy().ravel()) / 4 for clip in clips])
    assert penalty.item() == pytest.approx(((1.5 * norms - 1) ** 2).mean())
    assert steepness.grad.item() == pytest.approx((2 * (1.5 * norms - 1) * norms).mean())


def test_interpolates_lie_anywhere_between_a_real_clip_and_any_fake_one():
    real = torch.full((3000, 2, 17, 3), 5.0)
    fake = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 2, 17, 3).clone()
    fake[..., 0] = 6  # the x of all fakes is 1 from the real one's: it tells the share, y the partner
    found = losses.interpolates(real, fake, torch.Generator().manual_seed(0)).double()
    assert (found == found[:, :1, :1]).all()
    share = found[:, 0, 0, 0] - 5
    partner = 5 + (found[:, 0, 0, 1] - 5) / share
    near = share > 0.01
    torch.testing.assert_close(partner[near], partner[near].round(), rtol=0, atol=1e-3)
    for index in range(4):
        shares = share[near & (partner.round() == index)]
        assert len(shares) == pytest.approx(750, abs=5 * math.sqrt(3000 * 0.25 * 0.75))
        assert kstest(shares, "uniform").pvalue > 1e-3


def test_an_unknown_objective_is_refused():
    logits, clips = torch.zeros(2, 3), torch.zeros(2, 3, 17, 3)
    message = "GAN objective 'hinge' is unknown; expected one of non_saturating, least_squares, wgan_gp"
    with pytest.raises(UserError, match=message):
        losses.generator_loss(logits, "hinge")
    with pytest.raises(UserError, match=message):
        losses.discriminator_loss(lambda x: x.sum((2, 3)), clips, clips, "hinge", torch.Generator())


def test_total_loss_is_eq_6():
    names = ("pose", "multi_view", "projection", "adversarial")
    terms = {name: torch.tensor(float(value)) for name, value in zip(names, (1, 10, 100, 1000), strict=True)}
    weights = {"multi_view": 0.5, "projection": 0.1, "adversarial": 0.01}
    assert losses.total_loss(terms, weights).item() == pytest.approx(1 + 5 + 10 + 10)
    assert losses.total_loss({"pose": terms["pose"]}, weights).item() == 1
