"""Stage: predict the unobserved future of recorded views and score it, as the paper's Table 9 does (human dynamics).

The CSV has a row for each action, sampling (stretches an action), method and horizon: ``mean_angle_error``, rad, of
joint angles that prediction and truth give through the same inverse kinematics, and ``mpjpe``, mm, over predictions:
stretches times views. Ground truth passed through the same has no error by construction: what it loses against
recorded angles, bone twist, is not in the numbers.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import typer

from isopose import stage
from isopose.datasets.store import Clip, DetectionStore, SequenceStore, ViewKey
from isopose.errors import UserError
from isopose.evaluation.dynamics import (
    HORIZONS,
    OBSERVED,
    errors_by_horizon,
    first_future_frames,
    predict_future,
    zero_velocity,
)
from isopose.files import write_text
from isopose.models.lifter import Lifter

PARAMETERS = {"threads": int, "device": str}

FPS = 25.0
"""Of the protocol: its stretches and horizons are frames at this rate. A lifter sees those between as well."""

FUTURE = max(HORIZONS.values()) + 1
"""Frames that are predicted."""

SAMPLINGS = (8, 256)
"""Stretches an action: the older sampling, of high variance, and the newer."""

METHODS = ("lifter", "zero_velocity")

Trials = Mapping[str, list[list[ViewKey]]]
"""By action, the views of each of its two trials."""


def trials_of(detections: DetectionStore, stores: Mapping[str, Path]) -> tuple[Trials, dict[ViewKey, Clip]]:
    """The views of every action's trials, in the order of the sub-actions, and their clips.

    UserError for clips whose frame rate is no multiple of 25, or an action without the sub-actions 1 and 2 of one
    subject.
    """
    clips: dict[tuple[str, str], Clip] = {}
    found: dict[str, dict[tuple[str, int], list[ViewKey]]] = {}
    for key in detections.keys():  # noqa: SIM118 (not a dict)
        if key[:2] not in clips:
            with SequenceStore(stores[key.source]) as store:
                clips[key[:2]] = store.read(key.clip)
        clip = clips[key[:2]]
        if clip.fps % FPS:
            raise UserError(
                f"{key}: has {clip.fps:g} frames a second; expected a multiple of {FPS:g}; set fps of its source"
            )
        trial = (clip.subject, int(clip.attributes.get("subaction", 0)))
        found.setdefault(clip.action, {}).setdefault(trial, []).append(key)
    for action, by_trial in found.items():
        if len({subject for subject, _ in by_trial}) > 1 or sorted(number for _, number in by_trial) != [1, 2]:
            raise UserError(
                f"{detections.path}: '{action}' has the trials {sorted(by_trial)}; expected sub-actions 1 and 2 of one "
                "subject; bind one subject of Human3.6M"
            )
    trials = {action: [by_trial[trial] for trial in sorted(by_trial)] for action, by_trial in found.items()}
    return trials, {key: clips[key[:2]] for action in trials.values() for views in action for key in views}


def step(clip: Clip) -> int:
    """Frames of a clip from one of the protocol to the next."""
    return round(clip.fps / FPS)


def stretches(trials: list[list[ViewKey]], clips: Mapping[ViewKey, Clip], sampling: int) -> Iterator[tuple]:
    """Views and first future frames, of the protocol's, of an action's stretches: every view of a trial sees each."""
    recorded = [clips[views[0]] for views in trials]
    lengths = tuple(-(-len(clip.joints3d) // step(clip)) for clip in recorded)
    try:
        firsts = first_future_frames(lengths, sampling)
    except ValueError as error:
        raise UserError(f"{trials[0][0]}: {error}; bind longer clips") from error
    for trial, views in enumerate(trials):
        for first in firsts[:, trial]:
            yield from ((key, int(first)) for key in views)


def forecast(detections: Path, lifter: Lifter, stores: Mapping[str, Path]) -> pd.DataFrame:
    """Errors of every action, sampling, method and horizon; see the module's docstring for the columns."""
    rows: list[dict[str, Any]] = []
    with DetectionStore(detections) as detected:
        trials, clips = trials_of(detected, stores)
        detected_of = cache(detected.read)

        @cache
        def predicted(key: ViewKey, first: int) -> np.ndarray:
            clip = clips[key]
            camera, every = clip.cameras[clip.views[key.view].camera], step(clip)
            seen = detected_of(key).part((first - OBSERVED) * every, first * every)
            return predict_future(lifter, seen, camera, OBSERVED * every, FUTURE * every)[::every]

        def truth(key: ViewKey, frames: slice) -> np.ndarray:
            joints = clips[key].camera_joints(key.view)[:: step(clips[key])][frames]
            return joints - joints[:, :1]

        tasks = [(action, sampling) for action in trials for sampling in SAMPLINGS]
        for action, sampling in stage.track_progress(tasks, "forecast", len(tasks)):
            places = list(stretches(trials[action], clips, sampling))
            target = np.stack([truth(key, slice(first, first + FUTURE)) for key, first in places])
            last = np.stack([truth(key, slice(first - 1, first))[0] for key, first in places])
            answers = (np.stack([predicted(*place) for place in places]), zero_velocity(last, FUTURE))
            for method, poses in zip(METHODS, answers, strict=True):
                for horizon, errors in errors_by_horizon(poses, target).items():
                    row = {"action": action, "sampling": sampling, "method": method, "horizon_ms": horizon}
                    row |= {"mean_angle_error": errors["mean_angle_error"], "mpjpe": 1000 * errors["mpjpe"]}
                    rows.append(row | {"predictions": len(places)})
    return pd.DataFrame(rows)


app = typer.Typer(add_completion=False)


@app.command()
def main(
    store: list[str] = stage.STORE_OPTION,
    detections: Path = typer.Option(..., help="Detections of both trials of every action of one subject."),
    lifter: Path = typer.Option(..., help="Weights of the lifter, safetensors."),
    output: Path = typer.Option(..., help="Errors by action, sampling, method and horizon (CSV)."),
    params: str = stage.PARAMS_OPTION,
) -> None:
    """Predict one second from two observed ones, and score it."""
    options = stage.parse_params(params, PARAMETERS)
    stage.set_threads(options["threads"])
    model = Lifter.load(lifter).to(options["device"])
    stores = {name: Path(path) for name, path in stage.parse_named(store).items()}
    table = forecast(detections, model, stores)
    write_text(output, table.to_csv(index=False, float_format="%.4f", lineterminator="\n"))


if __name__ == "__main__":
    stage.run(app)
