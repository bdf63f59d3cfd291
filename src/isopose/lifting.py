"""Stage: lift the detections of every view to 3D poses."""

from pathlib import Path

import numpy as np
import typer

from isopose import stage
from isopose.datasets.store import DetectionStore, PoseStore, SequenceStore
from isopose.errors import UserError
from isopose.models.lifter import Lifter, lift

PARAMETERS = {"flip": bool, "threads": int, "device": str}

app = typer.Typer(add_completion=False)


@app.command()
def main(
    store: list[str] = stage.STORE_OPTION,
    detections: Path = typer.Option(..., help="Detections to lift."),
    lifter: Path = typer.Option(..., help="Weights of the lifter, safetensors."),
    output: Path = typer.Option(..., help="Pose store to write."),
    mean_pose: bool = typer.Option(False, help="Answer every frame with the lifter's mean training pose: the floor."),
    params: str = stage.PARAMS_OPTION,
) -> None:
    """Lift each view in one pass: root-relative poses, metres, camera frame. Of the stores, only cameras are read."""
    options = stage.parse_params(params, PARAMETERS)
    stage.set_threads(options["threads"])
    stores = {name: Path(path) for name, path in stage.parse_named(store).items()}
    run(detections, lifter, stores, output, options["flip"], options["device"], mean_pose)


def run(
    detections: Path,
    lifter: Path,
    stores: dict[str, Path],
    output: Path,
    flip: bool = False,
    device: str = "cpu",
    mean_pose: bool = False,
) -> None:
    """Lift every view of a detection store into a pose store."""
    model = Lifter.load(lifter).to(device)
    with DetectionStore(detections) as detected, PoseStore.create(output) as poses:
        for key in stage.track_progress(detected.keys(), "lift"):
            with SequenceStore(stores[key.source]) as sequences:
                clip = sequences.read(key.clip)
            camera = clip.cameras[clip.views[key.view].camera]
            found = detected.read(key)
            if mean_pose:
                poses.write(key, np.broadcast_to(model.mean_pose.cpu().numpy(), found.keypoints.shape[:2] + (3,)))
                continue
            try:
                poses.write(key, lift(model, found, camera, flip))
            except ValueError as error:
                raise UserError(f"{detections}: '{key}': {error}; make it again, or the lifter {lifter}") from error


if __name__ == "__main__":
    stage.run(app)
