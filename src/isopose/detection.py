"""Stage: 2D detection. Each frame of each selected view becomes heatmaps, keypoints and confidences."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import typer
from torch import nn

from isopose import heatmaps, stage
from isopose.crops import boxes_around
from isopose.datasets.footage import RECORDED, Recordings, is_broken, recorded_boxes
from isopose.datasets.official import RAW_OPTION
from isopose.datasets.store import Clip, Detections, DetectionStore, SequenceStore, select
from isopose.datasets.worker import Worker
from isopose.errors import UserError
from isopose.evaluation.detections import Quality
from isopose.files import write_text
from isopose.joint_sets import HUMAN36M, JOINT_SETS, JointSet
from isopose.models.hrnet import ORIGIN, detect, fold_normalisation, load_estimator
from isopose.rendering import view_frames
from isopose.sparse_maps import SparseMaps

PARAMETERS = {
    "selections": list,
    "margin": float,
    "smoothing": int,
    "split": str,
    "flip_test": bool,
    "batch": int,
    "threads": int,
    "device": str,
}
"""The stage's parameters: which views, the person's box, which looks to render, and how to run the
network."""


ViewFrames = Callable[[Clip, str, np.ndarray, np.ndarray, int], np.ndarray]
"""Where a view's pixels come from: of a clip, the name of its view, boxes (F, 3) px, chosen frames (n,) and a size, the
crops (n, size, size, 3), RGB uint8."""


def rendered_boxes(clip: Clip, view_name: str, margin: float, smoothing: int) -> np.ndarray:
    """The boxes (F, 3) of a rendered view, px: around the true 2D joints."""
    return boxes_around(clip.views[view_name].joints2d, margin, smoothing)


def detect_view(
    model: nn.Module,
    size: int,
    clip: Clip,
    view_name: str,
    params: dict[str, Any],
    joint_set: JointSet = HUMAN36M,
    origin: float = ORIGIN,
    recorded: Recordings | None = None,
) -> tuple[Detections, np.ndarray]:
    """Detect the person in every frame of a view, read from its footage or, without, rendered on the fly.

    The boxes stand for a person detector and tracker, which this project does not contain: they are put around what
    is known of the person. ``size`` is the side of the network's input, px, ``joint_set`` what its channels are,
    ``origin`` the input px at the centre of heatmap px 0. Returns the detections and the dense maps
    ``(F, 17, M, M)`` they were made from.
    """
    frames_of: ViewFrames = recorded.view_frames if recorded else partial(view_frames, split=params["split"])
    boxes_of = recorded_boxes if recorded else rendered_boxes
    boxes = boxes_of(clip, view_name, params["margin"], params["smoothing"])
    # The crop moves by what the network's grid lies off the crop's, so that its heatmaps come out on ours.
    seen = boxes + (ORIGIN - origin) / size * boxes[:, 2:] * np.array([1, 1, 0], boxes.dtype)

    def detect_frames(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        images = frames_of(clip, view_name, seen, chosen, size)
        maps = detect(model, images, params["flip_test"], joint_set.mirror, origin)
        # Decoded before the joints are mapped: a derived keypoint is then not rounded to its map's pixels.
        points, confidence = heatmaps.decode(maps)
        return joint_set.keypoints(points), joint_set.confidence(confidence), joint_set.heatmaps(maps)

    batches = np.array_split(np.arange(len(boxes)), -(-len(boxes) // params["batch"]))
    found = [detect_frames(chosen) for chosen in batches]
    points, confidence, maps = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Detections(points, confidence, boxes, SparseMaps.from_dense(maps)), maps


def joint_set_of(config: dict[str, Any], path: Path) -> JointSet:
    """What the channels of an estimator are, by its configuration; the skeleton itself where that says nothing."""
    name, channels = config.get("joints_set", HUMAN36M.name), config["architecture"]["joints"]
    if name not in JOINT_SETS or len(JOINT_SETS[name].joints) != channels:
        known = ", ".join(f"{known} ({len(joint_set.joints)})" for known, joint_set in JOINT_SETS.items())
        raise UserError(
            f"{path}: has {channels} heatmaps of joint set '{name}'; expected one of {known}; "
            "import or train the estimator again"
        )
    return JOINT_SETS[name]


def run(
    stores: dict[str, Path],
    estimator: Path,
    output: Path,
    params: dict[str, Any],
    quality: Path | None = None,
    raw: Path = Path("data/raw"),
) -> None:
    """Detect every selected view; writes the detection store and, if asked, its scores as JSON.

    A view of a recorded dataset is read from its footage in ``raw/<reader>``, and never rendered where that is missing.
    """
    stage.set_threads(params["threads"])
    model, config = load_estimator(estimator)
    joint_set, origin = joint_set_of(config, estimator), config.get("origin", ORIGIN)
    model = fold_normalisation(model.to(params["device"]))
    scores = Quality()
    with DetectionStore.create(output) as detections, Worker() as worker:
        for key in stage.track_progress(select(stores, params["selections"]), "detection"):
            with SequenceStore(stores[key.source]) as sequences:
                clip, reader = sequences.read(key.clip), sequences.attributes.get("reader")
            recorded = Recordings(reader, raw / reader, worker) if reader in RECORDED else None
            if recorded and is_broken(clip, key.view):
                typer.echo(f"{key}: left out, its video is broken (docs/datasets/{reader}.md)")
                continue
            found, maps = detect_view(model, config["size"], clip, key.view, params, joint_set, origin, recorded)
            detections.write(key, found)
            if quality:
                scores.add(clip, key.view, found, maps)
    if quality:
        write_text(quality, json.dumps(scores.summary(output.stat().st_size), indent=1, sort_keys=True) + "\n")


app = typer.Typer(add_completion=False)


@app.command()
def main(
    store: list[str] = stage.STORE_OPTION,
    estimator: Path = typer.Option(..., help="Trained 2D estimator (safetensors)."),
    output: Path = typer.Option(..., help="Detection store (HDF5)."),
    quality: Path | None = typer.Option(None, help="Where to write the scores of the detections (JSON)."),
    params: str = stage.PARAMS_OPTION,
    raw: Path = RAW_OPTION,
) -> None:
    """Read or render the selected views and detect the person's joints in them."""
    run(stage.parse_named(store), estimator, output, stage.parse_params(params, PARAMETERS), quality, raw)


if __name__ == "__main__":
    stage.run(app)
