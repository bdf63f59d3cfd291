"""The lifter's training losses, Eq. 1-6 of the paper.

Poses are root-relative, in metres. Squared errors are expressed in ``unit`` squared, ``unit`` in metres (the
parameter ``loss_unit``), because the GAN term has no unit: the paper's weight of 0.01 for it swamps a regression in
metres squared and vanishes in millimetres squared.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from isopose.arrays import check_array
from isopose.camera import fit_weak_perspective
from isopose.errors import UserError
from isopose.iso.projection import LEAST_TORSO, TORSO, fit_root, fit_torso
from isopose.portable import square_root

MAX_TILT = 0.2 * math.pi
"""Bound of the rotations about x and z in Eq. 5, rad."""

PENALTY_WEIGHT = 10.0
"""lambda of WGAN-GP's gradient penalty (Gulrajani et al., Improved Training of Wasserstein GANs, 2017, section 4)."""

_LARGEST_SPREAD = 1.0
"""No person's joints are further than this from their mean, as root mean square, m."""


def pose_loss(predicted: Tensor, target: Tensor, unit: float, counted: Tensor | None = None) -> Tensor:
    """L_3d (Eq. 1): mean squared distance of joints, both (..., 17, 3), m.

    counted: which joints are labels, broadcast to (..., 17); all if None.
    """
    check_array("target", target, tuple(predicted.shape))
    squares = (predicted - target).square().sum(-1)
    weights = torch.ones_like(squares) if counted is None else counted.to(squares).expand_as(squares)
    return (weights * squares).sum() / weights.sum() / unit**2


def multi_view_loss(
    first: Tensor, second: Tensor, first_rotation: Tensor, second_rotation: Tensor, unit: float
) -> Tensor:
    """L_mv (Eq. 2): mean squared distance of two views' poses (B, T, 17, 3) after rotating one into the other.

    The rotations (B, 3, 3) are the cameras' (world to camera), so R_v1->v2 = R_v2 R_v1^T.
    """
    relative = second_rotation @ first_rotation.transpose(-1, -2)
    return pose_loss(torch.einsum("bij,btkj->btki", relative, first), second, unit)


def projection_loss(
    predicted: Tensor, target: Tensor, visible: Tensor, box: Tensor, unit: float, projection: str = "weak_perspective"
) -> Tensor:
    """L_2d (Eq. 3): mean squared distance, over visible joints, of the projected pose and its 2D target.

    predicted (..., 17, 3), m; target (..., 17, 2), crop coordinates; visible (..., 17) in 0..1; box (..., 3): centre
    and side of the crop in normalised image coordinates (x / z, y / z). projection: one of :data:`MISFITS`; what it
    fits to a frame is fitted in closed form to the frame's visible joints and not differentiated through. Distances
    are in metres at the person, whatever the target's unit is. Frames with fewer than two visible joints (of the
    torso, for "torso") tell nothing; what the target of a hidden joint is does not matter, NaN included.
    """
    check_array("target", target, (..., predicted.shape[-2], 2))
    if projection not in MISFITS:
        raise UserError(f"projection '{projection}' is unknown; expected one of {', '.join(MISFITS)}")
    telling = visible[..., TORSO] if projection == "torso" else visible
    visible = visible.to(predicted.dtype) * (telling.sum(-1, keepdim=True) > 1)
    target = torch.where(visible[..., None] > 0, target, 0)
    misfit = MISFITS[projection](predicted, target, visible, box)
    return (visible * misfit.square().sum(-1)).sum() / visible.sum().clamp(min=1) / unit**2


def weak_perspective_misfit(predicted: Tensor, target: Tensor, visible: Tensor, box: Tensor) -> Tensor:
    """Orth() as the weak-perspective camera that fits best, (..., 17, 2), m; arguments as in :func:`projection_loss`.

    The target may have any unit; the box does not matter.
    """
    weights = visible[..., None] / visible.sum(-1).clamp(min=1)[..., None, None]
    with torch.no_grad():
        centred = target - (weights * target).sum(-2, keepdim=True)
        spread = square_root((weights * centred.square()).sum((-2, -1), keepdim=True))
        target = centred / spread.clamp(min=1e-9)
        scale, _ = fit_weak_perspective(predicted[..., :2], target, visible)
        # Of a pose that does not resemble its target the fit tends to 0, but a person is at most so large.
        scale = scale.clamp(min=1 / _LARGEST_SPREAD)
        shift = -scale * (weights * predicted[..., :2]).sum(-2, keepdim=True)
    return (scale * predicted[..., :2] + shift - target) / scale


def torso_misfit(predicted: Tensor, target: Tensor, visible: Tensor, box: Tensor) -> Tensor:
    """Orth() of a torso-normalised person, (..., 17, 2), m; arguments as in :func:`projection_loss`.

    Pose and target are each centred by their own torso, and the target is scaled to the torso of the pose. The target
    may have any unit; the box does not matter.
    """
    seen = _all_if_none(visible)
    with torch.no_grad():
        centre, size = fit_torso(predicted[..., :2], seen)
        target_centre, target_size = fit_torso(target, seen)
        target = target - target_centre
        spread = (seen[..., None] * target.square()).sum((-2, -1), keepdim=True) / seen.sum(-1)[..., None, None]
        # A torso whose joints lie on each other in the image tells no scale, but a person is at most so large.
        metres = torch.minimum(size.clamp(min=LEAST_TORSO) / target_size, _LARGEST_SPREAD / square_root(spread))
        metres = metres.nan_to_num(nan=0.0, posinf=0.0)
    return predicted[..., :2] - centre - metres * target


def perspective_misfit(predicted: Tensor, target: Tensor, visible: Tensor, box: Tensor) -> Tensor:
    """Known camera, (..., 17, 2), m at the depth of the root; arguments as in :func:`projection_loss`.

    A crop's coordinates and its box give the lines of sight, square pixels and a lens without distortion presumed.
    """
    rays = box[..., None, :2] + target * box[..., None, 2:] / 2
    with torch.no_grad():
        root = fit_root(predicted.flatten(0, -3), rays.flatten(0, -3), _all_if_none(visible).flatten(0, -2))
        root = root.view(*predicted.shape[:-2], 1, 3)
    joints = predicted + root
    return (joints[..., :2] / joints[..., 2:] - rays) * root[..., 2:]


def _all_if_none(visible: Tensor) -> Tensor:
    """visible (..., 17), but ones where a frame has none: what is fitted to a frame that does not count is finite."""
    return torch.where(visible.sum(-1, keepdim=True) > 0, visible, 1)


MISFITS = {
    "weak_perspective": weak_perspective_misfit,
    "torso": torso_misfit,
    "perspective": perspective_misfit,
}
"""Orth() of Eq. 3 by name: distances (..., 17, 2), m, from the projected pose to its 2D target."""


def random_rotations(count: int, generator: torch.Generator) -> Tensor:
    """Rotations (count, 3, 3) of Eq. 5: beta about y (vertical) in [-pi, pi], alpha about x, gamma about z smaller.

    The turn about y comes first, so that the person stays within 0.2 pi of upright along each axis.
    """
    alpha, beta, gamma = (2 * torch.rand(3, count, generator=generator) - 1) * torch.tensor(
        [[MAX_TILT], [math.pi], [MAX_TILT]]
    )
    return _axis_rotation(gamma, 2) @ _axis_rotation(alpha, 0) @ _axis_rotation(beta, 1)


def _axis_rotation(angle: Tensor, axis: int) -> Tensor:
    """Rotations (N, 3, 3) by angles (N,), rad, about one axis."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    rotation = torch.eye(3).repeat(len(angle), 1, 1)
    rotation[:, first, first] = rotation[:, second, second] = angle.cos()
    rotation[:, second, first] = angle.sin()
    rotation[:, first, second] = -angle.sin()
    return rotation


def rotate(poses: Tensor, rotations: Tensor) -> Tensor:
    """R X (Eq. 5): turn each clip of poses (B, T, 17, 3) by its rotation (B, 3, 3)."""
    return torch.einsum("bij,btkj->btki", rotations, poses)


Judge = Callable[[Tensor], Tensor]
"""A discriminator: poses (B, T, 17, 3), m, root-relative, to logits (B, T), high for real motion."""

OBJECTIVES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "non_saturating": (
        lambda fake: F.softplus(-fake).mean(),
        lambda real, fake: F.softplus(-real).mean() + F.softplus(fake).mean(),
    ),
    "least_squares": (
        lambda fake: (fake - 1).square().mean(),
        lambda real, fake: ((real - 1).square().mean() + fake.square().mean()) / 2,
    ),
    "wgan_gp": (
        lambda fake: -fake.mean(),
        lambda real, fake: fake.mean() - real.mean(),
    ),
}
"""What is minimised by name: the generator's loss of fake logits, the discriminator's of real and fake ones.

non_saturating: cross entropy, the standard GAN (Goodfellow et al. 2014). least_squares: Mao et al. 2017. wgan_gp:
Gulrajani et al. 2017, whose discriminator has :func:`gradient_penalty` besides.
"""


def _objective(name: str) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]:
    if name not in OBJECTIVES:
        raise UserError(f"GAN objective '{name}' is unknown; expected one of {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]


def generator_loss(fake_logits: Tensor, objective: str) -> Tensor:
    """L_gen: what the lifter, or inference stage optimisation, minimises of the discriminator's logits.

    Raises UserError for an objective that is not in OBJECTIVES.
    """
    of_fake, _ = _objective(objective)
    return of_fake(fake_logits)


def discriminator_loss(
    discriminator: Judge, real: Tensor, fake: Tensor, objective: str, generator: torch.Generator
) -> Tensor:
    """What the discriminator minimises of real and fake clips, (B, T, 17, 3) each, of which B may differ.

    wgan_gp alone draws from the generator (of the CPU), and adds the gradient penalty at random interpolates. Raises
    UserError for an objective that is not in OBJECTIVES.
    """
    _, of_both = _objective(objective)
    loss = of_both(*discriminator(torch.cat([real, fake])).split([len(real), len(fake)]))
    if objective == "wgan_gp":
        loss = loss + PENALTY_WEIGHT * gradient_penalty(discriminator, interpolates(real, fake, generator))
    return loss


def interpolates(real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
    """A clip at a uniform random place on the line from each real clip (B, T, 17, 3) to a random fake one (N, ...)."""
    partner = torch.randint(len(fake), (len(real),), generator=generator).to(fake.device)
    share = torch.rand(len(real), 1, 1, 1, generator=generator).to(real)
    return torch.lerp(real, fake[partner], share)


def gradient_penalty(discriminator: Judge, clips: Tensor) -> Tensor:
    """Mean of (|gradient| - 1)^2 over clips (B, T, 17, 3): WGAN-GP's penalty, before its weight.

    The discriminator judges frames, the penalty clips: the gradient is that of a clip's mean logit, its norm runs over
    all T x 17 x 3 coordinates, 1/m. So the mean logit becomes 1-Lipschitz in the Euclidean distance of whole clips.
    """
    clips = clips.detach().requires_grad_(True)
    values = discriminator(clips).mean(1)
    (gradient,) = torch.autograd.grad(values.sum(), clips, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def total_loss(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """L (Eq. 6): L_3d + w_1 L_mv + w_2 L_2d + w_3 L'_gen.

    terms and weights are keyed pose, multi_view, projection and adversarial; pose always counts once.
    """
    return sum((weights[name] * value for name, value in terms.items() if name != "pose"), start=terms["pose"])
