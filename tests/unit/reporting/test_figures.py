import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from isopose import skeleton, tracking
from isopose.errors import UserError
from isopose.occlusion.masking import Corruption
from isopose.reporting import figures, pictures, published, style, tables

ABOUT = {"track": "demo", "dataset": "synthetic", "kind": "synthetic"}
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
    tables.comparison(rows, scores, Path(published.__file__).parent / "table3.csv", options).to_csv(table, index=False)
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


MASKING = {
    "share": 0.5,
    "point": 0.2,
    "frame": 0.2,
    "continuous_point": 0.2,
    "continuous_frame": 1.0,
    "max_length": 12,
    "shift": 0.1,
    "shift_pixels": 2,
    "swap": 0.1,
}


def test_masking(people):
    params = ABOUT | {"masking": MASKING, "frames": 12, "seed": 1}
    svg = draw("masking", people, params, "--detections", people / "detections.h5")
    assert svg.count("data:image/png;base64,") == 7  # six kinds and all together
    with pytest.raises(UserError, match="'masking' is None; expected dict"):
        draw("masking", people, params | {"masking": None}, "--detections", people / "detections.h5")


def runs(hidden):
    """Number of runs of True in each column of (T, N)."""
    return (np.diff(hidden.astype(int), axis=0, prepend=0) == 1).sum(axis=0)


def test_each_kind_alone_does_what_the_paper_says_of_it():
    states = {k: pictures.joint_states(c) for k, c in pictures.draw_kinds(64, MASKING, seed=1).items()}
    for kind in ("point", "frame", "continuous_point", "continuous_frame"):
        assert set(np.unique(states[kind])) == {pictures.AS_DETECTED, pictures.HIDDEN}
    whole = {kind: (s == s[:, :1]).all() for kind, s in states.items()}
    assert whole == {kind: kind in ("frame", "continuous_frame") for kind in states}
    for kind, expected in (("continuous_point", {0, 1}), ("continuous_frame", {1})):
        assert set(runs(states[kind] == pictures.HIDDEN)) == expected
        assert (states[kind] == pictures.HIDDEN).sum(axis=0).max() <= MASKING["max_length"]
    assert set(np.unique(states["shift"])) == {pictures.AS_DETECTED, pictures.SHIFTED}
    assert set(np.unique(states["swap"])) == {pictures.AS_DETECTED, pictures.SWAPPED}
    np.testing.assert_array_equal(states["swap"], states["swap"][:, list(skeleton.MIRROR)])


def test_all_together_is_what_the_kinds_do_alone():
    corruptions = pictures.draw_kinds(64, MASKING, seed=3)
    together = corruptions.pop("all")
    assert not together.keep.all() and together.shift.any() and (together.order != torch.arange(17)).any()
    assert torch.equal(together.keep, torch.stack([c.keep for c in corruptions.values()]).all(0))
    assert torch.equal(together.shift, corruptions["shift"].shift)
    assert torch.equal(together.order, corruptions["swap"].order)


def test_states_and_keypoints_of_a_corruption_by_hand():
    shift, order = torch.zeros(1, 3, 17, 2, dtype=torch.long), torch.arange(17).repeat(1, 3, 1)
    keep = torch.ones(1, 3, 17, dtype=torch.bool)
    shift[0, 0, 2] = torch.tensor([3, -1])  # frame 0: the right knee is shifted
    shift[0, 1, 7, 0] = 1  # frame 1: the spine is shifted, but hidden; the knees are swapped
    keep[0, 1, 7] = False
    order[0, 1, [2, 5]] = torch.tensor([5, 2])
    corruption = Corruption(shift, order, keep)
    expected = np.zeros((3, 17))
    expected[0, 2] = pictures.SHIFTED
    expected[1, [2, 5]] = pictures.SWAPPED
    expected[1, 7] = pictures.HIDDEN
    np.testing.assert_array_equal(pictures.joint_states(corruption), expected)

    detected = np.random.default_rng(0).uniform(-1, 1, (3, 17, 2)).astype(np.float32)
    seen = detected.copy()
    seen[0, 2] += [3 / 4, -1 / 4]  # the crop's side, 2, is 8 px of the map
    seen[1, [2, 5]] = detected[1, [5, 2]]
    seen[1, 7] = 0
    np.testing.assert_allclose(pictures.corrupted_keypoints(detected, corruption, 8), seen, atol=1e-6)


def test_the_frame_shown_has_most_joints_changed_then_the_longest_way():
    states = np.array([[0, 0], [3, 3], [2, 0], [3, 3]])
    distance = np.array([[0, 0], [0, 0.1], [9, 0], [0.1, 0.1]])
    assert pictures.most_changed(states, distance) == 3


def test_rows_show_every_joint_once_and_pairs_side_by_side():
    assert sorted(pictures.ROWS) == list(range(17))
    place = {joint: row for row, joint in enumerate(pictures.ROWS)}
    assert all(abs(place[right] - place[left]) == 1 for right, left in skeleton.SYMMETRIC_PAIRS)


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
