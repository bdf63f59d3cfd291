"""Import a published pose_hrnet checkpoint (MPII or COCO) as a 2D estimator of this project.

The file is read by torch's restricted unpickler, which makes tensors and plain containers and runs nothing else.
"""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import typer
from torch import Tensor

from isopose import stage
from isopose.errors import UserError
from isopose.joint_sets import JOINT_SETS
from isopose.models.hrnet import DOWNSAMPLING, HRNet, save_estimator

PARAMETERS = {"size": int, "width": int}
"""Side of the network's input, px, and the channels of its finest branch that the file must have."""

PUBLISHED_ORIGIN = 0
"""Input px at the centre of heatmap px 0: the authors' targets put a joint at input px x on heatmap px x / 4."""

ADVICE = (
    "expected the weights of a pose_hrnet; give its authors' file, such as pose_hrnet_w32_256x256.pth, "
    "or the final_state.pth of their training"
)

Shapes = Mapping[str, tuple[int, ...]]


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Names and tensors of a checkpoint, without the wrappers of its authors' training code.

    UserError where the file cannot be read or holds anything else; nothing but tensors and containers is made of it.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # the one line below says all of it
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); {ADVICE}") from error
    except Exception as error:  # a damaged or hostile file can make the restricted unpickler raise anything
        foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
        found = f"holds {foreign[1]}, which is no tensor" if foreign else "holds no tensors, or is damaged"
        raise UserError(f"{path}: {found}; nothing in it was run; {ADVICE}") from error
    if isinstance(content, Mapping) and "state_dict" in content:
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content or not all(isinstance(t, Tensor) for t in content.values()):
        raise UserError(f"{path}: holds {type(content).__name__}, not weights by name; {ADVICE}")
    names = [str(name) for name in content]
    prefix = "module." if all(name.startswith("module.") for name in names) else ""
    return {name.removeprefix(prefix): tensor for name, tensor in zip(names, content.values(), strict=True)}


def architecture_of(shapes: Shapes) -> dict[str, Any]:
    """Arguments of :class:`HRNet` by the names and shapes of its weights; ValueError where they name no HRNet."""
    for name in ("conv1.weight", "layer1.0.conv1.weight", "stage2.0.branches.0.0.conv1.weight", "final_layer.weight"):
        if len(shapes.get(name, ())) != 4 or 0 in shapes[name]:
            raise ValueError(f"has no convolution {name}")

    def children(parent: str) -> int:
        return len({name.removeprefix(parent).split(".")[0] for name in shapes if name.startswith(parent)})

    modules = itertools.takewhile(bool, (children(f"stage{number}.") for number in itertools.count(2)))
    joints, width = shapes["final_layer.weight"][:2]
    return {
        "width": width,
        "joints": joints,
        "stem": shapes["conv1.weight"][0],
        "modules": list(modules),
        "blocks": children("stage2.0.branches.0."),
        "bottlenecks": children("layer1."),
    }


def differences(shapes: Shapes, architecture: dict[str, Any]) -> list[str]:
    """How names and shapes differ from those of an HRNet of this architecture; empty where they agree."""
    with torch.device("meta"):
        expected = {name: tuple(weight.shape) for name, weight in HRNet(**architecture).state_dict().items()}
    lacking = [f"lacks {name}" for name in expected if name not in shapes]
    foreign = [f"has {name!r}, which no pose_hrnet has" for name in shapes if name not in expected]
    reshaped = [
        f"has {name} of shape {shapes[name]}, not {shape}"
        for name, shape in expected.items()
        if name in shapes and shapes[name] != shape
    ]
    return lacking + foreign + reshaped


def check(path: Path, shapes: Shapes, joints: str, width: int) -> dict[str, Any]:
    """Architecture of a checkpoint, refused unless it is an HRNet of this width with a channel for each joint."""
    try:
        architecture = architecture_of(shapes)
    except ValueError as error:
        raise UserError(f"{path}: {error}; {ADVICE}") from error
    expected = {"joints": len(JOINT_SETS[joints].joints), "width": width}
    if architecture["joints"] != expected["joints"]:
        raise UserError(
            f"{path}: has {architecture['joints']} heatmaps; expected {expected['joints']} ({joints}); "
            "give the --joints that it was trained on"
        )
    if architecture["width"] != expected["width"]:
        raise UserError(
            f"{path}: is {architecture['width']} channels wide; expected {width}; "
            "change width in --params, or give another file"
        )
    found = differences(shapes, architecture)
    if found:
        more = f" (and {len(found) - 1} more differences)" if len(found) > 1 else ""
        raise UserError(f"{path}: {found[0]}{more}; {ADVICE}")
    return architecture


def import_checkpoint(path: Path, joints: str, size: int, width: int) -> tuple[HRNet, dict[str, Any]]:
    """The network of a checkpoint and the configuration that its file here keeps; UserError for a wrong file.

    ``joints`` is a name of JOINT_SETS; ``size`` the side of the input, px; ``width`` that of the finest branch.
    """
    weights = read_checkpoint(path)
    architecture = check(path, {name: tuple(tensor.shape) for name, tensor in weights.items()}, joints, width)
    multiple = DOWNSAMPLING * 2 ** len(architecture["modules"])
    if size < multiple or size % multiple:
        raise UserError(f"--params: size is {size} px; expected a multiple of {multiple}; published: 256")
    model = HRNet(**architecture)
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise UserError(f"{path}: holds tensors without plain numbers; {ADVICE}") from error
    return model.eval(), {"architecture": architecture, "size": size, "joints_set": joints, "origin": PUBLISHED_ORIGIN}


app = typer.Typer(add_completion=False)


@app.command()
def main(
    checkpoint: Path = typer.Option(..., help="Published checkpoint, such as pose_hrnet_w32_256x256.pth."),
    output: Path = typer.Option(..., help="2D estimator to write (safetensors)."),
    joints: Literal["mpii", "coco"] = typer.Option(..., help="The joints that it was trained on."),
    params: str = typer.Option(..., help='Side of the input, px, and expected width: {"size": 256, "width": 32}.'),
) -> None:
    """Import a published pose_hrnet checkpoint; the detection stage then maps its joints to the skeleton's 17."""
    options = stage.parse_params(params, PARAMETERS)
    save_estimator(*import_checkpoint(checkpoint, joints, options["size"], options["width"]), output)


if __name__ == "__main__":
    stage.run(app)
