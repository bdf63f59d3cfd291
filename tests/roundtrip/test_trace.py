import csv
import hashlib
import json
import re
import sys

import pytest

from tests.roundtrip.conftest import TABLE, Clone, bridge

pytestmark = pytest.mark.workflow

LABELLED = "results/smoke/labelled/synthetic.h5"
POSES = "results/smoke/synthetic/poses/test/iso/constant.h5"
# A file's path and SHA-256, as lines of a trace have them.
FILE = re.compile(r"(\S+/\S+)  sha256 ([0-9a-f]{64})(.*)")
EVERY_ROW = """
import json
from isopose.bridge import cells, graph, trace, trace_text

track = trace.Track("smoke", graph.jobs("smoke"))
texts = {f"{t} {row.number}": trace_text.of_rows(track, t, [row]) for t in track.tables() for row in cells.read(t)}
print(json.dumps(texts))
"""


@pytest.fixture(scope="module")
def clone(author, tmp_path_factory):
    """A fresh clone after restore: intermediates that did not ship are not here."""
    clone = Clone(author, tmp_path_factory.mktemp("trace") / "clone")
    bridge(clone, "restore")
    return clone


def every_row(project):
    """What is printed of every row of every table, by table and number."""
    return json.loads(project.run(sys.executable, "-c", EVERY_ROW).stdout)


def rows_of(project):
    """The cells of every row of every table of the track's own numbers, by table and number."""
    tables = sorted(project.folder.glob("reports/smoke/synthetic/tables/*.csv"))
    lines = {path: rows_in(project, path) for path in (str(table.relative_to(project.folder)) for table in tables)}
    return {f"{table} {number}": row for table, rows in lines.items() for number, row in enumerate(rows, 1)}


def rows_in(project, path):
    """The cells of the rows of a table."""
    return list(csv.DictReader((project.folder / path).read_text().splitlines()))


def resting(project, path):
    """Rows, by table and number, that are said to rest on a file."""
    found, table = set(), None
    for line in bridge(project, "trace", "--from", path).stdout.splitlines():
        if row := re.match(r"    row (\d+): ", line):
            found.add(f"{table} {row[1]}")
        elif line.startswith("reports/"):
            table = line.split(":")[0]
    return found


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_row_of_every_table_traces_to_its_runs_and_the_sources_seed(smoke):
    texts = every_row(smoke)
    rows = rows_of(smoke)
    assert len(rows) > 50 and rows.keys() <= texts.keys()
    for name, row in rows.items():
        blocks = texts[name].split("\n\n")
        assert blocks[0].startswith(f"{name.split()[0]}, row {name.split()[1]}: ")
        for run in row["run"].split():
            key = re.search(rf"\b{run}: (smoke/synthetic/\S+)", blocks[0])[1]
            assert key.endswith(f"/{run.split('/')[-1]}")
            record = re.search(rf" {key}\n +(reports/smoke/records/\S+\.json)  sha256 ", texts[name])[1]
            assert json.loads((smoke.folder / record).read_text())["key"] == key
        source = next(block for block in blocks if block.startswith("preprocess source=synthetic\n"))
        assert 'sources.synthetic.reader = "synthetic"' in source and re.search(r"\bseed = \d", source)


def test_the_checksums_of_a_row_are_those_of_the_bytes(smoke):
    for text in every_row(smoke).values():
        assert "changed since: " not in text and "no record" not in text and "since then" not in text
        for path, checksum, said in FILE.findall(text):
            assert checksum == sha256(smoke.folder / path)
            assert said == "" or "/published/" in path


def test_in_a_restored_clone_a_row_traces_by_the_ledger(author, clone):
    texts, own = every_row(clone), every_row(author)
    absent = {path for text in texts.values() for path, _, said in FILE.findall(text) if said == ", not here"}
    assert LABELLED in absent and POSES not in absent
    assert all(sha256(author.folder / path) in texts[f"{TABLE} 2"] for path in (LABELLED, POSES))
    assert {name: text.replace(", not here", "") for name, text in texts.items()} == own
    assert "    provenance  provenance/smoke/results/smoke/sequences/synthetic.h5.json\n" in texts[f"{TABLE} 1"]


def test_all_rows_rest_on_the_labelled_store_and_those_of_one_weighting_on_its_poses(clone):
    rows = rows_of(clone)
    assert resting(clone, LABELLED) == rows.keys()
    shown = {name for name, row in rows.items() if "iso/constant" in row["run"].split()}
    assert resting(clone, POSES) == shown != set()
    assert resting(clone, "src/isopose/datasets/synthetic.py") == rows.keys()


def test_validations_poses_are_of_no_row_and_its_traces_of_the_choice(clone):
    folder = "results/smoke/synthetic"
    assert resting(clone, f"{folder}/poses/validation/iso/constant.h5") == set()
    rows = rows_of(clone)
    chosen = {name for name, row in rows.items() if name.startswith(TABLE) or "iso/selected" in row["run"].split()}
    assert resting(clone, f"{folder}/iso/selection.json") == chosen
    assert resting(clone, f"{folder}/iso/validation/constant/trace.csv") >= resting(
        clone, f"{folder}/iso/selection.json"
    )


def test_the_papers_own_table_traces_to_its_transcription(clone):
    path, source = "reports/smoke/published/tables/published_7.csv", "src/isopose/reporting/published/table7.csv"
    line = f"    from        {source}  sha256 {sha256(clone.folder / source)}, numbers of the paper, in git"
    assert line in bridge(clone, "trace", path, "1").stdout
    assert resting(clone, source) == {f"{path} {number}" for number in range(1, len(rows_in(clone, path)) + 1)}


def test_a_swapped_file_is_told_by_both_ways(clone):
    path = clone.folder / POSES
    content = path.read_bytes()
    path.unlink()  # it may be a link to the cache
    path.write_bytes(b"other")
    change = f"{POSES}  sha256 {hashlib.sha256(content).hexdigest()}, changed since: here sha256 {sha256(path)}\n"
    printed = bridge(clone, "trace", TABLE, "iso/constant").stdout
    assert printed.count(change) == 2  # as it was made, and as it was scored
    assert change in bridge(clone, "trace", "--from", POSES).stdout
    path.write_bytes(content)
    assert "changed since: " not in bridge(clone, "trace", TABLE, "iso/constant").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("trace", "reports/smoke/synthetic/tables/isos.csv", "1"), f"did you mean {TABLE}?"),
        (("trace", TABLE, "iso/constnat"), "did you mean 'iso/constant'?"),
        (("trace", TABLE), "expected a table and a row, or --from and a file"),
        (("trace", "reports/open/cmu_mocap/tables/iso.csv", "1"), "belongs to the track 'open'"),
        (("trace", "--from", "nowhere"), "no job of the track 'smoke' makes it"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(clone, arguments, said):
    done = bridge(clone, *arguments, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert said in done.stderr


def test_before_anything_has_run_that_is_said(author, tmp_path):
    clone = Clone(author, tmp_path / "clone")
    done = bridge(clone, "trace", TABLE, "1", check=False)
    assert f"{TABLE}: is not here; " in done.stderr and "restore --track smoke" in done.stderr
    assert f"{TABLE}: rests on it and is not here" in bridge(clone, "trace", "--from", LABELLED).stdout
