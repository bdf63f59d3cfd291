"""Training augmentation for occlusion and wrong detections (paper 3.3): four masks, shifts, left-right swaps."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from isopose.models.embedding import MapEntries, Observations
from isopose.skeleton import SYMMETRIC_PAIRS

Shape = tuple[int, int, int]
"""Clips B, frames T, joints K."""


def point_mask(shape: Shape, probability: float, generator: torch.Generator) -> Tensor:
    """Discrete point-wise occlusion: each joint of each frame is hidden at ``probability``. Keep mask (B, T, K)."""
    return torch.rand(shape, generator=generator) >= probability


def frame_mask(shape: Shape, probability: float, generator: torch.Generator) -> Tensor:
    """Discrete frame-wise occlusion: each frame is hidden at ``probability``. Keep mask (B, T, K)."""
    batch, frames, joints = shape
    keep = torch.rand((batch, frames, 1), generator=generator) >= probability
    return keep.expand(batch, frames, joints)


def _runs(batch: int, frames: int, count: int, longest: int, generator: torch.Generator) -> Tensor:
    """One run a clip and column, True inside: length uniform in 2..min(longest, T), anywhere. (B, T, count)."""
    longest = min(longest, frames)
    draws = torch.rand((2, batch, 1, count), generator=generator)
    length = 2 + (draws[0] * (longest - 1)).long()
    start = (draws[1] * (frames - length + 1)).long()
    frame = torch.arange(frames)[:, None]
    return (frame >= start) & (frame < start + length)


def continuous_point_mask(shape: Shape, probability: float, longest: int, generator: torch.Generator) -> Tensor:
    """Continuous point-wise occlusion: each joint is hidden, at ``probability``, for one run of frames.

    The run's length is uniform in 2..min(longest, T). Keep mask (B, T, K).
    """
    batch, frames, joints = shape
    chosen = torch.rand((batch, 1, joints), generator=generator) < probability
    return ~(chosen & _runs(batch, frames, joints, longest, generator))


def continuous_frame_mask(shape: Shape, probability: float, longest: int, generator: torch.Generator) -> Tensor:
    """Continuous frame-wise occlusion: one run of frames is hidden whole (in every clip at probability 1, as in
    the paper); its length is uniform in 2..min(longest, T). Keep mask (B, T, K).
    """
    batch, frames, joints = shape
    chosen = torch.rand((batch, 1, 1), generator=generator) < probability
    return (~(chosen & _runs(batch, frames, 1, longest, generator))).expand(batch, frames, joints)


def random_shift(shape: Shape, probability: float, largest: int, generator: torch.Generator) -> Tensor:
    """Wrong detections: at ``probability`` a joint moves by up to ``largest`` map pixels in x and y. (B, T, K, 2)."""
    moved = torch.rand(shape, generator=generator) < probability
    offset = torch.randint(-largest, largest + 1, (*shape, 2), generator=generator)
    return offset * moved[..., None]


def random_swap(shape: Shape, probability: float, generator: torch.Generator) -> Tensor:
    """Left-right confusion: at ``probability`` the two joints of a symmetric pair are exchanged in a frame.

    Returns, for each joint, the joint that it is confused with (B, T, K), itself where nothing is swapped.
    """
    batch, frames, joints = shape
    right, left = (torch.tensor(side) for side in zip(*SYMMETRIC_PAIRS, strict=True))
    swapped = torch.rand((batch, frames, len(right)), generator=generator) < probability
    order = torch.arange(joints).repeat(batch, frames, 1)
    order[..., right] = torch.where(swapped, left, right)
    order[..., left] = torch.where(swapped, right, left)
    return order


@dataclass(frozen=True)
class Corruption:
    """What is done to a batch: shift (B, T, K, 2), map pixels, then order (B, T, K) of joints, then keep (B, T, K)."""

    shift: Tensor
    order: Tensor
    keep: Tensor


def draw_corruption(shape: Shape, masking: Mapping[str, float], generator: torch.Generator) -> Corruption:
    """Draw all augmentations of paper 3.3.

    masking: share of the clips that are augmented at all; probabilities point, frame, continuous_point and
    continuous_frame with max_length frames; shift with shift_pixels (of the heatmap); swap.
    """
    longest = int(masking["max_length"])
    keep = (
        point_mask(shape, masking["point"], generator)
        & frame_mask(shape, masking["frame"], generator)
        & continuous_point_mask(shape, masking["continuous_point"], longest, generator)
        & continuous_frame_mask(shape, masking["continuous_frame"], longest, generator)
    )
    shift = random_shift(shape, masking["shift"], int(masking["shift_pixels"]), generator)
    order = random_swap(shape, masking["swap"], generator)
    augmented = torch.rand((shape[0], 1, 1), generator=generator) < masking["share"]
    return Corruption(
        shift * augmented[..., None],
        torch.where(augmented, order, torch.arange(shape[2])),
        keep | ~augmented,
    )


def corrupt(observations: Observations, corruption: Corruption, map_size: int) -> Observations:
    """Apply a corruption to keypoints and to heatmaps alike: whatever is hidden becomes zero."""
    shift, order, keep = corruption.shift, corruption.order, corruption.keep
    moved = observations.coordinates + shift * (2 / map_size)
    swapped = moved.gather(2, order[..., None].expand(*order.shape, 2))
    return replace(
        observations,
        coordinates=swapped * keep[..., None],
        confidence=observations.confidence.gather(2, order) * keep,
        maps=observations.maps and _corrupt_maps(observations.maps, shift, order, keep),
    )


def _corrupt_maps(maps: MapEntries, shift: Tensor, order: Tensor, keep: Tensor) -> MapEntries:
    """Move, exchange and drop the pixels; those that leave the map are dropped too."""
    moved = (shift != 0).any(-1).flatten().index_select(0, maps.map_index).nonzero()[:, 0]
    offset = shift.flatten(0, 2).index_select(0, maps.map_index.index_select(0, moved))
    before = maps.pixel.index_select(0, moved)
    column, row = before % maps.size + offset[:, 0], before // maps.size + offset[:, 1]
    pixel = maps.pixel.index_copy(0, moved, row * maps.size + column)
    # A swap is its own inverse, so the joint a pixel goes to is the joint that it is read for.
    joints = order.shape[-1]
    target = torch.arange(order.numel()).view(order.shape) - torch.arange(joints) + order
    index = target.flatten().index_select(0, maps.map_index)
    inside = (row >= 0) & (row < maps.size) & (column >= 0) & (column < maps.size)
    kept = keep.flatten().index_select(0, index).index_fill_(0, moved[~inside], False).nonzero()[:, 0]
    return MapEntries(
        index.index_select(0, kept), pixel.index_select(0, kept), maps.value.index_select(0, kept), maps.size
    )


def hide(observations: Observations, keep: Tensor) -> Observations:
    """Zero the joints of which keep (B, T, K) is false, in keypoints and heatmaps alike."""
    still = torch.zeros((*keep.shape, 2), dtype=torch.long)
    map_size = observations.maps.size if observations.maps else 1
    return corrupt(observations, Corruption(still, torch.arange(keep.shape[-1]).expand(keep.shape), keep), map_size)
