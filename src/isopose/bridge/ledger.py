"""The ledger of a track: what each output was made from and its own SHA-256, as files that git keeps and merges.

``provenance/<track>/<output>.json`` is Snakemake's record of an output, without what differs between machines, bound to
the bytes that the job made. Paths are relative to the current folder, which is the repository.
"""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from isopose.bridge import records
from isopose.bridge.graph import Job
from isopose.bridge.records import Record
from isopose.errors import UserError
from isopose.files import sha256, write_text

# The command of a record whose output is not what the ledger has. No rule has it, so Snakemake makes the output again;
# without a record it would take the output as it is.
REFUSED = "the bytes of the output are not those that the ledger has"
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


def outputs(track: str) -> list[str]:
    """Outputs that a track's ledger has, sorted."""
    top = folder(track)
    return sorted(path.relative_to(top).as_posix().removesuffix(".json") for path in top.rglob("*.json"))


def read(track: str, output: str) -> Entry | None:
    """An output's entry, None where there is none. Errors: UserError for a file that is not one."""
    path = _path(track, output)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        content = None
    known = isinstance(content, dict) and content.keys() == _KINDS.keys()
    if not known or not all(isinstance(content[key], kinds) for key, kinds in _KINDS.items()):
        raise UserError(f"{path}: is no entry of the ledger; expected a JSON object of {', '.join(_KINDS)} alone")
    return Entry(content.pop("sha256"), Record(**content))


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
        _path(track, output).unlink()
    for output, entry in entries.items():
        content = asdict(entry.record) | {"sha256": entry.sha256}
        write_text(_path(track, output), json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def install(track: str) -> list[str]:
    """Give Snakemake the ledger's record of every output that has the ledger's bytes or is not here.

    Returns the outputs with other bytes, sorted: Snakemake will make them again, whatever it had recorded of them.
    Errors: UserError where the track has no ledger, or an entry that cannot be read.
    """
    if not folder(track).is_dir():
        raise UserError(f"{folder(track)}: is not there; expected the ledger of the track '{track}'")
    refused = []
    for output in outputs(track):
        entry, path = read(track, output), Path(output)
        if not path.exists():
            records.write(output, entry.record, time.time())
        elif sha256(path) == entry.sha256:
            records.write(output, entry.record, path.stat().st_mtime)
        else:
            refused.append(output)
            records.write(output, Record(**vars(entry.record) | {"code": REFUSED}), 0.0)
    return refused


def _path(track: str, output: str) -> Path:
    return folder(track) / f"{output}.json"


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
