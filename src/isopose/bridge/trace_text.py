"""What :mod:`isopose.bridge.trace` finds, for a reader."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from isopose.bridge.cells import Row
from isopose.bridge.trace import File, Resting, Run, Step, Track, run_of, steps

_WIDTH, _MARGIN = 120, 16
_EQUALS = "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"  # where lines are not cut
_ROWS = "rows."  # what a table's rows are called is in the table


def of_rows(track: Track, path: str, rows: list[Row]) -> str:
    """The way of rows of a table to raw data: their cells and runs, then the jobs, nearest first."""
    lines = []
    for row in rows:
        lines.append(f"{path}, row {row.number}: {_named(row)}")
        lines += _wrapped("cells", {key: text for key, text in row.cells.items() if text and key not in row.name})
    runs = {run: run_of(track, path, row, run) for row in rows for run in row.runs}
    lines += _field("runs", [f"{name}: {_of_run(run)}" for name, run in runs.items()])
    for alike in _siblings(steps(track, path, rows)):
        lines += ["", *_of_steps(alike)]
    return "\n".join(lines)


def of_resting(found: Resting, track: str) -> str:
    """What rests on a file: rows of tables that rest on it in the same columns together."""
    if not found.is_known:
        return f"{found.file.path}: nothing rests on it; no job of the track '{track}' reads or makes it"
    rows = sum(len(pairs or ()) for pairs in found.tables.values())
    lines = [
        _of_file(found.file),
        f"rests on it: rows of tables, {rows or 'none'}; outputs in all, {len(found.outputs) or 'none'}",
    ]
    for table, pairs in found.tables.items():
        if pairs is None:
            lines.append(f"{table}: rests on it and is not here")
            continue
        for columns, same in groupby(pairs, key=lambda pair: pair[1]):
            lines += textwrap.wrap(f"{table}: {', '.join(columns)}", _WIDTH, subsequent_indent="        ")
            lines += [f"    row {row.number}: {_named(row)}" for row, _ in same]
    return "\n".join(lines)


def _siblings(found: Iterable[Step]) -> list[list[Step]]:
    """Jobs of one rule on the same inputs together, where the last of them is: behind all that read what they made."""
    groups: dict[tuple, list[Step]] = {}
    for step in found:
        key = (step.job.rule, *(file.path for file in step.inputs))
        groups[key] = [step, *groups.pop(key, [])]
    return list(groups.values())


def _of_steps(alike: list[Step]) -> Iterator[str]:
    """A block on jobs of one rule that read the same inputs."""
    first = alike[0]
    values = {key: dict.fromkeys(step.job.wildcards[key] for step in alike) for key in first.job.wildcards}
    yield " ".join([first.job.rule, *(f"{key}={','.join(found)}" for key, found in values.items())])
    for run in (step.run for step in alike if step.run):
        yield from _field("run", [*filter(None, [run.content.get("key")]), _of_file(run.record)])
        yield from _wrapped("summary", {name: f"{value:.6g}" for name, value in run.content.get("summary", {}).items()})
    yield from _parameters(alike)
    yield from _field("since then", _each_once(step.since for step in alike))
    yield from _field("made", _each_once(map(_of_file, step.made) for step in alike))
    yield from _field("provenance", _each_once([step.provenance] for step in alike))
    yield from _field("from", _each_once(map(_of_file, step.inputs) for step in alike))
    yield from _field("raw data", _each_once(map(_of_file, step.raw) for step in alike))
    changed = _each_once((_of_file(file) for file in step.modules if file.changed) for step in alike)
    unknown = _each_once((file.path for file in step.modules if file.recorded is None) for step in alike)
    told = f"{len(changed) or 'none'} changed since"
    if unknown:
        told = f"of {len(unknown)} nobody recorded what they were" + (f", {told}" if changed else "")
    yield from _field("modules", [f"{len(first.modules)}, {told}", *changed])


def _parameters(alike: list[Step]) -> Iterator[str]:
    """The parameters that all jobs share, then those of each, behind the values of its wildcards that differ."""
    shared = set.intersection(*(set(step.parameters.items()) for step in alike))
    common = {key: text for key, text in alike[0].parameters.items() if (key, text) in shared}
    yield from _wrapped("parameters", {key: text for key, text in common.items() if not key.startswith(_ROWS)})
    for step in alike:
        own = {key: text for key, text in step.parameters.items() if (key, text) not in shared}
        differing = [key for key in step.job.wildcards if len({other.job.wildcards[key] for other in alike}) > 1]
        yield from _wrapped("", own, f"{' '.join(step.job.wildcards[key] for key in differing)}: ")


def _each_once(lines: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(line for several in lines for line in several))


def _of_run(run: Run | None) -> str:
    return run.content.get("key", run.record.path) if run else "nothing was trained or refined"


def _of_file(file: File) -> str:
    checksum = file.recorded or file.here
    said = [f"sha256 {checksum}" if checksum else "", file.note]
    if file.changed:
        said.append(f"changed since: here sha256 {file.here}")
    elif file.here is None:
        said.append("not here")
    elif file.recorded is None:
        said.append("as it is here")
    return "  ".join([file.path, ", ".join(filter(None, said))]).rstrip()


def _named(row: Row) -> str:
    return ", ".join(filter(None, row.name.values()))


def _wrapped(name: str, values: Mapping[str, str], start: str = "") -> list[str]:
    """Values by name behind a start, as many in a line as it holds; none where there are none."""
    if not values:
        return []
    text = start + ", ".join(f"{key}{_EQUALS}{value}" for key, value in values.items())
    lines = textwrap.wrap(text, _WIDTH - _MARGIN, break_long_words=False, break_on_hyphens=False)
    return _field(name, [line.replace(_EQUALS, " = ") for line in lines])


def _field(name: str, lines: Iterable[str]) -> list[str]:
    """Lines with a name before the first; none where there are none."""
    names = [f"    {name}"]
    return [f"{(names.pop() if names else ''):{_MARGIN}}{line}" for line in lines]
