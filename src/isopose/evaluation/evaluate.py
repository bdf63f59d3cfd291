"""Stage: score every frame of a set of poses; grouped sums in a CSV, overall metrics in a JSON file.

The CSV has a row for each group of frames of a view that share the number of occluded joints, the length of the
occlusion and the speed of motion. Its errors are sums over the `frames` of the row, in mm (`pck` and `auc`: sums of
shares), so that any weighted average can be made again; divide `mpjve` (mm a frame) by `velocity_frames` and
`acceleration_error` (mm a frame^2) by `acceleration_frames`.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import typer

from isopose import stage
from isopose.arrays import check_array
from isopose.datasets.store import OCCLUDED, Clip, PoseStore, SequenceStore, View, ViewKey
from isopose.errors import UserError
from isopose.evaluation import bootstrap, metrics, protocols
from isopose.files import write_text
from isopose.occlusion.rectangles import covered, run_lengths

PARAMETERS = {"bootstrap_samples": int}
BOOTSTRAP_SEED = 0

OCCLUSION_LIMITS = (0.2, 0.5, 1.0)
OCCLUSION_LABELS = ("none", "<0.2", "0.2-0.5", "0.5-1", ">1")
SPEED_LIMITS = (0.5, 1.5)  # mean speed of the joints, m/s: a walk is medium, a jog fast
SPEED_LABELS = ("slow", "medium", "fast")
VIEW_COLUMNS = ("source", "subject", "action", "clip", "view", "speed", "occluded_view")
FRAME_COLUMNS = ("occluded_joints", "occlusion_seconds", "motion_speed")
COUNTS = {
    "mpjpe": "frames",
    "p_mpjpe": "frames",
    "n_mpjpe": "frames",
    "pck": "frames",
    "auc": "frames",
    "mpjve": "velocity_frames",
    "acceleration_error": "acceleration_frames",
}
"""Every error with the column that counts its frames."""

app = typer.Typer(add_completion=False)


@app.command()
def main(
    poses: Path = typer.Option(..., help="Poses to score."),
    store: list[str] = stage.STORE_OPTION,
    output: Path = typer.Option(..., help="Grouped scores (CSV)."),
    metrics: Path = typer.Option(..., help="Overall metrics (JSON)."),
    params: str = stage.PARAMS_OPTION,
) -> None:
    """Score poses against the truth: MPJPE, P-MPJPE, N-MPJPE, MPJVE, acceleration error, PCK and AUC."""
    options = stage.parse_params(params, PARAMETERS)
    scores = score(poses, stage.parse_named(store))
    write_text(output, scores.to_csv(index=False, float_format="%.3f", lineterminator="\n"))
    overall = summarise(scores, options["bootstrap_samples"])
    write_text(metrics, json.dumps(overall, indent=1) + "\n")


def score(poses: Path, stores: Mapping[str, str | Path]) -> pd.DataFrame:
    """Grouped scores of a pose store, see the module's docstring for the columns."""
    views, frames = [], []
    for key, clip, pose in read_pairs(poses, stores):
        view = clip.views[key.view]
        if view.visible is None:
            raise UserError(f"{stores[key.source]}: '{key}' has no visibility; run isopose.occlusion.label on it")
        speed, occluded = clip.attributes.get("speed", 1.0), key.view.endswith(OCCLUDED)
        views.append((key.source, clip.subject, clip.action, key.clip, key.view, speed, occluded))
        joints = clip.camera_joints(key.view)
        error = errors(pose, joints - joints[:, :1], clip.joint_valid)
        frames.append(pd.DataFrame(conditions(clip, view) | error))
    table = pd.concat(frames, keys=range(len(views)), names=["index"]).droplevel(1)
    grouped = table.groupby(["index", *FRAME_COLUMNS], observed=True).sum().reset_index()
    names = pd.DataFrame(views, columns=VIEW_COLUMNS).loc[grouped.pop("index")].reset_index(drop=True)
    return pd.concat([names, grouped], axis=1)


def read_pairs(poses: Path, stores: Mapping[str, str | Path]) -> Iterator[tuple[ViewKey, Clip, np.ndarray]]:
    """Every view of a pose store with its clip, from the sequence stores by source, and its poses (F, 17, 3), m."""
    with PoseStore(poses) as predicted:
        by_clip = groupby(predicted.keys(), key=lambda key: (key.source, key.clip))
        for (source, clip_id), keys in stage.track_progress(by_clip, "evaluate"):
            if source not in stores:
                raise UserError(f"{poses}: holds poses of '{source}'; give --store {source}=PATH")
            with SequenceStore(stores[source]) as sequences:
                clip = sequences.read(clip_id)
            for key in keys:
                yield key, clip, _read_poses(predicted, key, clip.joints3d.shape)


def _read_poses(store: PoseStore, key: ViewKey, shape: tuple[int, ...]) -> np.ndarray:
    """The poses of a view; a NaN among them would count as no error when frames are summed."""
    poses = store.read(key)
    try:
        check_array("poses", poses, shape, finite=True)
    except ValueError as error:
        raise UserError(f"{store.path}: '{key}': {error}; make it again") from error
    return poses


def errors(predicted: np.ndarray, target: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
    """Every error of every frame, mm, and which frames it counts; poses `(F, 17, 3)`, m, root-relative.

    A velocity belongs to the later of its two frames, an acceleration to the middle one of its three.
    """
    predicted, target = (1000 * pose[:, valid].astype(np.float64) for pose in (predicted, target))
    count = len(target)
    frame = np.arange(count)
    return {
        "frames": np.ones(count, int),
        "mpjpe": metrics.mpjpe(predicted, target),
        "p_mpjpe": metrics.p_mpjpe(predicted, target),
        "n_mpjpe": metrics.n_mpjpe(predicted, target),
        "pck": metrics.pck_3d(predicted, target, threshold=150.0),
        "auc": metrics.auc_3d(predicted, target, limit=150.0),
        "velocity_frames": (frame > 0).astype(int),
        "mpjve": np.pad(metrics.mpjve(predicted, target), (min(count, 1), 0)),
        "acceleration_frames": ((frame > 0) & (frame < count - 1)).astype(int),
        "acceleration_error": np.pad(metrics.acceleration_error(predicted, target), (1, 1))[:count],
    }


def conditions(clip: Clip, view: View) -> dict[str, Any]:
    """What a frame's error is split by: occluded joints (0..17), seconds of the occlusion, speed of the motion."""
    occluders = np.empty((len(view.joints2d), 0, 4)) if view.occluders is None else view.occluders
    seconds = run_lengths(covered(view.joints2d, occluders).any(1)) / clip.fps
    speed = joint_speed(clip.joints3d, clip.fps)
    return {
        "occluded_joints": (~view.visible).sum(1),
        "occlusion_seconds": _bins(seconds, (1e-9, *OCCLUSION_LIMITS), OCCLUSION_LABELS),
        "motion_speed": _bins(speed, SPEED_LIMITS, SPEED_LABELS),
    }


def joint_speed(joints: np.ndarray, fps: float) -> np.ndarray:
    """Mean speed of the joints `(F, 17, 3)`, m, in each frame, m/s: `(F,)`."""
    if len(joints) < 2:
        return np.zeros(len(joints))
    return fps * np.linalg.norm(np.gradient(joints, axis=0), axis=-1).mean(-1)


def _bins(values: np.ndarray, limits: tuple[float, ...], labels: tuple[str, ...]) -> pd.Categorical:
    """The label of each value; a value at a limit belongs to the higher bin."""
    return pd.Categorical.from_codes(np.searchsorted(limits, values, side="right"), labels, ordered=True)


def summarise(scores: pd.DataFrame, bootstrap_samples: int) -> dict[str, Any]:
    """Each metric over frames, over actions, and the 95 % interval (over clips) of the mean over actions."""
    clips = (scores["source"] + "/" + scores["clip"]).to_numpy()
    actions = scores["action"].to_numpy()
    overall: dict[str, Any] = {"frames": int(scores["frames"].sum()), "clips": len(np.unique(clips))}
    for name, count in COUNTS.items():
        sums, counts = scores[name].to_numpy(), scores[count].to_numpy()
        low, high = bootstrap.interval(sums, counts, clips, actions, bootstrap_samples, BOOTSTRAP_SEED)
        overall[name] = {
            "frames": round(protocols.over_frames(sums, counts), 6),
            "actions": round(protocols.over_actions(sums, counts, actions), 6),
            "interval": [round(low, 6), round(high, 6)],
        }
    return overall


if __name__ == "__main__":
    stage.run(app)
