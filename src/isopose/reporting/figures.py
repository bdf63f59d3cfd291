"""The figures: each reads what the stages measured and writes one SVG, with a PNG beside it.

The same inputs give the same bytes. Figures that show people live in :mod:`isopose.reporting.pictures`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import typer

from isopose import stage, tracking
from isopose.datasets.official import RAW_OPTION
from isopose.errors import UserError
from isopose.reporting import style
from isopose.reporting.tables import ABOUT, data_note, parse_rows, read_json


def weights_figure(sigma: float, threshold: float, scale: float, output: Path, note: str) -> None:
    """Figure 7: Eq. 9 by distance, the hard threshold and the robust weight; and how hard each one pulls.

    The pull is the derivative of weight times squared distance (Eq. 8), heatmap pixels.
    """
    import torch  # here, because the other charts start two seconds sooner without it

    from isopose.iso import weights

    def confident(value: float) -> torch.Tensor:
        return torch.full_like(distance, value)

    distance = torch.linspace(0, 10, 401, dtype=torch.float64, requires_grad=True)
    curves = {
        "soft, c = 1": (weights.soft_threshold(distance, confident(1.0), sigma), style.BLUE, "-"),
        "soft, c = 0.5": (weights.soft_threshold(distance, confident(0.5), sigma), style.ORANGE, "-"),
        "soft, c = 0.2": (weights.soft_threshold(distance, confident(0.2), sigma), style.GREEN, "-"),
        f"hard {threshold:g}, c = 0.5": (weights.hard_threshold(confident(0.5), threshold), style.INK, "--"),
        f"hard {threshold:g}, c = 0.2": (weights.hard_threshold(confident(0.2), threshold), style.GREY, ":"),
        f"robust, scale {scale:g}": (weights.robust(distance, scale), style.PURPLE, "-."),
    }
    with style.figure(output, note) as figure:
        left, right = figure.subplots(1, 2)
        x = distance.detach()
        for name, (weight, colour, line) in curves.items():
            (pull,) = torch.autograd.grad((weight * distance**2).sum(), distance)
            left.plot(x, weight.detach(), line, color=colour, label=name)
            right.plot(x, pull, line, color=colour)
        left.set(xlim=(0, 5), ylim=(-0.02, 1.05), xlabel="distance, heatmap px", ylabel="weight")
        left.set_title(f"Weight (Eq. 9, sigma = {sigma:g})")
        right.set(xlim=(0, 10), ylim=(-0.4, 20), xlabel="distance, heatmap px", ylabel="pull, px")
        right.set_title("Pull on a joint: only the robust one lets go")
        figure.legend(loc="outside lower center", ncols=3)


LINE_STYLES = (("solid", ""), ("dashed", "- - "), ("dotted", "\u00b7 \u00b7 "))
"""Tell apart lines of one colour where there are more lines than colours: a style, and what shows it by the name."""


def iso_curves_figure(traces: Mapping[str, str], labels: Mapping[str, str], output: Path, note: str) -> None:
    """Figure 8: MPJPE against iteration, one line a weighting, a dot for the chosen one where it stops."""
    with style.figure(output, note) as figure:
        axes = figure.subplots()
        ends = []
        for index, ((name, path), colour) in enumerate(zip(traces.items(), colour_cycle(len(traces)), strict=True)):
            trace = read_trace(path)
            if name == "iso/selected":
                end = trace.iloc[-1]
                axes.plot(end["iteration"], end["mpjpe"], "o", color=style.INK, clip_on=False)
                place = (end["iteration"], end["mpjpe"])
                axes.annotate(labels[name], place, xytext=(0, -14), textcoords="offset points", ha="center")
                continue  # its line is that of its weighting
            line, sign = LINE_STYLES[index // len(style.PALETTE) % len(LINE_STYLES)]
            axes.plot(trace["iteration"], trace["mpjpe"], color=colour, linestyle=line)
            ends.append((float(trace["mpjpe"].iloc[-1]), sign + labels[name], colour))
        axes.axhline(trace["mpjpe"].iloc[0], color=style.INK, linestyle=":", linewidth=1.2)
        ends.append((float(trace["mpjpe"].iloc[0]), "no ISO", style.INK))
        axes.margins(x=0)
        axes.set(xlabel="iteration", ylabel="MPJPE, mm")
        style.label_lines(axes, ends)


def read_trace(path: str) -> pd.DataFrame:
    """The trace of a refinement, one line an iteration."""
    trace = pd.read_csv(path)
    if not {"iteration", "mpjpe"} <= set(trace.columns):
        raise UserError(f"{path}: has columns {list(trace.columns)}; expected iteration and mpjpe; run again")
    return trace


def colour_cycle(count: int) -> list[str]:
    """Colours for ``count`` lines."""
    return [style.PALETTE[i % len(style.PALETTE)] for i in range(count)]


def ablation_figure(table: pd.DataFrame, output: Path, note: str) -> None:
    """MPJPE with its 95 % interval over clips, on clean and on occluded views, row by row."""
    table = table[table["clean_mpjpe"].notna()]
    y = np.arange(len(table))
    with style.figure(output, note) as figure:
        figure.set_size_inches(style.WIDTH, 1.6 + 0.36 * len(table))
        axes = figure.subplots()
        for view, colour, marker, shift in (
            ("clean", style.BLUE, "o", -0.12),
            ("occluded", style.ORANGE, "s", 0.12),
        ):
            value = table[f"{view}_mpjpe"]
            reach = [value - table[f"{view}_mpjpe_low"], table[f"{view}_mpjpe_high"] - value]
            axes.errorbar(value, y + shift, xerr=reach, fmt=marker, color=colour, capsize=3, label=f"{view} views")
        axes.set_yticks(y, table["label"])
        axes.invert_yaxis()
        axes.set_xlabel("MPJPE, mm, and 95 % interval over clips")
        figure.legend(loc="outside upper center", ncols=2)


def occlusion_figure(table: pd.DataFrame, output: Path, note: str) -> None:
    """MPJPE by number of occluded joints and by length of the occlusion, one line a row of the table."""
    splits = ("number of occluded joints", "length of occlusion, s")
    with style.figure(output, note) as figure:
        panels = figure.subplots(1, len(splits), sharey=True)
        for axes, split in zip(panels, splits, strict=True):
            part = table[table["split"] == split]
            bins = list(dict.fromkeys(part["value"]))
            frames = part.groupby("value")["frames"].max()
            for colour, (label, line) in zip(style.PALETTE, part.groupby("label", sort=False), strict=False):
                at = [bins.index(value) for value in line["value"]]
                axes.errorbar(
                    at,
                    line["mpjpe"],
                    yerr=line["mpjpe_std"].fillna(0),
                    marker="o",
                    color=colour,
                    capsize=3,
                    label=label,
                )
            axes.set_xticks(range(len(bins)), [f"{value}\n{frames[value]:,}" for value in bins], fontsize=8)
            axes.set_xlabel(f"{split}; frames below")
        panels[0].set_ylabel("MPJPE, mm")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)


def calibration_figure(calibration: Mapping[str, Any], output: Path, note: str) -> None:
    """Reliability before and after calibration: share of right detections against what the confidence says."""
    curves = {
        "raw peak height": (calibration["reliability_before"], calibration["ece_before"], style.ORANGE),
        f"calibrated ({calibration['kind']}, held out)": (
            calibration["fits"][calibration["kind"]]["reliability"],
            calibration["ece_after"],
            style.BLUE,
        ),
    }
    with style.figure(output, note) as figure:
        figure.set_size_inches(style.WIDTH, 5)
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        top.plot([0, 1], [0, 1], ":", color=style.INK, linewidth=1.2, label="confidence as good as it says")
        for shift, (name, (table, error, colour)) in enumerate(curves.items()):
            columns = pd.DataFrame(table, dtype=float)
            width = 1 / len(columns)
            label = f"{name}: expected calibration error {100 * error:.1f} %"
            known = columns.dropna()
            top.plot(known["probability"], known["accuracy"], "o-", color=colour, label=label)
            share = 100 * columns["count"] / columns["count"].sum()
            left = columns["lower"] + (0.1 + 0.4 * shift) * width
            bottom.bar(left, share, 0.4 * width, align="edge", color=colour)
        top.set(ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
        top.legend(loc="upper left")
        bottom.set(xlabel="confidence", ylabel="detections, %")


def training_figure(
    records: Mapping[str, str],
    labels: Mapping[str, str],
    panels: list[dict[str, str]],
    output: Path,
    note: str,
) -> None:
    """Metric histories of run records against step: one panel a metric, one line a run."""
    histories = {name: tracking.read_record(Path(path))["metrics"] for name, path in records.items()}
    with style.figure(output, note) as figure:
        for axes, panel in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
            for colour, (name, metrics) in zip(colour_cycle(len(histories)), histories.items(), strict=True):
                if panel["metric"] in metrics:
                    axes.plot(*np.transpose(metrics[panel["metric"]]), color=colour, label=labels[name])
            axes.set(xlabel="step", title=panel["label"])
        handles = axes.get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=4)


app = typer.Typer(add_completion=False, help="Write one figure as SVG and PNG.")

OUTPUT = typer.Option(..., "--output", help="The SVG; the PNG is written beside it.")
TABLE = typer.Option(..., "--table", help="CSV of the table of the same name.")


def labelled(options: Mapping[str, Any], named: Mapping[str, str]) -> dict[str, str]:
    """Label of each named input, in the order of the ``rows`` parameter; one without a row is an error."""
    labels = {row.name: row.label for row in parse_rows(options["rows"])}
    if unknown := named.keys() - labels.keys():
        raise UserError(f"--params: 'rows' has no row called {sorted(unknown)}; it has {sorted(labels)}")
    return {name: label for name, label in labels.items() if name in named}


def in_order(labels: Mapping[str, str], named: Mapping[str, str]) -> dict[str, str]:
    """Named inputs in the order of their labels."""
    return {name: named[name] for name in labels}


@app.command("cylinder_man")
def cylinder_man_main(
    store: list[str] = stage.STORE_OPTION,
    output: Path = OUTPUT,
    params: str = stage.PARAMS_OPTION,
    raw: Path = RAW_OPTION,
) -> None:
    """Figure 6: the Cylinder Man on people, with visible and hidden joints."""
    options = stage.parse_params(params, ABOUT | {"selections": list, "split": str})
    from isopose.reporting.pictures import Scenes, cylinder_man_figure

    scenes = Scenes(stage.parse_named(store), options["split"], raw)
    cylinder_man_figure(scenes, options["selections"], output, data_note(options))


@app.command("weights")
def weights_main(output: Path = OUTPUT, params: str = stage.PARAMS_OPTION) -> None:
    """Figure 7: the weights of inference stage optimisation by distance."""
    options = stage.parse_params(params, {"sigma": float, "threshold": float, "scale": float})
    weights_figure(
        options["sigma"],
        options["threshold"],
        options["scale"],
        output,
        "Computed from the equations, no data.",
    )


@app.command("masking")
def masking_main(
    detections: Path = typer.Option(..., help="Detection store of the train3d role."),
    output: Path = OUTPUT,
    params: str = stage.PARAMS_OPTION,
) -> None:
    """Occlusion augmentation: what each kind does to a clip."""
    options = stage.parse_params(params, ABOUT | {"masking": dict, "frames": int, "seed": int})
    from isopose.reporting.pictures import masking_figure

    masking_figure(detections, options["masking"], options["frames"], options["seed"], output, data_note(options))


@app.command("iso_curves")
def iso_curves_main(
    trace: list[str] = typer.Option(..., "--trace", help="trace.csv of a weighting as name=path; repeat for each."),
    output: Path = OUTPUT,
    params: str = stage.PARAMS_OPTION,
) -> None:
    """Figure 8: MPJPE against iteration."""
    options = stage.parse_params(params, ABOUT | {"rows": list})
    named = stage.parse_named(trace, "--trace")
    labels = labelled(options, named)
    iso_curves_figure(in_order(labels, named), labels, output, data_note(options))


@app.command("ablation")
def ablation_main(table: Path = TABLE, output: Path = OUTPUT, params: str = stage.PARAMS_OPTION) -> None:
    """The ablation as dots with their spread over seeds."""
    options = stage.parse_params(params, ABOUT)
    ablation_figure(pd.read_csv(table), output, data_note(options))


@app.command("occlusion")
def occlusion_main(table: Path = TABLE, output: Path = OUTPUT, params: str = stage.PARAMS_OPTION) -> None:
    """Error by number of occluded joints and by length of the occlusion."""
    options = stage.parse_params(params, ABOUT)
    occlusion_figure(pd.read_csv(table, dtype={"value": str}), output, data_note(options))


@app.command("calibration")
def calibration_main(
    calibration: Path = typer.Option(..., help="Fitted calibration (JSON)."),
    output: Path = OUTPUT,
    params: str = stage.PARAMS_OPTION,
) -> None:
    """Reliability of the confidence before and after calibration."""
    options = stage.parse_params(params, ABOUT)
    calibration_figure(read_json(calibration), output, data_note(options))


@app.command("training")
def training_main(
    record: list[str] = typer.Option(..., "--record", help="Run record as name=path; repeat for each."),
    output: Path = OUTPUT,
    params: str = stage.PARAMS_OPTION,
) -> None:
    """Histories of training, from the run records."""
    options = stage.parse_params(params, ABOUT | {"rows": list, "panels": list})
    named = stage.parse_named(record, "--record")
    labels = labelled(options, named)
    training_figure(in_order(labels, named), labels, options["panels"], output, data_note(options))


@app.command("samples")
def samples_main(
    store: list[str] = stage.STORE_OPTION,
    detections: Path = typer.Option(..., help="Detection store of the test role."),
    prediction: list[str] = typer.Option(..., "--prediction", help="Pose store as name=path; repeat for each."),
    output: Path = OUTPUT,
    params: str = stage.PARAMS_OPTION,
    raw: Path = RAW_OPTION,
) -> None:
    """Test frames: image, detected 2D joints, and 3D poses over the ground truth."""
    options = stage.parse_params(params, ABOUT | {"rows": list, "count": int, "split": str})
    named = stage.parse_named(prediction, "--prediction")
    labels = labelled(options, named)
    from isopose.reporting.pictures import Scenes, samples_figure

    samples_figure(
        Scenes(stage.parse_named(store), options["split"], raw),
        detections,
        in_order(labels, named),
        labels,
        options["count"],
        output,
        data_note(options),
    )


if __name__ == "__main__":
    stage.run(app)
