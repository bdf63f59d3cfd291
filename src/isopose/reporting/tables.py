"""The result tables: grouped scores in; CSV with provenance, Markdown and LaTeX out.

Every table is written three times, side by side: ``<name>.csv`` (all numbers, and where each comes from),
``<name>.md`` and ``<name>.tex`` (what a reader sees). Errors are millimetres over all 17 joints.
A run's name is its row's name, with ``/seed<k>`` behind it where the row was run with several seeds.
"""

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import typer

from isopose import stage
from isopose.errors import UserError
from isopose.evaluation import bootstrap
from isopose.files import write_text
from isopose.reporting import published

METRICS = {"mpjpe": "MPJPE", "p_mpjpe": "P-MPJPE"}
VIEWS = {"clean": False, "occluded": True}
AVERAGES = ("actions", "frames")
PAPER = "paper, Human3.6M"
"""Heads every column of the paper's numbers, so that nobody takes them for the same dataset."""

JOINT_BINS = {"0": (0, 0), "1-2": (1, 2), "3-5": (3, 5), "6-9": (6, 9), "10-17": (10, 17)}
"""Bins of the number of occluded joints, ends included."""

SPLITS = {
    "number of occluded joints": ("occluded_joints_bin", None),
    "length of occlusion, s": ("occlusion_seconds", True),
    "speed of motion": ("motion_speed", False),
    "subject, clean views": ("subject", False),
    "subject, occluded views": ("subject", True),
}
"""Each split: the column of the scores, and whether it is over occluded views, clean ones, or (None) all."""


@dataclass(frozen=True)
class Row:
    """One row of a table: the runs it shows, what it is called, and the paper's row beside it, if any."""

    name: str
    label: str
    published: str | None = None


def parse_rows(rows: list[dict[str, str]]) -> list[Row]:
    """Read the ``rows`` parameter: a list of ``{name, label, published}``; ``published`` may be left out."""
    try:
        return [Row(**row) for row in rows]
    except TypeError as error:
        raise UserError(f"--params: a row of 'rows' is wrong ({error}); expected name, label, published") from error


def read_scores(named: Mapping[str, str | Path]) -> dict[str, pd.DataFrame]:
    """Read grouped scores by run name; see :mod:`isopose.evaluation.evaluate` for the columns."""
    text = {"subject": str, "action": str, "occlusion_seconds": str, "motion_speed": str}
    scores = {}
    for name, path in named.items():
        try:
            scores[name] = pd.read_csv(path, dtype=text, keep_default_na=False)
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not a table of scores ({error}); delete it and run again") from error
        if missing := {"action", "occluded_view", "frames", *METRICS} - set(scores[name].columns):
            raise UserError(f"{path}: lacks the columns {sorted(missing)}; expected grouped scores; run again")
    return scores


def by_row(rows: list[Row], scores: Mapping[str, Any]) -> dict[Row, dict[str, Any]]:
    """Sort runs into rows; a row without a run stays empty, a run without a row is an error."""
    grouped: dict[str, dict[str, Any]] = {row.name: {} for row in rows}
    for run, value in scores.items():
        name = re.sub(r"/seed\d+$", "", run)
        if name not in grouped:
            near = difflib.get_close_matches(name, grouped, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"rows are {sorted(grouped)}"
            raise UserError(f"run '{run}': no row of the table is called '{name}'; {hint}")
        grouped[name][run] = value
    return {row: dict(sorted(grouped[row.name].items())) for row in rows}


def average(scores: pd.DataFrame, over: str) -> pd.Series:
    """Mean errors, mm: over all frames, or over actions as in the paper (the mean of each action's mean)."""
    columns = [*METRICS, "frames"]
    if over == "actions":
        sums = scores.groupby("action")[columns].sum()
        return sums[[*METRICS]].div(sums["frames"], axis=0).mean()
    sums = scores[columns].sum()
    return sums[[*METRICS]] / sums["frames"]


def over_seeds(runs: Mapping[str, pd.DataFrame], over: str) -> pd.DataFrame:
    """Mean and standard deviation (n - 1) over runs: index METRICS, columns ``mean`` and ``std``, mm."""
    means = pd.DataFrame({run: average(scores, over) for run, scores in runs.items() if len(scores)})
    return pd.DataFrame({"mean": means.mean(axis=1), "std": means.std(axis=1)}).reindex([*METRICS])


def interval(
    runs: Mapping[str, pd.DataFrame], metric: str, over: str, resamples: int, seed: int
) -> tuple[float | None, float | None]:
    """95 % interval of the mean error, mm, over all seeds, from resampling whole clips."""
    scores = pd.concat(runs.values()) if runs else pd.DataFrame()
    if scores.empty:
        return None, None
    actions = scores["action"].to_numpy() if over == "actions" else np.zeros(len(scores))
    clips = (scores["source"] + "/" + scores["clip"]).to_numpy()
    return bootstrap.interval(scores[metric].to_numpy(), scores["frames"].to_numpy(), clips, actions, resamples, seed)


def millimetres(mean: float | None, std: float | None = None) -> str:
    """A number for the reader: one decimal, its spread where there is one, a dash where there is none."""
    if mean is None or pd.isna(mean):
        return "–"
    return f"{mean:.1f}" if std is None or pd.isna(std) else f"{mean:.1f} ± {std:.1f}"


def provenance(runs: Mapping[str, pd.DataFrame], track: str) -> dict[str, Any]:
    """Where a row comes from: track, dataset, seeds, runs."""
    sources = sorted({source for scores in runs.values() for source in scores.get("source", ())})
    seeds = [match[1] for run in runs if (match := re.search(r"/seed(\d+)$", run))]
    return {"track": track, "dataset": "+".join(sources), "seeds": " ".join(seeds), "run": " ".join(runs)}


def comparison(
    rows: list[Row], scores: Mapping[str, pd.DataFrame], paper: Path, options: Mapping[str, Any]
) -> pd.DataFrame:
    """One line a row: errors on clean and occluded views, their spread over seeds, the paper's beside.

    ``low`` and ``high`` are the 95 % interval over clips; paper: the transcription of its table; options: average,
    resamples, seed, track.
    """
    over = options["average"]
    if over not in AVERAGES:
        raise UserError(f"--params: 'average' is '{over}'; expected one of {AVERAGES}")
    printed = published.load(paper).set_index("method")
    lines = []
    for row, runs in by_row(rows, scores).items():
        line: dict[str, Any] = {"row": row.name, "label": row.label}
        for view, occluded in VIEWS.items():
            chosen = {run: s[s["occluded_view"] == occluded] for run, s in runs.items()}
            errors = over_seeds(chosen, over)
            for metric in METRICS:
                line[f"{view}_{metric}"] = errors.at[metric, "mean"]
                line[f"{view}_{metric}_std"] = errors.at[metric, "std"]
                low, high = interval(chosen, metric, over, options["resamples"], options["seed"])
                line[f"{view}_{metric}_low"], line[f"{view}_{metric}_high"] = low, high
        if row.published is not None and row.published not in printed.index:
            raise UserError(f"row '{row.name}': the paper's {paper} has no row '{row.published}'")
        for metric in METRICS:
            line[f"paper_{metric}"] = printed.at[row.published, metric] if row.published else None
        frames = sorted({int(s["frames"].sum()) for s in runs.values()})
        lines.append(
            line | {"frames": " ".join(map(str, frames)), "average": over} | provenance(runs, options["track"])
        )
    return pd.DataFrame(lines)


def comparison_view(data: pd.DataFrame) -> pd.DataFrame:
    """What a reader sees of :func:`comparison`; a column of the paper that has no number is left out."""
    view = {"": data["label"]}
    for name in VIEWS:
        for metric, title in METRICS.items():
            pairs = zip(data[f"{name}_{metric}"], data[f"{name}_{metric}_std"], strict=True)
            view[f"{title}, {name}"] = [millimetres(*pair) for pair in pairs]
    for metric, title in METRICS.items():
        if data[f"paper_{metric}"].notna().any():
            view[f"{title} ({PAPER})"] = data[f"paper_{metric}"].map(millimetres)
    return pd.DataFrame(view)


def add_validation(data: pd.DataFrame, selection: Mapping[str, Any]) -> pd.DataFrame:
    """Add each weighting's error on validation, mm: in the end, the lowest, and its iteration; name the chosen one."""
    found = pd.DataFrame(selection["validation"]).T.rename(index=lambda name: f"iso/{name}")
    chosen = f"iso/{selection['selected']}"
    label = data.set_index("row")["label"].get(chosen, chosen)
    found.loc["iso/selected"] = found.loc[chosen]
    found.loc["iso/selected", "last"] = found.at[chosen, "lowest"]  # it stops there
    data = data.join(found.add_prefix("validation_"), on="row")
    said = f": {label}, {selection['iterations']} iterations"
    data.loc[data["row"] == "iso/selected", "label"] += said
    return data.assign(selected=data["row"] == chosen)


def validation_view(data: pd.DataFrame) -> pd.DataFrame:
    """What a reader sees of :func:`add_validation`: the error in the end, and the lowest with its iteration."""
    lowest = zip(data["validation_lowest"], data["validation_iterations"], strict=True)
    return pd.DataFrame(
        {
            "MPJPE, validation": data["validation_last"].map(millimetres),
            "lowest, at iteration": [f"{e:.1f}, {i:.0f}" if pd.notna(e) else millimetres(e) for e, i in lowest],
        }
    )


ACTION, AVERAGE = "action_", "Average"
"""What sets the columns of actions apart, one of which may be called run, and the column of their average."""


def actions(rows: list[Row], scores: Mapping[str, pd.DataFrame], metric: str, track: str) -> pd.DataFrame:
    """Table 7 or 8's shape: one line a row and kind of view, one column an action, then the average."""
    if metric not in METRICS:
        raise UserError(f"--params: 'metric' is '{metric}'; expected one of {sorted(METRICS)}")
    names = sorted({action for s in scores.values() for action in s["action"]})
    lines = []
    for row, runs in by_row(rows, scores).items():
        for view, occluded in VIEWS.items():
            chosen = {run: s[s["occluded_view"] == occluded] for run, s in runs.items()}
            line = {"row": row.name, "label": row.label, "views": view, "metric": metric}
            for name in names:
                action = {run: s[s["action"] == name] for run, s in chosen.items()}
                line[ACTION + name] = over_seeds(action, "frames").at[metric, "mean"]
            line[AVERAGE] = over_seeds(chosen, "actions").at[metric, "mean"]
            if pd.notna(line[AVERAGE]) or view == "clean":
                lines.append(line | provenance(runs, track))
    return pd.DataFrame(lines)


def actions_view(data: pd.DataFrame) -> pd.DataFrame:
    """What a reader sees of :func:`actions`."""
    numbers = data[[name for name in data if name.startswith(ACTION)] + [AVERAGE]].map(millimetres)
    numbers.columns = [spoken(name.removeprefix(ACTION)) for name in numbers]
    return pd.concat([data[["label", "views"]].rename(columns={"label": ""}), numbers], axis=1)


PROTOCOLS = {
    "humaneva": "P-MPJPE, mm, over HumanEva-I's 15 joints, the head of S3 among them; each column over its frames, the"
    " average over the columns of Walking and Jog.",
    "mpi_inf_3dhp": "PCK at 150 mm / AUC, per cent, root-relative, over 14 joints; each column over its frames.",
    "three_dpw": "P-MPJPE, mm, over 14 joints and all frames; adapted: by a linear map of the joints, fitted on other"
    " clips.",
}
"""Official protocols of data sets, and what their numbers are."""

OFFICIAL_METRICS = ("p_mpjpe", "pck", "auc")
"""Metrics of :mod:`isopose.evaluation.official`, in the order in which a reader sees them."""

ADAPTED = "p_mpjpe_all, joints adapted"
"""Column of 3DPW with the joint adaptation, which the paper's own results have."""


def read_official(named: Mapping[str, str | Path]) -> dict[str, pd.Series]:
    """Read official scores by run name: values by column, which is metric_group, in the order of the file."""
    scores = {}
    for name, path in named.items():
        try:
            table = pd.read_csv(path, dtype={"group": str, "metric": str})
            columns = table["metric"] + "_" + table["group"]
            scores[name] = pd.Series(table["value"].to_numpy(float), columns)
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{path}: not a table of official scores ({reason}); delete it and run again") from error
    return scores


def official(
    rows: list[Row], scores: Mapping[str, pd.Series], protocol: str, paper: Path, options: Mapping[str, Any]
) -> pd.DataFrame:
    """Tables 4 to 6's shape: one line a row, one column a metric and group; then the paper's lines, marked as such.

    paper: the transcription of its table.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"--params: 'protocol' is '{protocol}'; expected one of {', '.join(PROTOCOLS)}")
    columns = list(dict.fromkeys(column for values in scores.values() for column in values.index))
    lines = []
    for row, runs in by_row(rows, scores).items():
        means = pd.DataFrame(runs, index=columns).mean(axis=1)
        origin = provenance({run: pd.DataFrame() for run in runs}, options["track"])
        lines.append({"row": row.name, "label": row.label, **means} | origin | {"dataset": options["dataset"]})
    printed = published.load(paper)
    for method, part in printed.groupby("method", sort=False):
        numbers = {
            official_column(protocol, cell, columns): cell[printed.columns[-2]] for cell in part.to_dict("records")
        }
        line = {"row": "paper", "label": f"{method}, paper"} | {k: v for k, v in numbers.items() if k in columns}
        lines.append(line | {"note": "; ".join(filter(None, part["note"].unique()))})
    return pd.DataFrame(lines).fillna({"note": ""})


def official_column(protocol: str, cell: Mapping[str, Any], columns: list[str]) -> str:
    """The column of :func:`official` that a number of the paper belongs to."""
    if protocol == "humaneva":
        action = {"Jogging": "Jog"}.get(cell["action"], cell["action"])
        return "p_mpjpe_average" if action == "Average" else f"p_mpjpe_{cell['subject']} {action}"
    if protocol == "mpi_inf_3dhp":
        return "pck_All"
    return ADAPTED if ADAPTED in columns and cell["method"].startswith("Our result") else "p_mpjpe_all"


def official_view(data: pd.DataFrame) -> pd.DataFrame:
    """What a reader sees of :func:`official`: one column a group, with its metrics side by side."""
    groups: dict[str, list[str]] = {}
    for metric in OFFICIAL_METRICS:
        for column in (name for name in data if name.startswith(f"{metric}_")):
            groups.setdefault(column.removeprefix(f"{metric}_"), []).append(column)
    view = {"": data["label"]}
    for group, columns in groups.items():
        shown = data[columns].map(millimetres).agg(" / ".join, axis=1)
        view[spoken(group)] = shown.mask(data[columns].isna().all(axis=1), millimetres(None))
    return pd.DataFrame(view)


DYNAMICS_SHOWN = (80, 160, 320, 560, 1000)
"""Horizons of the paper's Table 9, ms."""


def read_forecasts(named: Mapping[str, str | Path]) -> dict[str, pd.DataFrame]:
    """Read the errors of :mod:`isopose.evaluation.forecast` by run name."""
    columns = {"action", "sampling", "method", "horizon_ms", "mean_angle_error"}
    scores = {}
    for name, path in named.items():
        try:
            scores[name] = pd.read_csv(path, dtype={"action": str})
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not a table of forecasts ({error}); delete it and run again") from error
        if missing := columns - set(scores[name].columns):
            raise UserError(f"{path}: lacks the columns {sorted(missing)}; expected forecasts; run again")
    return scores


def dynamics(
    rows: list[Row], scores: Mapping[str, pd.DataFrame], paper: Path, options: Mapping[str, Any]
) -> pd.DataFrame:
    """Table 9's shape: one line a row and sampling, one column an action and horizon, rad; then the paper's lines.

    paper: the transcription of its table.
    """
    lines = []
    for row, runs in by_row(rows, scores).items():
        for sampling in sorted({n for table in runs.values() for n in table["sampling"]}):
            line = {"row": row.name, "label": row.label, "sampling": sampling}
            tables = [table[table["sampling"] == sampling] for table in runs.values()]
            origin = provenance({run: pd.DataFrame() for run in runs}, options["track"])
            lines.append(line | _angle_errors(tables, "lifter") | origin | {"dataset": options["dataset"]})
    run, first = next(iter(scores.items()))
    for sampling, table in first.groupby("sampling"):
        line = {"row": "zero_velocity", "label": "Zero velocity (the last true pose)", "sampling": sampling}
        origin = {"track": options["track"], "dataset": options["dataset"], "run": run}
        lines.append(line | _angle_errors([table], "zero_velocity") | origin)
    for method, part in published.load(paper).groupby("method", sort=False):
        cells = {
            f"{cell['action']}_{cell['milliseconds']}": cell["mean_angle_error"] for cell in part.to_dict("records")
        }
        note = "; ".join(filter(None, part["note"].unique()))
        lines.append({"row": "paper", "label": f"{method}, paper"} | cells | {"note": note})
    return pd.DataFrame(lines).fillna({"note": ""})


def _angle_errors(tables: list[pd.DataFrame], method: str) -> dict[str, float]:
    """Mean angle errors by action_horizon, the mean over runs."""
    chosen = pd.concat([table[table["method"] == method] for table in tables])
    means = chosen.groupby(["action", "horizon_ms"])["mean_angle_error"].mean()
    return {f"{action}_{horizon}": error for (action, horizon), error in means.items()}


def dynamics_view(data: pd.DataFrame) -> pd.DataFrame:
    """What a reader sees of :func:`dynamics`: the paper's horizons, action by action."""
    sampled = data["sampling"].map(lambda number: "" if pd.isna(number) else f", {number:.0f} stretches")
    view = {"": data["label"] + sampled}
    for action in dict.fromkeys(c.rsplit("_", 1)[0] for c in data if c.rsplit("_", 1)[-1].isdigit()):
        for horizon in DYNAMICS_SHOWN:
            values = data.get(f"{action}_{horizon}", pd.Series(np.nan, data.index))
            view[f"{spoken(action)}, {horizon} ms"] = values.map(lambda v: "–" if pd.isna(v) else f"{v:.2f}")
    return pd.DataFrame(view)


def occlusion(rows: list[Row], scores: Mapping[str, pd.DataFrame], track: str) -> pd.DataFrame:
    """Errors by number of occluded joints, length of occlusion, speed of motion and subject, over frames."""
    binned = {run: s.assign(occluded_joints_bin=joints_bin(s["occluded_joints"])) for run, s in scores.items()}
    rows_runs = by_row(rows, binned)
    lines = []
    for split, (column, occluded) in SPLITS.items():
        chosen = {
            row: {run: s if occluded is None else s[s["occluded_view"] == occluded] for run, s in runs.items()}
            for row, runs in rows_runs.items()
        }
        found = {value for runs in chosen.values() for s in runs.values() for value in s[column] if value != ""}
        for value in sorted(found, key=natural):
            for row, runs in chosen.items():
                part = {run: s[s[column] == value] for run, s in runs.items()}
                errors = over_seeds(part, "frames")
                line = {"split": split, "value": value, "row": row.name, "label": row.label}
                line["frames"] = max((int(s["frames"].sum()) for s in part.values()), default=0)
                for metric in METRICS:
                    line[metric], line[f"{metric}_std"] = errors.loc[metric, ["mean", "std"]]
                lines.append(line | provenance(runs, track))
    return pd.DataFrame(lines)


def occlusion_view(data: pd.DataFrame) -> pd.DataFrame:
    """What a reader sees of :func:`occlusion`: one line a bin, one MPJPE column a row of the data."""
    lines = []
    for (split, value), part in data.groupby(["split", "value"], sort=False):
        errors = [millimetres(*pair) for pair in zip(part["mpjpe"], part["mpjpe_std"], strict=True)]
        line = {"": split, "value": value, "frames": part["frames"].max()}
        lines.append(line | dict(zip(part["label"], errors, strict=True)))
    view = pd.DataFrame(lines)
    view[""] = view[""].mask(view[""].duplicated(), "")
    return view


COMPONENT_MEASURES = {
    "all": ("MPJPE, all views", "mpjpe", "frames", None, None),
    "long_occlusion": ("MPJPE, occluded 0.5 s and longer", "mpjpe", "frames", "occlusion_seconds", ("0.5-1", ">1")),
    "hidden": ("MPJPE, 6 and more joints hidden", "mpjpe", "frames", "occluded_joints_bin", ("6-9", "10-17")),
    "slow": ("MPJPE, slow motion", "mpjpe", "frames", "motion_speed", ("slow",)),
    "fast": ("MPJPE, fast motion", "mpjpe", "frames", "motion_speed", ("fast",)),
    "velocity": ("MPJVE, mm/frame", "mpjve", "velocity_frames", None, None),
    "acceleration": ("Acceleration error, mm/frame²", "acceleration_error", "acceleration_frames", None, None),
}
"""Where parts of the method are meant to help: title, error, its count, and the column and values of the frames."""


def components(rows: list[Row], scores: Mapping[str, pd.DataFrame], track: str) -> pd.DataFrame:
    """One line a row: the errors over all frames that :data:`COMPONENT_MEASURES` asks for, mean and spread of seeds."""
    binned = {run: s.assign(occluded_joints_bin=joints_bin(s["occluded_joints"])) for run, s in scores.items()}
    lines = []
    for row, runs in by_row(rows, binned).items():
        line: dict[str, Any] = {"row": row.name, "label": row.label}
        for name, (_, error, count, column, values) in COMPONENT_MEASURES.items():
            parts = [s if column is None else s[s[column].isin(values)] for s in runs.values()]
            found = pd.Series([p[error].sum() / p[count].sum() for p in parts if p[count].sum()], dtype=float)
            line[name], line[f"{name}_std"] = found.mean(), found.std()
        lines.append(line | provenance(runs, track))
    return pd.DataFrame(lines)


def components_view(data: pd.DataFrame) -> pd.DataFrame:
    """What a reader sees of :func:`components`; a column without any number is left out."""
    view = {"": data["label"]}
    for name, (title, *_) in COMPONENT_MEASURES.items():
        if data[name].notna().any():
            view[title] = [millimetres(*pair) for pair in zip(data[name], data[f"{name}_std"], strict=True)]
    return pd.DataFrame(view)


QUALITIES = {
    "pckh": ("PCKh@0.5 of visible joints, %", 100, 1),
    "auroc": ("AUROC, visible against invisible by confidence", 1, 3),
    "left_right_confusion": ("Visible joints found on the other side, %", 100, 2),
    "visible_share": ("Joints that are visible, %", 100, 1),
    "bytes_per_frame": ("Stored bytes a frame, keypoints and maps", 1, 0),
    "dense_fp16_ratio": ("Times smaller than dense fp16 maps", 1, 1),
    "storage_rms_error": ("Loss of the stored maps, root mean square of 0..1", 1, 5),
    "storage_max_error": ("Loss of the stored maps, largest of 0..1", 1, 4),
    "frames": ("Frames", 1, 0),
    "ece_before": ("Expected calibration error of the raw peak, %", 100, 2),
    "ece_temperature": ("Expected calibration error, temperature, %", 100, 2),
    "ece_platt": ("Expected calibration error, Platt, %", 100, 2),
    "ece_isotonic": ("Expected calibration error, isotonic, %", 100, 2),
}
"""What is said of the 2D estimator: key, what it is, factor for the reader, decimals."""


def estimator(
    quality: Mapping[str, Mapping[str, float]],
    calibration: Mapping[str, Mapping[str, Any]],
    track: str,
    imported: bool = False,
) -> pd.DataFrame:
    """Quality of the 2D estimator and its calibration: one line a measure and dataset, in natural units.

    imported: the detections were made elsewhere, so there is no run of an estimator.
    """
    lines = []
    for dataset in quality | calibration:
        values = dict(quality.get(dataset, {}))
        if dataset in calibration:
            fitted = calibration[dataset]
            values |= {"ece_before": fitted["ece_before"]}
            values |= {f"ece_{kind}": fit["ece"] for kind, fit in fitted["fits"].items()}
        for measure, (label, *_) in QUALITIES.items():
            if values.get(measure) is not None:
                line = {"measure": measure, "label": label, "dataset": dataset, "value": values[measure]}
                lines.append(line | {"track": track, "run": f"{dataset}/{'detections' if imported else 'estimator'}"})
    return pd.DataFrame(lines)


def estimator_view(data: pd.DataFrame) -> pd.DataFrame:
    """What a reader sees of :func:`estimator`: one line a measure, one column a dataset."""
    wide = data.pivot(index="measure", columns="dataset", values="value")
    wide = wide.reindex(index=[m for m in QUALITIES if m in wide.index], columns=data["dataset"].unique())
    for measure in wide.index:
        label, factor, decimals = QUALITIES[measure]
        shown = [f"{factor * v:,.{decimals}f}" if pd.notna(v) else "–" for v in wide.loc[measure]]
        wide = wide.astype(object)
        wide.loc[measure] = shown
    return wide.rename(index={m: QUALITIES[m][0] for m in wide.index}).reset_index(names="")


def joints_bin(count: pd.Series) -> pd.Series:
    """Bin (a key of JOINT_BINS) of each number of occluded joints, 0..17."""
    edges = [low for low, _ in JOINT_BINS.values()] + [18]
    return pd.cut(count, edges, right=False, labels=[*JOINT_BINS]).astype(str)


def natural(text: str) -> list[tuple[int, float, str]]:
    """Sort key of bins and subjects: named speeds from slow to fast, others by the numbers in them."""
    if text in NAMED_BINS:
        return [(-1, NAMED_BINS.index(text), text)]
    parts = re.findall(r"\d+\.?\d*|[^\d]+", text)
    return [(1, float(part), part) if part[0].isdigit() else (2 if part != "<" else 0, 0.0, part) for part in parts]


NAMED_BINS = ("none", "slow", "medium", "fast")
"""Bins without a number in their name, in order."""


ABOUT = {"track": str, "dataset": str, "kind": str}
"""Parameters of every table and figure: what its numbers were measured on; kind: one of KINDS."""

KINDS = {
    "synthetic": "Synthetic data",
    "rendered": "Real motion, rendered people",
    "recorded": "Recorded people",
}
"""What a track's motion and images are, for the reader."""


def spoken(name: str) -> str:
    """An action's name for the reader."""
    return name.replace("_", " ")


def data_note(options: Mapping[str, Any]) -> str:
    """The sentence that says what the numbers were measured on, from the parameters ABOUT."""
    return f"{KINDS[options['kind']]}: {options['dataset']}, track {options['track']}."


def write(output: Path, data: pd.DataFrame, view: pd.DataFrame, note: str) -> None:
    """Write ``data`` to the CSV ``output`` and ``view`` with its note to the .md and .tex beside it."""
    if output.suffix != ".csv":
        raise UserError(f"--output: is '{output}'; expected a name ending in .csv; the others are written beside it")
    write_text(output, data.to_csv(index=False, float_format="%.3f", lineterminator="\n"))
    align = ("left", *["right"] * (view.shape[1] - 1))
    body = view.to_markdown(index=False, disable_numparse=True, colalign=align)
    write_text(output.with_suffix(".md"), f"{body}\n\n{note}\n")
    latex = view.to_latex(
        index=False,
        escape=True,
        column_format="l" + "r" * (view.shape[1] - 1),
        caption=re.sub(r"([&%#_$])", r"\\\1", note),
        label=f"tab:{output.stem}",
    )
    for sign, command in LATEX_SIGNS.items():
        latex = latex.replace(sign, command)
    write_text(output.with_suffix(".tex"), latex)


LATEX_SIGNS = {"±": r"$\pm$", "σ": r"$\sigma$", "–": "--"}
"""Signs that LaTeX does not take as they are."""

app = typer.Typer(add_completion=False, help="Write one result table as CSV, Markdown and LaTeX.")

SCORES = typer.Option(..., "--scores", help="Grouped scores of a run on the test role as name=path; repeat for each.")
OUTPUT = typer.Option(..., "--output", help="The CSV; the .md and .tex are written beside it.")
TRANSCRIPTION = typer.Option(
    ..., "--paper", help="The paper's numbers: a table<number>.csv of isopose.reporting.published."
)
COMPARISON = ABOUT | {"average": str, "resamples": int, "seed": int, "rows": list}
ROOT_NOTE = "Millimetres over 17 joints, root included"


@app.command("ablation")
def ablation_main(
    scores: list[str] = SCORES,
    paper: Path = TRANSCRIPTION,
    output: Path = OUTPUT,
    params: str = stage.PARAMS_OPTION,
) -> None:
    """Table 3: the ablation, row by row."""
    options = stage.parse_params(params, COMPARISON)
    runs = read_scores(stage.parse_named(scores, "--scores"))
    data = comparison(parse_rows(options["rows"]), runs, paper, options)
    note = f"{ROOT_NOTE}; average over {options['average']}; ± is the standard deviation over seeds."
    write(output, data, comparison_view(data), f"{data_note(options)} {note}")


@app.command("iso")
def iso_main(
    scores: list[str] = SCORES,
    selection: Path = typer.Option(..., help="What validation chose, and the errors of each weighting there (JSON)."),
    paper: Path = TRANSCRIPTION,
    output: Path = OUTPUT,
    params: str = stage.PARAMS_OPTION,
) -> None:
    """Table 2: the weights of inference stage optimisation, and what validation chooses."""
    options = stage.parse_params(params, COMPARISON)
    runs = read_scores(stage.parse_named(scores, "--scores"))
    data = comparison(parse_rows(options["rows"]), runs, paper, options)
    data = add_validation(data, read_json(selection))
    view = pd.concat([comparison_view(data), validation_view(data)], axis=1)
    note = f"{ROOT_NOTE}; average over {options['average']}, on validation over frames."
    write(output, data, view, f"{data_note(options)} {note}")


@app.command("actions")
def actions_main(
    scores: list[str] = SCORES,
    output: Path = OUTPUT,
    params: str = stage.PARAMS_OPTION,
) -> None:
    """Tables 7 and 8's shape: one error a row and action."""
    options = stage.parse_params(params, ABOUT | {"metric": str, "rows": list})
    runs = read_scores(stage.parse_named(scores, "--scores"))
    data = actions(parse_rows(options["rows"]), runs, options["metric"], options["track"])
    note = f"{METRICS[options['metric']]}. {ROOT_NOTE}; each action over its frames, the average over actions."
    write(output, data, actions_view(data), f"{data_note(options)} {note}")


@app.command("official")
def official_main(
    scores: list[str] = typer.Option(
        ..., "--scores", help="Official scores of a run on the test role as name=path; repeat for each."
    ),
    paper: Path = TRANSCRIPTION,
    output: Path = OUTPUT,
    params: str = stage.PARAMS_OPTION,
) -> None:
    """Tables 4 to 6: the official protocol of a data set, with the paper's numbers below."""
    options = stage.parse_params(params, ABOUT | {"protocol": str, "rows": list})
    runs = read_official(stage.parse_named(scores, "--scores"))
    data = official(parse_rows(options["rows"]), runs, options["protocol"], paper, options)
    marked = data[data["note"] != ""].groupby("note", sort=False)["label"].unique()
    notes = [f"{', '.join(labels)}: {text}." for text, labels in marked.items()]
    note = f"Several seeds: their mean. Lines that end in 'paper' are printed in its table {published.number(paper)}."
    note = " ".join([data_note(options), PROTOCOLS[options["protocol"]], note, *notes])
    write(output, data, official_view(data), note)


@app.command("occlusion")
def occlusion_main(
    scores: list[str] = SCORES,
    output: Path = OUTPUT,
    params: str = stage.PARAMS_OPTION,
) -> None:
    """Error by number of occluded joints, length of occlusion, speed of motion, and subject."""
    options = stage.parse_params(params, ABOUT | {"rows": list})
    runs = read_scores(stage.parse_named(scores, "--scores"))
    data = occlusion(parse_rows(options["rows"]), runs, options["track"])
    note = f"MPJPE. {ROOT_NOTE}; average over the frames of each line; ± is the standard deviation over seeds."
    write(output, data, occlusion_view(data), f"{data_note(options)} {note}")


@app.command("components")
def components_main(scores: list[str] = SCORES, output: Path = OUTPUT, params: str = stage.PARAMS_OPTION) -> None:
    """The rows of the ablation where each part of the method is meant to help."""
    options = stage.parse_params(params, ABOUT | {"rows": list})
    data = components(parse_rows(options["rows"]), read_scores(stage.parse_named(scores, "--scores")), options["track"])
    note = f"{ROOT_NOTE}; average over frames; ± is the standard deviation over seeds."
    write(output, data, components_view(data), f"{data_note(options)} {note}")


@app.command("estimator")
def estimator_main(
    quality: list[str] = typer.Option(
        ..., "--quality", help="Scores of detections (JSON) as dataset=path; repeat for each."
    ),
    calibration: list[str] = typer.Option(
        ..., "--calibration", help="Fitted calibration (JSON) as dataset=path; repeat for each."
    ),
    output: Path = OUTPUT,
    params: str = stage.PARAMS_OPTION,
) -> None:
    """The 2D estimator: accuracy, confidence, storage, calibration."""
    options = stage.parse_params(params, ABOUT | {"imported": bool})
    qualities = {n: read_json(p) for n, p in stage.parse_named(quality, "--quality").items()}
    fits = {n: read_json(p) for n, p in stage.parse_named(calibration, "--calibration").items()}
    data = estimator(qualities, fits, options["track"], options["imported"])
    seen = "Recorded people" if options["kind"] == "recorded" else "Rendered people"
    people = "Detections made elsewhere" if options["imported"] else seen
    note = f"{people} of the test role; calibration errors on the calibration role, cross-validated."
    write(output, data, estimator_view(data), f"{data_note(options)} {note}")


@app.command("dynamics")
def dynamics_main(
    scores: list[str] = typer.Option(..., "--scores", help="Forecasts of a lifter as name=path; repeat for each."),
    paper: Path = TRANSCRIPTION,
    output: Path = OUTPUT,
    params: str = stage.PARAMS_OPTION,
) -> None:
    """Table 9: mean angle error of predicted futures, with the paper's numbers below."""
    options = stage.parse_params(params, ABOUT | {"rows": list})
    runs = read_forecasts(stage.parse_named(scores, "--scores"))
    data = dynamics(parse_rows(options["rows"]), runs, paper, options)
    note = "Mean angle error, rad, of angles from the same inverse kinematics of 17 joints, the root's left out."
    write(output, data, dynamics_view(data), f"{data_note(options)} {note}")


@app.command("published")
def published_main(paper: Path = TRANSCRIPTION, output: Path = OUTPUT) -> None:
    """The paper's own table, from the transcription."""
    data = published.load(paper)
    view = data.drop(columns="note").astype(str).rename(columns={"method": ""} | METRICS)
    if "action" in data:
        value, keys = data.columns[-2], [*data.columns[:-2].drop("method")]
        digits = 2 if value == "mean_angle_error" else 1
        wide = data.pivot(index="method", columns=keys, values=value)
        wide = wide.reindex(index=data["method"].unique(), columns=data.set_index(keys).index.unique())
        wide.columns = [" ".join(map(str, c)) if isinstance(c, tuple) else c for c in wide.columns]
        view = wide.map(lambda v: "–" if pd.isna(v) else f"{v:.{digits}f}").reset_index().rename(columns={"method": ""})
    noted = data[data["note"] != ""].groupby("note", sort=False)[data.columns[0]].unique()
    notes = [f"{', '.join(map(str, named))}: {note}." for note, named in noted.items()]
    text = f"Printed in the paper as table {published.number(paper)}: another dataset, not this project's numbers."
    write(output, data, view, " ".join([text, *notes]))


def read_json(path: Path | str) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not JSON ({error}); delete it and run again") from error


if __name__ == "__main__":
    stage.run(app)
