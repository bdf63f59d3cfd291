"""The paper track on miniature copies of all licensed datasets, in their official layouts, and with some missing."""

import json
import os
import re
import shutil
from html.parser import HTMLParser

import h5py
import pandas as pd
import pytest
import yaml

from isopose import config
from isopose.datasets.check import LICENSED
from isopose.datasets.store import DetectionStore
from tests import licensed
from tests.workflow.conftest import ROOT, Project

pytestmark = pytest.mark.workflow

SMALL = ("images", "estimator", "detection", "lifter", "iso", "scores")
EVALUATIONS = ("human36m", "humaneva", "mpi_inf_3dhp", "three_dpw")
FEW_VIDEOS = 24
VARIANTS = ["base", "temporal_kcs", "full"]


def miniature():
    """The paper track with the smoke track's sizes, and of the datasets what a test has time for."""
    smoke = yaml.safe_load((ROOT / "experiments/smoke/params.yaml").read_text())
    track = yaml.safe_load((ROOT / "experiments/paper/params.yaml").read_text())
    track = config.merge(track, {section: smoke[section] for section in SMALL if section in smoke})
    sources, evaluations = track["sources"], track["evaluations"]
    sources["human36m"] |= {"subjects": ["S1", "S5", "S6", "S8", "S9"], "actions": ["Walking", "Eating"]}
    evaluations["human36m"]["dynamics"][0] |= {"actions": ["Walking", "Eating"], "cameras": ["54138969"]}
    sources["mpi_inf_3dhp_test"] |= {"subjects": ["TS5"]}
    sources["humaneva_test"] |= {"subjects": ["S1", "S3"], "actions": ["Walking", "Box"]}
    for role in ("validation", "calibration"):
        evaluations["human36m"][role][0]["subjects"] = ["S8"]  # S5's trials are long
    for role in ("images", "train3d"):
        evaluations["human36m"][role][-1]["subjects"] = ["S1", "S6"]
    evaluations["human36m"]["test"][0] |= {"subjects": ["S9"], "cameras": ["54138969", "60457274"]}
    for name in ("human36m", "humaneva"):
        evaluations[name] |= {"variants": VARIANTS, "weightings": ["constant", "soft_1.0"]}
    for name in ("mpi_inf_3dhp", "three_dpw"):
        evaluations[name] |= {"variants": ["full"], "weightings": ["soft_1.0"]}
    return config.merge(track, {"device": "cpu"})


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A project with the files of all datasets, nothing run."""
    project = Project(tmp_path_factory.mktemp("paper"))
    licensed.write_all(project.folder / "data/raw")
    for number, label in enumerate(sorted((project.folder / "data/raw/penn_action/Penn_Action/labels").iterdir())):
        if number >= FEW_VIDEOS:  # the others have the same content
            label.unlink()
    path = project.folder / "experiments/paper/params.yaml"
    path.write_text(yaml.safe_dump(miniature(), sort_keys=False))
    return project


@pytest.fixture(scope="module")
def run(ready):
    ready.snakemake(track="paper")
    return ready


def results(project, *parts):
    return project.folder.joinpath("results/paper", *parts)


def page(project):
    return (project.folder / "reports/paper/index.html").read_text()


def test_every_evaluation_is_scored_on_its_own_data(run):
    sources = {"human36m": {"S9"}, "humaneva": {"S1", "S3"}, "mpi_inf_3dhp": {"TS5"}}
    for evaluation in EVALUATIONS:
        scores = pd.read_csv(results(run, evaluation, "scores/test/iso/selected.csv"))
        assert scores["mpjpe"].gt(0).all() and scores["frames"].sum() > 0
        assert set(scores["subject"]) == sources.get(evaluation, set(scores["subject"]))
        for table in ("ablation", "iso", "actions_mpjpe", "actions_p_mpjpe"):
            assert (run.folder / f"reports/paper/{evaluation}/tables/{table}.csv").stat().st_size > 0


def test_official_protocols_have_their_tables(run):
    groups = {"humaneva": "average", "mpi_inf_3dhp": "All", "three_dpw": "all, joints adapted"}
    for evaluation, group in groups.items():
        scores = pd.read_csv(results(run, evaluation, "official/iso/selected.csv"))
        assert group in set(scores["group"]) and scores["value"].ge(0).all()
        assert (run.folder / f"reports/paper/{evaluation}/tables/official.md").stat().st_size > 0
    assert not (run.folder / "reports/paper/human36m/tables/official.md").exists()


def test_human_dynamics_has_its_table(run):
    errors = pd.read_csv(results(run, "human36m/forecast/full/seed1.csv"))
    assert set(errors["sampling"]) == {8, 256} and set(errors["action"]) == {"Walking", "Eating"}
    assert errors[errors["method"] == "lifter"]["mean_angle_error"].gt(0).all()
    table = (run.folder / "reports/paper/human36m/tables/dynamics.md").read_text()
    assert "Zero velocity" in table and "Our result, paper" in table and "Walking, 1000 ms" in table


def test_an_edited_number_of_the_paper_makes_the_tables_again_that_show_it(run):
    shown = {4: "humaneva/tables/official", 5: "mpi_inf_3dhp/tables/official", 6: "three_dpw/tables/official"}
    shown |= {9: "human36m/tables/dynamics"}
    paths = [run.folder / f"src/isopose/reporting/published/table{number}.csv" for number in shown]
    before = [path.read_bytes() for path in paths]
    for path, content in zip(paths, before, strict=True):
        path.write_bytes(content + b"\n")
    printed = run.snakemake("--dry-run", track="paper")
    for path, content in zip(paths, before, strict=True):
        path.write_bytes(content)
    made = {line.split()[1].rstrip(",") for line in printed.splitlines() if line.strip().startswith("output: ")}
    assert made == {f"reports/paper/{table}.csv" for table in shown.values()} | {"reports/paper/index.html"}
    assert "Nothing to be done" in run.snakemake("--dry-run", track="paper")


def test_the_estimator_trains_on_photographs_and_frames_of_videos(run):
    with h5py.File(results(run, "human36m/images/train.h5")) as images:
        assert {name.decode() for name in images["source"][()]} == {"mpii", "coco", "human36m"}
        assert images["images"][0].std() > 5  # not an empty picture
    with h5py.File(results(run, "humaneva/images/train.h5")) as images:
        assert {name.decode() for name in images["source"][()]} == {"mpii", "coco"}
    with h5py.File(results(run, "humaneva/images/validation.h5")) as images:
        assert {name.decode() for name in images["source"][()]} == {"humaneva_train"}


def test_2d_labels_alone_are_detected_and_trained_on(run):
    with DetectionStore(results(run, "human36m/detections/train2d.h5")) as store:
        assert {key.source for key in store.keys()} == {"penn_action"}  # noqa: SIM118
    record = json.loads(results(run, "human36m/lifters/full/seed1/record.json").read_text())
    assert all(value > 0 for _, value in record["metrics"]["loss_projection"])


def test_the_page_says_that_people_were_recorded(run):
    text = page(run)
    assert "The people were recorded" in text and "not available" not in text


class _Cells(HTMLParser):
    """Rows of a page's tables, as text, and where their links lead."""

    def __init__(self):
        super().__init__()
        self.rows, self.links = [], []

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append("")
        if tag == "a":
            self.links.append(dict(attributes)["href"])

    def handle_data(self, data):
        if self.rows:
            self.rows[-1] += data


LOST = {
    "human36m": {"human36m", "mpi_inf_3dhp", "three_dpw"},
    "humaneva": {"humaneva"},
    "mpi_inf_3dhp": {"mpi_inf_3dhp"},
    "three_dpw": {"three_dpw"},
    "penn_action": set(),
    "mpii": set(),
    "coco": set(),
}
"""What cannot be evaluated without a dataset."""
SHARED = {"penn_action", "mpii", "coco"}
"""What all models are trained on."""


@pytest.mark.parametrize("dataset", LICENSED)
def test_without_a_dataset_the_others_are_planned(ready, tmp_path, dataset):
    project = Project.at(ready.folder)
    project.variables["ISOPOSE_RAW_DATA"] = str(tmp_path)
    for name in LICENSED:
        if name != dataset:
            (tmp_path / name).symlink_to(ready.folder / "data/raw" / name)
    printed = project.snakemake("--dry-run", "--forceall", track="paper")
    planned = {
        line.split("/")[2] for line in printed.splitlines() if "output: results/paper/" in line and "/scores/" in line
    }
    assert planned == set(EVALUATIONS) - LOST[dataset]
    assert f"which needs {dataset}" in printed


def test_label_files_may_move_and_are_read_again_where_they_changed(run, tmp_path):
    project = Project.at(run.folder)
    elsewhere = shutil.copytree(run.folder / "data/raw", tmp_path / "raw")
    project.variables["ISOPOSE_RAW_DATA"] = str(elsewhere)
    assert "Nothing to be done" in project.snakemake("--dry-run", track="paper")
    with next((elsewhere / "humaneva").rglob("*.cal")).open("a") as file:
        file.write(" ")
    printed = project.snakemake("--dry-run", track="paper")
    assert "output: results/paper/sequences/humaneva_train.h5" in printed
    assert "output: results/paper/sequences/human36m.h5" not in printed


EACH_ALONE = [(name,) for name in LICENSED] if os.environ.get("ISOPOSE_EACH_ABSENT") else []


@pytest.mark.parametrize("absent", [("humaneva", "three_dpw"), *EACH_ALONE], ids=" and ".join)
def test_without_some_datasets_the_others_run_and_the_page_says_so(run, tmp_path, absent):
    """Every evaluation that can has its tables, with the same numbers if nothing that it rests on is missing."""
    project = run.copy(tmp_path / "copy")
    shutil.rmtree(project.folder / "reports/paper")
    for name in absent:
        shutil.rmtree(project.folder / "data/raw" / name)
    project.snakemake(track="paper")
    cells = _Cells()
    cells.feed(page(project))
    rows = " | ".join(" ".join(row.split()) for row in cells.rows)
    for name in absent:
        assert re.search(rf"not available: needs [a-z0-9_, ]*\b{name}\b", rows), rows
        assert f"../../docs/datasets/{name}.md" in cells.links
    lost = set().union(*(LOST[name] for name in absent))
    assert {path.parts[-3] for path in project.folder.glob("reports/paper/*/tables/ablation.csv")} == {
        *EVALUATIONS
    } - lost
    for name in lost:
        assert f"{name}not available: needs" in rows
    for name in {*EVALUATIONS} - lost:
        tables = (project.folder / f"reports/paper/{name}/tables/ablation.csv").read_bytes()
        if not set(absent) & SHARED:
            assert tables == (run.folder / f"reports/paper/{name}/tables/ablation.csv").read_bytes()


def test_without_any_dataset_one_line_says_what_to_do(ready, tmp_path):
    project = Project.at(ready.folder)
    project.variables["ISOPOSE_RAW_DATA"] = str(tmp_path)
    printed = project.snakemake("--dry-run", track="paper", check=False)
    assert "track 'paper' has no data" in printed and "docs/datasets/<dataset>.md" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("role", "selection", "message"),
    [
        (
            "images",
            "{source: mpii, cameras: [camera]}",
            "'mpii' is wrong; expected no cameras, in the role images alone",
        ),
        ("train3d", "{source: coco}", "'coco' is wrong; expected no cameras, in the role images alone"),
        ("test", "{source: human36m}", "'human36m' is wrong; expected cameras, the names of its views"),
    ],
)
def test_a_selection_that_cannot_be_is_told(ready, role, selection, message):
    changed = f"evaluations={{human36m: {{{role}: [{selection}]}}}}"
    printed = ready.snakemake("--dry-run", "--config", changed, track="paper", check=False)
    assert f"evaluations.human36m.{role}: the selection of {message}" in printed
    assert "Traceback" not in printed
