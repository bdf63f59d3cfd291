"""What users of DVC are used to, on the smoke track: experiments, comparisons, the run cache."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.roundtrip.conftest import FILE, bridge

pytestmark = pytest.mark.workflow

STAGE = f"{FILE}:calibrate-synthetic"
CALIBRATION = "results/smoke/synthetic/calibration/calibration.json"
NAMES = ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL")


@pytest.fixture(scope="module")
def experiment(author, tmp_path_factory):
    """The author's folder after `dvc exp run` of one stage with another number of bins."""
    project = author.copy(tmp_path_factory.mktemp("experiment"))
    project.variables |= dict.fromkeys(NAMES[0], "t") | dict.fromkeys(NAMES[1], "t@example.org")
    done = project.run("dvc", "exp", "run", "-S", "params.yaml:calibration.bins=10", "--name", "more", STAGE)
    assert "python -m isopose.bridge run --enter" in done.stdout
    return project


def test_an_experiment_changes_one_number_and_its_record_says_so(author, experiment):
    assert (experiment.folder / CALIBRATION).read_bytes() != (author.folder / CALIBRATION).read_bytes()
    entry = json.loads((experiment.folder / f"provenance/smoke/{CALIBRATION}.json").read_text())
    assert '"bins": 10' in "".join(entry["params"])
    assert experiment.planned(CALIBRATION) == {}
    told = bridge(experiment, "verify", check=False).stdout.splitlines()
    assert told and not [line for line in told if line.startswith(CALIBRATION)]  # what follows has not run


def test_experiments_are_shown_with_their_numbers(experiment):
    (experiment.folder / "shown.csv").write_text(experiment.run("dvc", "exp", "show", "--csv").stdout)
    shown = pd.read_csv(experiment.folder / "shown.csv").set_index("rev")
    (published,) = shown.index[shown["typ"] == "baseline"].drop("workspace")
    (more,) = shown.index[shown["Experiment"] == "more"]
    assert shown.loc[[more, published], "calibration.bins"].tolist() == [10, 15]


def test_metrics_and_plots_are_compared(experiment):
    changed = json.loads(experiment.run("dvc", "metrics", "diff", "--json").stdout)
    assert set(changed) == {CALIBRATION}
    drawn = experiment.run("dvc", "plots", "diff", "HEAD", "--json", "--out", "drawn").stdout
    traces = [path for path in json.loads(drawn)["data"] if path.endswith("trace.csv")]
    assert len(traces) == 7  # three weightings on two roles, and the chosen one


def test_dvcs_run_cache_brings_the_records_too(author, experiment):
    experiment.run("git", "checkout", "--", "params.yaml")
    done = experiment.run("dvc", "repro", STAGE)
    assert f"Stage '{Path(FILE)}:{STAGE.rpartition(':')[2]}' is cached - skipping run" in done.stdout + done.stderr
    assert (experiment.folder / CALIBRATION).read_bytes() == (author.folder / CALIBRATION).read_bytes()
    assert experiment.planned() == {}
    assert bridge(experiment, "verify").stdout.endswith(" outputs agree\n")
    assert (
        experiment.run("git", "status", "--porcelain", "provenance", FILE.with_suffix(".lock").as_posix()).stdout == ""
    )
    assert experiment.run("dvc", "status", "--json").stdout.strip() == "{}"
