"""The result tables as files: their rows, and which cells of a row rest on which input of the table's job."""

import csv
import difflib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from isopose.errors import UserError

# Columns of isopose.reporting.tables that say what a row is, behind its label, and those of the paper's numbers, which
# rows of this name have in all columns.
_TEXTS = {"views", "metric", "average", "track", "dataset", "seeds", "run"}
_PAPER, _PAPERS_ROW = "paper_", "paper"
# Columns of the table of ISO that come from validation's choice, which also ends the label of the chosen row.
_CHOICE, _CHOSEN = ("validation_", "selected"), "iso/selected"


@dataclass(frozen=True)
class Row:
    """A row of a table: its number from 1, and its cells by column."""

    number: int
    cells: dict[str, str]

    @property
    def name(self) -> dict[str, str]:
        """The cells that name the row: the first one, to its label where it has one."""
        columns = list(self.cells)
        return {column: self.cells[column] for column in columns[: _last_name(columns) + 1]}

    @property
    def runs(self) -> list[str]:
        """The runs that the row shows."""
        return self.cells.get("run", "").split()


def is_table(path: str) -> bool:
    """Whether an output is the CSV of a table."""
    return PurePosixPath(path).match("reports/*/*/tables/*.csv")


def read(path: str) -> list[Row]:
    """The rows of a table. Errors: UserError for a file that is no table."""
    try:
        header, *lines = csv.reader(io.StringIO(Path(path).read_text(encoding="utf-8"), newline=""), strict=True)
    except (ValueError, csv.Error) as error:
        raise _malformed(path, " ".join(str(error).split())) from error
    if len(set(header)) < len(header) or not {"run", "method"} & set(header):
        raise _malformed(path, "its first line does not name the columns of a table, each once, 'run' among them")
    for number, line in enumerate(lines, 1):
        if len(line) != len(header):
            raise _malformed(path, f"row {number} has {len(line)} cells for {len(header)} columns")
    return [Row(number, dict(zip(header, line, strict=True))) for number, line in enumerate(lines, 1)]


def find(path: str, rows: list[Row], wanted: str) -> list[Row]:
    """The row with a number, or else all that a text names. Errors: UserError where there is none."""
    found = [row for row in rows if wanted == str(row.number)] or [row for row in rows if wanted in row.name.values()]
    if not found:
        names = dict.fromkeys(text for row in rows for text in row.name.values() if text)
        near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.4)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise UserError(f"{path}: has no row '{wanted}'; expected 1 to {len(rows)}, or the name or label of one{hint}")
    return found


def columns_on(row: Row, path: str) -> list[str]:
    """Columns of a row, those that are not empty, that rest on an input of the table's job."""
    filled = [column for column, text in row.cells.items() if text]
    file = PurePosixPath(path)
    if is_module(path):
        return filled
    if is_transcription(path):
        if "run" not in row.cells:  # a table of the paper as it was printed
            return filled
        is_own = row.cells.get("row") == _PAPERS_ROW
        return [column for column in filled if column != "row" and (is_own or column.startswith(_PAPER))]
    if file.name == "selection.json":
        label = ["label"] if row.cells.get("row") == _CHOSEN else []
        return label + [column for column in filled if column.startswith(_CHOICE)]
    if "measure" in row.cells:  # the 2D estimator's table: from the detections' quality or from the calibration
        is_calibration = row.cells["measure"].startswith("ece_")
        return ["value"] if is_calibration == (file.name == "calibration.json") else []
    if _method(path) not in row.runs:
        return []
    others = {*row.name, *_TEXTS}
    return [column for column in filled if column not in others and not column.startswith((_PAPER, *_CHOICE))]


def scores_of(row: Row, run: str, inputs: Iterable[str]) -> list[str]:
    """Inputs of the table's job that hold the scores of a run of a row."""
    if "measure" in row.cells:
        return [path for path in inputs if not is_module(path) and columns_on(row, path)]
    return [path for path in inputs if _method(path) == run]


def is_module(path: str) -> bool:
    """Whether an input is a module that the job runs."""
    return path.endswith(".py")


def is_transcription(path: str) -> bool:
    """Whether an input is a table of the paper's numbers."""
    return PurePosixPath(path).match("reporting/published/table*.csv")


def _method(path: str) -> str:
    """The run that a file of scores belongs to, as rows name it."""
    file = PurePosixPath(path)
    return f"{file.parent.name}/{file.stem}"


def _last_name(columns: list[str]) -> int:
    return columns.index("label") if "label" in columns else 0


def _malformed(path: str, reason: str) -> UserError:
    return UserError(
        f"{path}: is no table ({reason}); expected a CSV as isopose.reporting.tables writes it; make it again"
    )
