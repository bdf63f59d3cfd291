"""Stage: inference stage optimisation of every pose of a set (paper 3.5), all clips in large batches."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import typer
from torch import Tensor

from isopose import stage, tracking
from isopose.arrays import check_array
from isopose.camera import Camera, undistort
from isopose.crops import crop_intrinsics, image_to_crop
from isopose.datasets.store import Detections, DetectionStore, PoseStore, SequenceStore, ViewKey
from isopose.errors import UserError
from isopose.files import write_text
from isopose.iso.calibration import Calibrator
from isopose.iso.optimise import FARTHEST_START, optimise, start_gap
from isopose.iso.projection import Fit, perspective, torso, weak_perspective
from isopose.iso.variables import VARIABLES
from isopose.iso.weights import weighting
from isopose.models.discriminator import Discriminator
from isopose.models.embedding import Observations
from isopose.models.lifter import Lifter, observe
from isopose.skeleton import NUM_JOINTS

PARAMETERS = {
    "weighting": dict,
    "projection": str,
    "variable": str,
    "iterations": int,
    "learning_rate": float,
    "smoothness": float,
    "adversarial": float,
    "adversarial_every": int,
    "objective": str,
    "segment_frames": int,
    "detach_weights": bool,
    "tolerance": float,
    "threads": int,
    "device": str,
}
"""weighting: kind and options of w_k; projection: one of PROJECTIONS; variable: pose, or one of
isopose.iso.variables.VARIABLES; objective: of the GAN that trained the discriminator; the others as in
isopose.iso.optimise."""

PROJECTIONS: dict[str, Callable[[Tensor, Tensor], Fit]] = {
    "weak_perspective": lambda focal, centre: weak_perspective,
    "torso": lambda focal, centre: torso,
    "perspective": perspective,
}
"""By name, from the crop's focal lengths and principal point."""

CHUNK_FRAMES = 8192
"""Frames optimised at once: bounds the memory (about 20 kB a frame) and does not change the result.

With the variable `network` it does: each batch has weights of its own. A frame then takes about 160 kB."""

app = typer.Typer(add_completion=False)


@app.command()
def main(
    poses: Path = typer.Option(..., help="Poses to refine."),
    detections: Path = typer.Option(..., help="2D detections of the same views."),
    calibration: Path = typer.Option(..., help="Calibration of the confidence (JSON)."),
    discriminator: Path = typer.Option(..., help="Discriminator (safetensors)."),
    lifter: Path | None = typer.Option(None, help="Lifter that made the poses; read if it is what is optimised."),
    store: list[str] = stage.STORE_OPTION,
    output: Path = typer.Option(..., help="Refined poses."),
    trace: Path = typer.Option(..., help="Loss terms and errors at every iteration (CSV)."),
    record: Path = typer.Option(..., help="Run record (JSON)."),
    key: str = typer.Option("iso", help="Name of the run."),
    parent: str | None = typer.Option(None, help="Name of the run this one nests under."),
    mlflow: str | None = stage.MLFLOW_OPTION,
    selection: Path | None = typer.Option(None, help="Take weighting and iterations from this choice (JSON)."),
    params: str = stage.PARAMS_OPTION,
) -> None:
    """Refine 3D poses by their 2D detections. The stores' 3D joints serve the error in the trace alone."""
    options = stage.parse_params(params, PARAMETERS)
    if selection:
        options |= chosen_options(selection)
    stage.set_threads(options["threads"])
    stores = stage.parse_named(store)
    model = _load_lifter(lifter, options["variable"])
    inputs = [poses, detections, calibration, discriminator, *([lifter] if model else [])]
    with tracking.run(key, record, options, inputs=inputs, parent=parent, uri=mlflow) as log:
        table = refine(poses, detections, calibration, discriminator, model, stores, output, options)
        for name, values in table.items():
            log.history(name, values)
        log.summary({"mpjpe_before": table["mpjpe"].iloc[0], "mpjpe_after": table["mpjpe"].iloc[-1]})
        table.index.name = "iteration"
        write_text(trace, table.to_csv(float_format="%.6g", lineterminator="\n"))


def chosen_options(selection: Path) -> dict[str, Any]:
    """Parameters that `isopose.iso.select` chose on validation: they replace those of `--params`."""
    choice = json.loads(selection.read_text(encoding="utf-8"))
    return choice["options"] | {"iterations": choice["iterations"]}


def _load_lifter(path: Path | None, variable: str) -> Lifter | None:
    """The lifter, where the variable is a part of it."""
    if variable == "pose":
        return None
    if variable not in VARIABLES:
        raise UserError(f"--params: 'variable' is '{variable}'; expected one of pose, {', '.join(VARIABLES)}")
    if path is None:
        raise UserError(f"--lifter: is missing; expected the lifter that made the poses, to optimise its '{variable}'")
    return Lifter.load(path)


def refine(
    poses: Path,
    detections: Path,
    calibration: Path,
    discriminator: Path,
    lifter: Lifter | None,
    stores: Mapping[str, str | Path],
    output: Path,
    options: dict[str, Any],
) -> pd.DataFrame:
    """Write the refined poses; returns the trace over all frames, one row an iteration, `mpjpe` in mm.

    lifter: that made the poses, where a part of it is optimised and not the poses themselves.
    """
    kind = options["weighting"]["kind"]
    if options["projection"] not in PROJECTIONS:
        raise UserError(
            f"--params: 'projection' is '{options['projection']}'; expected one of {', '.join(PROJECTIONS)}"
        )
    own = ("weighting", "projection", "variable", "threads", "device")
    settings = {name: options[name] for name in PARAMETERS if name not in own}
    settings["weighting"] = weighting(**options["weighting"])
    settings["discriminator"] = Discriminator.load(discriminator).to(options["device"])
    if lifter:
        lifter.to(options["device"])
    calibrator = Calibrator.from_dict(json.loads(calibration.read_text(encoding="utf-8"))["calibrator"])
    total, frames = 0.0, 0
    with PoseStore(poses) as source, DetectionStore(detections) as found, PoseStore.create(output) as target:
        views = _views(source, found, stores, (lambda peak: peak) if kind == "confidence" else calibrator, lifter)
        keys = source.keys()
        for chunk in _chunks(stage.track_progress(views, f"ISO {kind}", len(keys))):
            pose, keypoints, confidence, reference, focal, centre = (
                torch.from_numpy(np.concatenate([getattr(view, name) for view in chunk])).to(options["device"])
                for name in ("pose", "keypoints", "confidence", "reference", "focal", "centre")
            )
            lengths = [len(view.pose) for view in chunk]
            variables = None
            if lifter:
                observations = [view.observations.to(options["device"]) for view in chunk]
                variables = VARIABLES[options["variable"]](lifter, observations)
                if start_gap(variables, pose) > FARTHEST_START:
                    raise UserError(
                        f"{poses}: are not what --lifter makes of {detections}; expected its poses, lifting.flip false"
                    )
            result = optimise(
                pose,
                keypoints,
                confidence,
                lengths=lengths,
                reference=reference,
                projection=PROJECTIONS[options["projection"]](focal, centre),
                variables=variables,
                **settings,
            )
            for view, refined in zip(chunk, result.pose.split(lengths), strict=True):
                target.write(view.key, refined.cpu().numpy())
            total = total + len(pose) * pd.DataFrame(result.trace).astype(np.float64)
            frames += len(pose)
    return (total / frames).assign(mpjpe=lambda table: 1000 * table["mpjpe"])


@dataclass(frozen=True)
class _View:
    """What ISO needs of a view: arrays of F frames, keypoints and the crop's camera in heatmap pixels.

    reference: NaN for joints that the dataset does not have; observations: what the lifter saw, where it is optimised.
    """

    key: ViewKey
    pose: np.ndarray
    keypoints: np.ndarray
    confidence: np.ndarray
    reference: np.ndarray
    focal: np.ndarray
    centre: np.ndarray
    observations: Observations | None


def _views(
    poses: PoseStore,
    detections: DetectionStore,
    stores: Mapping[str, str | Path],
    calibrator: Any,
    lifter: Lifter | None,
) -> Iterator[_View]:
    @lru_cache(maxsize=1)
    def read_clip(source: str, clip: str) -> Any:
        with SequenceStore(stores[source]) as sequences:
            return sequences.read(clip)

    for key in poses.keys():  # noqa: SIM118 (not a dict)
        if key.source not in stores:
            raise UserError(f"{poses.path}: holds poses of '{key.source}'; give --store {key.source}=PATH")
        found, pose = detections.read(key), poses.read(key)
        _check_poses(poses, key, pose, len(found.keypoints))
        clip = read_clip(key.source, key.clip)
        joints, camera = clip.camera_joints(key.view), clip.cameras[clip.views[key.view].camera]
        yield _View(
            key,
            pose,
            _pinhole_keypoints(found, camera).astype(np.float32),
            calibrator(found.confidence).astype(np.float32),
            np.where(clip.joint_valid[:, None], joints - joints[:, :1], np.float32(np.nan)),
            *crop_intrinsics(camera.K, found.boxes, found.map_size),
            _observe(detections, key, found, camera, lifter.uses_maps) if lifter else None,
        )


def _check_poses(store: PoseStore, key: ViewKey, pose: np.ndarray, frames: int) -> None:
    try:
        check_array("poses", pose, (frames, NUM_JOINTS, 3), finite=True)
    except ValueError as error:
        raise UserError(f"{store.path}: '{key}': {error}; make it again from the detections") from error


def _observe(store: DetectionStore, key: ViewKey, found: Detections, camera: Camera, with_maps: bool) -> Observations:
    try:
        return observe(found, camera, with_maps)
    except ValueError as error:
        raise UserError(f"{store.path}: '{key}': {error}") from error


def _pinhole_keypoints(found: Detections, camera: Camera) -> np.ndarray:
    """Keypoints `(F, 17, 2)`, heatmap pixels, without the lens's distortion, which no projection here models."""
    if not np.any(camera.distortion):
        return found.keypoints
    return image_to_crop(undistort(found.image_keypoints, camera), found.boxes, found.map_size)


def _chunks(views: Iterable[_View]) -> Iterator[list[_View]]:
    """Whole views in lists of at most CHUNK_FRAMES frames; a longer view is a list of its own."""
    chunk: list[_View] = []
    for view in views:
        if chunk and sum(len(v.pose) for v in chunk) + len(view.pose) > CHUNK_FRAMES:
            yield chunk
            chunk = []
        chunk.append(view)
    if chunk:
        yield chunk


if __name__ == "__main__":
    stage.run(app)
