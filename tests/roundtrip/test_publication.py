"""Publish in one clone, restore in another: real git, DVC and Snakemake on the smoke track."""

import json
import os
import re
import shutil
from pathlib import Path

import mlflow
import pytest

from tests.roundtrip.conftest import TABLE, Clone, bridge

pytestmark = pytest.mark.workflow

WEIGHTS = "results/smoke/synthetic/lifters/full/seed1/lifter.safetensors"


@pytest.fixture
def clone(author, tmp_path):
    return Clone(author, tmp_path / "clone")


def test_both_engines_have_nothing_to_do_after_publishing(author):
    assert author.planned() == {}
    assert author.run("dvc", "status", "--json").stdout.strip() == "{}"
    assert bridge(author, "verify").stdout.endswith(" outputs agree\n")


def test_what_was_published_is_restored_and_nothing_is_to_be_done(author, clone):
    said = bridge(clone, "restore").stdout
    assert re.fullmatch(r"\d+ of \d+ outputs are here; [1-9]\d* did not ship\n", said)
    assert clone.planned() == {}
    assert " outputs agree, " in bridge(clone, "verify").stdout
    for path in (TABLE, WEIGHTS):
        assert (clone.folder / path).read_bytes() == (author.folder / path).read_bytes()
    assert (
        clone.run("dvc", "repro", "--dry", "--allow-missing", "experiments/smoke/dvc.yaml").stdout.count("Running") == 0
    )


def test_a_restored_clone_has_the_authors_runs_and_comparison_of_weightings(author, clone):
    bridge(clone, "restore")
    assert (clone.folder / "results/smoke/mlflow.ready").read_text() == "ready\n"
    assert clone.planned() == {}
    theirs, ours = runs(author), runs(clone)
    assert ours == theirs
    iso = {key: run for key, run in ours.items() if "/iso/test/" in key}
    assert len(iso) == 4
    assert all(
        run["parent"] == "smoke/synthetic/lifter/full/seed1" and run["histories"]["mpjpe"] for run in iso.values()
    )
    bridge(clone, "restore")
    assert runs(clone) == theirs


def runs(project):
    """MLflow's runs of a project by key: what they were given, measured, and nest under. Two of a key are refused."""
    client = mlflow.MlflowClient(f"sqlite:///{project.folder}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("smoke").experiment_id])
    keys = {run.info.run_id: run.data.tags["isopose.key"] for run in found}
    assert len(set(keys.values())) == len(keys)
    return {
        keys[run.info.run_id]: {
            "params": run.data.params,
            "record": run.data.tags["isopose.record"],
            "parent": keys.get(run.data.tags.get("mlflow.parentRunId")),
            "histories": {
                name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
                for name in run.data.metrics
                if not name.startswith("system/")
            },
        }
        for run in found
    }


def test_a_clone_is_restored_without_mlflow_where_that_is_not_wanted(clone):
    bridge(clone, "restore", "--no-mlflow", "results/smoke/synthetic/scores/test/base/seed1.json")
    assert not (clone.folder / "mlflow.db").exists()


def test_a_target_is_restored_with_what_it_needs_and_no_more(clone):
    bridge(clone, "restore", "results/smoke/synthetic/scores/test/base/seed1.json")
    here = {
        path.relative_to(clone.folder).as_posix() for path in (clone.folder / "results").rglob("*") if path.is_file()
    }
    assert "results/smoke/synthetic/lifters/base/seed1/lifter.safetensors" in here
    assert WEIGHTS not in here and not (clone.folder / TABLE).exists()


def test_an_edited_output_is_told_and_made_again(clone):
    (clone.folder / TABLE).parent.mkdir(parents=True, exist_ok=True)
    (clone.folder / TABLE).write_text("mine\n")
    done = bridge(clone, "restore")
    assert f"will be made again: {TABLE}" in done.stdout
    assert (clone.folder / TABLE).read_text() == "mine\n"
    assert set(clone.planned()) == {"table", "index", "all"}


def test_a_clone_without_the_remote_is_told_and_can_go_on_later(clone, author):
    remote = author.folder.parent / "remote"
    remote.rename(remote.with_name("elsewhere"))
    done = bridge(clone, "restore", check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: dvc: ")
    assert "Traceback" not in done.stderr
    remote.with_name("elsewhere").rename(remote)
    bridge(clone, "restore")
    assert clone.planned() == {}


def test_a_half_fetched_clone_takes_nothing_for_finished_that_is_not(clone):
    """Stopped in the middle of fetching: the records came first, and a file that is cut short is refused."""
    bridge(clone, "restore")
    (clone.folder / TABLE).unlink()
    weights = clone.folder / WEIGHTS
    content = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(content[:1000])
    assert f"{WEIGHTS}: has sha256" in bridge(clone, "verify", check=False).stdout
    assert f"made again: {WEIGHTS}" in bridge(clone, "restore").stdout
    assert (clone.folder / TABLE).exists()
    weights.unlink()
    bridge(clone, "restore")
    assert weights.read_bytes() == content
    assert clone.planned() == {}


def test_bytes_that_are_not_the_ledgers_are_not_taken_for_finished(clone):
    """As where DVC's lock and the ledger of two publications were committed together."""
    entry = clone.folder / "provenance/smoke" / f"{TABLE}.json"
    content = json.loads(entry.read_text())
    entry.write_text(json.dumps(content | {"sha256": "0" * 64}))
    assert f"will be made again: {TABLE}" in bridge(clone, "restore").stdout
    assert f"{TABLE}: has sha256" in bridge(clone, "verify", check=False).stdout
    assert set(clone.planned()) == {"table", "index", "all"}


def test_a_number_that_is_put_back_and_restored_reruns_nothing(author, clone):
    bridge(clone, "restore")
    parameters = clone.folder / "params.yaml"
    text = parameters.read_text()
    assert text.count("average: actions\n") == 1
    parameters.write_text(text.replace("average: actions\n", "average: frames\n"))
    bridge(clone, "run", TABLE)
    changed = (clone.folder / TABLE).read_bytes()
    assert changed != (author.folder / TABLE).read_bytes()
    bridge(clone, "restore")
    assert (clone.folder / TABLE).read_bytes() == changed  # results of the parameters as they are now stay
    parameters.write_text(text)
    bridge(clone, "restore")
    assert (clone.folder / TABLE).read_bytes() == (author.folder / TABLE).read_bytes()
    assert clone.planned() == {}


def test_what_dvc_alone_brings_has_its_records(author, clone):
    clone.run("dvc", "pull", "--allow-missing")
    assert clone.planned() == {}
    (clone.folder / TABLE).unlink()
    (clone.folder / TABLE).write_text("mine\n")
    printed = clone.snakemake("--dry-run")
    assert f"{TABLE}: has not the bytes that provenance/smoke has; it is made again" in printed
    clone.run("dvc", "checkout", "--force", TABLE)
    assert clone.planned() == {}


def test_an_edited_module_of_a_restored_clone_reruns_what_uses_it(clone):
    """Also one that is older than all that is restored."""
    module = clone.folder / "src/isopose/reporting/html.py"
    module.write_text(module.read_text() + "# changed\n")
    os.utime(module, (9, 9))
    bridge(clone, "restore")
    assert set(clone.planned()) == {"index", "all"}


def test_a_track_that_was_never_published_is_told(author, tmp_path):
    clone = Clone(author, tmp_path / "clone")
    shutil.rmtree(clone.folder / "provenance")
    done = bridge(clone, "restore", check=False)
    assert done.stderr == (
        "error: provenance/smoke: is not there; expected the ledger of the track 'smoke', which was not published; "
        "`python -m isopose.bridge run --track smoke` makes its results, `publish` publishes them\n"
    )
    assert not Path(clone.folder / "results").exists()
