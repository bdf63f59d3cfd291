"""The ledger of a track: what each output was made from and its own SHA-256, as files that git keeps and merges.

``provenance/<track>/<output>.json`` is Snakemake's record of an output, without what differs between machines, bound to
the bytes that the job made. Paths are relative to the current folder, which is the repository.
"""

import functools
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from isopose.bridge import records
from isopose.bridge.graph import Job, on_this_machine
from isopose.bridge.records import Record
from isopose.errors import UserError
from isopose.files import sha256, write_text

# The command of a record whose output is not what the ledger has. No rule has it, so Snakemake makes the output again;
# without a record it would take the output as it is.
REFUSED = "is not what the ledger has, or its inputs are not"
# Keys of an entry and the types of their values.
_KINDS = {
    "code": (str, type(None)),
    "inputs": dict,
    "log": list,
    "params": list,
    "record_format_version": int,
    "rule": str,
    "sha256": str,
    "software_stack_hash": str,
}


@dataclass(frozen=True)
class Entry:
    """An output's record and the SHA-256 of its bytes."""

    sha256: str
    record: Record


def folder(track: str) -> Path:
    """Where a track's ledger lies."""
    return Path("provenance", track)


def entry_of(track: str, output: str) -> str:
    """Where an output's entry lies."""
    return f"{folder(track).as_posix()}/{output}.json"


def outputs(track: str) -> list[str]:
    """Outputs that a track's ledger has, sorted."""
    top = folder(track)
    entries = (path for path in top.rglob("*.json") if not path.name.startswith("."))  # not what was being written
    return sorted(path.relative_to(top).as_posix().removesuffix(".json") for path in entries)


def read(track: str, output: str) -> Entry | None:
    """An output's entry, None where there is none. Errors: UserError for a file that is not one."""
    path = Path(entry_of(track, output))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        content = None
    if not _is_entry(content):
        raise UserError(f"{path}: is no entry of the ledger; expected a JSON object of {', '.join(_KINDS)} alone")
    return Entry(content.pop("sha256"), Record(**content))


def _is_entry(content: Any) -> bool:
    known = isinstance(content, dict) and content.keys() == _KINDS.keys()
    if not known or not all(isinstance(content[key], kinds) for key, kinds in _KINDS.items()):
        return False
    texts = [*content["log"], *content["params"], *filter(None, content["inputs"].values())]
    return all(isinstance(text, str) for text in texts)


def current(track: str, jobs: Iterable[Job]) -> dict[str, Entry]:
    """What the ledger of a track would be now, by output, from Snakemake's records and the outputs.

    An output that is not here keeps the entry it has. Errors: UserError where an output has no record or may have
    changed since its job ended.
    """
    entries: dict[str, Entry] = {}
    problems: list[str] = []
    for output in (output for job in jobs for output in job.outputs):
        try:
            entries[output] = _entry(track, output)
        except UserError as error:
            problems.append(str(error))
    if problems:
        more = f" (and {len(problems) - 1} more)" if problems[1:] else ""
        raise UserError(f"{problems[0]}{more}")
    return entries


def write(track: str, entries: Mapping[str, Entry]) -> None:
    """Make the ledger of a track hold these entries and no others."""
    for output in set(outputs(track)) - set(entries):
        Path(entry_of(track, output)).unlink()
    for output, entry in entries.items():
        _write(track, output, entry)


def add(track: str, made: Iterable[str]) -> None:
    """Enter outputs that Snakemake has just made; other entries stay. Errors: UserError, as :func:`current`."""
    for output in made:
        _write(track, output, _entry(track, output))


def check(track: str) -> None:
    """Refuse a track that has no ledger. Errors: UserError."""
    if not folder(track).is_dir():
        raise UserError(
            f"{folder(track)}: is not there; expected the ledger of the track '{track}', which was not published;"
            f" `python -m isopose.bridge run --track {track}` makes its results, `publish` publishes them"
        )


def install(track: str, chosen: Iterable[str] | None = None) -> list[str]:
    """Give Snakemake the ledger's record of every output that has the ledger's bytes or is not here.

    chosen: the outputs, which the ledger has; all of it where None. Returns the outputs with other bytes, sorted:
    Snakemake will make them again, whatever it had recorded of them. Errors: UserError where the track has no ledger,
    or an entry that cannot be read.
    """
    check(track)
    digest = functools.cache(sha256)
    wanted = outputs(track) if chosen is None else sorted(chosen)
    return [refused for output in wanted for refused in _install(track, output, read(track, output), digest)]


def follow(track: str) -> list[str]:
    """Give Snakemake the ledger's records of outputs that something else than its jobs has put here: DVC, git.

    Those are told by their times; other files are not read. Returns the outputs that are neither what the ledger has
    nor what a later job made, sorted: Snakemake will make them again. Nothing happens where the track has no ledger.
    Errors: UserError for an entry that cannot be read.
    """
    digest = functools.cache(sha256)
    refused = []
    for output in outputs(track):
        path, ended = Path(output), records.ended(output)
        here = path.exists()
        if here and path.stat().st_mtime == ended:
            continue
        record, entry = records.read(output), read(track, output)
        if here:
            # A record of another run is that of results which the ledger does not know yet, copied without their times.
            if digest(output) == entry.sha256 or record in (None, entry.record, _refused(entry.record)):
                refused += _install(track, output, entry, digest)
        elif record in (None, _refused(entry.record)):
            refused += _install(track, output, entry, digest)
    return refused


def _install(track: str, output: str, entry: Entry, digest: Callable[[str], str]) -> list[str]:
    """Make an output's record the entry's, or one that no job agrees with; returns the output in the second case.

    digest: the SHA-256 of a file by its path.
    """
    path = Path(output)
    others = _other_inputs(entry, digest)
    if path.exists() and digest(output) == entry.sha256 and not _is_of_another_run(track, entry):
        _make_older(path, others)
        records.write(output, entry.record, path.stat().st_mtime)
        records.complete(output)
    elif path.exists() or others or _is_of_another_run(track, entry):
        records.write(output, _refused(entry.record), 0.0)
        return [output]
    else:
        records.write(output, entry.record, time.time())
    return []


def _other_inputs(entry: Entry, digest: Callable[[str], str]) -> list[Path]:
    """Inputs that are here with other bytes than the output was made from."""
    here = {Path(on_this_machine(path)): checksum for path, checksum in entry.record.inputs.items() if checksum}
    return [path for path, checksum in here.items() if path.is_file() and digest(str(path)) != checksum]


def _is_of_another_run(track: str, entry: Entry) -> bool:
    """Whether an input that is not here has another entry than the output was made from, as after a merge."""
    absent = {path: checksum for path, checksum in entry.record.inputs.items() if not Path(path).exists()}
    known = {path: read(track, path) for path in absent}
    return any(other and absent[path] not in (None, other.sha256) for path, other in known.items())


def _make_older(path: Path, inputs: Iterable[Path]) -> None:
    """Make an output older than inputs: Snakemake compares the bytes of newer inputs alone."""
    times = [other.stat().st_mtime for other in inputs]
    if times and path.stat().st_mtime >= min(times):
        for follow in (True, False):  # Snakemake looks at a link's time as well
            os.utime(path, (min(times) - 1, min(times) - 1), follow_symlinks=follow)


def _refused(record: Record) -> Record:
    return replace(record, code=REFUSED)


def _write(track: str, output: str, entry: Entry) -> None:
    content = asdict(entry.record) | {"sha256": entry.sha256}
    write_text(entry_of(track, output), json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def _entry(track: str, output: str) -> Entry:
    record, known = records.read(output), read(track, output)
    if record is None:
        raise UserError(f"{output}: Snakemake has no record of it; expected the output of a finished job")
    if not Path(output).exists():
        if known is None or known.record != record:
            raise UserError(
                f"{output}: is not here, and the ledger has no entry for its record; expected the file once"
            )
        return known
    entry = Entry(sha256(output), record)
    # A record does not say which bytes were made. They are those if the file has not been written since, or if the
    # ledger already says so, as of files that DVC or git brought.
    if entry != known and Path(output).stat().st_mtime != records.ended(output):
        raise UserError(f"{output}: was written after its job ended; expected the bytes that the job made")
    return entry
