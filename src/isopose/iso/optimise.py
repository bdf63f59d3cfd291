"""Inference stage optimisation (paper 3.5, Eq. 8 and 10): moves any lifter's 3D poses toward the 2D detections.

The variable is the 3D skeleton X itself, or whatever else makes the poses (:class:`Variables`). All frames of all clips
are optimised at once by Adam; clips never touch: the smoothness term and the discriminator see one clip at a time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isopose.arrays import check_array
from isopose.iso.projection import Fit, weak_perspective
from isopose.iso.weights import Weighting
from isopose.portable import square_root
from isopose.skeleton import NUM_JOINTS
from isopose.training.losses import generator_loss

Discriminator = Callable[[Tensor], Tensor]
"""Poses `(N, T, 17, 3)`, m, root-relative -> logits `(N, T)` or `(N,)`, high for real motion."""


FARTHEST_START = 1e-3
"""The first poses of other variables than the pose lie so near the initial poses, m: both are one lifter's answer."""


@dataclass(frozen=True)
class Variables:
    """What is optimised instead of the pose: leaf tensors, changed in place, and the poses `(F, 17, 3)` they make.

    tensors: floating point, with `requires_grad`. decode: the poses that they make now, m, root-relative camera frame,
    differentiable. shared: whether several clips depend on the same numbers, as on a network's weights; if not, what
    makes one clip leaves all others alone. `isopose.iso.variables` makes them for this project's lifter.
    """

    tensors: Sequence[Tensor]
    decode: Callable[[], Tensor]
    shared: bool


@dataclass(frozen=True)
class Result:
    """Optimised poses `(F, 17, 3)`, the trace of the optimisation, and the iterations `(clips,)` that each clip moved.

    The trace holds arrays `(iterations + 1,)`, from the initial pose to the final one: `total`, `reprojection`,
    `smoothness` and `adversarial` (Eq. 10 and its terms, a frame, before their factors), `pixels` (mean distance of
    projection and detection) and, with a reference, `mpjpe` (in the unit of the poses), with a tolerance, `moving` (the
    share of the frames that move on). Once all clips have stopped it repeats its last values.
    """

    pose: Any
    trace: dict[str, np.ndarray]
    iterations: np.ndarray


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
    variables: Variables | None = None,
    tolerance: float = 0.0,
    reference: Any = None,
) -> Result:
    """Minimise Eq. 10 over the poses, or over what makes them.

    Args:
        pose: initial poses `(F, 17, 3)`, m, root-relative camera frame; numpy array or torch tensor. The result is
            of the same kind, on the same device. The root does not move. With `variables`, those that they make at
            first: the projection is fitted to them.
        keypoints: detections `(F, 17, 2)`, heatmap pixels; of a joint that was not found, any point.
        confidence: of the detections `(F, 17)`, 0..1, as the weighting expects it.
        weighting: `w_k` of Eq. 8, a function of distance (heatmap pixels) and confidence, see `isopose.iso.weights`.
        lengths: frames of each clip, in order; one clip if None.
        iterations: steps of Adam.
        learning_rate: of Adam; about the largest step of a coordinate, m an iteration, or of another variable, in its
            own unit.
        smoothness: lambda_2, on squared heatmap pixels a frame.
        adversarial: lambda_1.
        adversarial_every: evaluate the discriminator's gradient in every n-th iteration and keep it in between.
        discriminator: no adversarial term without it.
        objective: of the GAN that trained the discriminator, see `isopose.training.losses.OBJECTIVES`.
        segment_frames: length T of the clips the discriminator sees.
        detach_weights: treat the weights as constants of each iteration instead of differentiating through them.
        projection: how poses are projected, see `isopose.iso.projection`.
        variables: what is optimised; the pose itself if None.
        tolerance: early exit. A clip keeps the pose of the first iteration in which its own objective, Eq. 10 over its
            frames, fell by no more than this share of it (of the discriminator, its last loss counts);
            all stop together, by the objective of the batch, where they share variables. 0: never.
        reference: true poses `(F, 17, 3)`, NaN for a joint that is not known; adds `mpjpe`, over the known joints, to
            the trace and changes nothing else.

    Raises:
        ValueError: names the argument that has another shape, holds NaN or infinity, or a clip without frames; or
            variables that do not start at `pose`.
    """
    initial = torch.as_tensor(pose)
    keypoints, confidence = (torch.as_tensor(array).to(initial) for array in (keypoints, confidence))
    reference = None if reference is None else torch.as_tensor(reference).to(initial)
    lengths = [len(initial)] if lengths is None else list(lengths)
    _check_arguments(initial, keypoints, confidence, reference, lengths)

    project, scale = projection(initial, keypoints, confidence)
    step_scale = _step_scale(scale, lengths)
    segments = Segments.cut(lengths, segment_frames, initial.device) if discriminator and adversarial else None
    if variables is None:
        skeleton = _coordinates_first(initial).requires_grad_(True)
        variables = Variables([skeleton], lambda: skeleton, shared=False)
    elif (gap := start_gap(variables, initial)) > FARTHEST_START:
        raise ValueError(f"variables: their poses are {gap:.3g} m off `pose`; expected less than {FARTHEST_START} m")
    clips = [len(initial)] if variables.shared else lengths
    exits = _EarlyExit(clips, tolerance, iterations, initial.device) if tolerance else None
    keypoints = _coordinates_first(keypoints)
    optimiser = torch.optim.Adam(variables.tensors, lr=learning_rate, fused=True)
    logits, adversarial_loss, adversarial_gradient = None, initial.new_zeros(()), initial.new_zeros(())
    trace = []
    for iteration in range(iterations + 1):
        decoded = variables.decode()
        current = (exits.held(decoded.detach()) if exits else decoded.detach()).requires_grad_(True)
        distance = _distance(project(current), keypoints)
        weight = weighting(distance.detach() if detach_weights else distance, confidence)
        squares = weight * distance**2
        reprojection_loss = squares.sum()  # Eq. 8
        (reprojection_gradient,) = torch.autograd.grad(reprojection_loss, current)
        smoothness_loss, smoothness_gradient = smoothness_term(current.detach(), step_scale)
        if segments is not None and iteration % adversarial_every == 0:
            logits = segments.logits(discriminator, current)
            adversarial_loss = _adversarial(logits, objective)
            (adversarial_gradient,) = torch.autograd.grad(adversarial_loss, current)
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
            | ({} if reference is None else {"mpjpe": _error(current.detach(), reference).sum()})
        )
        if exits:
            smooth = smoothness * _step_squares(current.detach(), step_scale)
            losses = _by_clip(torch.sum, squares.detach().sum(-1) + smooth, clips)
            if logits is not None:
                losses += adversarial * _by_clip(lambda own: _adversarial(own, objective), logits.detach(), clips)
            trace[-1]["moving"] = exits.look(iteration, losses, current.detach())
            if not trace[-1]["moving"]:
                break
        if iteration < iterations:
            gradient = smoothness_gradient.mul_(smoothness).add_(reprojection_gradient)
            gradient.add_(adversarial_gradient, alpha=adversarial)
            gradient[:, 0] = 0
            optimiser.zero_grad()
            decoded.backward(gradient)
            optimiser.step()

    trace += trace[-1:] * (iterations + 1 - len(trace))
    averages = {name: torch.stack([row[name] for row in trace]).cpu().numpy() / len(initial) for name in trace[0]}
    result = current.detach()
    moved = exits.iterations.cpu().numpy() if exits else np.array([iterations])
    moved = np.broadcast_to(moved, len(lengths)).copy()
    return Result(result.numpy() if isinstance(pose, np.ndarray) else result, averages, moved)


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


def start_gap(variables: Variables, pose: Tensor) -> float:
    """How far the poses that the variables make lie from `pose` `(F, 17, 3)`: the largest coordinate, m."""
    with torch.no_grad():
        first = variables.decode()
    check_array("variables", first, tuple(pose.shape), finite=True)
    return (first - pose).abs().max().item()


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


def _step_squares(pose: Tensor, step_scale: Tensor) -> Tensor:
    """The smoothness term by frame `(F,)`: the step to the next frame, none after a clip's last."""
    return torch.nn.functional.pad(((pose[1:] - pose[:-1]) * step_scale).square().sum((1, 2)), (0, 1))


def _adversarial(logits: Tensor, objective: str) -> Tensor:
    """L_gen of Eq. 10, summed over frames; logits `(F,)`."""
    return generator_loss(logits, objective) * len(logits)


def _by_clip(total: Callable[[Tensor], Tensor], frames: Tensor, lengths: Sequence[int]) -> Tensor:
    """A total `(clips,)` over each clip's own values among those of all frames `(F,)`."""
    return torch.stack([total(clip) for clip in frames.split(lengths)])


class _EarlyExit:
    """Which clips still move. A clip that has stopped keeps its pose, however its variables drift."""

    def __init__(self, lengths: Sequence[int], tolerance: float, iterations: int, device: torch.device) -> None:
        self.lengths = torch.as_tensor(lengths, device=device)
        self.tolerance = tolerance
        self.iterations = torch.full_like(self.lengths, iterations)
        self.moving = torch.ones_like(self.lengths, dtype=torch.bool)
        self._before: Tensor | None = None
        self._stopped: Tensor | None = None

    def held(self, pose: Tensor) -> Tensor:
        """Poses `(F, 17, 3)`, with those of the stopped clips as they were when they stopped."""
        if self._stopped is None:
            return pose
        return torch.where(self.moving.repeat_interleave(self.lengths)[:, None, None], pose, self._stopped)

    def look(self, iteration: int, losses: Tensor, pose: Tensor) -> Tensor:
        """Stop the clips whose losses `(clips,)` fell too little; the number of frames that move on."""
        if self._before is not None:
            stopping = self.moving & (self._before - losses <= self.tolerance * self._before.abs())
            if stopping.any():
                self.iterations[stopping] = iteration
                self.moving &= ~stopping
                self._stopped = pose.clone()  # the pose moves in place
        self._before = losses
        return (self.lengths * self.moving).sum()


def _error(pose: Tensor, reference: Tensor) -> Tensor:
    """MPJPE `(F,)` over the joints of which the reference `(F, 17, 3)` is known."""
    return torch.linalg.norm(pose - reference, dim=-1).nanmean(-1)


def _coordinates_first(points: Tensor) -> Tensor:
    """A copy `(F, 17, D)` whose memory holds one coordinate after the other: sums over D then run over long rows."""
    return points.movedim(-1, 0).clone(memory_format=torch.contiguous_format).movedim(0, -1)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distance; the small constant keeps the gradient finite where the points coincide."""
    gap = a - b
    return square_root((gap * gap).sum(-1) + 1e-12)


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

    def logits(self, discriminator: Discriminator, pose: Tensor) -> Tensor:
        """The discriminator's logit of every frame `(F,)`, in order; one logit a piece counts for its own frames."""
        logits = discriminator(pose[self.index])
        return logits.reshape(len(self.index), -1).expand(self.own.shape)[self.own]
