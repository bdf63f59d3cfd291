"""Publishing what a track has made, and restoring it in another clone: Snakemake's records and DVC's bytes as one.

Paths are relative to the current folder, which is the repository.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from isopose.bridge import dvc_file, ledger, verification
from isopose.bridge.graph import Job
from isopose.errors import UserError

_SHOWN = 10  # problems that a refusal names


def publish(track: str, jobs: Sequence[Job], push: bool = True) -> None:
    """Put a track's outputs into DVC's cache and remote, then its records into the ledger.

    The ledger comes last: as long as it is not written, no clone takes the new bytes for finished results.
    Errors: UserError, before anything is written, where a job would run, an output has no record or was edited, or
    does not agree with another; and where DVC fails.
    """
    problems = verification.problems(track, jobs, published=False)
    absent = set(dvc_file.shipped(track)) - {path for path in dvc_file.shipped(track) if Path(path).exists()}
    problems += [f"{path}: is not here; expected every output that ships" for path in sorted(absent)]
    if problems:
        more = f"\nand {len(problems) - _SHOWN} more" if problems[_SHOWN:] else ""
        raise UserError("nothing is published:\n" + "\n".join(problems[:_SHOWN]) + more)
    entries = ledger.current(track, jobs)
    _dvc("commit", "--force", dvc_file.path_of(track).as_posix())
    if push:
        _dvc("push", dvc_file.path_of(track).as_posix())
    ledger.write(track, entries)


def restore(track: str, jobs: Sequence[Job]) -> list[str]:
    """Bring back the outputs of jobs as published: their records, then the bytes that ship and are not here.

    The records come first: an output without one Snakemake takes for good, whatever was fetched of it.
    jobs: those that the targets need. Returns the outputs that are here with other bytes than the ledger has, which
    are left as they are and which Snakemake will make again. Errors: UserError where the track was not published, or
    where DVC cannot fetch something; what it fetched stays, and to restore again goes on from there.
    """
    ledger.install(track)
    wanted = {output for job in jobs for output in job.outputs} & set(dvc_file.shipped(track))
    known = set(ledger.outputs(track))
    missing = sorted(path for path in wanted & known if not Path(path).exists())
    try:
        if missing:
            _dvc("pull", *missing)
    finally:
        refused = ledger.install(track)
    return refused


def _dvc(command: str, *arguments: str) -> None:
    """Run DVC, which shows its own progress."""
    try:
        status = subprocess.run(["dvc", command, "--quiet", *arguments]).returncode
    except FileNotFoundError as error:
        raise UserError("dvc: is not installed; expected the environment that `make venv` builds") from error
    if status:
        raise UserError(
            f"dvc {command}: failed with exit status {status}; its own message is above; nothing else was changed,"
            " so that the same command can be typed again"
        )
