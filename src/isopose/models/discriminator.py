"""The spatio-temporal pose discriminator (paper 3.2): one logit a frame, high for real motion."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isopose.arrays import check_array
from isopose.errors import UserError
from isopose.models.kcs import spatial_kcs, temporal_difference, upper_triangle
from isopose.models.tcn import pad_clip
from isopose.models.weights import load_model, save_weights
from isopose.portable import square_root
from isopose.skeleton import BONES, NUM_JOINTS

KINDS = ("spatial", "spatial_temporal")


class Discriminator(nn.Module):
    """Psi, Phi and the coordinates of each frame, 256 + 256 + 51 numbers, into a small TCN.

    Poses (B, T, 17, 3), m, root-relative, to logits (B, T). ``kind`` spatial leaves Phi and the temporal
    convolutions out: it judges single frames. ``upper_triangle`` gives each inner product of Psi and Phi once, 136
    + 136 numbers, where the whole symmetric matrices give those off the diagonal twice. Each group of inputs is
    divided by its root mean square over real poses (:meth:`fit_scales`), because Phi is a hundred times smaller than
    Psi.
    """

    def __init__(
        self,
        kind: str = "spatial_temporal",
        coordinates: bool = True,
        upper_triangle: bool = False,
        interval: int = 1,
        width: int = 64,
        layers: int = 2,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise UserError(f"discriminator kind '{kind}' is unknown; expected one of {', '.join(KINDS)}")
        self.config: dict[str, Any] = {
            "kind": kind,
            "coordinates": coordinates,
            "upper_triangle": upper_triangle,
            "interval": interval,
            "width": width,
            "layers": layers,
        }
        products = len(BONES) * (len(BONES) + 1) // 2 if upper_triangle else len(BONES) ** 2
        sizes = [products] * (1 if kind == "spatial" else 2) + [3 * NUM_JOINTS] * coordinates
        kernel = 1 if kind == "spatial" else 3
        self.reach = layers * (kernel // 2)
        self.register_buffer("scales", torch.ones(len(sizes)))
        self.enter = nn.Conv1d(sum(sizes), width, 1)
        self.layers = nn.ModuleList(nn.Conv1d(width, width, kernel) for _ in range(layers))
        self.output = nn.Conv1d(width, 1, 1)

    def _groups(self, poses: Tensor) -> list[Tensor]:
        psi = spatial_kcs(poses)
        matrices = [psi]
        if self.config["kind"] == "spatial_temporal":
            matrices.append(temporal_difference(psi, self.config["interval"]))
        groups = [upper_triangle(m) if self.config["upper_triangle"] else m.flatten(-2) for m in matrices]
        if self.config["coordinates"]:
            groups.append(poses.flatten(-2))
        return groups

    @torch.no_grad()
    def fit_scales(self, real: Tensor) -> None:
        """Set the scales of the inputs from real poses (B, T, 17, 3), m; what never changes keeps its own scale."""
        check_array("real", real, ("B", "T", NUM_JOINTS, 3), finite=True)
        scales = square_root(torch.stack([group.square().mean() for group in self._groups(real)]))
        self.scales.copy_(torch.where(scales > 0, scales, 1))

    def forward(self, poses: Tensor) -> Tensor:
        """Logits (B, T) of root-relative poses (B, T, 17, 3), m."""
        check_array("poses", poses, ("B", "T", NUM_JOINTS, 3))
        groups = [group / scale for group, scale in zip(self._groups(poses), self.scales, strict=True)]
        x = pad_clip(torch.cat(groups, dim=-1).transpose(1, 2), self.reach)
        x = F.leaky_relu(self.enter(x), 0.2)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
        return self.output(x)[:, 0]

    def save(self, path: Path) -> None:
        """Write weights and configuration to a safetensors file."""
        save_weights(path, self, "discriminator", self.config)

    @classmethod
    def load(cls, path: Path) -> "Discriminator":
        """Read a discriminator, ready for inference."""
        return load_model(path, "discriminator", lambda config: cls(**config))
