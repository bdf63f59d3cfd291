import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from isopose.errors import UserError
from isopose.reporting import published, tables

ABOUT = {"track": "demo", "dataset": "synthetic", "kind": "synthetic"}
ROWS = [
    {"name": "mean_pose", "label": "Mean training pose"},
    {"name": "base", "label": "Base", "published": "Base"},
    {"name": "full", "label": "Full & all", "published": "+2D Data"},
]
COMPARISON = ABOUT | {"average": "actions", "resamples": 50, "seed": 1}


PAPER = {"iso": 2, "ablation": 3, "humaneva": 4, "mpi_inf_3dhp": 5, "three_dpw": 6, "dynamics": 9}


def transcription(number):
    return Path(published.__file__).parent / f"table{number}.csv"


def run(command, output, params, *options):
    number = PAPER.get(params.get("protocol", command))
    paper = ["--paper", str(transcription(number))] if number else []
    arguments = [command, *map(str, options), *paper, "--output", str(output), "--params", json.dumps(params)]
    return CliRunner().invoke(tables.app, arguments, catch_exceptions=False)


def test_averages_agree_with_a_loop_over_frames(samples):
    scores = samples.scores(60)
    frames, by_action = [], {}
    for line in scores.itertuples():
        errors = [line.mpjpe / line.frames] * line.frames
        frames += errors
        by_action.setdefault(line.action, []).extend(errors)
    assert tables.average(scores, "frames")["mpjpe"] == pytest.approx(sum(frames) / len(frames))
    means = [sum(errors) / len(errors) for errors in by_action.values()]
    assert tables.average(scores, "actions")["mpjpe"] == pytest.approx(sum(means) / len(means))


def test_spread_over_seeds(samples):
    scores = samples.scores(60)
    runs = {f"base/seed{k}": scores.assign(mpjpe=scores["frames"] * error) for k, error in ((1, 50), (2, 53), (3, 59))}
    errors = tables.over_seeds(runs, "frames")
    assert errors.loc["mpjpe"].tolist() == pytest.approx([54.0, np.sqrt((16 + 1 + 25) / 2)])


def test_interval_of_equal_clips_is_a_point(samples):
    scores = samples.scores(60)
    scores["mpjpe"] = 50.0 * scores["frames"]
    assert tables.interval({"base": scores}, "mpjpe", "actions", 20, 1) == pytest.approx((50, 50))


def test_ablation(tmp_path, score_options):
    output = tmp_path / "ablation.csv"
    run(
        "ablation",
        output,
        COMPARISON | {"rows": ROWS},
        *score_options({"base/seed1": 70, "base/seed2": 72, "full/seed1": 60}),
    )
    data = pd.read_csv(output).set_index("row")
    assert data.index.tolist() == ["mean_pose", "base", "full"]
    assert data.at["full", "clean_mpjpe"] == pytest.approx(60 + np.mean([0, 12, 5]), abs=0.5)
    assert data.at["full", "clean_mpjpe"] < data.at["full", "occluded_mpjpe"]
    assert data.at["base", "clean_mpjpe_low"] < data.at["base", "clean_mpjpe"] < data.at["base", "clean_mpjpe_high"]
    assert (data.at["base", "paper_mpjpe"], data.at["base", "paper_p_mpjpe"]) == (51.7, 40.5)
    base = data.loc["base"]
    assert (base["track"], base["dataset"], base["seeds"]) == ("demo", "synthetic", "1 2")
    assert base["run"] == "base/seed1 base/seed2"
    assert pd.isna(data.at["mean_pose", "clean_mpjpe"])
    markdown = output.with_suffix(".md").read_text(encoding="utf-8")
    assert "Synthetic data: synthetic, track demo." in markdown
    assert "average over actions" in markdown
    assert "MPJPE (paper, Human3.6M)" in markdown
    latex = output.with_suffix(".tex").read_text(encoding="utf-8")
    assert r"Full \& all" in latex
    assert latex.isascii()


def test_same_input_same_bytes(tmp_path, score_options):
    options = score_options({"base/seed1": 70, "full/seed1": 60})
    written = []
    for folder in ("first", "second"):
        output = tmp_path / folder / "ablation.csv"
        run("ablation", output, COMPARISON | {"rows": ROWS}, *options)
        written.append([output.with_suffix(suffix).read_bytes() for suffix in (".csv", ".md", ".tex")])
    assert written[0] == written[1]


def test_the_order_of_inputs_does_not_matter(tmp_path, score_options):
    options = score_options({"base/seed1": 70, "base/seed2": 71, "full/seed1": 60})
    pairs = [options[i : i + 2] for i in range(0, len(options), 2)]
    written = []
    for order in (pairs, pairs[::-1]):
        output = tmp_path / "ablation.csv"
        run("ablation", output, COMPARISON | {"rows": ROWS}, *sum(order, []))
        written.append(output.read_bytes())
    assert written[0] == written[1]


def test_iso_shows_what_validation_chose(tmp_path, score_options, write_json):
    rows = [
        {"name": "full", "label": "No ISO", "published": "Baseline (no ISO)"},
        {"name": "iso/soft_1.0", "label": "Soft σ = 1", "published": "σ = 1.0"},
        {"name": "iso/robust", "label": "Robust"},
        {"name": "iso/selected", "label": "+ ISO"},
    ]
    validation = {
        "robust": {"last": 56.5, "lowest": 55.5, "iterations": 65},
        "soft_1.0": {"last": 57, "lowest": 57, "iterations": 150},
    }
    selection = write_json("selection.json", {"selected": "robust", "iterations": 65, "validation": validation})
    output = tmp_path / "iso.csv"
    options = score_options({"full/seed1": 60, "iso/soft_1.0": 58, "iso/robust": 59, "iso/selected": 57})
    run("iso", output, COMPARISON | {"rows": rows}, *options, "--selection", selection)
    data = pd.read_csv(output).set_index("row")
    assert data["selected"].tolist() == [False, False, True, False]
    assert data["validation_last"].tolist()[1:] == [57, 56.5, 55.5]
    assert data["validation_iterations"].tolist()[1:] == [150, 65, 65]
    assert data.at["iso/soft_1.0", "paper_mpjpe"] == 39.3
    shown = output.with_suffix(".md").read_text(encoding="utf-8")
    assert "+ ISO: Robust, 65 iterations" in shown
    assert "55.5, 65" in shown
    assert r"$\sigma$" in output.with_suffix(".tex").read_text(encoding="utf-8")


def test_actions(tmp_path, score_options):
    output = tmp_path / "actions_mpjpe.csv"
    run(
        "actions",
        output,
        ABOUT | {"metric": "mpjpe", "rows": ROWS[1:]},
        *score_options({"base/seed1": 70, "full/seed1": 60}),
    )
    data = pd.read_csv(output).set_index(["row", "views"])
    actions = data[["action_box", "action_jump", "action_walk"]]
    assert data["Average"].tolist() == pytest.approx(actions.mean(axis=1).tolist(), abs=1e-3)
    assert data.at[("base", "clean"), "action_jump"] == pytest.approx(82, abs=1)


def test_an_action_may_have_the_name_of_another_column(tmp_path, samples):
    scores = samples.scores(70).replace({"action": {"jump": "run"}})
    scores.to_csv(tmp_path / "scores.csv", index=False)
    output = tmp_path / "actions_mpjpe.csv"
    options = ABOUT | {"metric": "mpjpe", "rows": ROWS[1:2]}
    run("actions", output, options, "--scores", f"base/seed1={tmp_path / 'scores.csv'}")
    data = pd.read_csv(output)
    assert data["run"].eq("base/seed1").all()
    assert data["action_run"].iloc[0] == pytest.approx(82, abs=1)
    assert "| run |" in " ".join(output.with_suffix(".md").read_text().split())


def test_occlusion_splits_every_frame_once(tmp_path, score_options, samples):
    output = tmp_path / "occlusion.csv"
    run("occlusion", output, ABOUT | {"rows": ROWS[1:]}, *score_options({"base/seed1": 70, "full/seed1": 60}))
    data = pd.read_csv(output, dtype={"value": str}, keep_default_na=False)
    base = data[data["row"] == "base"]
    scores = samples.scores(70)
    by_joints = base[base["split"] == "number of occluded joints"]
    assert by_joints["frames"].sum() == scores["frames"].sum()
    assert by_joints["value"].tolist() == ["0", "1-2", "3-5", "6-9"]
    lengths = base[base["split"] == "length of occlusion, s"]
    assert lengths["value"].tolist() == ["none", "<0.2", "0.2-0.5", ">1"]
    assert lengths["frames"].sum() == scores.loc[scores["occluded_view"], "frames"].sum()
    assert base[base["split"] == "speed of motion"]["value"].tolist() == ["slow", "medium", "fast"]
    assert base[base["split"] == "subject, clean views"]["value"].tolist() == ["S9", "S10"]
    worst = scores[scores["occluded_joints"] == 8]
    assert by_joints["mpjpe"].iloc[-1] == pytest.approx(worst["mpjpe"].sum() / worst["frames"].sum(), abs=1e-3)


def test_components_are_errors_over_the_frames_they_name(tmp_path, score_options, samples):
    output = tmp_path / "components.csv"
    options = score_options({"base/seed1": 70, "base/seed2": 72, "full/seed1": 60})
    run("components", output, ABOUT | {"rows": ROWS}, *options)
    data = pd.read_csv(output).set_index("row")
    scores = samples.scores(60, 2)

    def mean(error, count, chosen):
        return scores[error][chosen].sum() / scores[count][chosen].sum()

    full = data.loc["full"]
    assert full["all"] == pytest.approx(mean("mpjpe", "frames", scores["frames"] > 0), abs=1e-3)
    assert full["long_occlusion"] == pytest.approx(
        mean("mpjpe", "frames", scores["occlusion_seconds"] == ">1"), abs=1e-3
    )
    assert full["hidden"] == pytest.approx(mean("mpjpe", "frames", scores["occluded_joints"] >= 6), abs=1e-3)
    assert full["fast"] == pytest.approx(mean("mpjpe", "frames", scores["motion_speed"] == "fast"), abs=1e-3)
    assert full["velocity"] == pytest.approx(mean("mpjve", "velocity_frames", scores["frames"] > 0), abs=1e-3)
    acceleration = mean("acceleration_error", "acceleration_frames", scores["frames"] > 0)
    assert full["acceleration"] == pytest.approx(acceleration, abs=1e-3)
    assert data.at["base", "all_std"] == pytest.approx(2**0.5, abs=0.2)


@pytest.mark.parametrize(("count", "name"), [(0, "0"), (1, "1-2"), (2, "1-2"), (3, "3-5"), (9, "6-9"), (17, "10-17")])
def test_bins_of_occluded_joints(count, name):
    assert tables.joints_bin(pd.Series([count])).tolist() == [name]


def test_estimator(tmp_path, write_json, samples):
    quality = write_json("quality.json", {"pckh": 0.871, "auroc": 0.93, "dense_fp16_ratio": 77.32, "frames": 3000})
    fitted = write_json("calibration.json", samples.calibration())
    output = tmp_path / "estimator.csv"
    options = ABOUT | {"imported": False}
    run("estimator", output, options, "--quality", f"synthetic={quality}", "--calibration", f"synthetic={fitted}")
    data = pd.read_csv(output).set_index("measure")
    assert data["value"].to_dict() == pytest.approx(
        {"pckh": 0.871, "auroc": 0.93, "dense_fp16_ratio": 77.32, "frames": 3000, "ece_before": 0.12}
        | {f"ece_{kind}": 0.02 for kind in ("temperature", "platt", "isotonic")}
    )
    markdown = output.with_suffix(".md").read_text(encoding="utf-8")
    assert all(text in markdown for text in ("87.1", "0.930", "77.3", "12.00", "Rendered people"))
    assert data["run"].eq("synthetic/estimator").all()


def test_detections_made_elsewhere_have_no_estimators_run(tmp_path, write_json):
    scores = tables.estimator({"outside": {"pckh": 0.8}}, {}, "t", imported=True)
    assert scores["run"].tolist() == ["outside/detections"]
    quality = write_json("quality.json", {"pckh": 0.8})
    fitted = write_json("calibration.json", {"ece_before": 0.1, "fits": {"constant": {"ece": 0.0}}})
    output = tmp_path / "estimator.csv"
    options = ABOUT | {"imported": True}
    run("estimator", output, options, "--quality", f"outside={quality}", "--calibration", f"outside={fitted}")
    assert "Detections made elsewhere of the test role" in output.with_suffix(".md").read_text(encoding="utf-8")


def official_options(folder, scores):
    """Options that name official scores, written as that stage writes them: (group, metric, value) by run."""
    options = []
    for run_name, lines in scores.items():
        path = folder / "official" / f"{run_name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = [(*line, 10) for line in lines]
        pd.DataFrame(frames, columns=["group", "metric", "value", "frames"]).to_csv(path, index=False)
        options += ["--scores", f"{run_name}={path}"]
    return options


OFFICIAL_ROWS = [
    {"name": "base", "label": "Base", "published": "Base"},
    {"name": "full", "label": "Full"},
    {"name": "iso/selected", "label": "+ ISO", "published": "+ISO"},
]


def cells(path):
    """The table that a reader sees: by the line's label, by the column's head."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


def test_official_humaneva_has_the_papers_cells_below(tmp_path):
    groups = ("S1 Walking", "S2 Walking", "S1 Jog", "S1 Box", "average")
    scores = {
        run_name: [(group, "p_mpjpe", first + k) for k, group in enumerate(groups)]
        for run_name, first in {"base/seed1": 40, "base/seed2": 43, "iso/selected": 30}.items()
    }
    output = tmp_path / "official.csv"
    options = ABOUT | {"dataset": "humaneva_test", "kind": "recorded", "protocol": "humaneva", "rows": OFFICIAL_ROWS}
    run("official", output, options, *official_options(tmp_path, scores))
    data = pd.read_csv(output, keep_default_na=False)
    assert list(data) == [
        *("row", "label", *(f"p_mpjpe_{group}" for group in groups)),
        *("track", "dataset", "seeds", "run", "note"),
    ]
    assert data["row"].tolist() == ["base", "full", "iso/selected", *["paper"] * 7]
    base = data.iloc[0]
    assert base[["p_mpjpe_S1 Walking", "p_mpjpe_average"]].astype(float).tolist() == [41.5, 45.5]
    assert base[["track", "dataset", "seeds", "run"]].tolist() == [
        *("demo", "humaneva_test", "1 2", "base/seed1 base/seed2")
    ]
    assert set(data["run"][3:]) == set(data["track"][3:]) == {""}
    seen = cells(output.with_suffix(".md"))
    heads = ("S1 Walking", "S2 Walking", "S1 Jog", "S1 Box", "average")
    assert [seen["Full"][head] for head in heads] == ["–"] * 5
    assert [seen["+ ISO"][head] for head in heads] == ["30.0", "31.0", "32.0", "33.0", "34.0"]
    assert [seen["Our result + ISO, paper"][head] for head in heads] == ["10.8", "11.5", "15.1", "–", "13.2"]
    note = output.with_suffix(".md").read_text(encoding="utf-8").splitlines()[-1]
    assert "Recorded people: humaneva_test" in note and "printed in its table 4" in note
    assert "Pavlakos et al. [32], paper: uses extra depth annotations; uses" in note
    assert output.with_suffix(".tex").read_text(encoding="utf-8").isascii()


def test_official_mpi_inf_3dhp_has_pck_and_auc_side_by_side(tmp_path):
    lines = [("All", "pck", 80), ("All", "auc", 45.25), ("green_screen", "pck", 85), ("green_screen", "auc", 50)]
    scores = {"full/seed1": lines, "full/seed2": [(group, metric, value + 1) for group, metric, value in lines]}
    output = tmp_path / "official.csv"
    options = ABOUT | {"protocol": "mpi_inf_3dhp", "rows": OFFICIAL_ROWS}
    run("official", output, options, *official_options(tmp_path, scores))
    seen = cells(output.with_suffix(".md"))
    assert seen["Full"] == {"All": "80.5 / 45.8", "green screen": "85.5 / 50.5"}
    assert seen["Our result + ISO, paper"] == {"All": "85.0 / –", "green screen": "–"}
    data = pd.read_csv(output).set_index("label")
    assert data.loc["Full", ["pck_All", "auc_All"]].tolist() == [80.5, 45.75]


@pytest.mark.parametrize("is_adapted", [False, True])
def test_official_3dpw_tells_the_errors_of_the_papers_table(tmp_path, is_adapted):
    """The paper adapted the joints of its own results; the others stand with what is not adapted."""
    lines = [("all", "p_mpjpe", 90)] + [("all, joints adapted", "p_mpjpe", 70)] * is_adapted
    output = tmp_path / "official.csv"
    options = ABOUT | {"protocol": "three_dpw", "rows": OFFICIAL_ROWS}
    run("official", output, options, *official_options(tmp_path, {"iso/selected": lines}))
    seen = cells(output.with_suffix(".md"))
    adapted = {"all, joints adapted": "70.0"} if is_adapted else {}
    assert seen["+ ISO"] == {"all": "90.0"} | adapted
    own = {"all": "–", "all, joints adapted": "63.1"} if is_adapted else {"all": "63.1"}
    assert seen["Our result + ISO, paper"] == own
    assert seen["Kolotouros et al. ICCV'19 [63], paper"]["all"] == "59.2"
    note = output.with_suffix(".md").read_text(encoding="utf-8").splitlines()[-1]
    assert "Wandt et al. CVPR'19 [2], paper: error: repeats Table 5's PCK (per cent), not a P-MPJPE." in note


def test_wrong_official_scores_are_named(tmp_path, score_options):
    output = tmp_path / "official.csv"
    options = ABOUT | {"protocol": "three_dpw", "rows": OFFICIAL_ROWS}
    with pytest.raises(UserError, match=r"\.csv: not a table of official scores"):
        run("official", output, options, *score_options({"full/seed1": 60}))
    right = official_options(tmp_path, {"full/seed1": [("all", "p_mpjpe", 90)]})
    with pytest.raises(UserError, match="'protocol' is 'human36m'; expected one of humaneva"):
        run("official", output, options | {"protocol": "human36m"}, *right, "--paper", transcription(4))


@pytest.mark.parametrize("table", range(1, 10))
def test_published(tmp_path, table):
    output = tmp_path / f"published_{table}.csv"
    arguments = ["published", "--paper", str(transcription(table)), "--output", str(output)]
    CliRunner().invoke(tables.app, arguments, catch_exceptions=False)
    markdown = output.with_suffix(".md").read_text(encoding="utf-8")
    assert "another dataset" in markdown
    assert ("38.7" in markdown) == (table in (3, 7))


def test_wrong_inputs_are_named(tmp_path, score_options):
    output = tmp_path / "ablation.csv"
    options = score_options({"ful/seed1": 60})
    with pytest.raises(UserError, match="run 'ful/seed1': .* did you mean 'full'"):
        run("ablation", output, COMPARISON | {"rows": ROWS}, *options)
    options = score_options({"full/seed1": 60})
    with pytest.raises(UserError, match="'average' is 'people'"):
        run("ablation", output, COMPARISON | {"average": "people", "rows": ROWS}, *options)
    rows = [{"name": "full", "label": "Full", "published": "Fuller"}]
    with pytest.raises(UserError, match=r"table3\.csv has no row 'Fuller'"):
        run("ablation", output, COMPARISON | {"rows": rows}, *options)
    with pytest.raises(UserError, match="a row of 'rows' is wrong"):
        run("ablation", output, COMPARISON | {"rows": [{"name": "full"}]}, *options)
    broken = tmp_path / "broken.csv"
    broken.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"broken\.csv: lacks the columns"):
        run("ablation", output, COMPARISON | {"rows": ROWS}, "--scores", f"full={broken}")
    assert not output.exists()


def test_dynamics_has_a_line_a_sampling_and_the_papers_below(tmp_path):
    lines = ["action,sampling,method,horizon_ms,mean_angle_error,mpjpe,predictions"]
    for seed, shift in ((1, 0.0), (2, 0.2)):
        rows = [
            f"Walking,{sampling},{method},{horizon},{0.5 + shift + base + horizon / 1000},50.0,{sampling}"
            for sampling in (8, 256)
            for method, base in (("lifter", 0.0), ("zero_velocity", 1.0))
            for horizon in (80, 400)
        ]
        (tmp_path / f"{seed}.csv").write_text("\n".join([*lines, *rows]) + "\n")
    options = ABOUT | {"rows": [{"name": "full", "label": "Full"}]}
    scores = [f"full/seed{seed}={tmp_path / f'{seed}.csv'}" for seed in (1, 2)]
    run("dynamics", tmp_path / "dynamics.csv", options, "--scores", scores[0], "--scores", scores[1])
    table = pd.read_csv(tmp_path / "dynamics.csv").set_index("label")
    assert table.loc["Full", "Walking_80"].tolist() == pytest.approx([0.68, 0.68])  # the mean of two seeds
    assert (
        table.loc["Full", "sampling"].tolist() == [8, 256]
        and table.loc["Full", "run"].iloc[0] == "full/seed1 full/seed2"
    )
    still = table.loc["Zero velocity (the last true pose)"].iloc[0]
    assert still["Walking_400"] == pytest.approx(1.9) and still["run"] == "full/seed1"
    text = (tmp_path / "dynamics.md").read_text()
    assert "Full, 8 stretches" in text and "Our result, paper" in text and "400 ms" not in text
