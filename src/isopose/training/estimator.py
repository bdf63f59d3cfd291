"""Stage: train the 2D estimator, an HRNet, on labelled images of people (paper 3.1)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from isopose import heatmaps, stage, tracking
from isopose.errors import UserError
from isopose.evaluation import keypoints
from isopose.labelled_images import Images
from isopose.models.hrnet import DOWNSAMPLING, HRNet, detect, initialise, normalise, save_estimator
from isopose.skeleton import MIRROR, NUM_JOINTS

PARAMETERS = {
    "width": int,
    "stem": int,
    "modules": list,
    "blocks": int,
    "bottlenecks": int,
    "epochs": int,
    "batch": int,
    "learning_rate": float,
    "weight_decay": float,
    "sigma": float,
    "rotation": float,
    "scale": float,
    "colour": float,
    "seed": int,
    "threads": int,
    "device": str,
}
"""The stage's parameters: architecture (see HRNet), optimisation, target and augmentation."""


def target_maps(points: Tensor, visible: Tensor, size: int, sigma: float) -> Tensor:
    """Training target (paper 3.1): a Gaussian for a visible joint, an all-zero map for an invisible one.

    ``points`` ``(N, J, 2)`` map px, ``visible`` ``(N, J)``; returns ``(N, J, size, size)``.
    """
    return heatmaps.render(points, size, sigma) * visible[..., None, None]


def heatmap_loss(predicted: Tensor, target: Tensor, labelled: Tensor | None = None) -> Tensor:
    """Squared error summed over the pixels of a map, averaged over maps ``(N, J, H, W)``.

    The mean over pixels would make a map's few bright pixels vanish beside the weight decay. ``labelled`` ``(N, J)``:
    maps that count, all if None. A joint that is not labelled may be visible, so it gets no all-zero map.
    """
    squares = (predicted - target).square().sum((-2, -1))
    weights = torch.ones_like(squares) if labelled is None else labelled.to(squares)
    return (weights * squares).sum() / weights.sum().clamp(min=1)


def augment(
    images: Tensor, points: Tensor, marks: Tensor, params: dict[str, Any], generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Turn, scale, mirror and recolour a batch, each image by its own draw.

    ``images`` ``(N, 3, S, S)``; ``points`` ``(N, J, 2)`` in -1..1 across the crop (as in ``grid_sample``);
    ``marks`` ``(N, J, K)``: what else is known of the joints. Mirroring also exchanges left and right
    joints. ``params``: ``rotation`` degrees and ``scale`` are half-widths of uniform draws; ``colour`` is the
    deviation of each channel's gain and offset.
    """
    count = len(images)

    def draw(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator).to(images.device) * 2 - 1

    angle = draw() * math.radians(params["rotation"])
    scale = 1 + draw() * params["scale"]
    mirrored = draw() < 0
    sign = torch.where(mirrored, -1.0, 1.0)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    # Rows of the matrix that takes a point of the input crop to the output crop.
    forward = torch.stack([torch.stack([sign * cos, -sign * sin], 1), torch.stack([sin, cos], 1)], 1)
    inverse = torch.linalg.inv(forward)
    grid = affine_grid(torch.nn.functional.pad(inverse, (0, 1)), list(images.shape), align_corners=False)
    images = grid_sample(images, grid, padding_mode="border", align_corners=False)
    images = images * (1 + params["colour"] * draw(3, 1, 1)) + params["colour"] * draw(3, 1, 1)

    points = points @ forward.mT
    points = torch.where(mirrored[:, None, None], points[:, MIRROR], points)
    marks = torch.where(mirrored[:, None, None], marks[:, MIRROR], marks)
    return images.contiguous(memory_format=torch.channels_last), points, marks


def score(model: HRNet, data: Images, batch: int) -> dict[str, float]:
    """PCKh@0.5 of visible joints, visible-against-invisible AUROC and left-right confusion on labelled
    crops."""
    maps = [detect(model, data.images[start : start + batch]) for start in range(0, len(data.images), batch)]
    points, confidence = heatmaps.decode(np.concatenate(maps))
    truth = (points, data.joints2d, data.head_size, data.measured)
    return {
        "pckh": keypoints.pckh(*truth),
        "auroc": keypoints.auroc(confidence[data.labelled], data.visible[data.labelled]),
        "left_right_confusion": keypoints.left_right_confusion(*truth),
    }


def train(
    data: Images, validation: Images | None, params: dict[str, Any], log: tracking.Log
) -> tuple[HRNet, dict[str, Any]]:
    """Train an HRNet on labelled crops; returns it with the configuration that its file keeps.

    Adam with decoupled weight decay on a one-cycle schedule; logs the mean loss and the validation
    scores by epoch.
    """
    stage.seed_everything(params["seed"])
    device = params["device"]
    architecture = {name: params[name] for name in ("width", "stem", "modules", "blocks", "bottlenecks")}
    architecture["joints"] = NUM_JOINTS
    model = HRNet(**architecture)
    initialise(model)
    model = model.to(device, memory_format=torch.channels_last)

    map_size = data.map_size
    if data.size != DOWNSAMPLING * map_size:
        raise UserError(
            f"images of {data.size} px are labelled for maps of {map_size} px; expected "
            f"{data.size // DOWNSAMPLING}; change size or map_size in params.yaml"
        )
    points = torch.from_numpy((2 * data.joints2d + 1) / map_size - 1).float().to(device)
    marks = torch.from_numpy(np.stack([data.visible, data.labelled], axis=-1)).to(device)
    images = torch.from_numpy(data.images)
    batches = len(images) // params["batch"]
    if batches == 0:
        raise UserError(f"the estimator has {len(images)} images, fewer than one batch of {params['batch']}")
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=params["weight_decay"], fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, params["learning_rate"], total_steps=params["epochs"] * batches
    )
    generator = torch.Generator().manual_seed(params["seed"])
    for epoch in stage.track_progress(range(params["epochs"]), "estimator", params["epochs"]):
        model.train()
        total = 0.0
        order = torch.randperm(len(images), generator=generator)[: batches * params["batch"]]
        for chosen in order.split(params["batch"]):
            batch, where, known = augment(
                normalise(images[chosen].to(device)), points[chosen], marks[chosen], params, generator
            )
            seen, labelled = known.unbind(-1)
            target = target_maps(((where + 1) * map_size - 1) / 2, seen, map_size, params["sigma"])
            loss = heatmap_loss(model(batch), target, labelled)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        log(epoch, {"loss": total / batches})
        if validation is not None:
            log(epoch, score(model, validation, params["batch"]))
    return model.eval(), {"architecture": architecture, "size": data.size}


app = typer.Typer(add_completion=False)


@app.command()
def main(
    images: Path = typer.Option(..., help="Labelled training images (HDF5)."),
    validation: Path | None = typer.Option(None, help="Labelled images of held-out people, scored every epoch."),
    output: Path = typer.Option(..., help="Trained network (safetensors)."),
    record: Path = typer.Option(..., help="Run record (JSON)."),
    key: str = typer.Option(..., help="Name of the run for good, such as demo/estimator/images."),
    mlflow: str | None = stage.MLFLOW_OPTION,
    params: str = stage.PARAMS_OPTION,
) -> None:
    """Train the 2D estimator on labelled images."""
    options = stage.parse_params(params, PARAMETERS)
    stage.set_threads(options["threads"])
    inputs = [path for path in (images, validation) if path]
    held_out = Images.read(validation) if validation else None
    with tracking.run(key, record, options, inputs=inputs, uri=mlflow) as log:
        model, config = train(Images.read(images), held_out, options, log)
        if held_out is not None:
            log.summary(score(model, held_out, options["batch"]))
        save_estimator(model, config, output)


if __name__ == "__main__":
    stage.run(app)
