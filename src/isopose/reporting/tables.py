"""The result tables: grouped scores in; CSV with provenance, Markdown and LaTeX out.

Every table is written three times, side by side: ``<name>.csv`` (all numbers, and where each comes from),
``<name>.md`` and ``<name>.tex`` (what a reader sees). Errors are millimetres over all 17 joints, root included.
A run's name is its row's name, with ``/seed<k>`` behind it where the row was run with several seeds.
"""

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import typer

from isopose import stage
from isopose.errors import UserError
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
    "length of occlusion": ("occlusion_seconds", True),
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


def millimetres(mean: float | None, std: float | None = None) -> str:
    """A number for the reader: one decimal, the spread where there is one, a dash where there is no number."""
    if mean is None or pd.isna(mean):
        return "–"
    return f"{mean:.1f}" if std is None or pd.isna(std) else f"{mean:.1f} ± {std:.1f}"


def provenance(runs: Mapping[str, pd.DataFrame], track: str) -> dict[str, Any]:
    """Where a row comes from: track, dataset, seeds, runs."""
    sources = sorted({source for scores in runs.values() for source in scores.get("source", ())})
    seeds = [match[1] for run in runs if (match := re.search(r"/seed(\d+)$", run))]
    return {"track": track, "dataset": "+".join(sources), "seeds": " ".join(seeds), "run": " ".join(runs)}


def comparison(rows: list[Row], scores: Mapping[str, pd.DataFrame], over: str, table: int, track: str) -> pd.DataFrame:
    """One line a row: errors on clean and on occluded views, mean and spread over seeds, the paper's beside them."""
    if over not in AVERAGES:
        raise UserError(f"--params: 'average' is '{over}'; expected one of {AVERAGES}")
    paper = published.load(table).set_index("name")
    lines = []
    for row, runs in by_row(rows, scores).items():
        line: dict[str, Any] = {"row": row.name, "label": row.label}
        for view, occluded in VIEWS.items():
            chosen = {run: s[s["occluded_view"] == occluded] for run, s in runs.items()}
            errors = over_seeds(chosen, over)
            for metric in METRICS:
                line[f"{view}_{metric}"] = errors.at[metric, "mean"]
                line[f"{view}_{metric}_std"] = errors.at[metric, "std"]
        if row.published is not None and row.published not in paper.index:
            raise UserError(f"row '{row.name}': the paper's table {table} has no row '{row.published}'")
        for metric in METRICS:
            line[f"paper_{metric}"] = paper.at[row.published, metric] if row.published else None
        frames = sorted({int(s["frames"].sum()) for s in runs.values()})
        lines.append(line | {"frames": " ".join(map(str, frames)), "average": over} | provenance(runs, track))
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


def mark_selected(data: pd.DataFrame, validation: Mapping[str, float]) -> pd.DataFrame:
    """Add each row's validation MPJPE, mm, and mark the row where it is least: the choice made without test data."""
    data = data.assign(validation_mpjpe=data["row"].map(validation).astype(float))
    data["selected"] = data["validation_mpjpe"] == data["validation_mpjpe"].min()
    data.loc[data["selected"], "label"] += " (chosen on validation)"
    return data


def actions(rows: list[Row], scores: Mapping[str, pd.DataFrame], metric: str, track: str) -> pd.DataFrame:
    """Table 7 or 8's shape: one line a row and kind of view, one column an action, then the average over actions."""
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
                line[name] = over_seeds(action, "frames").at[metric, "mean"]
            line["Average"] = over_seeds(chosen, "actions").at[metric, "mean"]
            if pd.notna(line["Average"]) or view == "clean":
                lines.append(line | provenance(runs, track))
    return pd.DataFrame(lines)


def actions_view(data: pd.DataFrame) -> pd.DataFrame:
    """What a reader sees of :func:`actions`."""
    numbers = data.loc[:, "metric":"track"].iloc[:, 1:-1]
    return pd.concat([data[["label", "views"]].rename(columns={"label": ""}), numbers.map(millimetres)], axis=1)


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


def joints_bin(count: pd.Series) -> pd.Series:
    """Bin (a key of JOINT_BINS) of each number of occluded joints, 0..17."""
    edges = [low for low, _ in JOINT_BINS.values()] + [18]
    return pd.cut(count, edges, right=False, labels=[*JOINT_BINS]).astype(str)


def natural(text: str) -> list[tuple[bool, float, str]]:
    """Sort key that puts numbers inside a text in the order of their value; signs such as < before digits first."""
    parts = re.findall(r"\d+\.?\d*|[^\d]+", text)
    return [(not p[0].isdigit() and p[0] not in "<", float(p) if p[0].isdigit() else 0.0, p) for p in parts]


def data_note(track: str, synthetic: bool) -> str:
    """The sentence that says what the numbers were measured on."""
    return f"Synthetic data, track {track}." if synthetic else f"Real motion, rendered people, track {track}."


def write(output: Path, data: pd.DataFrame, view: pd.DataFrame, note: str) -> None:
    """Write ``data`` to the CSV ``output`` and ``view`` with its note to the .md and .tex beside it."""
    if output.suffix != ".csv":
        raise UserError(f"--output: is '{output}'; expected a name ending in .csv; the others are written beside it")
    stage.write_text(output, data.to_csv(index=False, float_format="%.3f", lineterminator="\n"))
    align = ("left", *["right"] * (view.shape[1] - 1))
    body = view.to_markdown(index=False, disable_numparse=True, colalign=align)
    stage.write_text(output.with_suffix(".md"), f"{body}\n\n{note}\n")
    columns = "l" + "r" * (view.shape[1] - 1)
    escaped = re.sub(r"([&%#_$])", r"\\\1", note)
    latex = view.to_latex(index=False, escape=True, column_format=columns, caption=escaped, label=f"tab:{output.stem}")
    stage.write_text(output.with_suffix(".tex"), latex)


app = typer.Typer(add_completion=False, help="Write one result table as CSV, Markdown and LaTeX.")

SCORES = typer.Option(..., "--scores", help="Grouped scores of a run on the test role as name=path; repeat for each.")
OUTPUT = typer.Option(..., "--output", help="The CSV; the .md and .tex are written beside it.")
ROOT_NOTE = "Millimetres over 17 joints, root included"


@app.command("ablation")
def ablation_main(
    scores: list[str] = SCORES, output: Path = OUTPUT, params: str = stage.PARAMS_OPTION
) -> None:
    """Table 3: the ablation, row by row."""
    options = stage.parse_params(params, {"track": str, "synthetic": bool, "average": str, "rows": list})
    runs = read_scores(stage.parse_named(scores, "--scores"))
    data = comparison(parse_rows(options["rows"]), runs, options["average"], 3, options["track"])
    note = f"{ROOT_NOTE}; average over {options['average']}; ± is the standard deviation over seeds."
    write(output, data, comparison_view(data), f"{data_note(options['track'], options['synthetic'])} {note}")


@app.command("iso")
def iso_main(
    scores: list[str] = SCORES,
    validation: list[str] = typer.Option(
        ..., "--validation", help="metrics.json of a run on the validation role as name=path; repeat for each."
    ),
    output: Path = OUTPUT,
    params: str = stage.PARAMS_OPTION,
) -> None:
    """Table 2: the weights of inference stage optimisation; the row that validation chooses is marked."""
    options = stage.parse_params(params, {"track": str, "synthetic": bool, "average": str, "rows": list})
    runs = read_scores(stage.parse_named(scores, "--scores"))
    data = comparison(parse_rows(options["rows"]), runs, options["average"], 2, options["track"])
    metrics = {n: read_json(p) for n, p in stage.parse_named(validation, "--validation").items()}
    by_name = by_row(parse_rows(options["rows"]), metrics)
    errors = {
        row.name: sum(m["mpjpe"][options["average"]] for m in found.values()) / len(found)
        for row, found in by_name.items()
        if found
    }
    data = mark_selected(data, errors)
    view = comparison_view(data)
    view.insert(1, "MPJPE, validation", data["validation_mpjpe"].map(millimetres))
    note = f"{ROOT_NOTE}; average over {options['average']}."
    write(output, data, view, f"{data_note(options['track'], options['synthetic'])} {note}")


@app.command("actions")
def actions_main(scores: list[str] = SCORES, output: Path = OUTPUT, params: str = stage.PARAMS_OPTION) -> None:
    """Tables 7 and 8's shape: one error a row and action."""
    options = stage.parse_params(params, {"track": str, "synthetic": bool, "metric": str, "rows": list})
    runs = read_scores(stage.parse_named(scores, "--scores"))
    data = actions(parse_rows(options["rows"]), runs, options["metric"], options["track"])
    note = f"{METRICS[options['metric']]}. {ROOT_NOTE}; each action over its frames, the average over actions."
    write(output, data, actions_view(data), f"{data_note(options['track'], options['synthetic'])} {note}")


@app.command("occlusion")
def occlusion_main(scores: list[str] = SCORES, output: Path = OUTPUT, params: str = stage.PARAMS_OPTION) -> None:
    """Error by number of occluded joints, length of occlusion, speed of motion, and subject."""
    options = stage.parse_params(params, {"track": str, "synthetic": bool, "rows": list})
    runs = read_scores(stage.parse_named(scores, "--scores"))
    data = occlusion(parse_rows(options["rows"]), runs, options["track"])
    note = f"MPJPE. {ROOT_NOTE}; average over the frames of each line; ± is the standard deviation over seeds."
    write(output, data, occlusion_view(data), f"{data_note(options['track'], options['synthetic'])} {note}")


@app.command("published")
def published_main(
    table: int = typer.Option(..., "--table", help="Number of the paper's table."), output: Path = OUTPUT
) -> None:
    """The paper's own table, from the transcription."""
    data = published.load(table)
    view = data.drop(columns=["name", "note"], errors="ignore").astype(str).rename(columns=METRICS)
    if "action" in data:
        value, keys = data.columns[-2], [*data.columns[:-2].drop("method")]
        wide = data.pivot(index="method", columns=keys, values=value)
        wide = wide.reindex(index=data["method"].unique(), columns=data.set_index(keys).index.unique())
        wide.columns = [" ".join(map(str, c)) if isinstance(c, tuple) else c for c in wide.columns]
        view = wide.map(lambda v: "–" if pd.isna(v) else f"{v:g}").reset_index().rename(columns={"method": ""})
    notes = data.loc[data["note"] != "", "note"].unique()
    text = f"Printed in the paper as table {table}: another dataset, not this project's numbers."
    write(output, data, view, " ".join([text, *(f"Note: {n}." for n in notes)]))


def read_json(path: Path | str) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not JSON ({error}); delete it and run again") from error


if __name__ == "__main__":
    stage.run(app)
