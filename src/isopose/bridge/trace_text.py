"""What :mod:`isopose.bridge.trace` finds, for a reader."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from isopose.bridge.cells import Row
from isopose.bridge.trace import File, Resting, Run, Step, Track, run_of, steps

_WIDTH, _MARGIN = 120, 16
_ROWS = "rows."  # what a table's rows are called is in the table


def of_rows(track: Track, path: str, rows: list[Row]) -> str:
    """The way of rows of a table to raw data: their cells and runs, then the jobs, nearest first."""
    lines = []
    for row in rows:
        lines.append(f"{path}, row {row.number}: {_named(row)}")
        lines += _wrapped("cells", {key: text for key, text in row.cells.items() if text and key not in row.name})
    runs = {run: run_of(track, path, row, run) for row in rows for run in row.runs}
    lines += _field("runs", [f"{name}: {_of_run(run)}" for name, run in runs.items()])
    for step in steps(track, path, rows):
        lines += ["", *_of_step(step)]
    return "\n".join(lines)


def of_resting(found: Resting, track: str) -> str:
    """What rests on a file: rows of tables that rest on it in the same columns together."""
    if not found.is_known:
        return f"{found.file.path}: nothing rests on it; no job of the track '{track}' reads or makes it"
    rows = sum(len(pairs or ()) for pairs in found.tables.values())
    lines = [
        _of_file(found.file),
        f"{rows or 'no'} rows of tables rest on it; {len(found.outputs) or 'no'} outputs in all",
    ]
    for table, pairs in found.tables.items():
        if pairs is None:
            lines.append(f"{table}: rests on it and is not here")
            continue
        for columns, same in groupby(pairs, key=lambda pair: pair[1]):
            lines += textwrap.wrap(f"{table}: {', '.join(columns)}", _WIDTH, subsequent_indent="        ")
            lines += [f"    row {row.number}: {_named(row)}" for row, _ in same]
    return "\n".join(lines)


def _of_step(step: Step) -> Iterator[str]:
    yield " ".join([step.job.rule, *(f"{key}={value}" for key, value in step.job.wildcards.items())])
    if step.run:
        yield from _field("run", [_of_run(step.run)])
        numbers = step.run.content.get("summary", {})
        yield from _wrapped("summary", {name: f"{value:.6g}" for name, value in numbers.items()})
    yield from _wrapped("parameters", {k: v for k, v in step.parameters.items() if not k.startswith(_ROWS)})
    yield from _field("since then", step.since)
    yield from _field("made", map(_of_file, step.made))
    yield from _field("provenance", [step.provenance])
    yield from _field("from", map(_of_file, step.inputs))
    yield from _field("raw data", map(_of_file, step.raw))
    changed = [file for file in step.modules if file.changed]
    yield from _field(
        "modules", [f"{len(step.modules)}, {len(changed) or 'none'} changed since", *map(_of_file, changed)]
    )


def _of_run(run: Run | None) -> str:
    if run is None:
        return "nothing was trained or refined"
    return f"{run.content.get('key', 'its record is not here')}, {_of_file(run.record)}"


def _of_file(file: File) -> str:
    checksum = file.recorded or file.here
    said = [f"sha256 {checksum}" if checksum else "", file.note]
    if file.changed:
        said.append(f"changed since: here sha256 {file.here}")
    elif file.here is None:
        said.append("not here")
    elif file.recorded is None:
        said.append("as it is here, none was recorded")
    return "  ".join([file.path, ", ".join(filter(None, said))]).rstrip()


def _named(row: Row) -> str:
    return ", ".join(filter(None, row.name.values()))


def _wrapped(name: str, values: Mapping[str, str]) -> list[str]:
    """Values by name, as many in a line as it holds."""
    text = ", ".join(f"{key} = {value}" for key, value in values.items())
    return _field(name, textwrap.wrap(text, _WIDTH - _MARGIN, break_long_words=False, break_on_hyphens=False))


def _field(name: str, lines: Iterable[str]) -> list[str]:
    """Lines with a name before the first; none where there are none."""
    names = [f"    {name}"]
    return [f"{(names.pop() if names else ''):{_MARGIN}}{line}" for line in lines]
