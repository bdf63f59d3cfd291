"""What the lifter sees of a clip, and f_E (paper 3.1): a frame's heatmaps or keypoints become one vector."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isopose.errors import UserError
from isopose.skeleton import NUM_JOINTS

PATCH = 4
"""Side of the first convolution's patches, map pixels."""

_SMALLEST_GRID = 4


@dataclass(frozen=True)
class MapEntries:
    """The non-zero pixels of a batch's heatmaps, frame after frame.

    map_index (N,) int64: (clip * T + frame) * K + joint; pixel (N,) int64: row * size + column; value (N,) in 0..1.
    """

    map_index: Tensor
    pixel: Tensor
    value: Tensor
    size: int


@dataclass(frozen=True)
class Observations:
    """2D detections of B clips of T frames in the person's crop; whatever is masked is zero.

    coordinates (B, T, K, 2): the crop spans [-1, 1]; confidence (B, T, K): peak heights; box (B, T, 3): centre and
    side of the crop in normalised image coordinates (x / z, y / z), because the crop alone does not tell where in
    the image the person is; maps: heatmaps, or None where only keypoints are wanted.
    """

    coordinates: Tensor
    confidence: Tensor
    box: Tensor
    maps: MapEntries | None = None

    def to(self, device: torch.device | str) -> "Observations":
        """Copy to a device."""
        maps = self.maps and replace(
            self.maps, **{k: getattr(self.maps, k).to(device) for k in ("map_index", "pixel", "value")}
        )
        return Observations(self.coordinates.to(device), self.confidence.to(device), self.box.to(device), maps)


class CoordinateEmbedding(nn.Module):
    """The keypoints themselves, with or without their confidence: the ablation's "Base" input. Has no weights."""

    uses_maps = False

    def __init__(self, with_confidence: bool) -> None:
        super().__init__()
        self.with_confidence = with_confidence
        self.width = NUM_JOINTS * (3 if with_confidence else 2)

    def forward(self, observations: Observations) -> Tensor:
        """Observations of (B, T) frames to (B, T, 34 or 51)."""
        parts = [observations.coordinates.flatten(-2)]
        if self.with_confidence:
            parts.append(observations.confidence)
        return torch.cat(parts, dim=-1)


class LinearEmbedding(nn.Module):
    """A linear map of all pixels of all heatmaps, summed over the non-zero pixels only: a weighted embedding bag."""

    uses_maps = True

    def __init__(self, width: int, map_size: int) -> None:
        super().__init__()
        self.width = width
        self.map_size = map_size
        self.weight = nn.Parameter(torch.randn(NUM_JOINTS * map_size**2, width) / NUM_JOINTS)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, observations: Observations) -> Tensor:
        """Observations of (B, T) frames to (B, T, width)."""
        batch, frames = observations.confidence.shape[:2]
        maps = observations.maps
        frame, joint = maps.map_index // NUM_JOINTS, maps.map_index % NUM_JOINTS
        first = torch.searchsorted(frame, torch.arange(batch * frames, device=frame.device))
        pixel = joint * self.map_size**2 + maps.pixel
        bags = F.embedding_bag(pixel, self.weight, first, mode="sum", per_sample_weights=maps.value)
        return (bags + self.bias).view(batch, frames, self.width)


class ConvEmbedding(nn.Module):
    """A convolutional network on the K-channel heatmap image whose kernels equal their strides.

    Every layer is then one matrix product over patches, and the first, the dear one, runs only on patches that hold
    a non-zero pixel (its bias is left out, so an empty patch is exactly zero). Patches of 4x4 pixels, then 2x2
    until the grid is at most 4x4, then one linear layer over the whole grid. Equal to dense strided convolutions.

    Each map is first divided by its sum, because the height of a peak says how sure the estimator is and not where
    the joint is; the heights enter the last layer beside the normalised maps' means, which patches learn slowly.
    The sum of 1 also keeps the patches' features small beside the means, whose noise they would be at first.
    """

    uses_maps = True

    def __init__(self, width: int, map_size: int, channels: int = 64) -> None:
        super().__init__()
        if map_size % PATCH:
            raise UserError(f"embedding 'conv': map size {map_size} is not a multiple of {PATCH}; use another kind")
        self.width = width
        self.grid = map_size // PATCH
        self.channels = channels
        self.patch = nn.Linear(NUM_JOINTS * PATCH**2, channels, bias=False)
        grid, halvings = self.grid, []
        while grid > _SMALLEST_GRID and grid % 2 == 0:
            halvings.append(nn.Linear(4 * channels, channels))
            grid //= 2
        self.halvings = nn.ModuleList(halvings)
        self.output = nn.Linear(grid * grid * channels, width)
        self.summary = nn.Linear(NUM_JOINTS * 3, width, bias=False)
        # Start from the means alone: random features of the patches are noise that training must first get rid of.
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.summary.weight[:, NUM_JOINTS * 2 :])
        row, column = torch.meshgrid(torch.arange(map_size), torch.arange(map_size), indexing="ij")
        cell = (row // PATCH) * self.grid + column // PATCH
        inside = (row % PATCH) * PATCH + column % PATCH
        place = (2 * torch.stack([column, row], dim=-1) + 1) / map_size - 1
        self.register_buffer("_cell", cell.flatten(), persistent=False)
        self.register_buffer("_inside", inside.flatten(), persistent=False)
        self.register_buffer("_place", place.flatten(0, 1), persistent=False)

    def forward(self, observations: Observations) -> Tensor:
        """Observations of (B, T) frames to (B, T, width)."""
        batch, frames = observations.confidence.shape[:2]
        maps, means = self._normalised(observations.maps, batch * frames * NUM_JOINTS)
        features, side = self._first_layer(maps, batch * frames), self.grid
        for layer in self.halvings:
            side //= 2
            quads = features.view(-1, side, 2, side, 2, self.channels).transpose(2, 3)
            features = F.relu(layer(quads.reshape(-1, side * side, 4 * self.channels)))
        summary = torch.cat([means.view(batch, frames, -1), observations.confidence], dim=-1)
        return self.output(features.flatten(1)).view(batch, frames, self.width) + self.summary(summary)

    def _normalised(self, maps: MapEntries, count: int) -> tuple[MapEntries, Tensor]:
        """The maps divided by their sums, and their means (count, 2), the crop being [-1, 1]; zero if empty."""
        total = maps.value.new_zeros(count).index_add_(0, maps.map_index, maps.value)
        value = maps.value / total.index_select(0, maps.map_index)
        weighted = value[:, None] * self._place.index_select(0, maps.pixel)
        means = maps.value.new_zeros(count, 2).index_add_(0, maps.map_index, weighted)
        return replace(maps, value=value), means

    def _first_layer(self, maps: MapEntries, frames: int) -> Tensor:
        """The patch convolution and its ReLU, (frames, grid^2, channels), from the non-zero pixels."""
        cells, joint_inputs = self.grid**2, PATCH**2
        inputs = NUM_JOINTS * joint_inputs
        every_map = torch.arange(frames * NUM_JOINTS, device=maps.pixel.device)
        first_cell, first_input = every_map // NUM_JOINTS * cells, every_map % NUM_JOINTS * joint_inputs
        cell = first_cell.index_select(0, maps.map_index) + self._cell.index_select(0, maps.pixel)
        occupied = torch.zeros(frames * cells, dtype=torch.bool, device=cell.device).index_fill_(0, cell, True)
        first_of_row = (torch.cumsum(occupied, 0) - 1) * inputs
        target = first_of_row.index_select(0, cell)
        target += first_input.index_select(0, maps.map_index)
        target += self._inside.index_select(0, maps.pixel)
        where = occupied.nonzero()[:, 0]
        patches = maps.value.new_zeros(len(where) * inputs).index_add_(0, target, maps.value)
        features = F.relu(self.patch(patches.view(-1, inputs)))
        empty = features.new_zeros(frames * cells, self.channels)
        return empty.index_copy(0, where, features).view(frames, cells, self.channels)


def build_embedding(kind: str, width: int, map_size: int, channels: int = 64) -> nn.Module:
    """The embedding called ``kind``: conv, linear, coordinates or coordinates_confidence."""
    if kind == "conv":
        return ConvEmbedding(width, map_size, channels)
    if kind == "linear":
        return LinearEmbedding(width, map_size)
    if kind in ("coordinates", "coordinates_confidence"):
        return CoordinateEmbedding(with_confidence=kind == "coordinates_confidence")
    known = "conv, linear, coordinates, coordinates_confidence"
    raise UserError(f"embedding kind '{kind}' is unknown; expected one of {known}")
