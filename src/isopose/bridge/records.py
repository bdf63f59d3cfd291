"""Snakemake's records of what each output was made from, which it keeps under ``.snakemake``.

Paths are relative to the current folder, which is the repository.
"""

import json
import os
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path

from isopose.bridge.graph import in_repository, on_this_machine

_FOLDER = Path(".snakemake/metadata")
_STARTED = Path(".snakemake/incomplete")
_LONGEST_NAME = 254  # of a file there, without the mark of a folder


@dataclass(frozen=True)
class Record:
    """What one output was made from.

    inputs: SHA-256 by path in the repository; None where Snakemake took none (a folder, or too large a file).
    params: the reprs of parameters, sorted. code: the rule's command, with its placeholders.
    """

    rule: str
    inputs: dict[str, str | None]
    params: list[str]
    code: str | None
    log: list[str]
    software_stack_hash: str
    record_format_version: int


def read(output: str) -> Record | None:
    """An output's record; None where there is none or, as for Snakemake, none that can be read."""
    raw = _read(output)
    if not raw:
        return None
    checksums = raw.get("input_checksums") or {}
    return Record(
        rule=raw.get("rule") or "",
        inputs={in_repository(path): _sha256(checksums.get(path)) for path in raw.get("input") or []},
        params=raw.get("params") or [],
        code=raw.get("code"),
        log=raw.get("log") or [],
        software_stack_hash=raw.get("software_stack_hash") or "",
        record_format_version=raw.get("record_format_version") or 0,
    )


def ended(output: str) -> float | None:
    """When the job that made an output ended: the file's time of change then, in seconds since 1970."""
    return _read(output).get("endtime")


def write(output: str, record: Record, time: float) -> None:
    """Make an output's record, as if its job had started and ended at a time in seconds since 1970."""
    inputs = {on_this_machine(path): checksum for path, checksum in record.inputs.items()}
    raw = vars(record) | {
        "input": sorted(inputs),
        "input_checksums": {path: f"sha256:{checksum}" for path, checksum in inputs.items() if checksum},
        "incomplete": False,
        "starttime": time,
        "endtime": time,
    }
    del raw["inputs"]
    path = path_of(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Snakemake takes a record that was cut short for none, and an output without one for a good one. The names there
    # may be too long for one more beside them.
    temporary = _FOLDER.with_name(f"record.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(raw), encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def is_incomplete(output: str) -> bool:
    """Whether an output's job has started and not ended: it runs, or was killed."""
    return _place(_STARTED, output).exists()


def complete(output: str) -> None:
    """Say of an output, whose bytes are known to be whole, that its job has ended."""
    _place(_STARTED, output).unlink(missing_ok=True)


def path_of(output: str) -> Path:
    """Where an output's record is."""
    return _place(_FOLDER, output)


def _place(folder: Path, output: str) -> Path:
    """Where Snakemake keeps a file of an output: its path in base 64, cut into folders where too long for a name."""
    name = urlsafe_b64encode(output.encode()).decode()
    parts = [name[start : start + _LONGEST_NAME] for start in range(0, len(name), _LONGEST_NAME)]
    return folder.joinpath(*(f"@{part}" for part in parts[:-1]), parts[-1])


def _read(output: str) -> dict:
    try:
        content = json.loads(path_of(output).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _sha256(checksum: str | None) -> str | None:
    return checksum and checksum.removeprefix("sha256:")
