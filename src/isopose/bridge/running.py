"""Running Snakemake, also where intermediates did not ship.

Snakemake makes a missing intermediate once a job that runs reads it, and then runs every other reader too, though the
bytes come out the same. Made in runs of their own, in which nothing else reads them, they rerun nothing.
Paths are relative to the current folder, which is the repository.
"""

import fcntl
import functools
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from isopose.bridge import graph, ledger, records
from isopose.bridge.changes import changed_inputs, declared
from isopose.bridge.graph import Job
from isopose.errors import UserError
from isopose.files import sha256

_LOCK = ".run.lock"

Outputs = tuple[str, ...]


def run(track: str, targets: Sequence[str], cores: str) -> None:
    """Run Snakemake on targets, or the whole track, after the intermediates of :func:`waves`; in place of this process.

    Errors: UserError for an unknown track, where another run goes on in this folder, or where an intermediate fails.
    """
    hold_lock(track)
    _make_intermediates(track, targets, cores)
    command = _command(track, targets, cores)
    os.execvp(command[0], command)


def run_and_enter(track: str, targets: Sequence[str], cores: str) -> None:
    """As :func:`run`, for the outputs of one job, whose records are then entered into the ledger. Returns."""
    hold_lock(track)
    _make_intermediates(track, targets, cores)
    _snakemake(track, targets, cores)
    ledger.add(track, targets)


def hold_lock(track: str) -> None:
    """Let no other run go on in this folder as long as this process lives, or what it becomes.

    The kernel drops this lock when the process dies, however it dies; Snakemake's own would have to be removed by hand.
    Errors: UserError for a folder that is no repository, an unknown track, and where another run goes on.
    """
    graph.check_track(track)
    file = os.open(_LOCK, os.O_RDWR | os.O_CREAT)
    os.set_inheritable(file, True)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        raise UserError("the workflow is already running in this folder; wait for it to end") from error


def _make_intermediates(track: str, targets: Sequence[str], cores: str) -> None:
    if all(Path(output).exists() for output in ledger.outputs(track)):
        return
    for wave in waves(graph.jobs_of(track, targets)):
        _snakemake(track, wave, cores)


def _snakemake(track: str, targets: Iterable[str], cores: str) -> None:
    if subprocess.run(_command(track, targets, cores)).returncode:
        raise UserError("snakemake: failed; its own messages are above; finished jobs are kept")


def _command(track: str, targets: Iterable[str], cores: str) -> list[str]:
    overlays = [part for path in graph.parameter_files(track)[1:] for part in ("--configfile", path.as_posix())]
    # Snakemake would take targets after --configfile for more of its values.
    return ["snakemake", "--nolock", "--cores", cores, *targets, *overlays]


def planned(jobs: Iterable[Job]) -> list[Job]:
    """The jobs that :func:`run` would run, in order: at most these, as bytes that come out the same end the way.

    jobs: those of its targets.
    """
    jobs = [job for job in graph.in_order(jobs) if job.outputs]
    made_by = graph.makers(jobs)
    running = _running(jobs, made_by, _settled(jobs, made_by))
    return [job for job in jobs if job.outputs in running]


def waves(jobs: Sequence[Job]) -> list[list[str]]:
    """Outputs that are not here, are still what their records say, and are wanted by jobs that will run.

    Only those whose other readers have nothing to do: the rest Snakemake makes in passing. Each list is to be made in a
    run of its own, after those before it.
    """
    jobs, made_by = graph.in_order(jobs), graph.makers(jobs)
    settled = _settled(jobs, made_by)
    wanted = _wanted(jobs, made_by, settled)
    busy = {made_by[path].outputs for path in wanted}
    idle = [job for job in jobs if job.outputs in settled and job.outputs not in busy]
    found = wanted & {path for job in idle for path in job.inputs}
    first = {made_by[path].outputs for path in found}
    ranks: dict[Outputs, int] = {}  # how many others have to be made before a job
    for job in jobs:
        before = {made_by[path].outputs for path in job.inputs if path in made_by}
        ranks[job.outputs] = max((ranks[outputs] + (outputs in first) for outputs in before), default=0)
    rank_of = {path: ranks[made_by[path].outputs] for path in found}
    return [sorted(path for path in found if rank_of[path] == rank) for rank in sorted(set(rank_of.values()))]


def _settled(jobs: Iterable[Job], made_by: Mapping[str, Job]) -> set[Outputs]:
    """Outputs of jobs whose records say what the jobs would do now, as do those of all that they rest on."""
    digest = functools.cache(sha256)
    settled: set[Outputs] = set()
    for job in jobs:
        rests_on = {made_by[path].outputs for path in job.inputs if path in made_by}
        if job.outputs and rests_on <= settled and _agrees(job, digest):
            settled.add(job.outputs)
    return settled


def _agrees(job: Job, digest: Callable[[str], str]) -> bool:
    for output in job.outputs:
        record = records.read(output)
        if record is None or records.is_incomplete(output):
            return False
        if declared(job, record) or changed_inputs(job, record, digest):
            return False
    return True


def _wanted(jobs: Sequence[Job], made_by: Mapping[str, Job], settled: set[Outputs]) -> set[str]:
    """Outputs of settled jobs that are not here and that a job which will run reads."""
    running = _running(jobs, made_by, settled)
    missing = {path for job in jobs if job.outputs in running for path in _missing(job.inputs, made_by)}
    return {path for path in missing if made_by[path].outputs in settled}


def _running(jobs: Sequence[Job], made_by: Mapping[str, Job], settled: set[Outputs]) -> set[Outputs]:
    """Jobs that will run: not settled, or asked for what is not here, or making what another of them reads."""
    read = {path for job in jobs for path in job.inputs}
    asked = {job.outputs for job in jobs if read.isdisjoint(job.outputs) and _missing(job.outputs, made_by)}
    running = asked | {job.outputs for job in jobs if job.outputs not in settled}
    for job in reversed(jobs):
        if job.outputs in running:
            running |= {made_by[path].outputs for path in _missing(job.inputs, made_by)}
    return running


def _missing(paths: Iterable[str], made_by: Mapping[str, Job]) -> list[str]:
    """Those that jobs make and that are not here."""
    return [path for path in paths if path in made_by and not Path(path).exists()]
