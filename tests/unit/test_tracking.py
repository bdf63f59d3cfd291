import json
import subprocess

import mlflow
import pytest

from isopose import tracking
from isopose.errors import UserError


def write_run(folder, uri=None, key="demo/e/lifter", parent=None):
    data = folder / "input.txt"
    data.write_text("data")
    record = folder / f"{key.replace('/', '_')}.json"
    with tracking.run(key, record, {"a": {"b": 1}, "seed": 3}, {"role": "test"}, [data], parent, uri) as log:
        log(0, {"loss": 2.0})
        log(1, {"loss": 1.0})
        log.history("mpjpe", [3.0, 2.0, 1.5])
        log.summary({"best": 1.5})
    return record


def test_the_record_is_complete_and_the_same_every_time(tmp_path):
    first = write_run(tmp_path).read_bytes()
    assert write_run(tmp_path).read_bytes() == first
    record = tracking.read_record(tmp_path / "demo_e_lifter.json")
    assert record["metrics"] == {"loss": [[0, 2.0], [1, 1.0]], "mpjpe": [[0, 3.0], [1, 2.0], [2, 1.5]]}
    assert record["summary"] == {"best": 1.5}
    assert record["tags"] == {"track": "demo", "seed": "3", "role": "test"}
    (digest,) = record["inputs"].values()
    assert digest == "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7"  # sha256sum of "data"


def test_a_failed_run_leaves_no_record(tmp_path):
    with pytest.raises(RuntimeError), tracking.run("demo/x", tmp_path / "r.json", {}):
        raise RuntimeError
    assert not (tmp_path / "r.json").exists()


def test_mlflow_holds_the_run_nested_under_its_parent_and_only_the_newest_is_latest(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    write_run(tmp_path, uri)
    write_run(tmp_path, uri)
    write_run(tmp_path, uri, "demo/e/iso/constant", parent="demo/e/lifter")
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("demo")
    runs = client.search_runs([experiment.experiment_id])
    lifters = [r for r in runs if r.data.tags["isopose.key"] == "demo/e/lifter"]
    assert sorted(r.data.tags["isopose.latest"] for r in lifters) == ["false", "true"]
    latest = next(r for r in lifters if r.data.tags["isopose.latest"] == "true")
    (iso,) = [r for r in runs if r.data.tags["isopose.key"] == "demo/e/iso/constant"]
    assert iso.data.tags["mlflow.parentRunId"] == latest.info.run_id
    assert iso.data.params == {"a.b": "1", "seed": "3"}
    assert iso.data.tags["isopose.track"] == "demo" and iso.data.tags["isopose.role"] == "test"
    assert [m.value for m in client.get_metric_history(iso.info.run_id, "mpjpe")] == [3.0, 2.0, 1.5]
    assert iso.info.status == "FINISHED"


def test_a_run_whose_process_was_killed_does_not_stay_running(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    write_run(tmp_path, uri)
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("demo").experiment_id
    (first,) = client.search_runs([experiment])
    client.update_run(first.info.run_id, status="RUNNING")  # as a killed process leaves it
    write_run(tmp_path, uri)
    assert client.get_run(first.info.run_id).info.status == "KILLED"
    assert sorted(run.info.status for run in client.search_runs([experiment])) == ["FINISHED", "KILLED"]


def test_the_marker_of_a_ready_database_does_not_say_where_it_lies(tmp_path):
    for name in ("a", "b"):
        tracking.init(f"sqlite:///{tmp_path}/{name}.db", ["demo"], tmp_path / name)
        assert mlflow.MlflowClient(f"sqlite:///{tmp_path}/{name}.db").get_experiment_by_name("demo")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_importing_the_module_does_not_import_mlflow():
    import sys

    program = "import sys, isopose.tracking; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_a_foreign_file_is_no_record(tmp_path):
    (tmp_path / "r.json").write_text("{}")
    with pytest.raises(UserError, match=r"r\.json"):
        tracking.read_record(tmp_path / "r.json")
    (tmp_path / "r.json").write_text(json.dumps([])[:-1])
    with pytest.raises(UserError, match=r"r\.json"):
        tracking.read_record(tmp_path / "r.json")


def test_what_a_run_writes_does_not_make_the_tree_dirty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tracking.git_revision() == {}
    (tmp_path / "code.py").write_text("1\n")
    identity = ["-c", "user.name=n", "-c", "user.email=e"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], check=True)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "index.html").write_text("new")
    assert tracking.git_revision()["git.dirty"] == "false"
    (tmp_path / "code.py").write_text("2\n")
    assert tracking.git_revision()["git.dirty"] == "true"
