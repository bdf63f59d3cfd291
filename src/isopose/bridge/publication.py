"""Publishing what a track has made, and restoring it in another clone: Snakemake's records and DVC's bytes as one.

Paths are relative to the current folder, which is the repository.
"""

import functools
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from isopose import config, tracking
from isopose.bridge import dvc_file, dvc_lock, dvc_repo, git_files, ledger, records, verification
from isopose.bridge.changes import declared
from isopose.bridge.graph import Job, in_order, on_this_machine, parameter_files
from isopose.bridge.records import Record
from isopose.errors import UserError
from isopose.files import sha256

_SHOWN = 10  # problems that a refusal names


class Restored(NamedTuple):
    """Outputs that are here and not as published.

    kept: what jobs made of the parameters and inputs as they are now. refused: bytes that neither the ledger has nor a
    job made, which are left as they are and which Snakemake will make again.
    """

    kept: list[str]
    refused: list[str]


def publish(track: str, jobs: Sequence[Job], push: bool = True) -> None:
    """Put a track's records into the ledger, and its outputs into DVC's cache and remote.

    Nothing of it is public before it is committed to git. Stopped anywhere, the ledger and DVC's lock disagree or the
    remote lacks bytes, which ``verify`` and ``restore`` tell; to publish again goes on from there.
    Errors: UserError, before anything is written, where a job would run, an output has no record or was edited, or
    does not agree with another; and where DVC fails.
    """
    problems = verification.problems(track, jobs, published=False)
    absent = [path for path in dvc_file.shipped(track) if not Path(path).exists()]
    if not problems or any(Path(output).exists() for job in jobs for output in job.outputs):
        problems += [f"{path}: is not here; expected every output that ships" for path in absent]
    problems = problems or verification.stale_dvc_file(track, jobs)
    if problems:
        more = f"\nand {len(problems) - _SHOWN} more" if problems[_SHOWN:] else ""
        raise UserError("nothing is published:\n" + "\n".join(problems[:_SHOWN]) + more)
    entries = ledger.current(track, jobs)
    dvc_lock.mend(track)
    dvc_lock.check_absent(track, entries)
    ledger.write(track, entries)
    dvc_repo.commit(track)
    dvc_lock.forget(track)
    if push:
        dvc_repo.push(track)


def restore(track: str, jobs: Sequence[Job]) -> Restored:
    """Bring back the outputs of jobs as published: their records, then the bytes that ship and are not here.

    The records come first: an output without one Snakemake takes for good, whatever was fetched of it. Results of
    another parameter or input, which Snakemake would make again, give way to the published ones where those are what
    it would make and have come, and so does what DVC's cache can give back; results that stand as they are stay.
    jobs: those that the targets need. Errors: UserError where the track was not published, or where DVC cannot fetch
    something; what it fetched stays, and to restore again goes on from there.
    """
    ledger.check(track)
    kept, overtaken = _own_results(track, jobs)
    known = {output for job in jobs for output in job.outputs} & set(ledger.outputs(track))
    ledger.install(track, known - kept - overtaken)
    wanted = known & set(dvc_file.shipped(track))
    missing = sorted(path for path in wanted if path in overtaken or not Path(path).exists())
    try:
        git_files.take_back([path for path in known - wanted if path in overtaken or not Path(path).exists()])
        if missing:
            dvc_repo.fetch(track, missing)
    finally:
        refused = ledger.install(track, known - kept - overtaken)
    for output in overtaken - wanted:
        if sha256(output) != ledger.read(track, output).sha256:
            Path(output).unlink()
    return Restored(sorted(kept), sorted([*refused, *ledger.install(track, overtaken)]))


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
    """Outputs that are here otherwise than the ledger has them: those that stay, and those that give way."""
    digest = functools.cache(sha256)
    kept: set[str] = set()
    overtaken: set[str] = set()
    foreign: list[str] = []  # put here by something else than a job
    after: dict[str, str] = {}  # SHA-256 of outputs once they are restored

    def stands(job: Job, record: Record | None) -> bool:
        """Whether a record is what the job would get once its inputs are restored."""
        if not record or declared(job, record):
            return False
        return all(record.inputs[path] in (None, after.get(path) or here(path)) for path in job.inputs)

    def here(path: str) -> str | None:
        path = on_this_machine(path)
        return digest(path) if Path(path).is_file() else None

    for job in in_order(jobs):
        for output in job.outputs:
            entry, path, record = ledger.read(track, output), Path(output), records.read(output)
            published = entry.record if entry else None
            if entry:
                after[output] = entry.sha256
            if not path.exists() or (entry and record == published and digest(output) == entry.sha256):
                continue
            if not record or path.stat().st_mtime != records.ended(output):
                # The record may be of other bytes; where it stands, they may be results of the parameters as they are.
                if entry and digest(output) != entry.sha256 and not stands(job, record):
                    foreign.append(output)
            elif stands(job, record) or not stands(job, published):
                kept.add(output)
                after[output] = digest(output)
            elif digest(output) != entry.sha256:
                overtaken.add(output)
    return kept, overtaken | (dvc_repo.in_cache(foreign) if foreign else set())
