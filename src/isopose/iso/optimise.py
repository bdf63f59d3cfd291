"""Inference stage optimisation (paper 3.5, Eq. 8 and 10): moves any lifter's 3D poses toward the 2D detections.

The variable is the 3D skeleton X itself. All frames of all clips are optimised at once by Adam; clips never touch:
the smoothness term and the discriminator see one clip at a time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isopose.arrays import check_array
from isopose.evaluation.metrics import mpjpe
from isopose.iso.projection import Fit, weak_perspective
from isopose.iso.weights import Weighting
from isopose.skeleton import NUM_JOINTS
from isopose.training.losses import generator_loss

Discriminator = Callable[[Tensor], Tensor]
"""Poses `(N, T, 17, 3)`, m, root-relative -> logits `(N, T)` or `(N,)`, high for real motion."""


@dataclass(frozen=True)
class Result:
    """Optimised poses `(F, 17, 3)` and the trace of the optimisation.

    The trace holds arrays `(iterations + 1,)`, from the initial pose to the final one: `total`, `reprojection`,
    `smoothness` and `adversarial` (Eq. 10 and its terms, a frame, before their factors), `pixels` (mean distance of
    projection and detection) and, with a reference, `mpjpe` (in the unit of the poses).
    """

    pose: Any
    trace: dict[str, np.ndarray]


def optimise(
    pose: Any,
    keypoints: Any,
    confidence: Any,
    *,
    weighting: Weighting,
    lengths: Sequence[int] | None = None,
    iterations: int = 150,
    learning_rate: float = 3e-4,
    smoothness: float = 0.05,
    adversarial: float = 0.1,
    adversarial_every: int = 1,
    discriminator: Discriminator | None = None,
    objective: str = "non_saturating",
    segment_frames: int = 64,
    detach_weights: bool = False,
    projection: Fit = weak_perspective,
    reference: Any = None,
) -> Result:
    """Minimise Eq. 10 over the poses.

    Args:
        pose: initial poses `(F, 17, 3)`, m, root-relative camera frame; numpy array or torch tensor. The result is
            of the same kind, on the same device. The root does not move.
        keypoints: detections `(F, 17, 2)`, heatmap pixels; of a joint that was not found, any point.
        confidence: of the detections `(F, 17)`, 0..1, as the weighting expects it.
        weighting: `w_k` of Eq. 8, a function of distance (heatmap pixels) and confidence, see `isopose.iso.weights`.
        lengths: frames of each clip, in order; one clip if None.
        iterations: steps of Adam.
        learning_rate: of Adam; about the largest step of a coordinate, m an iteration.
        smoothness: lambda_2, on squared heatmap pixels a frame.
        adversarial: lambda_1.
        adversarial_every: evaluate the discriminator's gradient in every n-th iteration and keep it in between.
        discriminator: no adversarial term without it.
        objective: of the GAN that trained the discriminator, see `isopose.training.losses.OBJECTIVES`.
        segment_frames: length T of the clips the discriminator sees.
        detach_weights: treat the weights as constants of each iteration instead of differentiating through them.
        projection: how poses are projected, see `isopose.iso.projection`.
        reference: true poses `(F, 17, 3)`; adds `mpjpe` to the trace and changes nothing else.

    Raises:
        ValueError: names the argument that has another shape, holds NaN or infinity, or a clip without frames.
    """
    initial = torch.as_tensor(pose)
    keypoints, confidence = (torch.as_tensor(array).to(initial) for array in (keypoints, confidence))
    reference = None if reference is None else torch.as_tensor(reference).to(initial)
    lengths = [len(initial)] if lengths is None else list(lengths)
    _check_arguments(initial, keypoints, confidence, reference, lengths)

    project, scale = projection(initial, keypoints, confidence)
    step_scale = _step_scale(scale, lengths)
    segments = Segments.cut(lengths, segment_frames, initial.device) if discriminator and adversarial else None
    skeleton = _coordinates_first(initial).requires_grad_(True)
    keypoints = _coordinates_first(keypoints)
    optimiser = torch.optim.Adam([skeleton], lr=learning_rate, fused=True)
    adversarial_loss, adversarial_gradient = initial.new_zeros(()), initial.new_zeros(())
    trace = []
    for iteration in range(iterations + 1):
        distance = _distance(project(skeleton), keypoints)
        weight = weighting(distance.detach() if detach_weights else distance, confidence)
        reprojection_loss = (weight * distance**2).sum()  # Eq. 8
        (reprojection_gradient,) = torch.autograd.grad(reprojection_loss, skeleton)
        smoothness_loss, smoothness_gradient = smoothness_term(skeleton.detach(), step_scale)
        if segments is not None and iteration % adversarial_every == 0:
            adversarial_loss = segments.generator_loss(discriminator, skeleton, objective)
            (adversarial_gradient,) = torch.autograd.grad(adversarial_loss, skeleton)
        trace.append(
            {
                "total": reprojection_loss.detach()
                + smoothness * smoothness_loss
                + adversarial * adversarial_loss.detach(),
                "reprojection": reprojection_loss.detach(),
                "smoothness": smoothness_loss,
                "adversarial": adversarial_loss.detach(),
                "pixels": distance.detach().mean(-1).sum(),
            }
            | ({} if reference is None else {"mpjpe": mpjpe(skeleton.detach(), reference).sum()})
        )
        if iteration < iterations:
            # The fused Adam takes for granted that gradient and variable share their memory layout: this one does.
            gradient = smoothness_gradient.mul_(smoothness).add_(reprojection_gradient)
            gradient.add_(adversarial_gradient, alpha=adversarial)
            gradient[:, 0] = 0
            skeleton.grad = gradient
            optimiser.step()

    averages = {name: torch.stack([row[name] for row in trace]).cpu().numpy() / len(initial) for name in trace[0]}
    result = skeleton.detach()
    return Result(result.numpy() if isinstance(pose, np.ndarray) else result, averages)


def _check_arguments(
    pose: Tensor, keypoints: Tensor, confidence: Tensor, reference: Tensor | None, lengths: Sequence[int]
) -> None:
    check_array("pose", pose, ("F", NUM_JOINTS, 3), finite=True)
    frames = len(pose)
    check_array("keypoints", keypoints, (frames, NUM_JOINTS, 2), finite=True)
    check_array("confidence", confidence, (frames, NUM_JOINTS), finite=True)
    if reference is not None:
        check_array("reference", reference, (frames, NUM_JOINTS, 3))
    if sum(lengths) != frames:
        raise ValueError(f"lengths: clips of {sum(lengths)} frames in all, but {frames} poses")
    if min(lengths, default=0) < 1:
        raise ValueError(f"lengths: {min(lengths, default=0)} frames; expected at least 1 in every clip")


def smoothness_term(pose: Tensor, step_scale: Tensor) -> tuple[Tensor, Tensor]:
    """Third term of Eq. 10, squared heatmap pixels, and its gradient `(F, 17, 3)`.

    pose `(F, 17, 3)`, step_scale `(F - 1, 1, 1)` in pixels a metre. The gradient is written out because autograd
    would copy all poses four times for the two slices.
    """
    step = (pose[1:] - pose[:-1]) * step_scale
    pull = 2 * step_scale * step
    gradient = torch.zeros_like(pose)
    gradient[1:] = pull
    gradient[:-1] -= pull
    return (step * step).sum(), gradient


def _coordinates_first(points: Tensor) -> Tensor:
    """A copy `(F, 17, D)` whose memory holds one coordinate after the other: sums over D then run over long rows."""
    return points.movedim(-1, 0).clone(memory_format=torch.contiguous_format).movedim(0, -1)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distance; the small constant keeps the gradient finite where the points coincide."""
    gap = a - b
    return ((gap * gap).sum(-1) + 1e-12).sqrt()


def _step_scale(scale: Tensor, lengths: Sequence[int]) -> Tensor:
    """Pixels a metre for the step from each frame to the next, `(F - 1, 1, 1)`: 0 from one clip to another.

    A clip has one scale, the median of its frames: a badly detected frame must not change how much motion costs.
    """
    steps = torch.cat([clip.median().expand_as(clip) for clip in scale.split(lengths)])[:-1].clone()
    boundaries = np.cumsum(lengths)[:-1] - 1
    steps[boundaries] = 0
    return steps[:, None, None]


@dataclass(frozen=True)
class Segments:
    """Clips cut into pieces of T frames for the discriminator: the last piece overlaps, short clips repeat their end.

    index `(N, T)`: frames of each piece; own `(N, T)`: whether no piece before has the frame, so each counts once.
    """

    index: Tensor
    own: Tensor

    @classmethod
    def cut(cls, lengths: Sequence[int], frames: int, device: torch.device) -> "Segments":
        """Cut clips of these lengths into pieces of `frames` frames."""
        index, own = [], []
        for first, length in zip(np.cumsum([0, *lengths[:-1]]), lengths, strict=True):
            for start in range(0, length, frames):
                piece = max(min(start, length - frames), 0) + np.arange(frames)
                index.append(first + np.minimum(piece, length - 1))
                own.append((piece >= start) & (piece < length))
        return cls(*(torch.as_tensor(np.stack(rows)).to(device) for rows in (index, own)))

    def generator_loss(self, discriminator: Discriminator, pose: Tensor, objective: str) -> Tensor:
        """L_gen of Eq. 10, summed over frames."""
        logits = discriminator(pose[self.index])
        logits = logits.reshape(len(self.index), -1).expand(self.own.shape)[self.own]
        return generator_loss(logits, objective) * len(logits)
