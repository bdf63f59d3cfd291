"""Where the numbers of a table come from, down to raw data, and which of them rest on a file.

Paths are relative to the current folder, which is the repository. Files that are not here are known by the records.
"""

import difflib
import functools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isopose import tracking
from isopose.bridge import cells, changes, graph, ledger, records
from isopose.bridge.cells import Row
from isopose.bridge.graph import Job, on_this_machine
from isopose.bridge.records import Record
from isopose.datasets import raw_checksums
from isopose.datasets.official import RAW_VARIABLE
from isopose.datasets.preprocess import READERS
from isopose.datasets.sources import MIRROR_VARIABLE, reader_module
from isopose.errors import UserError
from isopose.files import sha256

_FOLDERS = ("reports", "results", "provenance")  # each has a folder for every track
_RULES = ("Snakefile", "params.yaml", "workflow", "profiles", "experiments")  # what the job graph is made from
# The rules that read raw data, and that copy run records to the report.
_SOURCE, _COPIES = "preprocess", "run_records"


@dataclass(frozen=True)
class File:
    """A file: its SHA-256 as recorded and as it is here, None where there is none; note: what else is to be said."""

    path: str
    recorded: str | None
    here: str | None
    note: str = ""

    @property
    def changed(self) -> bool:
        """Whether its bytes are not those of the record."""
        return None not in (self.recorded, self.here) and self.recorded != self.here


@dataclass(frozen=True)
class Run:
    """A run by its record, of which the report has a copy; content is empty where neither is here."""

    record: File
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """A job that a row rests on.

    made, inputs: files on the way to the row, modules apart. raw: what it reads that is no input. parameters: as shown,
    by name. provenance: where its record is. since: what the job would get otherwise now.
    """

    job: Job
    made: list[File]
    inputs: list[File]
    modules: list[File]
    raw: list[File]
    parameters: dict[str, str]
    provenance: str
    since: list[str]
    run: Run | None


@dataclass(frozen=True)
class Resting:
    """What rests on a file: outputs, and rows of tables with the columns; None for a table that is not here."""

    file: File
    is_known: bool
    outputs: list[str]
    tables: dict[str, list[tuple[Row, list[str]]] | None]


class Track:
    """The jobs of a track, each after those that make its inputs, and what is recorded of their files."""

    def __init__(self, name: str, jobs: Iterable[Job]) -> None:
        self.name = name
        self.jobs = graph.in_order(job for job in jobs if job.outputs)
        self.makers = graph.makers(self.jobs)
        copies = [job for job in self.jobs if job.rule == _COPIES]  # its first inputs are the records, in order
        self.copies = {record: copy for job in copies for record, copy in zip(job.inputs, job.outputs, strict=False)}
        self._digest = functools.cache(sha256)

    def digest(self, path: str) -> str | None:
        """The SHA-256 of a file as it is here, None where it is not."""
        here = on_this_machine(path)
        return self._digest(here) if Path(here).is_file() else None

    def record(self, output: str) -> Record | None:
        """An output's record: Snakemake's, or the ledger's where Snakemake has none or one of refused bytes."""
        record, entry = records.read(output), ledger.read(self.name, output)
        return entry.record if entry and (record is None or record.code == ledger.REFUSED) else record

    def output(self, path: str) -> File:
        """An output, with the SHA-256 of the bytes that its record is true of, as far as that is known."""
        record, entry, here = self.record(path), ledger.read(self.name, path), self.digest(path)
        if entry and entry.record == record:
            return File(path, entry.sha256, here)
        if here and record and Path(path).stat().st_mtime == records.ended(path):
            return File(path, here, here)  # nobody has written it since its job ended
        return File(path, None, here, "written after its job ended" if here and record else "no record")

    def tables(self) -> list[str]:
        """The tables of the track."""
        return sorted(filter(cells.is_table, self.makers))


def track_of(path: str, track: str | None) -> str:
    """The track that a path belongs to, or else the one asked for, or the demo. Errors: UserError where they differ."""
    parts = Path(relative(path)).parts
    own = parts[1] if len(parts) > 2 and parts[0] in _FOLDERS else None
    if own and track and own != track:
        raise UserError(f"{path}: belongs to the track '{own}'; expected one of '{track}'; type --track {own}")
    return own or track or "demo"


def relative(path: str) -> str:
    """A path as jobs name it, from wherever it is typed. Errors: UserError for none, or the folder itself."""
    if not path or os.path.relpath(path) == ".":
        raise UserError(f"trace: '{path}' is no file; expected the path of one")
    return graph.in_repository(os.path.relpath(path))


def table_rows(track: Track, path: str, wanted: str) -> list[Row]:
    """The rows of a table by number or name. Errors: UserError where the table or the row is not there."""
    tables = track.tables()
    if path not in tables:
        near = difflib.get_close_matches(path, tables, n=1)
        hint = f"did you mean {near[0]}?" if near else f"they are {', '.join(tables)}"
        raise UserError(f"{path}: is no table of the track '{track.name}'; expected the CSV of one; {hint}")
    if not Path(path).exists():
        raise UserError(
            f"{path}: is not here; expected the table of a finished run; type"
            f" `python -m isopose.bridge run --track {track.name}`, or, where it was published,"
            f" `python -m isopose.bridge restore --track {track.name} {path}`"
        )
    rows = cells.find(path, cells.read(path), wanted)
    for run in (run for row in rows for run in row.runs if not _scores(track, path, row, run)):
        raise UserError(
            f"{path}: names the run '{run}', which its job does not read; expected the table as it was made; type"
            f" `python -m isopose.bridge verify --track {track.name}`"
        )
    return rows


def steps(track: Track, path: str, rows: list[Row]) -> list[Step]:
    """The jobs that rows of a table rest on, each before those that made its inputs."""
    table, wanted, found = track.makers[path], {path}, []
    for job in reversed(track.jobs):
        if wanted.isdisjoint(job.outputs):
            continue
        inputs = [item for item in job.inputs if job is not table or any(cells.columns_on(row, item) for row in rows)]
        found.append(_step(track, job, [output for output in job.outputs if output in wanted], inputs))
        wanted.update(inputs)
    return found


def run_of(track: Track, path: str, row: Row, run: str) -> Run | None:
    """The nearest run behind the scores of a run that a row names; None where nothing was trained or refined."""
    level = _scores(track, path, row, run)
    while level:
        jobs = [track.makers[item] for item in level if item in track.makers]
        for job in jobs:
            if found := _run(track, job):
                return found
        level = list(dict.fromkeys(item for job in jobs for item in job.inputs))
    return None


def resting(track: Track, path: str) -> Resting:
    """What rests on a file. Errors: UserError for one that shapes the jobs themselves, or that is nowhere."""
    reached = {path: None}
    readers = [job for job in track.jobs if path in job.inputs or any(_is_in(path, raw) for raw in _raw(track, job))]
    for job in track.jobs:
        if job in readers or not reached.keys().isdisjoint(job.inputs):
            reached |= dict.fromkeys(job.outputs)
    is_known = bool(readers) or path in track.makers
    if not is_known:
        _check_unknown(track, path)
    tables = {table: _rows_on(track, table, path, reached) for table in track.tables() if table in reached}
    return Resting(_as_read(track, path, readers), is_known, [*reached][1:], tables)


def _scores(track: Track, path: str, row: Row, run: str) -> list[str]:
    return cells.scores_of(row, run, track.makers[path].inputs)


def _step(track: Track, job: Job, made: list[str], inputs: list[str]) -> Step:
    record, run = track.record(made[0]), _run(track, job)
    recorded = (run.content.get("inputs", {}) if run else {}) | (record.inputs if record else {})
    files = [_input(track, path, recorded.get(path)) for path in inputs]
    values = (
        [run.content["params"]] if run and run.content else changes.objects(record.params if record else job.params)
    )
    entry = Path(ledger.entry_of(track.name, made[0]))
    return Step(
        job=job,
        made=[track.output(path) for path in made],
        inputs=[file for file in files if not cells.is_module(file.path)],
        modules=[file for file in files if cells.is_module(file.path)],
        raw=_raw(track, job),
        parameters=changes.parameters(job, values),
        provenance=entry.as_posix() if entry.exists() else "Snakemake's own record alone" if record else "no record",
        since=changes.declared(job, record) if record else [],
        run=run,
    )


def _input(track: Track, path: str, recorded: str | None) -> File:
    """A file as a job read it; recorded: its SHA-256, None where none was taken."""
    if path in track.makers:
        return File(path, recorded or track.output(path).recorded, track.digest(path))
    note = "numbers of the paper, in git" if cells.is_transcription(path) else "made by no job"
    return File(path, recorded, track.digest(path), "" if cells.is_module(path) else note)


def _run(track: Track, job: Job) -> Run | None:
    """The run that a job is, by the record that it leaves."""
    for path in (path for path in job.outputs if Path(path).name == "record.json"):
        copy = track.copies.get(path, path)
        here = next((item for item in (copy, path) if Path(item).exists()), None)
        return Run(track.output(here or copy), tracking.read_record(Path(here)) if here else {})
    return None


def _raw(track: Track, job: Job) -> list[File]:
    """What a job reads that is no input: its reader's archive, or a licensed dataset's folder."""
    if job.rule != _SOURCE:
        return []
    record = track.record(job.outputs[0])
    (options,) = changes.objects(record.params if record else job.params)
    reader = options["reader"]
    if reader not in READERS:
        folder = Path(os.environ.get(RAW_VARIABLE) or "data/raw", reader).as_posix()
        return [File(folder, None, None, f"a folder; checksums of its label files: {raw_checksums.path_of(reader)}")]
    module = reader_module(reader)
    if not hasattr(module, "ARCHIVE"):
        return []  # it makes its motion from the parameters alone
    here = track.digest(Path(os.environ.get(MIRROR_VARIABLE, ""), module.ARCHIVE).as_posix())
    return [File(module.ARCHIVE, module.ARCHIVE_SHA256, here, f"or the files in it, by the checksums of {reader}")]


def _is_in(path: str, raw: File) -> bool:
    """Whether a path is an archive, wherever it lies, or in a folder of raw data."""
    full = Path(path).absolute()
    return full.as_posix().endswith(f"/{raw.path}") or full.is_relative_to(Path(raw.path).absolute())


def _as_read(track: Track, path: str, readers: Iterable[Job]) -> File:
    """A file as the first job read it that read other bytes than it has here, or else as it was made or read."""
    if path in track.makers:
        made = track.output(path)
        if made.changed:
            return made
    found = [
        _input(track, path, record.inputs.get(path)) for job in readers if (record := track.record(job.outputs[0]))
    ]
    found += [track.output(path) if path in track.makers else File(path, None, track.digest(path))]
    return next((file for file in found if file.changed), found[0])


def _rows_on(track: Track, table: str, file: str, reached: Mapping[str, None]) -> list[tuple[Row, list[str]]] | None:
    """Rows of a table, with the columns, that rest on a file, by way of those reached; all cells of the file itself."""
    if not Path(table).exists():
        return None
    inputs = [path for path in track.makers[table].inputs if path in reached]
    found = [
        (
            row,
            {*row.cells} if table == file else {c for path in inputs for c in cells.columns_on(row, path)},
        )
        for row in cells.read(table)
    ]
    return [(row, [c for c, text in row.cells.items() if text and c in columns]) for row, columns in found if columns]


def _check_unknown(track: Track, path: str) -> None:
    """Refuse a file that no job reads or makes where rows may rest on it all the same, or that is none."""
    parts = Path(path).parts
    if parts[0] in _RULES:
        raise UserError(
            f"{path}: shapes the jobs themselves; expected a file that jobs read or make; after a change of it,"
            f" `python -m isopose.bridge explain --track {track.name}` says what would run"
        )
    if parts[0] == ".cache":
        raise UserError(
            f"{path}: is read by a module, not as an input of a job; expected a file that jobs read or make; ask of the"
            " module, or of the archive that it is from"
        )
    if not Path(on_this_machine(path)).exists():
        near = difflib.get_close_matches(path, track.makers, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"{path}: is not here, and no job of the track '{track.name}' makes it{hint}")
    if Path(on_this_machine(path)).is_dir():
        raise UserError(f"{path}: is a folder; expected a file; name one that is in it")
