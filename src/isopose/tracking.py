"""Run records and MLflow: the only module that imports mlflow, and only when a run is logged to it.

Every run leaves a deterministic record (parameters, metric histories, tags, input hashes; no clock, no random
id). MLflow is filled live from the same calls, with the git revision added as a tag there alone; where a record
came from elsewhere, its run is replayed into MLflow.
"""

import json
import logging
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import typer

from isopose import stage
from isopose.errors import UserError
from isopose.files import sha256, write_text

# Who wants MLflow to report its use to its makers sets this to false.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

_RECORD_FORMAT = 1
# MLflow's own limits: of one request, and of a parameter's value, which it would otherwise refuse.
_METRIC_BATCH = 1000
_PARAM_BATCH = 100
_LONGEST_PARAM = 6000


@dataclass
class Log:
    """What a running stage writes to: metric histories by step and final summary numbers."""

    metrics: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    summaries: dict[str, float] = field(default_factory=dict)
    _live: "_LiveRun | None" = None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append values to their histories at ``step``."""
        for name, value in values.items():
            self.metrics.setdefault(name, []).append((int(step), float(value)))
        if self._live:
            self._live.histories({name: [(step, value)] for name, value in values.items()})

    __call__ = log

    def history(self, name: str, values: Iterable[float]) -> None:
        """Append a whole history, one value a step from 0."""
        series = [(step, float(value)) for step, value in enumerate(values)]
        self.metrics.setdefault(name, []).extend(series)
        if self._live:
            self._live.histories({name: series})

    def summary(self, values: Mapping[str, float]) -> None:
        """Record final numbers of the run."""
        self.summaries.update({name: float(value) for name, value in values.items()})
        if self._live:
            self._live.summary(values)


@contextmanager
def run(
    key: str,
    record: Path,
    params: Mapping[str, Any],
    tags: Mapping[str, str] | None = None,
    inputs: Iterable[Path] = (),
    parent: str | None = None,
    uri: str | None = None,
) -> Iterator[Log]:
    """Log a run: yields a :class:`Log`; on a good end writes ``record`` and closes the MLflow run.

    key names the run for good (such as ``demo/lifter/full/seed1``); parent is the key of the run it nests under;
    uri is MLflow's tracking address, or None for the record alone.
    """
    content = {
        "format": _RECORD_FORMAT,
        "key": key,
        "parent": parent,
        "params": dict(params),
        "tags": _standard_tags(key, params) | dict(tags or {}),
        "inputs": {str(path): sha256(path) for path in sorted(map(str, inputs))},
    }
    live = _LiveRun(uri, content) if uri else None
    log = Log(_live=live)
    try:
        yield log
    except BaseException:
        if live:
            live.end("FAILED")
        raise
    content |= {"metrics": log.metrics, "summary": log.summaries}
    write_text(record, json.dumps(content, indent=1, sort_keys=True) + "\n")
    if live:
        live.end("FINISHED", record)


def _standard_tags(key: str, params: Mapping[str, Any]) -> dict[str, str]:
    """Tags of every run: its track (the first part of its key) and, where it has one, its seed."""
    return {"track": key.split("/")[0]} | ({"seed": str(params["seed"])} if "seed" in params else {})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _is_text_by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _is_history(value: Any) -> bool:
    points = isinstance(value, list) and all(isinstance(point, list) and len(point) == 2 for point in value)
    return points and all(isinstance(step, int) and _is_number(number) for step, number in value)


# What a record holds beside its format.
_RECORD_KEYS: dict[str, Callable[[Any], bool]] = {
    "key": lambda value: isinstance(value, str),
    "parent": lambda value: isinstance(value, str | None),
    "params": lambda value: isinstance(value, dict),
    "tags": _is_text_by_name,
    "inputs": _is_text_by_name,
    "metrics": lambda value: isinstance(value, dict) and all(map(_is_history, value.values())),
    "summary": lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
}


def read_record(path: Path) -> dict[str, Any]:
    """Read a run record. Errors: UserError for a file that is not one."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a run record ({error}); delete it and run again") from error
    if not isinstance(record, dict) or record.get("format") != _RECORD_FORMAT:
        found = record.get("format") if isinstance(record, dict) else None
        raise UserError(f"{path}: record format {found}; expected {_RECORD_FORMAT}; run again")
    wrong = [key for key, is_good in _RECORD_KEYS.items() if not is_good(record.get(key, ...))]
    if wrong:
        raise UserError(f"{path}: not a run record ('{wrong[0]}' is missing or malformed); delete it and run again")
    return record


def git_revision() -> dict[str, str]:
    """Revision and dirtiness of the working tree, as MLflow tags; empty outside a repository.

    Reports do not count: a run writes them itself, and those of the open track are in git.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {
            "git.revision": git("rev-parse", "HEAD"),
            "git.dirty": str(bool(git("status", "--porcelain", "--", ".", ":(exclude)reports"))).lower(),
        }
    except (OSError, subprocess.CalledProcessError):
        return {}


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters as dotted names with JSON values, MLflow's flat form."""
    flat: dict[str, str] = {}
    for name, value in params.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value if isinstance(value, str) else json.dumps(value)
    return flat


class _MlflowRun:
    """A run in MLflow. The newest run of a key is tagged ``latest``; older ones lose that tag.

    extra: tags beside those of the record.
    """

    def __init__(self, client: Any, content: Mapping[str, Any], extra: Mapping[str, str]) -> None:
        self._client = client
        experiment = _experiment(client, content["key"])
        tags = {f"isopose.{name}": str(value) for name, value in content["tags"].items()}
        tags |= {
            "isopose.key": content["key"],
            "isopose.latest": "true",
            "mlflow.runName": _name(content),
        }
        tags |= {f"isopose.input.{Path(path).name}": digest for path, digest in content["inputs"].items()}
        if parent := content["parent"] and _find(client, content["parent"], latest="true"):
            tags["mlflow.parentRunId"] = parent.info.run_id
            _save_view(client, experiment, content["key"])
        _retire(client, content["key"])
        self._run_id = client.create_run(experiment, tags=tags | dict(extra)).info.run_id
        self._params(content["params"])

    def _params(self, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        flat = [Param(name, value[:_LONGEST_PARAM]) for name, value in flatten(params).items()]
        for start in range(0, len(flat), _PARAM_BATCH):
            self._client.log_batch(self._run_id, params=flat[start : start + _PARAM_BATCH])

    def histories(self, histories: Mapping[str, Iterable[tuple[int, float]]]) -> None:
        """Log pairs of step and value by metric."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        batch = [Metric(n, float(v), now, int(s)) for n, series in histories.items() for s, v in series]
        for start in range(0, len(batch), _METRIC_BATCH):
            self._client.log_batch(self._run_id, metrics=batch[start : start + _METRIC_BATCH])

    def summary(self, values: Mapping[str, float]) -> None:
        """Log final numbers."""
        self.histories({f"final/{name}": [(0, value)] for name, value in values.items()})

    def end(self, status: str, record: Path | None = None) -> None:
        """Close the run, which after a good end has a record."""
        if record:
            self._client.set_tag(self._run_id, "isopose.record", sha256(record))
        self._client.set_terminated(self._run_id, status)


class _LiveRun(_MlflowRun):
    """A run in MLflow while it goes on here: with the git revision, and the load of the machine."""

    def __init__(self, uri: str, content: Mapping[str, Any]) -> None:
        import mlflow
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        mlflow.set_tracking_uri(uri)  # the monitor takes no other address
        super().__init__(mlflow.MlflowClient(tracking_uri=uri), content, git_revision())
        self._monitor = SystemMetricsMonitor(self._run_id, sampling_interval=5, samples_before_logging=2)
        self._monitor.start()

    def end(self, status: str, record: Path | None = None) -> None:
        self._monitor.finish()
        super().end(status, record)


def _name(content: Mapping[str, Any]) -> str:
    """A run's name in MLflow, whose lists cut long ones: of runs side by side, first what tells them apart."""
    name = content["key"].split("/", 1)[-1]
    group, _, last = name.rpartition("/")
    return f"{last} ({group})" if content["parent"] and group else name


def _save_view(client: Any, experiment: str, key: str) -> None:
    """Save a page of MLflow that compares the runs beside a key, such as ISO's weightings: best first, error by step.

    Its address ends in ``?viewStateShareKey=`` and the key's middle parts, as ``synthetic-iso-test``. It is what
    MLflow itself saves where one shares a view.
    """
    from mlflow.exceptions import MlflowException

    group = key.rpartition("/")[0]
    tag = f"mlflow.sharedViewState.{'-'.join(group.split('/')[1:])}"
    if tag in client.get_experiment(experiment).tags:
        return
    section = {"uuid": "error", "name": "MPJPE (mm) against step", "display": True, "columns": 1, "cardHeight": 560}
    chart = {"uuid": "mpjpe", "type": "LINE", "metricSectionId": "error", "metricKey": "mpjpe", "xAxisKey": "step"}
    chart |= {"selectedMetricKeys": ["mpjpe"], "yAxisKey": "metric", "yAxisExpressions": [], "displayPoints": False}
    chart |= {"range": {}, "xAxisScaleType": "linear", "scaleType": "linear", "lineSmoothness": 0}
    view = {
        "searchFilter": f"tags.`isopose.latest` = 'true' and tags.`isopose.key` LIKE '{group}/%'",
        "orderByKey": "metrics.`final/mpjpe_after`",
        "orderByAsc": True,
        "runsHiddenMode": "SHOW_ALL",
        "chartsSearchFilter": "mpjpe",
        "isAccordionReordered": True,  # the charts that MLflow adds come below
        "compareRunSections": [section],
        "compareRunCharts": [chart],
    }
    with suppress(MlflowException):  # a job beside this one saved it at the same moment
        client.set_experiment_tag(experiment, tag, json.dumps(view))


def _experiment(client: Any, key: str) -> str:
    """The experiment of a run, which has the name of its track; made where it is missing."""
    name = key.split("/")[0]
    found = client.get_experiment_by_name(name)
    return found.experiment_id if found else client.create_experiment(name)


def _find(client: Any, key: str, **tags: str) -> Any:
    """The newest run of a key with these tags, None where there is none."""
    wanted = {"key": key} | tags
    query = " and ".join(f"tags.`isopose.{name}` = '{value}'" for name, value in wanted.items())
    runs = client.search_runs([_experiment(client, key)], query, max_results=1)
    return runs[0] if runs else None


def _retire(client: Any, key: str) -> None:
    """Take the tag ``latest`` from the run of a key that has it."""
    if previous := _find(client, key, latest="true"):
        client.set_tag(previous.info.run_id, "isopose.latest", "false")
        if previous.info.status == "RUNNING":  # its process was killed, and could not say so
            client.set_terminated(previous.info.run_id, "KILLED")


def replay(records: Iterable[Path], uri: str) -> None:
    """Make the MLflow runs of run records: each becomes the latest of its key, as if it had just run.

    They are tagged ``isopose.replayed``; their times are those of the replay, as a record has no clock. Of a record
    that MLflow has, the run there becomes the latest again. Errors: UserError, before anything is made, for a file that
    is no record, and where MLflow fails.
    """
    contents = {path: read_record(path) for path in records}
    with _database(uri) as client:
        for path in stage.track_progress(_parents_first(contents), "MLflow"):
            _replay(client, path, contents[path])


def _replay(client: Any, path: Path, content: Mapping[str, Any]) -> None:
    if found := _find(client, content["key"], record=sha256(path)):
        if found.data.tags["isopose.latest"] != "true":
            _retire(client, content["key"])
            client.set_tag(found.info.run_id, "isopose.latest", "true")
        return
    run = _MlflowRun(client, content, {"isopose.replayed": "true"})
    run.histories(content["metrics"])
    run.summary(content["summary"])
    run.end("FINISHED", path)


def _parents_first(contents: Mapping[Path, Mapping[str, Any]]) -> list[Path]:
    """The records, each after that of the run it nests under. Errors: UserError where two nest under each other."""
    by_key: dict[str, list[Path]] = {}
    for path, content in contents.items():
        by_key.setdefault(content["key"], []).append(path)
    try:
        return list(TopologicalSorter({p: by_key.get(c["parent"], []) for p, c in contents.items()}).static_order())
    except CycleError as error:
        raise UserError(f"{error.args[1][0]}: nests under itself; delete it and run again") from error


@contextmanager
def _database(uri: str) -> Iterator[Any]:
    """MLflow's client, its database made where it is missing. Errors: UserError in a line for those of MLflow."""
    import mlflow
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    logging.getLogger("mlflow.store.db").setLevel(logging.WARNING)
    try:
        yield mlflow.MlflowClient(tracking_uri=uri)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise UserError(f"{uri}: MLflow cannot use it ({' '.join(str(error).split())})") from error


app = typer.Typer(add_completion=False)
_URI = typer.Option(..., "--mlflow", envvar="MLFLOW_TRACKING_URI", help="Address, such as sqlite:///mlflow.db.")


@app.callback()
def commands() -> None:
    """MLflow's database and the runs in it."""


@app.command()
def init(
    uri: str = _URI,
    experiment: list[str] = typer.Option(..., help="Experiment to create; repeat for each."),
    marker: Path = typer.Option(..., help="File written when the database is ready."),
) -> None:
    """Create the database and its experiments once, before parallel jobs use it (first use is not safe in parallel)."""
    with _database(uri) as client:
        for name in experiment:
            _experiment(client, name)
    if not marker.exists():  # Snakemake tells by its time whether its own job made it
        # The same on every machine: the jobs that wait for it do not depend on where the database lies.
        write_text(marker, "ready\n")


@app.command("replay")
def replay_command(
    uri: str = _URI,
    record: list[Path] = typer.Option(..., help="Run record (JSON), or a folder of nothing but such; repeat for each."),
) -> None:
    """Make the MLflow runs of run records from elsewhere; those that MLflow has are left."""
    replay([path for given in record for path in _records(given)], uri)


def _records(path: Path) -> list[Path]:
    return sorted(path.rglob("*.json")) if path.is_dir() else [path]


if __name__ == "__main__":
    stage.run(app)
