import json
import re
import sqlite3
import sys

import pandas as pd
import pytest

pytestmark = pytest.mark.workflow

TABLES = ["ablation", "components", "iso", "actions_mpjpe", "actions_p_mpjpe", "occlusion", "estimator"]
FIGURES = ["ablation", "calibration", "cylinder_man", "iso_curves", "masking", "occlusion", "samples", "training"]
FIGURES += ["weights"]
ISO = {"refine", "evaluate", "select_weighting", "table", "table_figure", "iso_curves_figure", "samples_figure"}
WITH_NETWORKS = {
    "train_estimator",
    "detect",
    "train_lifter",
    "train_adversarial_lifter",
    "lift",
    "lift_mean_pose",
    "refine",
}


def test_every_table_and_figure_is_there(smoke):
    reports = smoke.folder / "reports/smoke"
    for table in TABLES:
        for ending in ("csv", "md", "tex"):
            assert (reports / f"synthetic/tables/{table}.{ending}").stat().st_size > 100
    for figure in FIGURES:
        for ending in ("svg", "png"):
            assert (reports / f"synthetic/figures/{figure}.{ending}").stat().st_size > 2000
    page = (reports / "index.html").read_text()
    assert "Synthetic data" in page
    for figure in FIGURES:
        assert f"synthetic/figures/{figure}.svg" in page


def test_table_rows_trace_to_runs(smoke):
    table = pd.read_csv(smoke.folder / "reports/smoke/synthetic/tables/ablation.csv")
    assert table["track"].eq("smoke").all()
    full = table.set_index("row").loc["full"]
    assert full["dataset"] == "synthetic" and full["run"] == "full/seed1"
    record = json.loads((smoke.folder / "results/smoke/synthetic/lifters/full/seed1/record.json").read_text())
    assert record["key"] == "smoke/synthetic/lifter/full/seed1"
    assert record["params"]["seed"] == 1
    scores = pd.read_csv(smoke.folder / "results/smoke/synthetic/scores/test/full/seed1.csv")
    clean = scores[~scores["occluded_view"]]
    by_action = clean.groupby("action")[["mpjpe", "frames"]].sum()
    assert full["clean_mpjpe"] == pytest.approx((by_action["mpjpe"] / by_action["frames"]).mean(), abs=1e-3)


def test_mlflow_nests_every_weighting_under_its_lifter(smoke):
    with sqlite3.connect(smoke.folder / "mlflow.db") as database:
        tags = pd.read_sql("select run_uuid, key, value from tags", database).pivot(
            index="run_uuid", columns="key", values="value"
        )
        metrics = pd.read_sql("select run_uuid, count(*) n from metrics where key = 'mpjpe' group by 1", database)
    runs = tags.set_index("isopose.key")
    parent = tags.index[tags["isopose.key"] == "smoke/synthetic/lifter/full/seed1"].item()
    refined = runs[runs.index.str.contains("/iso/test/")]
    assert len(refined) == 4  # three weightings, and the selected one once more
    assert refined["mlflow.parentRunId"].eq(parent).all()
    points = metrics.set_index("run_uuid")["n"]
    names = tags["isopose.key"].loc[points.index].str.rpartition("/")[2]
    assert points[names != "selected"].eq(6).all()  # iso.iterations + 1 points: MLflow's chart is Figure 8
    selection = json.loads((smoke.folder / "results/smoke/synthetic/iso/selection.json").read_text())
    assert points[names == "selected"].tolist() == [selection["iterations"] + 1]


def test_again_there_is_nothing_to_be_done(smoke):
    assert smoke.planned() == {}


def test_an_iso_parameter_reruns_iso_and_what_follows(smoke):
    planned = smoke.planned("--config", "iso={smoothness: 0.1}")
    assert planned["refine"] == 7  # three weightings on two roles, and the selected one
    assert set(planned) <= ISO | {"index", "parameters", "run_records", "all"}


def test_a_lifter_parameter_leaves_data_and_estimator_alone(smoke):
    planned = smoke.planned("--config", "lifter={steps: 21}")
    assert planned["train_lifter"] == planned["train_adversarial_lifter"] == 1
    upstream = {"preprocess", "occlusion_labels", "render_images", "train_estimator", "detect", "calibrate"}
    assert not upstream & set(planned)


def test_an_edited_module_reruns_the_stages_that_use_it(smoke):
    module = smoke.folder / "src/isopose/iso/weights.py"
    text = module.read_text()
    module.write_text(text + "\n# a comment\n")
    try:
        planned = smoke.planned()
    finally:
        module.write_text(text)
    assert planned["refine"] == 7  # three weightings on two roles, and the selected one
    assert "train_lifter" not in planned


@pytest.mark.parametrize(("device", "expected"), [("cpu", set()), ("cuda", WITH_NETWORKS)])
def test_jobs_with_networks_take_a_gpu_where_they_use_one(smoke, device, expected):
    printed = smoke.snakemake("--dry-run", "--forceall", "--config", f"device={device}")
    jobs = re.findall(r"^rule (\w+):$(.*?)^    resources: (.*?)$", printed, flags=re.MULTILINE | re.DOTALL)
    assert {rule for rule, _, resources in jobs if "gpu=1" in resources} == expected
    assert len(jobs) > len(expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lifter={stepps: 3}"], "unknown parameter 'lifter.stepps', did you mean 'steps'"),
        (["iso={iterations: many}"], "'iso.iterations' is 'many', expected integer"),
        (["seed=-1"], "'seed' is -1, expected at least 0"),
        (["iso={lifter: ful}"], "iso.lifter: 'ful' is no variant; did you mean 'full'?"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name_before_anything_runs(smoke, arguments, message):
    printed = smoke.snakemake("--config", *arguments, check=False)
    assert message in printed
    assert "Traceback" not in printed


def test_an_unknown_track_is_refused_in_one_line(smoke):
    done = smoke.run(sys.executable, "-m", "isopose.bridge", "run", "--track", "opne", check=False)
    assert done.returncode == 1
    assert done.stderr == "error: --track: no track 'opne'; the tracks here are demo, open, paper, smoke\n"


def test_a_track_without_data_refuses_to_run(smoke):
    for arguments, track, message in (
        (("--config", "evaluations={synthetic: null}"), "smoke", "track 'smoke' binds no data"),
        ((), "paper", "track 'paper' has no data"),
    ):
        printed = smoke.snakemake("--dry-run", *arguments, track=track, check=False)
        assert message in printed and "Traceback" not in printed
