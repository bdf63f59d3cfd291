"""Whether a track's outputs are what they say they are: files against Snakemake's records, the ledger and DVC's lock.

Bytes are compared whatever the times of files: Snakemake itself looks only at inputs that are newer than the output.
Paths are relative to the current folder, which is the repository.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from isopose.bridge import dvc_file, dvc_lock, ledger, records
from isopose.bridge.changes import changed_inputs, declared
from isopose.bridge.graph import Job
from isopose.bridge.records import Record
from isopose.files import sha256

STALE = "is not what Snakemake's job graph says; expected what `python -m isopose.bridge generate` writes"

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
    if not any(record or Path(output).exists() for output, record in recorded.items()):
        return [_nothing_here(track)]
    changed = {job.outputs: _changed_inputs(job, recorded, digest) for job in jobs}
    compare = published and ledger.folder(track).exists()
    found = [line for job in jobs for line in _of_job(job, recorded, bool(changed[job.outputs]))]
    if compare:
        told = [line for output, record in recorded.items() for line in _of_entry(track, output, record, digest)]
        known = {line.partition(": ")[0] for line in told}  # which say more of outputs that were refused
        found = [line for line in found if not (line.endswith(ledger.REFUSED) and line.partition(": ")[0] in known)]
        found += told
    found += _of_inputs(change for job in jobs for change in changed[job.outputs])
    if compare:
        found += _without_job(track, jobs)
        found += list(_of_dvc(track, jobs, found))
    return found


def stale_dvc_file(track: str, jobs: Iterable[Job]) -> list[str]:
    """One line where a track's dvc.yaml is not what the job graph says."""
    path = dvc_file.path_of(track)
    is_current = path.exists() and path.read_text(encoding="utf-8") == dvc_file.generated(track, jobs)
    return [] if is_current else [f"{path}: {STALE}"]


def _nothing_here(track: str) -> str:
    command = f"`python -m isopose.bridge run --track {track}` makes it"
    if ledger.folder(track).exists():
        command = f"`python -m isopose.bridge restore --track {track}` brings back what was published, " + command
    return f"{track}: no output of this track is here; expected its results; {command}"


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


def _of_dvc(track: str, jobs: list[Job], told: list[str]) -> Iterator[str]:
    """One line for each thing that DVC's files say otherwise and that has not been told."""
    if stale := stale_dvc_file(track, jobs):
        yield from stale
        return
    lines: dict[str, str] = {}
    for name, line in dvc_lock.differences(track):
        lines.setdefault(name, line)
    yield from (line for name, line in lines.items() if not any(name in other for other in told))


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
    found: list[tuple[str, str]] = []
    inputs, changes = None, {}
    for output in job.outputs:
        record = recorded[output]
        if record and record.inputs != inputs:  # outputs of one run have the same
            inputs, changes = record.inputs, changed_inputs(job, record, digest)
        if record:
            found += [(change, output) for change in changes.values()]
    return found


def _without_job(track: str, jobs: list[Job]) -> list[str]:
    made = {output for job in jobs for output in job.outputs}
    return [
        f"{output}: is in the ledger, but no job makes it" for output in ledger.outputs(track) if output not in made
    ]
