"""What failed, one line a job: Snakemake prints whole commands and their inputs, between which the reason is lost."""

import re
from collections.abc import Iterable
from pathlib import Path

SILENT = "ended without a message, killed or out of memory; the same command goes on from the finished jobs"
"""Said of a job whose log does not say why it ended."""

_FAILED = re.compile(r"^Error in rule (\w+):\n(?:.*\n)*?    log: (\S+)", re.MULTILINE)


def summary(logs: Iterable[Path | str]) -> list[str]:
    """The failed jobs in Snakemake's own logs: the rule, the reason from the job's log, and where that one is."""
    text = "".join(_read(Path(log)) for log in logs)
    jobs = dict.fromkeys(_FAILED.findall(text))
    return [f"error: {rule} failed: {reason(Path(path))} (log: {path})" for rule, path in jobs]


def reason(log: Path) -> str:
    """Why a job failed: its error line, else the last line of its traceback (a full disk, or a defect here)."""
    lines = _read(log).splitlines()
    for line in reversed(lines):
        if line.startswith("error: "):
            return line.removeprefix("error: ")
    if any(line.startswith("Traceback ") for line in lines):
        return f"unexpected {[line for line in lines if line.strip()][-1]}"
    return SILENT


def _read(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
