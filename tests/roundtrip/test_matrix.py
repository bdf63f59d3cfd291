"""A few cells of the matrix; `python -m tests.roundtrip.matrix` runs all of it."""

import pytest

from tests.roundtrip.matrix import CHANGES, Cell, run_cell

pytestmark = pytest.mark.workflow

# The module's change is a comment, so that the same bytes come out; that of ISO is run in the author's own folder.
CELLS = [
    Cell("symlink", "all", "none", "after"),
    Cell("copy", "one table", "source module", "before"),
    Cell("hardlink", "all", "ISO parameter", "after"),
]


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.link}-{cell.pull}-{cell.change}-{cell.time}")
def test_exactly_what_depends_on_the_change_runs(cell, author, tmp_path):
    reference = author
    if cell.change == "ISO parameter":
        (tmp_path / "reference").mkdir()
        reference = author.copy(tmp_path / "reference")
        CHANGES[cell.change].edit(reference.folder)
        reference.snakemake()
    dependants, _ = run_cell(cell, author, reference, tmp_path / "clone")
    assert (dependants > 0) == (cell.change != "none")
