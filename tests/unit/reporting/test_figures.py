import json
import re

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from isopose import tracking
from isopose.errors import UserError
from isopose.reporting import figures, pictures, style, tables

ABOUT = {"track": "demo", "dataset": "synthetic", "synthetic": True}
ROWS = [{"name": "base", "label": "Base"}, {"name": "full", "label": "Full"}]


def draw(command, folder, params, *options):
    """Run a subcommand twice and check that SVG and PNG are there, whole and the same."""
    written = []
    for run in ("first", "second"):
        output = folder / run / f"{command}.svg"
        arguments = [command, *map(str, options), "--output", str(output), "--params", json.dumps(params)]
        CliRunner().invoke(figures.app, arguments, catch_exceptions=False)
        written.append((output.read_bytes(), output.with_suffix(".png").read_bytes()))
    assert written[0] == written[1]
    svg, png = written[0]
    assert svg.rstrip().endswith(b"</svg>")
    assert b"dc:date" not in svg
    assert png.startswith(b"\x89PNG")
    return svg.decode()


def test_weights(tmp_path):
    draw("weights", tmp_path, {"sigma": 1.0, "threshold": 0.5, "scale": 1.0})


def test_iso_curves(tmp_path):
    options = []
    for name, change in (("constant", 2.0), ("soft", -1.0)):
        path = tmp_path / f"{name}.csv"
        pd.DataFrame({"iteration": range(4), "mpjpe": 60 + change * np.arange(4)}).to_csv(path, index=False)
        options += ["--trace", f"iso/{name}={path}"]
    rows = [{"name": "iso/soft", "label": "Soft"}, {"name": "iso/constant", "label": "Constant"}]
    rows.append({"name": "iso/selected", "label": "+ ISO"})
    plain = draw("iso_curves", tmp_path, ABOUT | {"rows": rows}, *options)
    chosen = draw("iso_curves", tmp_path, ABOUT | {"rows": rows}, *options, "--trace", f"iso/selected={path}")
    assert "+ ISO" in chosen
    assert "+ ISO" not in plain
    with pytest.raises(UserError, match="has no row called"):
        draw("iso_curves", tmp_path, ABOUT | {"rows": rows[:1]}, *options)


def test_ablation_and_occlusion(tmp_path, samples):
    scores = {"base/seed1": samples.scores(70), "base/seed2": samples.scores(71, 1), "full/seed1": samples.scores(60)}
    rows = tables.parse_rows([{"name": "mean_pose", "label": "Mean pose"}, *ROWS])
    table = tmp_path / "table.csv"
    options = {"average": "actions", "resamples": 20, "seed": 1, "track": "demo"}
    tables.comparison(rows, scores, 3, options).to_csv(table, index=False)
    draw("ablation", tmp_path, ABOUT, "--table", table)
    tables.occlusion(rows, scores, "demo").to_csv(table, index=False)
    draw("occlusion", tmp_path, ABOUT, "--table", table)


def test_calibration(tmp_path, samples, write_json):
    draw("calibration", tmp_path, ABOUT, "--calibration", write_json("calibration.json", samples.calibration()))


def test_training(tmp_path):
    options = []
    for name in ("base", "full"):
        record = tmp_path / f"{name}.json"
        with tracking.run(key=f"demo/{name}", record=record, params={}) as log:
            log.history("loss", [3.0, 2.0, 1.0])
        options += ["--record", f"{name}={record}"]
    panels = [{"metric": "loss", "label": "training loss"}, {"metric": "mpjpe", "label": "validation MPJPE, mm"}]
    draw("training", tmp_path, ABOUT | {"rows": ROWS, "panels": panels}, *options)


def test_cylinder_man(people):
    selection = {"source": "synthetic", "cameras": ["cam1"]}
    params = ABOUT | {"selections": [selection], "split": "test"}
    svg = draw("cylinder_man", people, params, "--store", f"synthetic={people / 'sequences.h5'}")
    assert "data:image/png;base64," in svg


def test_samples(people):
    named = [f"{run}={people / file}.h5" for run, file in (("full", "full"), ("iso/selected", "base"))]
    options = [part for pair in named for part in ("--prediction", pair)]
    options += ["--store", f"synthetic={people / 'sequences.h5'}", "--detections", people / "detections.h5"]
    rows = [{"name": "full", "label": "Full"}, {"name": "iso/selected", "label": "Full + ISO"}]
    draw("samples", people, ABOUT | {"rows": rows, "count": 2, "split": "test"}, *options)


def test_cylinder_outlines_are_as_wide_as_the_cylinders(standing):
    joints = np.stack([standing[:, 1], -standing[:, 2], standing[:, 0] + 4], axis=-1)
    corners = pictures.outlines(joints, joints)
    thigh = corners["l_thigh"]
    assert np.linalg.norm(thigh[0] - thigh[3]) == pytest.approx(0.10)
    assert np.linalg.norm(thigh[0] - thigh[1]) == pytest.approx(np.linalg.norm(joints[5] - joints[4]))
    # The rectangle faces the camera: its side is at right angles to the line of sight.
    assert (thigh[3] - thigh[0]) @ joints[4] == pytest.approx(0, abs=1e-9)
    shoulder = np.linalg.norm(joints[11] - joints[8])
    torso = corners["torso"]
    assert np.linalg.norm(torso[0] - torso[3]) == pytest.approx(2 * shoulder)


def test_turning_by_a_quarter_shows_depth():
    points = np.array([[1.0, 2.0, 3.0]])
    np.testing.assert_allclose(pictures.turned(points, 0.0), [[1, 2]])
    np.testing.assert_allclose(pictures.turned(points, np.pi / 2), [[3, 2]])


def test_spread_takes_both_ends():
    assert pictures.spread([*"abcdefg"], 3) == ["a", "d", "g"]
    assert pictures.spread([*"ab"], 3) == ["a", "b"]


def test_labels_at_line_ends_keep_apart(tmp_path):
    with style.figure(tmp_path / "labels.svg", "") as chart:
        axes = chart.subplots()
        axes.set_ylim(0, 1)
        style.label_lines(axes, [(0.5, "a", "k"), (0.5, "b", "k"), (0.99, "c", "k"), (1.0, "d", "k")])
        heights = [text.xy[1] for text in axes.texts]
    assert np.diff(sorted(heights)).min() >= 0.054
    assert max(heights) <= 1


def test_only_svg_names_are_taken(tmp_path):
    with pytest.raises(UserError, match=r"expected a name ending in \.svg"), style.figure(tmp_path / "a.pdf", ""):
        pass


def test_colours_are_distinct():
    assert len(set(style.PALETTE)) == len(style.PALETTE)
    assert all(re.fullmatch("#[0-9A-F]{6}", colour) for colour in style.PALETTE)
