"""The figures: each reads what the stages measured and writes one SVG, with a PNG beside it.

The same inputs give the same bytes. Which frames a figure shows follows from a rule stated at its function, never
from how well they came out.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import typer
from matplotlib.axes import Axes

from isopose import skeleton, stage, tracking
from isopose.camera import project
from isopose.datasets.store import Clip, DetectionStore, PoseStore, SequenceStore, ViewKey, select
from isopose.errors import UserError
from isopose.evaluation.metrics import mpjpe
from isopose.iso import weights
from isopose.occlusion import cylinder_man
from isopose.rendering import view_frames
from isopose.reporting import style
from isopose.reporting.tables import JOINT_BINS, data_note, parse_rows, read_json

THORAX, SHOULDER = skeleton.index("thorax"), skeleton.index("l_shoulder")
YAW = np.radians(40)
"""Turn about the vertical axis at which 3D poses are drawn, so that depth shows."""


def side_colours() -> list[str]:
    """Colour of each bone of skeleton.BONES: right, left or trunk."""
    right, left = (set(side) for side in zip(*skeleton.SYMMETRIC_PAIRS, strict=True))
    return [
        style.RIGHT if child in right else style.LEFT if child in left else style.MIDDLE
        for _, child in skeleton.BONES
    ]


def draw_skeleton(axes: Axes, points: np.ndarray, colours: list[str] | None = None, **line: Any) -> None:
    """Draw bones between points (17, 2)."""
    for (parent, child), colour in zip(skeleton.BONES, colours or side_colours(), strict=True):
        axes.plot(*points[[parent, child]].T, color=colour, solid_capstyle="round", **line)


def turned(points: np.ndarray, angle: float) -> np.ndarray:
    """Camera-frame points (..., 3), m, turned about the vertical axis and seen orthographically: (..., 2)."""
    x = points[..., 0] * np.cos(angle) + points[..., 2] * np.sin(angle)
    return np.stack([x, points[..., 1]], axis=-1)


def outlines(joints: np.ndarray, sight: np.ndarray) -> dict[str, np.ndarray]:
    """Corners (4, 3) of the rectangle each cylinder shows along lines of sight ``sight`` (17, 3); joints (17, 3), m."""
    corners = {}
    for part in cylinder_man.PARTS:
        start, end = joints[part.start], joints[part.end]
        torso = np.linalg.norm(joints[THORAX] - joints[SHOULDER])
        across = np.cross(end - start, sight[part.start])
        across = across / max(np.linalg.norm(across), 1e-9) * (part.radius or torso)
        corners[part.name] = np.stack([start - across, end - across, end + across, start + across])
    return corners


def read_clip(stores: Mapping[str, str], key: ViewKey) -> Clip:
    """Read the clip of a view."""
    with SequenceStore(stores[key.source]) as store:
        return store.read(key.clip)


def spread(items: list[Any], count: int) -> list[Any]:
    """``count`` items evenly spaced over a list, or all of a shorter one."""
    if len(items) <= count:
        return items
    return [items[round(i)] for i in np.linspace(0, len(items) - 1, count)]


def blank(axes: Axes) -> None:
    """A panel for pictures: equal axes, y down, no ticks."""
    axes.set_aspect("equal")
    axes.set_axis_off()
    if not axes.yaxis_inverted():
        axes.invert_yaxis()


def show_image(axes: Axes, image: np.ndarray, box: np.ndarray) -> None:
    """Show a crop (S, S, 3) at its place in the image; box (3,) centre and side, px."""
    x, y, half = box[0], box[1], box[2] / 2
    axes.imshow(image, extent=(x - half, x + half, y + half, y - half), interpolation="bilinear")
    axes.set_xlim(x - half, x + half)
    axes.set_ylim(y + half, y - half)


def cylinder_man_figure(
    stores: Mapping[str, str], selections: list[dict[str, Any]], split: str, output: Path, note: str
) -> None:
    """Figure 6: three views, evenly spaced over the selection, at the frame where the body hides most of its joints."""
    from isopose.crops import boxes_around

    with style.figure(output, note) as figure:
        keys = spread(select(stores, selections), 3)
        figure.set_size_inches(style.WIDTH, 7.2)
        panels = figure.subplots(2, len(keys), squeeze=False)
        for column, key in enumerate(keys):
            clip = read_clip(stores, key)
            camera = clip.cameras[clip.views[key.view].camera]
            all_joints = clip.camera_joints(key.view)
            all_visible = cylinder_man.visibility(all_joints)
            frame = int(np.argmin(all_visible.sum(axis=1)))
            joints, visible = all_joints[frame].astype(np.float64), all_visible[frame]
            boxes = boxes_around(clip.views[key.view].joints2d)
            image = view_frames(clip, key.view, boxes, np.array([frame]), 256, split)[0]

            top, bottom = panels[:, column]
            show_image(top, image, boxes[frame])
            draw_cylinders(top, joints, visible, lambda points, camera=camera: project(points, camera), joints)
            top.set_title(f"{clip.subject}, {clip.action}: {int((~visible).sum())} joints hidden", fontsize=9)
            from_side = np.broadcast_to([-1.0, 0.0, 0.0], joints.shape)
            relative = joints - joints[0]
            draw_cylinders(bottom, relative, visible, lambda points: turned(points, -np.pi / 2), from_side)
            bottom.annotate("camera", (-0.75, 0), (-1.25, 0), arrowprops={"arrowstyle": "<-"}, va="center", fontsize=9)
            bottom.set_xlim(-1.3, 1.0)
            bottom.set_ylim(1.2, -1.0)
            for panel in (top, bottom):
                blank(panel)
        panels[1, 0].set_title("the same poses seen from the side", fontsize=9)
        handles = panels[0, 0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper center", ncols=2)


def draw_cylinders(axes: Axes, joints: np.ndarray, visible: np.ndarray, flatten: Any, sight: np.ndarray) -> None:
    """Draw the ten cylinders' outlines, the bones, and visible and hidden joints; ``flatten`` maps (N, 3) to (N, 2)."""
    for corners in outlines(joints, sight).values():
        axes.fill(*flatten(corners).T, facecolor=style.SKY, edgecolor=style.BLUE, alpha=0.35, linewidth=0.8)
    points = flatten(joints)
    draw_skeleton(axes, points, [style.INK] * len(skeleton.BONES), linewidth=1.2)
    axes.plot(*points[visible].T, "o", color=style.GREEN, markeredgecolor="white", markersize=6, label="visible joint")
    hidden = points[~visible]
    axes.plot(
        *hidden.T, "X", color=style.ORANGE, markeredgecolor="white", markersize=8, label="joint hidden by the body"
    )


def weights_figure(sigma: float, threshold: float, scale: float, output: Path, note: str) -> None:
    """Figure 7: Eq. 9 by distance, with the hard threshold and the robust weight; and how hard each one pulls.

    The pull is the derivative of weight times squared distance (Eq. 8), heatmap pixels.
    """
    distance = np.linspace(0, 10, 401)
    curves = {
        f"soft, c = {c:g}": (weights.soft_threshold(distance, np.full_like(distance, c), sigma), colour, "-")
        for c, colour in ((1.0, style.BLUE), (0.5, style.ORANGE), (0.2, style.GREEN))
    }
    half = np.full_like(distance, 0.5)
    curves[f"hard {threshold:g}, c = 0.5"] = (weights.hard_threshold(distance, half, threshold), style.GREY, "--")
    curves["robust, c = 0.5"] = (weights.robust(distance, half, scale), style.PURPLE, "--")
    with style.figure(output, note) as figure:
        left, right = figure.subplots(1, 2)
        for name, (weight, colour, line) in curves.items():
            left.plot(distance, weight, line, color=colour, label=name)
            right.plot(distance, np.gradient(np.asarray(weight) * distance**2, distance), line, color=colour)
        left.set(xlim=(0, 5), ylim=(0, 1.05), xlabel="distance, heatmap px", ylabel="weight")
        left.set_title(f"Weight (Eq. 9, sigma = {sigma:g})")
        right.set(xlim=(0, 10), xlabel="distance, heatmap px", ylabel="pull on the joint, px")
        right.set_title("Pull: far outliers keep pulling, unless robust")
        figure.legend(loc="outside lower center", ncols=3)


def iso_curves_figure(traces: Mapping[str, str], labels: Mapping[str, str], output: Path, note: str) -> None:
    """Figure 8: MPJPE against iteration, one line a weighting; the error without ISO is where all of them start."""
    with style.figure(output, note) as figure:
        axes = figure.subplots()
        ends = []
        for (name, path), colour in zip(traces.items(), colour_cycle(len(traces)), strict=True):
            trace = pd.read_csv(path)
            if not {"iteration", "mpjpe"} <= set(trace.columns):
                raise UserError(f"{path}: has columns {list(trace.columns)}; expected iteration and mpjpe; run again")
            axes.plot(trace["iteration"], trace["mpjpe"], color=colour)
            ends.append((float(trace["mpjpe"].iloc[-1]), labels[name], colour))
        axes.axhline(trace["mpjpe"].iloc[0], color=style.INK, linestyle=":", linewidth=1.2)
        ends.append((float(trace["mpjpe"].iloc[0]), "no ISO", style.INK))
        axes.margins(x=0)
        axes.set(xlabel="iteration", ylabel="MPJPE, mm")
        style.label_lines(axes, ends)


def colour_cycle(count: int) -> list[str]:
    """Colours for ``count`` lines."""
    return [style.PALETTE[i % len(style.PALETTE)] for i in range(count)]


def ablation_figure(table: pd.DataFrame, output: Path, note: str) -> None:
    """Dots with bars of one standard deviation over seeds, on clean and on occluded views, row by row."""
    table = table[table["clean_mpjpe"].notna()]
    y = np.arange(len(table))
    with style.figure(output, note) as figure:
        figure.set_size_inches(style.WIDTH, 1.6 + 0.36 * len(table))
        axes = figure.subplots()
        for view, colour, marker, shift in (("clean", style.BLUE, "o", -0.12), ("occluded", style.ORANGE, "s", 0.12)):
            value, spread_ = table[f"{view}_mpjpe"], table[f"{view}_mpjpe_std"].fillna(0)
            axes.errorbar(
                value, y + shift, xerr=spread_, fmt=marker, color=colour, capsize=3, label=f"{view} views", linewidth=1.5
            )
        axes.set_yticks(y, table["label"])
        axes.invert_yaxis()
        axes.set_xlabel("MPJPE, mm")
        figure.legend(loc="outside upper center", ncols=2)


def occlusion_figure(table: pd.DataFrame, output: Path, note: str) -> None:
    """MPJPE by number of occluded joints and by length of the occlusion, one line a row of the table."""
    splits = ("number of occluded joints", "length of occlusion")
    with style.figure(output, note) as figure:
        panels = figure.subplots(1, len(splits), sharey=True)
        for axes, split in zip(panels, splits, strict=True):
            part = table[table["split"] == split]
            bins = list(dict.fromkeys(part["value"]))
            frames = part.groupby("value")["frames"].max()
            for colour, (label, line) in zip(style.PALETTE, part.groupby("label", sort=False), strict=False):
                at = [bins.index(value) for value in line["value"]]
                axes.errorbar(
                    at, line["mpjpe"], yerr=line["mpjpe_std"].fillna(0), marker="o", color=colour, capsize=3, label=label
                )
            axes.set_xticks(range(len(bins)), [f"{value}\n{frames[value]:,} frames" for value in bins], fontsize=8)
            axes.set_xlabel(split)
        panels[0].set_ylabel("MPJPE, mm")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)


def training_figure(
    records: Mapping[str, str], labels: Mapping[str, str], panels: list[dict[str, str]], output: Path, note: str
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


def samples_figure(
    stores: Mapping[str, str],
    detections: Path,
    predictions: Mapping[str, str],
    labels: Mapping[str, str],
    count: int,
    split: str,
    output: Path,
    note: str,
) -> None:
    """Test frames: the image with the detected 2D joints, then each model's 3D pose over the ground truth.

    Views are evenly spaced over all those predicted; each shows the frame with most joints hidden, but no more than
    ten: the frames that this work is about.
    """
    with DetectionStore(detections) as detected, style.figure(output, note) as figure:
        opened = {name: PoseStore(path) for name, path in predictions.items()}
        keys = spread(next(iter(opened.values())).keys(), count)
        figure.set_size_inches(style.WIDTH, 1.9 * (1 + len(opened)))
        panels = figure.subplots(1 + len(opened), len(keys), squeeze=False)
        for column, key in enumerate(keys):
            clip = read_clip(stores, key)
            hidden = (~clip.views[key.view].visible).sum(axis=1)
            frame = int(np.argmax(np.where(hidden <= 10, hidden, -1)))
            found = detected.read(key)
            image = view_frames(clip, key.view, found.boxes, np.array([frame]), 256, split)[0]
            show_image(panels[0, column], image, found.boxes[frame])
            draw_skeleton(panels[0, column], found.keypoints[frame], linewidth=1.5)
            panels[0, column].set_title(f"{clip.action}\n{hidden[frame]} joints hidden", fontsize=8)
            joints = clip.camera_joints(key.view)[frame]
            truth = joints - joints[:1]
            for axes, (name, store) in zip(panels[1:, column], opened.items(), strict=True):
                pose = store.read(key)[frame]
                draw_skeleton(axes, turned(truth, YAW), ["#BBBBBB"] * len(skeleton.BONES), linewidth=3)
                draw_skeleton(axes, turned(pose, YAW), linewidth=1.5)
                axes.set_xlim(-0.9, 0.9)
                axes.set_ylim(1.05, -0.95)
                title = f"{1000 * float(mpjpe(pose, truth)):.0f} mm"
                axes.set_title(title if column else f"{labels[name]}: {title}", fontsize=8)
            for axes in panels[:, column]:
                blank(axes)
        for store in opened.values():
            store.close()


app = typer.Typer(add_completion=False, help="Write one figure as SVG and PNG.")

OUTPUT = typer.Option(..., "--output", help="The SVG; the PNG is written beside it.")
TABLE = typer.Option(..., "--table", help="CSV of the table of the same name.")
ABOUT = {"track": str, "synthetic": bool}


def labelled(options: Mapping[str, Any], named: Mapping[str, str]) -> dict[str, str]:
    """Label of each named input by the ``rows`` parameter, seeds left out; an input without a row is an error."""
    labels = {row.name: row.label for row in parse_rows(options["rows"])}
    if unknown := named.keys() - labels.keys():
        raise UserError(f"--params: 'rows' has no row called {sorted(unknown)}; it has {sorted(labels)}")
    return {name: label for name, label in labels.items() if name in named}


def in_order(labels: Mapping[str, str], named: Mapping[str, str]) -> dict[str, str]:
    """Named inputs in the order of their labels."""
    return {name: named[name] for name in labels}


def about(options: Mapping[str, Any]) -> str:
    """The note below a figure."""
    return data_note(options["track"], options["synthetic"])


@app.command("cylinder_man")
def cylinder_man_main(
    store: list[str] = stage.STORE_OPTION, output: Path = OUTPUT, params: str = stage.PARAMS_OPTION
) -> None:
    """Figure 6: the Cylinder Man on rendered people, with visible and hidden joints."""
    options = stage.parse_params(params, ABOUT | {"selections": list, "split": str})
    cylinder_man_figure(stage.parse_named(store), options["selections"], options["split"], output, about(options))


@app.command("weights")
def weights_main(output: Path = OUTPUT, params: str = stage.PARAMS_OPTION) -> None:
    """Figure 7: the weights of inference stage optimisation by distance."""
    options = stage.parse_params(params, {"sigma": float, "threshold": float, "scale": float})
    weights_figure(
        options["sigma"], options["threshold"], options["scale"], output, "Computed from the equations, no data."
    )


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
    iso_curves_figure(in_order(labels, named), labels, output, about(options))


@app.command("ablation")
def ablation_main(table: Path = TABLE, output: Path = OUTPUT, params: str = stage.PARAMS_OPTION) -> None:
    """The ablation as dots with their spread over seeds."""
    options = stage.parse_params(params, ABOUT)
    ablation_figure(pd.read_csv(table), output, about(options))


@app.command("occlusion")
def occlusion_main(table: Path = TABLE, output: Path = OUTPUT, params: str = stage.PARAMS_OPTION) -> None:
    """Error by number of occluded joints and by length of the occlusion."""
    options = stage.parse_params(params, ABOUT)
    occlusion_figure(pd.read_csv(table, dtype={"value": str}), output, about(options))


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
    training_figure(in_order(labels, named), labels, options["panels"], output, about(options))


@app.command("samples")
def samples_main(
    store: list[str] = stage.STORE_OPTION,
    detections: Path = typer.Option(..., help="Detection store of the test role."),
    prediction: list[str] = typer.Option(..., "--prediction", help="Pose store as name=path; repeat for each."),
    output: Path = OUTPUT,
    params: str = stage.PARAMS_OPTION,
) -> None:
    """Test frames: image, detected 2D joints, and 3D poses over the ground truth."""
    options = stage.parse_params(params, ABOUT | {"rows": list, "count": int, "split": str})
    named = stage.parse_named(prediction, "--prediction")
    labels = labelled(options, named)
    samples_figure(
        stage.parse_named(store),
        detections,
        in_order(labels, named),
        labels,
        options["count"],
        options["split"],
        output,
        about(options),
    )


if __name__ == "__main__":
    stage.run(app)
