"""Whether a track's outputs are what they say they are: files against Snakemake's records, the ledger
and DVC's lock.

Bytes are compared whatever the times of files: Snakemake itself looks only at inputs that are newer than the output.
Paths are relative to the current folder, which is the repository.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from isopose.bridge import dvc_file, ledger, records
from isopose.bridge.changes import changed_inputs, declared
from isopose.bridge.graph import Job
from isopose.bridge.records import Record
from isopose.files import md5, sha256

Recorded = Mapping[str, Record | None]  # Snakemake's records by output


def problems(track: str, jobs: Iterable[Job], published: bool = True) -> list[str]:
    """One line for everything that does not agree: outputs, then inputs, then what no job makes; none where all does.

    An output that is not here, which another job's output was made from, needs only its record. Where the track has
    been published, every output must be what its ledger and DVC's lock say; published: whether to look at those.
    Errors: UserError for an entry or a lock that cannot be read.
    """
    jobs = list(jobs)
    digest = functools.cache(sha256)
    recorded = {output: records.read(output) for job in jobs for output in job.outputs}
    changed = {job.outputs: _changed_inputs(job, recorded, digest) for job in jobs}
    compare = published and ledger.folder(track).exists()
    found = [line for job in jobs for line in _of_job(job, recorded, bool(changed[job.outputs]))]
    if compare:  # which says more of outputs that were refused
        found = [line for line in found if not line.endswith(ledger.REFUSED)]
        found += [line for output, record in recorded.items() for line in _of_entry(track, output, record, digest)]
    found += _of_inputs(change for job in jobs for change in changed[job.outputs])
    if compare:
        found += [*_without_job(track, jobs), *_of_lock(track, digest)]
    return found


def _of_job(job: Job, recorded: Recorded, changed: bool) -> list[str]:
    """What to say of a job's outputs; changed: whether its inputs are told by themselves."""
    found = [line for output in job.outputs for line in _of_record(job, output, recorded[output])]
    if not found and not changed and job.outputs and job.needs_run and not job.follows:
        found.append(f"{job.outputs[0]}: would be made again: {job.reason}")
    return found


def _of_record(job: Job, output: str, record: Record | None) -> list[str]:
    if records.is_incomplete(output):
        return [f"{output}: may be incomplete: its job has not ended"]
    if record is None:
        return [f"{output}: has no record in .snakemake; expected one, without it Snakemake takes the file as it is"]
    return [f"{output}: {change}" for change in declared(job, record)]


def _of_entry(track: str, output: str, record: Record | None, digest: Callable[[str], str]) -> Iterator[str]:
    entry = ledger.read(track, output)
    if entry is None:
        yield f"{output}: is not in the ledger, {ledger.folder(track)}"
        return
    if Path(output).exists() and digest(output) != entry.sha256:
        yield f"{output}: has sha256 {digest(output)[:8]}; the ledger has {entry.sha256[:8]}"
    if record and record.code != ledger.REFUSED and record != entry.record:
        differing = [key for key, value in vars(entry.record).items() if value != vars(record)[key]]
        yield f"{output}: its record in .snakemake is not the ledger's ({', '.join(differing)})"


def _of_lock(track: str, digest: Callable[[str], str]) -> Iterator[str]:
    """One line for each output that DVC's lock has other bytes of than the ledger."""
    path = dvc_file.lock_of(track)
    if not path.exists():
        yield f"{path}: is not there; expected DVC's lock of what {ledger.folder(track)} has; take it from git again"
        return
    locked = dvc_file.locked_outputs(track)
    for output in ledger.outputs(track):
        if output not in locked:
            yield f"{output}: is in the ledger, but not in DVC's lock, {path}"
        elif Path(output).exists() and digest(output) == ledger.read(track, output).sha256:
            found = md5(output)
            if found != locked[output]:
                yield f"{output}: is as in the ledger, md5 {found[:8]}; DVC's lock, {path}, has {locked[output][:8]}"


def _of_inputs(changes: Iterable[tuple[str, str]]) -> Iterator[str]:
    """One line for each input that is not what its consumers were made from; changes: see :func:`_changed_inputs`."""
    made: dict[str, list[str]] = {}
    for change, output in changes:
        made.setdefault(change, []).append(output)
    for change, consumers in made.items():
        others = f" and {len(consumers) - 1} more" if consumers[1:] else ""
        yield f"{change} since {consumers[0]}{others} was made"


def _changed_inputs(job: Job, recorded: Recorded, digest: Callable[[str], str]) -> list[tuple[str, str]]:
    """What to say of each input that has changed, and the output that was made from another."""
    return [
        (change, output)
        for output in job.outputs
        if (record := recorded[output])
        for change in changed_inputs(job, record, digest).values()
    ]


def _without_job(track: str, jobs: list[Job]) -> list[str]:
    made = {output for job in jobs for output in job.outputs}
    return [
        f"{output}: is in the ledger, but no job makes it" for output in ledger.outputs(track) if output not in made
    ]
