"""Run records and MLflow: the only module that imports mlflow, and only when a run is logged to it.

Every run leaves a deterministic record (parameters, metric histories, tags, input hashes; no clock, no random
id). MLflow is filled live from the same calls, with the git revision added as a tag there alone.
"""

import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from isopose.errors import UserError
from isopose.files import sha256, write_text

_RECORD_FORMAT = 1
_METRIC_BATCH = 1000


@dataclass
class Log:
    """What a running stage writes to: metric histories by step and final summary numbers."""

    metrics: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    summaries: dict[str, float] = field(default_factory=dict)
    _live: "_MlflowRun | None" = None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append values to their histories at ``step``."""
        for name, value in values.items():
            self.metrics.setdefault(name, []).append((int(step), float(value)))
        if self._live:
            self._live.metrics(step, values)

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
            self._live.metrics(0, {f"final/{name}": value for name, value in values.items()})


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
    live = _MlflowRun(uri, content) if uri else None
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
        live.end("FINISHED")


def _standard_tags(key: str, params: Mapping[str, Any]) -> dict[str, str]:
    """Tags of every run: its track (the first part of its key) and, where it has one, its seed."""
    return {"track": key.split("/")[0]} | ({"seed": str(params["seed"])} if "seed" in params else {})


def read_record(path: Path) -> dict[str, Any]:
    """Read a run record."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not a run record ({error}); delete it and run again") from error
    if record.get("format") != _RECORD_FORMAT:
        raise UserError(f"{path}: record format {record.get('format')}; expected {_RECORD_FORMAT}; run again")
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
    """A live MLflow run. The newest run of a key is tagged ``latest``; older ones lose that tag."""

    def __init__(self, uri: str, content: Mapping[str, Any]) -> None:
        import mlflow

        self._client = mlflow.MlflowClient(tracking_uri=uri)
        mlflow.set_tracking_uri(uri)
        experiment = self._experiment(content["key"].split("/")[0])
        tags = {f"isopose.{name}": str(value) for name, value in content["tags"].items()}
        tags |= {
            "isopose.key": content["key"],
            "isopose.latest": "true",
            "mlflow.runName": content["key"].split("/", 1)[-1],
        }
        tags |= {f"isopose.input.{Path(path).name}": digest for path, digest in content["inputs"].items()}
        if parent := content["parent"] and self._latest(experiment, content["parent"]):
            tags["mlflow.parentRunId"] = parent.info.run_id
        if previous := self._latest(experiment, content["key"]):
            self._client.set_tag(previous.info.run_id, "isopose.latest", "false")
            if previous.info.status == "RUNNING":  # its process was killed, and could not say so
                self._client.set_terminated(previous.info.run_id, "KILLED")
        self._run_id = self._client.create_run(experiment, tags=tags | git_revision()).info.run_id
        entities = mlflow.entities
        params = [entities.Param(name, value[:6000]) for name, value in flatten(content["params"]).items()]
        self._client.log_batch(self._run_id, params=params[:100])
        self._monitor = self._start_monitor()

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found else self._client.create_experiment(name)

    def _latest(self, experiment: str, key: str) -> Any:
        query = f"tags.`isopose.key` = '{key}' and tags.`isopose.latest` = 'true'"
        runs = self._client.search_runs([experiment], query, max_results=1)
        return runs[0] if runs else None

    def _start_monitor(self) -> Any:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(self._run_id, sampling_interval=5, samples_before_logging=2)
        monitor.start()
        return monitor

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.histories({name: [(step, value)] for name, value in values.items()})

    def histories(self, histories: Mapping[str, list[tuple[int, float]]]) -> None:
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        batch = [Metric(n, float(v), now, int(s)) for n, series in histories.items() for s, v in series]
        for start in range(0, len(batch), _METRIC_BATCH):
            self._client.log_batch(self._run_id, metrics=batch[start : start + _METRIC_BATCH])

    def end(self, status: str) -> None:
        self._monitor.finish()
        self._client.set_terminated(self._run_id, status)


app = typer.Typer(add_completion=False)


@app.callback()
def commands() -> None:
    """MLflow's database and the runs in it."""


@app.command()
def init(
    uri: str = typer.Option(..., envvar="MLFLOW_TRACKING_URI", help="Address, such as sqlite:///mlflow.db."),
    experiment: list[str] = typer.Option(..., help="Experiment to create; repeat for each."),
    marker: Path = typer.Option(..., help="File written when the database is ready."),
) -> None:
    """Create the database and its experiments once, before parallel jobs use it (first use is not safe in parallel)."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=uri)
    for name in experiment:
        if client.get_experiment_by_name(name) is None:
            client.create_experiment(name)
    # The same on every machine: the jobs that wait for it do not depend on where the database lies.
    write_text(marker, "ready\n")


if __name__ == "__main__":
    from isopose import stage

    stage.run(app)
