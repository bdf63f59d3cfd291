import json
import subprocess

import mlflow
import pytest
from typer.testing import CliRunner

from isopose import tracking
from isopose.errors import UserError
from isopose.files import sha256


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "record format None; expected 1"),
        ("[", "not a run record"),
        ("[]", "record format None; expected 1"),
        ("\xff", "not a run record"),
        ('{"format": 1}', "not a run record .'key' is missing"),
    ],
)
def test_a_foreign_file_is_no_record(tmp_path, text, message):
    (tmp_path / "r.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=rf"r\.json: {message}"):
        tracking.read_record(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("key", 1),
        ("parent", ["demo"]),
        ("tags", {"role": 1}),
        ("metrics", {"loss": [0.5, 0.25]}),
        ("metrics", {"loss": [[0, "half"]]}),
        ("summary", {"best": None}),
    ],
)
def test_a_broken_record_is_told_in_one_line_and_nothing_is_replayed(tmp_path, key, value):
    good, broken = write_run(tmp_path), tmp_path / "broken.json"
    broken.write_text(json.dumps(tracking.read_record(good) | {key: value}))
    done = replayed(tmp_path, good, broken)
    assert done.exit_code == 1
    assert str(done.exception).startswith(f"{broken}: not a run record ('{key}' is missing or malformed)")
    assert not (tmp_path / "mlflow.db").exists()


def replayed(folder, *records):
    """The command that replays records into a folder's database."""
    arguments = [part for record in records for part in ("--record", str(record))]
    return CliRunner().invoke(tracking.app, ["replay", "--mlflow", f"sqlite:///{folder}/mlflow.db", *arguments])


def runs_of(folder):
    """MLflow's runs of the demo by key, the newest of each, and its client."""
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("demo").experiment_id], "tags.`isopose.latest` = 'true'")
    return {run.data.tags["isopose.key"]: run for run in runs}, client


def content_of(client, run):
    """All that MLflow knows of a run, but for this machine's revision and load, times and random ids."""
    metrics = [name for name in run.data.metrics if not name.startswith("system/")]
    histories = {
        name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)] for name in metrics
    }
    tags = {name: value for name, value in run.data.tags.items() if not name.startswith("git.")}
    parent = tags.pop("mlflow.parentRunId", None)
    parent_key = client.get_run(parent).data.tags["isopose.key"] if parent else None
    return run.info.status, run.info.run_name, run.data.params, histories, tags, parent_key


def test_a_replayed_run_is_the_live_run_without_this_machines_revision(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir(), there.mkdir()
    uri = f"sqlite:///{here}/mlflow.db"
    lifter = write_run(here, uri)
    iso = write_run(here, uri, "demo/e/iso/constant", parent="demo/e/lifter")
    assert replayed(there, iso, lifter).exit_code == 0  # the parent is made first, in whatever order they come
    (live, client), (copies, copy_client) = runs_of(here), runs_of(there)
    assert live.keys() == copies.keys() == {"demo/e/lifter", "demo/e/iso/constant"}
    for key, run in live.items():
        *same, tags, parent = content_of(client, run)
        *copied, copied_tags, copied_parent = content_of(copy_client, copies[key])
        assert copied == same
        assert copied_tags == tags | {"isopose.replayed": "true"}
        assert copied_parent == parent
        assert "git.revision" in run.data.tags and "git.revision" not in copies[key].data.tags
    assert copies["demo/e/iso/constant"].data.metrics["final/best"] == 1.5
    assert copies["demo/e/lifter"].data.tags["isopose.record"] == sha256(lifter)


def test_what_mlflow_has_is_not_replayed_again(tmp_path):
    live = write_run(tmp_path, f"sqlite:///{tmp_path}/mlflow.db")
    elsewhere = write_run(tmp_path, key="demo/e/other")
    for _ in range(2):
        assert replayed(tmp_path, live, elsewhere).exit_code == 0
    (runs, client) = runs_of(tmp_path)
    assert len(client.search_runs([runs["demo/e/other"].info.experiment_id])) == 2
    assert "isopose.replayed" not in runs["demo/e/lifter"].data.tags


def test_the_run_of_the_record_that_is_here_is_the_latest(tmp_path):
    """Another result of the key becomes the latest when it is replayed, and the first again when it is put back."""
    first = write_run(tmp_path)
    second = tmp_path / "second.json"
    second.write_text(json.dumps(tracking.read_record(first) | {"summary": {"best": 1.0}}))
    found = []
    for record in (first, second, first):
        assert replayed(tmp_path, record).exit_code == 0
        runs, client = runs_of(tmp_path)
        found.append(runs["demo/e/lifter"].info.run_id)
        assert runs["demo/e/lifter"].data.metrics["final/best"] == (1.0 if record == second else 1.5)
    assert found[0] == found[2] != found[1]
    runs = client.search_runs([runs["demo/e/lifter"].info.experiment_id])
    assert sorted(run.data.tags["isopose.latest"] for run in runs) == ["false", "true"]


def test_the_saved_view_shows_the_runs_beside_each_other_best_first(tmp_path):
    records = [write_run(tmp_path)]
    for weighting, error in (("constant", 3.0), ("soft", 1.0), ("hard", 2.0)):
        record = write_run(tmp_path, key=f"demo/e/iso/test/{weighting}", parent="demo/e/lifter")
        record.write_text(json.dumps(tracking.read_record(record) | {"summary": {"mpjpe_after": error}}))
        records.append(record)
    assert replayed(tmp_path, *records).exit_code == 0
    _, client = runs_of(tmp_path)
    experiment = client.get_experiment_by_name("demo")
    view = json.loads(experiment.tags["mlflow.sharedViewState.e-iso-test"])
    assert view["orderByAsc"] is True
    found = client.search_runs([experiment.experiment_id], view["searchFilter"], order_by=[f"{view['orderByKey']} ASC"])
    assert [run.info.run_name.split()[0] for run in found] == ["soft", "hard", "constant"]
    (chart,) = view["compareRunCharts"]
    assert all(chart["metricKey"] in run.data.metrics for run in found)


def test_more_parameters_than_mlflow_takes_at_once_are_all_logged(tmp_path):
    params = {f"p{number}": number for number in range(250)}
    with tracking.run("demo/x", tmp_path / "r.json", params, uri=f"sqlite:///{tmp_path}/mlflow.db"):
        pass
    runs, _ = runs_of(tmp_path)
    assert runs["demo/x"].data.params == {name: str(number) for name, number in params.items()}


def test_an_mlflow_that_cannot_be_used_is_told_in_one_line(tmp_path):
    (tmp_path / "mlflow.db").write_text("not a database")
    done = replayed(tmp_path, write_run(tmp_path))
    assert isinstance(done.exception, UserError)
    assert str(done.exception).startswith(f"sqlite:///{tmp_path}/mlflow.db: MLflow cannot use it (")
    assert "\n" not in str(done.exception)


def test_records_that_nest_under_each_other_are_told(tmp_path):
    first = write_run(tmp_path, key="demo/a", parent="demo/b")
    second = write_run(tmp_path, key="demo/b", parent="demo/a")
    with pytest.raises(UserError, match="nests under itself"):
        tracking.replay([first, second], f"sqlite:///{tmp_path}/mlflow.db")


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
