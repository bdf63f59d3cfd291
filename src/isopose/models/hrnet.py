"""HRNet, the 2D estimator (Sun et al., CVPR 2019): an image becomes one heatmap a joint.

Names and shapes of the weights are those of the authors' ``pose_hrnet``, so their published checkpoints
load with ``strict=True``. Width, depth and stem are parameters: the demo trains a small one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from isopose.models.weights import load_model, load_weights, save_weights
from isopose.skeleton import MIRROR

_KIND = "estimator"

DOWNSAMPLING = 4
"""Sides of the images over sides of the heatmaps."""

ORIGIN = (DOWNSAMPLING - 1) / 2
"""Input px at the centre of heatmap px 0 of networks trained here: both grids span the same crop (isopose.crops)."""


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    """A padded convolution without bias and its batch normalisation."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


def conv_bn_relu(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution, batch normalisation and a ReLU."""
    return nn.Sequential(*conv_bn(inputs, outputs, 3, stride), nn.ReLU(inplace=True))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut: ``(N, C, H, W)`` to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(channels, channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = conv_bn(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + x)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut: ``(N, inputs, H, W)`` to ``(N, 4 * planes, H, W)``."""

    expansion = 4

    def __init__(self, inputs: int, planes: int) -> None:
        super().__init__()
        outputs = self.expansion * planes
        self.conv1, self.bn1 = conv_bn(inputs, planes, 1)
        self.conv2, self.bn2 = conv_bn(planes, planes)
        self.conv3, self.bn3 = conv_bn(planes, outputs, 1)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential(*conv_bn(inputs, outputs, 1)) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(self.bn3(self.conv3(y)) + shortcut)


class HighResolutionModule(nn.Module):
    """Parallel branches at falling resolution, then an exchange between them.

    Branch ``i`` works on ``(N, channels[i], H / 2^i, W / 2^i)``; the first ``outputs`` branches are returned.
    """

    def __init__(self, channels: Sequence[int], blocks: int, outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(count) for _ in range(blocks))) for count in channels)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(self._exchange(channels, source, target) for source in range(len(channels)))
            for target in range(outputs)
        )
        self.relu = nn.ReLU(inplace=True)

    @staticmethod
    def _exchange(channels: Sequence[int], source: int, target: int) -> nn.Module | None:
        """The path from branch ``source`` to branch ``target``: upsampling, nothing, or strided
        convolutions."""
        if source == target:
            return None
        if source > target:
            upsample = nn.Upsample(scale_factor=2 ** (source - target), mode="nearest")
            return nn.Sequential(*conv_bn(channels[source], channels[target], 1), upsample)
        halvings = [conv_bn_relu(channels[source], channels[source], 2) for _ in range(target - source - 1)]
        return nn.Sequential(*halvings, nn.Sequential(*conv_bn(channels[source], channels[target], 3, 2)))

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        """Run every branch, then sum what each receives from all."""
        xs = [branch(x) for branch, x in zip(self.branches, xs, strict=True)]
        fused = []
        for paths in self.fuse_layers:
            received = [x if path is None else path(x) for path, x in zip(paths, xs, strict=True)]
            fused.append(self.relu(sum(received[1:], received[0])))
        return fused


class HRNet(nn.Module):
    """High-resolution network: images ``(N, 3, H, W)`` to heatmaps ``(N, joints, H / 4, W / 4)``.

    ``width`` is the channel count of the finest branch (32 and 48 are published), ``stem`` that of the
    first two convolutions and of the bottlenecks' planes (published: 64), ``modules`` the exchange
    modules in each of the stages 2, 3, 4 (published: 1, 4, 3; shorter means fewer stages and branches),
    ``blocks`` the basic blocks a branch and ``bottlenecks`` the blocks of the first stage (published: 4
    and 4). The side of the image must be a multiple of ``4 * 2 ** len(modules)``.
    """

    def __init__(
        self,
        width: int = 32,
        joints: int = 16,
        stem: int = 64,
        modules: Sequence[int] = (1, 4, 3),
        blocks: int = 4,
        bottlenecks: int = 4,
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(3, stem, 3, 2)
        self.conv2, self.bn2 = conv_bn(stem, stem, 3, 2)
        self.relu = nn.ReLU(inplace=True)
        wide = Bottleneck.expansion * stem
        self.layer1 = nn.Sequential(*(Bottleneck(wide if i else stem, stem) for i in range(bottlenecks)))

        channels = [wide]
        for index, count in enumerate(modules, start=1):
            previous, channels = channels, [width * 2**branch for branch in range(index + 1)]
            self.add_module(f"transition{index}", self._transition(previous, channels))
            last_stage = index == len(modules)
            outputs = [len(channels)] * (count - 1) + [1 if last_stage else len(channels)]
            stage = nn.Sequential(*(HighResolutionModule(channels, blocks, kept) for kept in outputs))
            self.add_module(f"stage{index + 1}", stage)
        self.num_stages = len(modules)
        self.final_layer = nn.Conv2d(width, joints, 1)

    @staticmethod
    def _transition(previous: list[int], channels: list[int]) -> nn.ModuleList:
        """Adapt the channels of the branches there are and start one more from the coarsest."""
        layers: list[nn.Module | None] = [
            None if before == after else conv_bn_relu(before, after)
            for before, after in zip(previous, channels, strict=False)
        ]
        layers.append(nn.Sequential(conv_bn_relu(previous[-1], channels[-1], 2)))
        return nn.ModuleList(layers)

    def forward(self, images: Tensor) -> Tensor:
        """Heatmaps ``(N, joints, H / 4, W / 4)`` of normalised images ``(N, 3, H, W)``."""
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.relu(self.bn2(self.conv2(x)))
        xs = [self.layer1(x)]
        for index in range(1, self.num_stages + 1):
            # One branch more than before: the new one starts from the coarsest there is.
            inputs = [*xs, xs[-1]]
            transition = self.get_submodule(f"transition{index}")
            xs = [x if layer is None else layer(x) for layer, x in zip(transition, inputs, strict=True)]
            xs = self.get_submodule(f"stage{index + 1}")(xs)
        return self.final_layer(xs[0])


def initialise(model: HRNet) -> None:
    """Draw the weights anew: the last normalisation of a block starts at zero, so each block starts as
    identity."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, BasicBlock):
            nn.init.zeros_(module.bn2.weight)
        elif isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)
    nn.init.normal_(model.final_layer.weight, std=1e-3)
    nn.init.zeros_(model.final_layer.bias)


IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
"""ImageNet's channel statistics, RGB in 0..1: what the published checkpoints expect."""


def normalise(images: Tensor) -> Tensor:
    """RGB images ``(N, H, W, 3)`` uint8 as the network's input ``(N, 3, H, W)`` float32, channels last
    in memory."""
    mean, std = (torch.tensor(values, device=images.device) for values in (IMAGE_MEAN, IMAGE_STD))
    return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def detect(
    model: nn.Module,
    images: np.ndarray,
    flip: bool = False,
    mirror: Sequence[int] = MIRROR,
    origin: float = ORIGIN,
) -> np.ndarray:
    """Heatmaps ``(N, J, S/4, S/4)`` float32 of RGB crops ``(N, S, S, 3)`` uint8.

    ``flip`` averages with the mirrored maps of the mirrored crop, left and right joints exchanged: ``mirror`` is the
    permutation ``(J,)`` that does so, ``origin`` the input px at the centre of heatmap px 0 for this network.
    """
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        pixels = torch.from_numpy(images).to(device)
        maps = model(normalise(pixels))
        if flip:
            # Mirrored about the middle of the network's grid, not of the crop: map px m stays at 4 * m + origin.
            mirrored = pixels.flip(2).roll(round(2 * (origin - ORIGIN)), 2)
            maps = (maps + model(normalise(mirrored)).flip(-1)[:, list(mirror)]) / 2
    return maps.float().cpu().numpy()


def fold_normalisation(model: HRNet) -> nn.Module:
    """A copy for inference alone, every batch normalisation folded into the convolution before it.

    The same maps up to rounding, in about three quarters of the time on a CPU.
    """
    return fuse(model.eval()).to(memory_format=torch.channels_last)


def save_estimator(model: HRNet, config: dict[str, Any], path: Path) -> None:
    """Write the weights with their configuration as safetensors metadata.

    ``config`` holds ``architecture`` (the arguments of :class:`HRNet`) and ``size`` (side of the input, px). Where
    they are not this project's own, also ``joints_set`` (what its channels are, a name of
    :data:`isopose.joint_sets.JOINT_SETS`) and ``origin`` (see :func:`detect`).
    """
    save_weights(path, model, _KIND, config)


def load_estimator(path: Path) -> tuple[HRNet, dict[str, Any]]:
    """The trained network, in evaluation mode, and the configuration that :func:`save_estimator` wrote."""
    config, _ = load_weights(path, _KIND)
    model = load_model(path, _KIND, lambda config: HRNet(**config["architecture"]))
    return model.to(memory_format=torch.channels_last), config
