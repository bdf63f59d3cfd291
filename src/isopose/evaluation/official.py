"""Stage: score poses by the official protocol of their data set; a tidy CSV.

The CSV has a row for each group of frames and metric, in the order of the field's tables: group, metric, value, and of
how many frames of all views it is. ``p_mpjpe`` is mm; ``pck`` and ``auc`` are per cent. Views with drawn occluders are
no part of a protocol and do not count. Human3.6M's protocols are metrics of :mod:`isopose.evaluation.evaluate`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import typer

from isopose import stage
from isopose.datasets.store import OCCLUDED, Clip
from isopose.errors import UserError
from isopose.evaluation import protocols
from isopose.evaluation.evaluate import read_pairs
from isopose.evaluation.joint_adaptation import JointAdaptation, common_joints, p_mpjpe_3dpw
from isopose.evaluation.metrics import p_mpjpe
from isopose.files import write_text

HUMANEVA_ACTIONS = ("Walking", "Jog")
"""Actions of Table 4, in its order; the average is of their cells alone, so that it stands beside the field's."""

ALL, AVERAGE, ADAPTED = "all", "average", "all, joints adapted"
"""Groups of all frames, of the mean of HumanEva's cells, and of all frames with 3DPW's joint adaptation."""

app = typer.Typer(add_completion=False)


class Scored(NamedTuple):
    """A view that counts: its clip, and predicted and target poses (F, 17, 3), m, root-relative, camera frame."""

    clip: Clip
    predicted: np.ndarray
    target: np.ndarray


class Score(NamedTuple):
    """A row of the CSV."""

    group: str
    metric: str
    value: float
    frames: int


@app.command()
def main(
    protocol: str = typer.Option(..., help="humaneva, mpi_inf_3dhp or three_dpw."),
    poses: Path = typer.Option(..., help="Poses to score."),
    store: list[str] = stage.STORE_OPTION,
    output: Path = typer.Option(..., help="Scores by group and metric (CSV)."),
    fit_poses: Path | None = typer.Option(
        None, help="For three_dpw: poses of other clips, on which its joint adaptation is fitted."
    ),
    fit_store: list[str] = typer.Option([], help="Their labelled sequence store as source=path; repeat for each."),
) -> None:
    """Score poses as the tables of HumanEva-I, MPI-INF-3DHP and 3DPW do."""
    if protocol not in PROTOCOLS:
        raise UserError(f"--protocol: is '{protocol}'; expected one of {', '.join(PROTOCOLS)}")
    if bool(fit_poses) != bool(fit_store):
        raise UserError("--fit-poses: goes with --fit-store; expected both or neither")
    if fit_poses and protocol != "three_dpw":
        raise UserError(f"--fit-poses: '{protocol}' has no joint adaptation; expected --protocol three_dpw")
    views = read_views(poses, stage.parse_named(store))
    scores = PROTOCOLS[protocol](views)
    if fit_poses:
        scores += adapted(views, read_views(fit_poses, stage.parse_named(fit_store, "--fit-store")))
    write_text(output, pd.DataFrame(scores).to_csv(index=False, float_format="%.3f", lineterminator="\n"))


def read_views(poses: Path, stores: Mapping[str, str | Path]) -> list[Scored]:
    """The views of a pose store that count. Errors: UserError where there is none."""
    views = []
    for key, clip, pose in read_pairs(poses, stores):
        if not key.view.endswith(OCCLUDED):
            joints = clip.camera_joints(key.view)
            views.append(Scored(clip, pose, joints - joints[:, :1]))
    if not views:
        raise UserError(f"{poses}: has no poses of views without drawn occluders; expected some; make it again")
    return views


def _frames(views: Sequence[Scored]) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and target (N, 17, 3), m, of the frames of all views."""
    predicted, target = (np.concatenate([getattr(v, name) for v in views]) for name in ("predicted", "target"))
    return predicted.astype(np.float64), target.astype(np.float64)


def _of_frames(views: Sequence[Scored], names: Sequence[str]) -> np.ndarray:
    """The names of views, (N,), once for each of their frames."""
    return np.repeat(np.array(names), [len(view.target) for view in views])


def humaneva(views: Sequence[Scored]) -> list[Score]:
    """P-MPJPE, mm, of each subject and action, and their average over HUMANEVA_ACTIONS."""
    subjects = _of_frames(views, [view.clip.subject for view in views])
    actions = _of_frames(views, [view.clip.action for view in views])
    cells, _ = protocols.humaneva(*_frames(views), subjects, actions)
    frames = {(s, a): int(np.sum((subjects == s) & (actions == a))) for s, a in cells}
    order = [*HUMANEVA_ACTIONS, *sorted(set(actions) - set(HUMANEVA_ACTIONS))]
    pairs = sorted(cells, key=lambda pair: (order.index(pair[1]), pair[0]))
    scores = [Score(" ".join(pair), "p_mpjpe", 1000 * cells[pair], frames[pair]) for pair in pairs]
    averaged = [pair for pair in pairs if pair[1] in HUMANEVA_ACTIONS]
    if not averaged:
        return scores
    mean = 1000 * float(np.mean([cells[pair] for pair in averaged]))
    return [*scores, Score(AVERAGE, "p_mpjpe", mean, sum(frames[pair] for pair in averaged))]


def mpi_inf_3dhp(views: Sequence[Scored]) -> list[Score]:
    """PCK and AUC, per cent, of all frames, of each scene, of each activity. Errors: UserError for another's clip."""
    for clip in (view.clip for view in views):
        if "activity" not in clip.attributes:
            raise UserError(
                f"{clip.source}/{clip.id}: has no 'activity' of its frames; expected clips of MPI-INF-3DHP's test set;"
                " take another protocol, or read the source with part: test"
            )
    activities = np.concatenate([view.clip.attributes["activity"] for view in views])
    scenes = _of_frames(views, [view.clip.action for view in views])
    near = protocols.mpi_inf_3dhp(*_frames(views), activities, scenes)
    groups = ["All", *sorted(set(scenes.tolist())), *protocols.MPI_INF_3DHP_ACTIVITIES]
    return [
        Score(name, metric, 100 * getattr(near[name], metric), near[name].frames)
        for name in groups
        if name in near
        for metric in ("pck", "auc")
    ]


def three_dpw(views: Sequence[Scored]) -> list[Score]:
    """P-MPJPE, mm, over the common 14 joints, of all frames."""
    error = p_mpjpe(*(common_joints(poses) for poses in _frames(views)))
    return [Score(ALL, "p_mpjpe", 1000 * float(error.mean()), len(error))]


def adapted(views: Sequence[Scored], others: Sequence[Scored]) -> list[Score]:
    """P-MPJPE, mm, of all frames of 3DPW, their joints adapted by a map that is fitted on others.

    Errors: UserError where a clip is among both.
    """
    if shared := {v.clip.id for v in views} & {v.clip.id for v in others}:
        raise UserError(
            f"--fit-poses: has the clip '{min(shared)}', which is scored; expected other clips, as of 3DPW's"
            " validation split; name these in the evaluation's role 'adaptation'"
        )
    predicted, target = _frames(others)
    adaptation = JointAdaptation.fit(predicted, common_joints(target))
    error = p_mpjpe_3dpw(*_frames(views), adaptation)
    return [Score(ADAPTED, "p_mpjpe", 1000 * float(error.mean()), len(error))]


PROTOCOLS = {"humaneva": humaneva, "mpi_inf_3dhp": mpi_inf_3dhp, "three_dpw": three_dpw}
"""Each protocol by the reader of its data set."""


if __name__ == "__main__":
    stage.run(app)
