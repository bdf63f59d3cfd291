"""Stage: calibrate the 2D estimator's confidence on held-out people (paper 3.5); never on the test set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import typer
from sklearn.model_selection import GroupKFold

from isopose import stage
from isopose.datasets.store import DetectionStore, SequenceStore
from isopose.errors import UserError
from isopose.evaluation import keypoints
from isopose.files import write_text
from isopose.iso.calibration import CONSTANT, KINDS, Calibrator, expected_calibration_error, reliability

PARAMETERS = {"kind": str, "bins": int, "folds": int}
"""The stage's parameters: the kind that later stages use, reliability bins, folds of the error."""


def labelled(stores: dict[str, Path], detections: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Every detected joint of the calibration views: confidence, correct, subject, clip, each ``(N,)``.

    Correct means within half the head size of the true joint. Hidden joints count too: a confidence that
    ISO can weigh must say how far a detection is to be trusted, seen or not.
    """
    columns: list[tuple[np.ndarray, ...]] = []
    with DetectionStore(detections) as store:
        for key in store.keys():  # noqa: SIM118 (not a dict)
            if key.source not in stores:
                raise UserError(f"{detections}: holds views of '{key.source}'; give --store {key.source}=PATH")
            with SequenceStore(stores[key.source]) as sequences:
                clip = sequences.read(key.clip)
            view, found = clip.views[key.view], store.read(key)
            head = keypoints.head_size(clip.camera_joints(key.view), clip.cameras[view.camera])
            correct = keypoints.correct(found.image_keypoints, view.joints2d, head)[:, clip.joint_valid]
            count = correct.size
            names = (f"{key.source}/{clip.subject}", f"{key.source}/{clip.id}")
            confidence = found.confidence[:, clip.joint_valid].ravel()
            columns.append((confidence, correct.ravel(), *(np.repeat(name, count) for name in names)))
    confidence, correct, subject, clips = (np.concatenate(values) for values in zip(*columns, strict=True))
    return confidence, correct, subject, clips


def cross_validated(
    kind: str, confidence: np.ndarray, correct: np.ndarray, groups: np.ndarray, folds: int
) -> np.ndarray:
    """Probability ``(N,)`` of each detection from a calibrator fitted without its group."""
    probability = np.empty(len(confidence))
    splits = GroupKFold(min(folds, len(np.unique(groups)))).split(confidence, groups=groups)
    for fitted, held_out in splits:
        calibrator = Calibrator.fit(kind, confidence[fitted], correct[fitted])
        probability[held_out] = calibrator(confidence[held_out])
    return probability


def calibrate(
    confidence: np.ndarray, correct: np.ndarray, groups: np.ndarray, params: dict[str, Any]
) -> dict[str, Any]:
    """Fit every kind; returns the chosen one, all fits, and calibration errors before and after.

    The error after is of cross-validated probabilities, no group being judged by a calibrator that saw it. Where the
    confidence is one number, as of detections made elsewhere without any, the kind is ``constant`` whatever is chosen.
    """
    if params["kind"] not in KINDS:
        raise UserError(f"calibration kind {params['kind']!r} is unknown; expected one of {', '.join(KINDS)}")
    if len(np.unique(groups)) < 2:
        raise UserError(
            "calibration: all detections come from one clip; expected several; widen the role 'calibration'"
        )
    bins, informative = params["bins"], bool(np.ptp(confidence))
    chosen = params["kind"] if informative else CONSTANT
    raw = np.clip(confidence, 0, 1)
    fits = {}
    for kind in KINDS if informative else [CONSTANT]:
        held_out = cross_validated(kind, confidence, correct, groups, params["folds"])
        fits[kind] = {
            "calibrator": Calibrator.fit(kind, confidence, correct).to_dict(),
            "ece": expected_calibration_error(held_out, correct, bins),
            "reliability": _plain(reliability(held_out, correct, bins)),
        }
    return {
        "kind": chosen,
        "calibrator": fits[chosen]["calibrator"],
        "detections": len(confidence),
        "correct_share": float(correct.mean()),
        "ece_before": expected_calibration_error(raw, correct, bins),
        "ece_after": fits[chosen]["ece"],
        "reliability_before": _plain(reliability(raw, correct, bins)),
        "fits": fits,
    }


def _plain(table: dict[str, np.ndarray]) -> dict[str, list[float | None]]:
    """A table for JSON, which has no NaN."""
    return {name: [None if np.isnan(value) else value for value in column.tolist()] for name, column in table.items()}


app = typer.Typer(add_completion=False)


@app.command()
def main(
    store: list[str] = stage.STORE_OPTION,
    detections: Path = typer.Option(..., help="Detections of the calibration views (HDF5)."),
    output: Path = typer.Option(..., help="Fitted calibration with its errors (JSON)."),
    params: str = stage.PARAMS_OPTION,
) -> None:
    """Fit the maps from peak height to probability and measure their calibration error."""
    options = stage.parse_params(params, PARAMETERS)
    confidence, correct, subjects, clips = labelled(stage.parse_named(store), detections)
    groups = subjects if len(np.unique(subjects)) > 1 else clips
    result = calibrate(confidence, correct, groups, options)
    if result["kind"] == CONSTANT:
        typer.echo(
            f"{detections}: every confidence is {confidence[0]:g}, which tells no detection from another; the "
            f"calibrated one is {result['correct_share']:.3f}, the share that is right, for all: ISO's weightings "
            "confidence, calibrated and hard are not meaningful for these detections"
        )
    write_text(output, json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    stage.run(app)
