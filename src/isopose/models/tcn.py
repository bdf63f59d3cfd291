"""The multi-stride temporal convolutional network (paper 3.1): embeddings of a clip become its 3D poses."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isopose.errors import UserError
from isopose.skeleton import NUM_JOINTS


def pad_clip(x: Tensor, frames: int) -> Tensor:
    """Repeat the first and the last frame of x (B, C, T) ``frames`` times: (B, C, T + 2 frames)."""
    if x.shape[-1] == 0:
        raise ValueError("a clip without frames; expected (B, T, ...), T at least 1")
    first = x[..., :1].expand(-1, -1, frames)
    last = x[..., -1:].expand(-1, -1, frames)
    return torch.cat([first, x, last], dim=-1)


def pose_head(width: int) -> nn.Conv1d:
    """The last layer, features (B, width, T) to (B, 51, T); it starts at zero, so training starts at the mean pose."""
    head = nn.Conv1d(width, NUM_JOINTS * 3, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


class ResidualBlock(nn.Module):
    """A valid dilated convolution with kernel 3 around a shortcut: (B, width, T) to (B, width, T - 2 dilation)."""

    def __init__(self, width: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.dilation = dilation
        self.conv = nn.Conv1d(width, width, 3, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        shortcut = x[..., self.dilation : -self.dilation]
        return shortcut + self.dropout(F.relu(self.norm(self.conv(x))))


class Branch(nn.Module):
    """One temporal stride: (B, inputs, T + 2 reach) to (B, width, T), every convolution dilated by the stride."""

    def __init__(self, inputs: int, width: int, stride: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.reach = stride * layers
        self.enter = nn.Sequential(nn.Conv1d(inputs, width, 1, bias=False), nn.BatchNorm1d(width), nn.ReLU())
        self.blocks = nn.Sequential(*(ResidualBlock(width, stride, dropout) for _ in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the branch."""
        return self.blocks(self.enter(x))


class MultiStrideTCN(nn.Module):
    """Parallel unshared branches, one a stride, then the pose head (paper 3.1): (B, T, inputs) to (B, T, 17, 3).

    A branch has as many layers as fit into a window of ``frames`` frames, at most ``max_layers``, so no prediction
    sees more than ``frames`` frames. The clip's ends are padded once with their own frame and all convolutions are
    valid: one pass lifts a clip of any length, and a frame whose window lies inside the clip gets the same answer
    however the clip is cut.
    """

    def __init__(
        self,
        inputs: int,
        width: int = 128,
        strides: Sequence[int] = (1, 2, 3, 5, 7),
        frames: int = 64,
        max_layers: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers = [min(max_layers, (frames - 1) // (2 * stride)) for stride in strides]
        if min(layers) < 1:
            raise UserError(f"a stride of {max(strides)} does not fit {frames} frames; lower it or raise frames")
        self.branches = nn.ModuleList(
            Branch(inputs, width, stride, count, dropout) for stride, count in zip(strides, layers, strict=True)
        )
        self.head = pose_head(len(strides) * width)

    @property
    def reach(self) -> int:
        """Frames that a prediction sees on either side."""
        return max(branch.reach for branch in self.branches)

    @property
    def receptive_field(self) -> int:
        """Frames that a prediction sees in all."""
        return 2 * self.reach + 1

    def forward(self, x: Tensor) -> Tensor:
        """Poses of every frame; the caller decides their origin and unit."""
        batch, frames, _ = x.shape
        padded = pad_clip(x.transpose(1, 2), self.reach)
        features = []
        for branch in self.branches:
            margin = self.reach - branch.reach
            features.append(branch(padded[..., margin : padded.shape[-1] - margin]))
        poses = self.head(torch.cat(features, dim=1))
        return poses.transpose(1, 2).reshape(batch, frames, NUM_JOINTS, 3)
