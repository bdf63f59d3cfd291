"""A plain single-stride dilated TCN (Pavllo et al., CVPR 2019): an independent lifter to stand beside Base."""

from torch import Tensor, nn
from torch.nn import functional as F

from isopose.errors import UserError
from isopose.models.tcn import pad_clip, pose_head
from isopose.skeleton import NUM_JOINTS

_KERNEL = 3


def _conv_bn(inputs: int, outputs: int, kernel: int, dilation: int, dropout: float) -> nn.Sequential:
    conv = nn.Conv1d(inputs, outputs, kernel, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm1d(outputs), nn.ReLU(), nn.Dropout(dropout))


class DilatedTCN(nn.Module):
    """Convolutions with kernel 3 and dilations 1, 3, 9, ...: (B, T, inputs) to (B, T, 17, 3).

    As many layers as fit into ``frames`` frames, at most ``max_layers``; each after the first is followed by a
    1x1 convolution and has a shortcut. Padding and clip lengths as in :class:`isopose.models.tcn.MultiStrideTCN`.
    """

    def __init__(
        self, inputs: int, width: int = 128, frames: int = 64, max_layers: int = 4, dropout: float = 0.0
    ) -> None:
        super().__init__()
        fitting = [n for n in range(1, max_layers + 1) if _KERNEL**n <= frames]
        if not fitting:
            raise UserError(f"a dilated TCN needs a window of at least {_KERNEL} frames; frames is {frames}")
        self.dilations = [_KERNEL**n for n in range(fitting[-1])]
        self.expand = _conv_bn(inputs, width, _KERNEL, 1, dropout)
        self.blocks = nn.ModuleList(
            nn.Sequential(_conv_bn(width, width, _KERNEL, dilation, dropout), _conv_bn(width, width, 1, 1, dropout))
            for dilation in self.dilations[1:]
        )
        self.head = pose_head(width)

    @property
    def reach(self) -> int:
        """Frames that a prediction sees on either side."""
        return sum(self.dilations)

    @property
    def receptive_field(self) -> int:
        """Frames that a prediction sees in all."""
        return 2 * self.reach + 1

    def forward(self, x: Tensor) -> Tensor:
        """Poses of every frame; the caller decides their origin and unit."""
        batch, frames, _ = x.shape
        features = self.expand(pad_clip(x.transpose(1, 2), self.reach))
        for dilation, block in zip(self.dilations[1:], self.blocks, strict=True):
            features = F.pad(features, (-dilation, -dilation)) + block(features)
        return self.head(features).transpose(1, 2).reshape(batch, frames, NUM_JOINTS, 3)
