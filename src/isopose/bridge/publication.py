"""Publishing what a track has made, and restoring it in another clone: Snakemake's records and DVC's bytes as one.

Paths are relative to the current folder, which is the repository.
"""

import functools
import os
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path

from isopose import config, tracking
from isopose.bridge import dvc_fetch, dvc_file, dvc_lock, ledger, records, verification
from isopose.bridge.changes import declared
from isopose.bridge.graph import Job, in_order, on_this_machine, parameter_files
from isopose.bridge.records import Record
from isopose.errors import UserError
from isopose.files import sha256

_SHOWN = 10  # problems that a refusal names


def publish(track: str, jobs: Sequence[Job], push: bool = True) -> None:
    """Put a track's records into the ledger, and its outputs into DVC's cache and remote.

    Nothing of it is public before it is committed to git. Stopped anywhere, the ledger and DVC's lock disagree or the
    remote lacks bytes, which ``verify`` and ``restore`` tell; to publish again goes on from there.
    Errors: UserError, before anything is written, where a job would run, an output has no record or was edited, or
    does not agree with another; and where DVC fails.
    """
    problems = verification.problems(track, jobs, published=False)
    absent = [path for path in dvc_file.shipped(track) if not Path(path).exists()]
    problems += [f"{path}: is not here; expected every output that ships" for path in absent]
    if problems:
        more = f"\nand {len(problems) - _SHOWN} more" if problems[_SHOWN:] else ""
        raise UserError("nothing is published:\n" + "\n".join(problems[:_SHOWN]) + more)
    ledger.write(track, ledger.current(track, jobs))
    dvc_lock.mend(track)
    _dvc("commit", "--force", dvc_file.path_of(track).as_posix())
    dvc_lock.forget(track)
    ledger.follow(track)  # DVC has written the files anew, with other times than their jobs'
    if push:
        _dvc("push", dvc_file.path_of(track).as_posix())


def restore(track: str, jobs: Sequence[Job]) -> list[str]:
    """Bring back the outputs of jobs as published: their records, then the bytes that ship and are not here.

    The records come first: an output without one Snakemake takes for good, whatever was fetched of it. Results of
    another parameter or input, which Snakemake would make again, give way to the published ones where those are what
    it would make, and so does what DVC's cache can give back; results that stand as they are stay.
    jobs: those that the targets need. Returns the outputs that are here with bytes that neither the ledger has nor a
    job made, which are left as they are and which Snakemake will make again. Errors: UserError where the track was not
    published, or where DVC cannot fetch something; what it fetched stays, and to restore again goes on from there.
    """
    ledger.check(track)
    kept, overtaken = _own_results(track, jobs)
    for output in overtaken:
        Path(output).unlink()
    ledger.install(track, kept)
    wanted = {output for job in jobs for output in job.outputs} & set(dvc_file.shipped(track))
    known = set(ledger.outputs(track))
    missing = sorted(path for path in wanted & known if not Path(path).exists())
    try:
        if missing:
            dvc_fetch.fetch(track, missing)
    finally:
        refused = ledger.install(track, kept)
    return refused


def fill_mlflow(track: str, jobs: Sequence[Job], refused: Collection[str] = ()) -> None:
    """Make in MLflow the runs of the run records of jobs, its database first, and the mark that this is there.

    refused: outputs that are not as published, whose runs are not made. Errors: UserError where a record cannot be
    read, or MLflow not be used.
    """
    outputs = [(job.rule, Path(output)) for job in jobs for output in job.outputs if output not in refused]
    run_records = [path for _, path in outputs if path.name == "record.json" and path.exists()]
    if not run_records:
        return
    uri = os.environ.get("MLFLOW_TRACKING_URI") or config.load(*parameter_files(track))["mlflow"]["uri"]
    for marker in (path for rule, path in outputs if rule in dvc_file.MACHINE_BOUND):
        tracking.init(uri, [track], marker)  # its record Snakemake gets from the ledger when it next starts
    tracking.replay(run_records, uri)


def _own_results(track: str, jobs: Sequence[Job]) -> tuple[set[str], set[str]]:
    """Outputs that jobs made here and the ledger does not have: those that stay, and those that give way."""
    digest = functools.cache(sha256)
    kept: set[str] = set()
    overtaken: set[str] = set()
    foreign: list[str] = []  # put here by something else than a job
    after: dict[str, str] = {}  # SHA-256 of outputs once they are restored

    def stands(job: Job, record: Record) -> bool:
        """Whether a record is what the job would get once its inputs are restored."""
        if declared(job, record):
            return False
        return all(record.inputs[path] in (None, after.get(path) or here(path)) for path in job.inputs)

    def here(path: str) -> str | None:
        path = on_this_machine(path)
        return digest(path) if Path(path).is_file() else None

    for job in in_order(jobs):
        for output in job.outputs:
            entry, path, record = ledger.read(track, output), Path(output), records.read(output)
            if entry:
                after[output] = entry.sha256
            if not path.exists():
                continue
            if not record or path.stat().st_mtime != records.ended(output):
                foreign += [output] if entry and digest(output) != entry.sha256 else []
                continue
            if entry is None or digest(output) != entry.sha256:
                if entry and not stands(job, record) and stands(job, entry.record):
                    overtaken.add(output)
                else:
                    kept.add(output)
                    after[output] = digest(output)
    return kept, overtaken | (dvc_fetch.in_cache(foreign) if foreign else set())


def _dvc(command: str, *arguments: str) -> None:
    """Run DVC, which shows its own progress."""
    try:
        status = subprocess.run(["dvc", command, *arguments]).returncode
    except FileNotFoundError as error:
        raise UserError("dvc: is not installed; expected the environment that `make venv` builds") from error
    if status:
        raise UserError(
            f"dvc {command}: failed with exit status {status}; its own message is above; what is published is not"
            " whole: type the same command again before anything is committed to git"
        )
