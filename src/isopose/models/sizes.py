"""Parameters and multiply-accumulates of every network at every track's configuration: the table of docs/networks.md.

Counted are convolutions and matrix products, as torch's own counter sees them; normalisations, activations,
interpolations and the scattering of sparse pixels are not.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch
import typer
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from isopose import config, stage
from isopose.camera import project, world_to_camera
from isopose.crops import boxes_around, image_to_crop
from isopose.datasets.studio import Studio, place_cameras
from isopose.datasets.synthetic import generate
from isopose.heatmaps import render
from isopose.models.discriminator import Discriminator
from isopose.models.embedding import MapEntries, Observations
from isopose.models.hrnet import HRNet
from isopose.models.lifter import Lifter
from isopose.skeleton import NUM_JOINTS
from isopose.sparse_maps import SparseMaps

OVERLAYS: Mapping[str, str | None] = {
    "demo": None,
    "open": "experiments/open/params.yaml",
    "paper": "experiments/paper/params.yaml",
}
"""The tracks of the table and what is laid over params.yaml in each."""

HRNET_KEYS = ("width", "stem", "modules", "blocks", "bottlenecks")


@dataclass(frozen=True)
class Row:
    """One network at one configuration; macs: of one image or one frame."""

    network: str
    track: str
    configuration: str
    parameters: int
    macs: float

    def __str__(self) -> str:
        cells = (self.network, self.track, self.configuration, f"{self.parameters:,}", f"{self.macs / 1e6:,.2f}")
        return f"| {' | '.join(cells)} |"


def count_parameters(model: nn.Module) -> int:
    """Trainable numbers of a network."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(run: Callable[[], object]) -> int:
    """Multiply-accumulates of the convolutions and matrix products in a call: half of what torch calls FLOPs."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops() // 2


def hrnet_macs(architecture: Mapping[str, Any], height: int, width: int) -> tuple[int, int]:
    """Parameters of an HRNet of this architecture, and MACs of one image of this size, px. Nothing is computed."""
    with torch.device("meta"):
        model, image = HRNet(**architecture).eval(), torch.zeros(1, 3, height, width)
    return count_parameters(model), count_macs(lambda: model(image))


def full_maps(size: int) -> Tensor:
    """One frame of heatmaps (1, 17, size, size) without a zero: the embedding then works as if it were dense."""
    return torch.ones(1, NUM_JOINTS, size, size)


def walking_maps(size: int, sigma: float) -> Tensor:
    """Heatmaps (F, 17, size, size) of someone walking: each joint's peak has the shape that the estimator learns."""
    joints = generate("S1", "walking", 1.0, 2.0, 50, seed=0)
    camera = place_cameras(joints, ["cam1"], "S1", 0, Studio())["cam1"]
    pixels = project(world_to_camera(joints, camera), camera)
    return torch.from_numpy(render(image_to_crop(pixels, boxes_around(pixels), size), size, sigma)).float()


def embedding_macs(embedding: nn.Module, maps: Tensor) -> float:
    """MACs a frame that the embedding of sparse heatmaps spends on these maps (F, 17, size, size)."""
    frame, joint, pixel, value = map(torch.from_numpy, SparseMaps.from_dense(maps).entries())
    frames, size = len(maps), maps.shape[-1]
    seen = Observations(
        torch.zeros(1, frames, NUM_JOINTS, 2),
        torch.ones(1, frames, NUM_JOINTS),
        torch.zeros(1, frames, 3),
        MapEntries(frame * NUM_JOINTS + joint, pixel, value, size),
    )
    return count_macs(lambda: embedding(seen)) / frames


def lifter_rows(track: str, params: Mapping[str, Any]) -> Iterator[Row]:
    """f_E and the temporal network of a track's lifter, and its discriminator; MACs a frame of a clip of T frames."""
    options, size = params["lifter"], params["images"]["map_size"]
    lifter, frames = Lifter({**options, "map_size": size}).eval(), options["frames"]
    embedding, described = lifter.embedding, f"{NUM_JOINTS} maps of {size} px to {lifter.embedding.width}"
    for name, maps in (("dense", full_maps(size)), ("as run", walking_maps(size, params["estimator"]["sigma"]))):
        macs = embedding_macs(embedding, maps)
        yield Row(f"f_E, {name}", track, described, count_parameters(embedding), macs)

    inputs = lifter.tcn.branches[0].enter[0].in_channels
    strides = ", ".join(map(str, options["strides"]))
    macs = count_macs(lambda: lifter.tcn(torch.zeros(1, frames, inputs))) / frames
    described = f"{inputs} in, strides {strides}, {options['width']} wide, T = {frames}"
    yield Row("multi-stride TCN", track, described, count_parameters(lifter.tcn), macs)

    # The others of its options are those of its training.
    settings = {name: options["discriminator"][name] for name in signature(Discriminator).parameters}
    discriminator = Discriminator(**settings).eval()
    macs = count_macs(lambda: discriminator(torch.zeros(1, frames, NUM_JOINTS, 3))) / frames
    described = f"{discriminator.enter.in_channels} in, {settings['layers']} layers, {settings['width']} wide"
    yield Row("discriminator", track, described, count_parameters(discriminator), macs)


def hrnet_row(track: str, params: Mapping[str, Any], width: int) -> Row:
    """The 2D estimator of a track, at a width."""
    size = params["images"]["size"]
    architecture = {key: params["estimator"][key] for key in HRNET_KEYS} | {"joints": NUM_JOINTS, "width": width}
    described = f"W{width}, {size} px to {NUM_JOINTS} maps of {params['images']['map_size']} px"
    return Row("HRNet", track, described, *hrnet_macs(architecture, size, size))


def rows(folder: Path) -> list[Row]:
    """The whole table, by network, from the params.yaml and the tracks of a project's folder."""
    tracks = {
        name: config.load(folder / "params.yaml", overlay and folder / overlay) for name, overlay in OVERLAYS.items()
    }
    estimators = [hrnet_row(name, params, params["estimator"]["width"]) for name, params in tracks.items()]
    wider = hrnet_row("-", tracks["paper"], 48)
    others = [row for name, params in tracks.items() for row in lifter_rows(name, params)]
    # By network, tracks in their order: the names as they first come.
    names = list(dict.fromkeys(row.network for row in others))
    return [*estimators, wider, *sorted(others, key=lambda row: names.index(row.network))]


def table(folder: Path) -> str:
    """The table as Markdown."""
    head = ["| Network | Track | Configuration | Parameters | MACs, million |", "|---|---|---|---:|---:|"]
    return "\n".join([*head, *map(str, rows(folder))])


app = typer.Typer(add_completion=False)


@app.command()
def main() -> None:
    """Print the table of networks; run it in the project's folder, where params.yaml is."""
    typer.echo(table(Path()))


if __name__ == "__main__":
    stage.run(app)
