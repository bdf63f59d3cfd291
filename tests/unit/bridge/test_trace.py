import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from isopose.bridge import cells, ledger, records, trace, trace_text
from isopose.bridge.trace import File
from isopose.errors import UserError

TABLE = "reports/t/e/tables/iso.csv"
MOTION = "results/t/sequences/s.h5"
SELECTION = "results/t/e/iso/selection.json"
PRINTED = "reporting/published"  # under src/isopose it would be the package that runs
LINES = [
    "row,label,clean_mpjpe,paper_mpjpe,track,seeds,run,validation_last,selected",
    'iso/a,"Weights, soft",88.329,41.2,t,,iso/a,124.1,False',
    "iso/b,Weights of one,89.5,,t,,iso/b,125.2,True",
    "iso/selected,ISO: Weights of one,87.1,,t,,iso/b,,False",
]


def poses(name):
    return f"results/t/e/poses/test/iso/{name}.h5"


def scores(name):
    return f"results/t/e/scores/test/iso/{name}.csv"


def run_record(name):
    return f"results/t/e/iso/test/{name}/record.json"


def copy(name):
    return f"reports/t/records/e/iso/test/{name}.json"


@pytest.fixture
def repository(track):
    """A track whose table of ISO has two runs, on motion that is generated."""
    track.make("code.py", "code")
    job = track.job
    jobs = [replace(job("preprocess", ["code.py"], [MOTION]), params=("""'{"reader": "synthetic", "seed": 7}'""",))]
    for name in ("a", "b"):
        jobs += [
            job("refine", [MOTION, "code.py"], [poses(name), run_record(name)]),
            job("evaluate", [poses(name), "code.py"], [scores(name)]),
        ]
    jobs += [
        job("select_weighting", [MOTION], [SELECTION]),
        job("table", [scores("a"), scores("b"), SELECTION, "code.py"], [TABLE]),
        job("figure", [poses("a"), "out.txt"], ["reports/t/e/figures/f.svg"]),
        job("run_records", [run_record("a"), run_record("b"), "code.py"], [copy("a"), copy("b")]),
    ]
    track.make("out.txt", "of no table")
    for output in (output for job in jobs for output in job.outputs):
        track.make(output, output)
    for name in ("a", "b"):
        content = {"format": 1, "key": f"t/e/iso/test/{name}", "parent": None, "tags": {}, "metrics": {}}
        for path in (run_record(name), copy(name)):
            track.make(
                path,
                json.dumps(content | {"params": {"smoothness": 0.25}, "summary": {"mpjpe_after": 80.5}, "inputs": {}}),
            )
    track.make(TABLE, "\n".join(LINES) + "\n")
    for made in jobs:
        for output in made.outputs:
            track.record(made, output)
    track.jobs = jobs
    return track


def found(repository):
    return trace.Track("t", repository.jobs)


def row(repository, wanted):
    return trace.table_rows(found(repository), TABLE, wanted)


def printed(repository, wanted="1"):
    return trace_text.of_rows(found(repository), TABLE, row(repository, wanted))


def resting(repository, path):
    """Columns by number of the row, of the table, that rest on a file."""
    tables = trace.resting(found(repository), path).tables
    return {row.number: columns for row, columns in tables.get(TABLE, [])}


def checksum(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def edit(path, text="edited"):
    """Other bytes at the same time."""
    times = os.stat(path).st_mtime_ns
    Path(path).write_text(text)
    os.utime(path, ns=(times, times))


def test_a_row_is_found_by_number_name_or_label(repository):
    for wanted in ("1", "iso/a", "Weights, soft"):
        assert [row.number for row in row(repository, wanted)] == [1]
    (first,) = row(repository, "1")
    assert first.cells["clean_mpjpe"] == "88.329" and first.runs == ["iso/a"]


def test_a_name_of_several_rows_finds_them_all(tmp_path):
    path = tmp_path / "actions.csv"
    path.write_text("row,label,views,run\nbase,Base,clean,base/seed1\nbase,Base,occluded,base/seed1\n")
    rows = cells.read(str(path))
    assert cells.find(str(path), rows, "Base") == rows


def test_the_jobs_of_a_row_are_those_that_it_rests_on_nearest_first(repository):
    steps = trace.steps(found(repository), TABLE, row(repository, "iso/a"))
    rules = [step.job.rule for step in steps]
    assert rules[0] == "table" and rules[-1] == "preprocess"
    assert sorted(rules) == ["evaluate", "preprocess", "refine", "select_weighting", "table"]
    by_rule = {step.job.rule: step for step in steps}
    assert [file.path for file in by_rule["table"].inputs] == [scores("a"), SELECTION]
    assert [file.path for file in by_rule["refine"].made] == [poses("a")]
    assert [file.path for file in by_rule["refine"].modules] == ["code.py"]


def test_every_file_has_the_checksum_of_its_bytes(repository):
    for step in trace.steps(found(repository), TABLE, row(repository, "1")):
        for file in (*step.made, *step.inputs, *step.modules):
            assert (file.recorded, file.here, file.note) == (checksum(file.path),) * 2 + ("",)


def test_a_run_is_named_with_its_record_numbers_and_parameters(repository):
    text = printed(repository)
    assert "    runs        iso/a: t/e/iso/test/a\n" in text
    record = f"{copy('a')}  sha256 {checksum(copy('a'))}"
    assert f"    run         t/e/iso/test/a\n{'':16}{record}\n" in text
    assert "    summary     mpjpe_after = 80.5\n    parameters  iso.smoothness = 0.25\n" in text
    assert "iso/test/b" not in text


def test_a_runs_record_is_taken_from_the_results_where_the_report_has_none(repository):
    Path(copy("a")).unlink()
    assert f"    run         t/e/iso/test/a\n{'':16}{run_record('a')}  sha256 " in printed(repository)
    Path(run_record("a")).unlink()
    assert f"    run         {copy('a')}  no record, not here\n" in printed(repository)


def test_jobs_of_one_rule_on_the_same_inputs_are_told_together(repository):
    """The two runs of ISO: what they share once, what is each one's own behind its name."""
    for number, name, smoothness in ((1, "a", 0.25), (3, "b", 0.5)):
        repository.jobs[number] = replace(repository.jobs[number], wildcards={"name": "x", "weighting": name})
        content = json.loads(Path(copy(name)).read_text()) | {"key": name, "summary": {}}
        repository.make(copy(name), json.dumps(content | {"params": {"seed": 3, "smoothness": smoothness}}))
    rows = cells.read(TABLE)[:2]
    text = trace_text.of_rows(found(repository), TABLE, rows)
    blocks = [block for block in text.split("\n\n") if block.startswith("refine ")]
    assert [block.splitlines()[0] for block in blocks] == ["refine name=x weighting=a,b"]
    assert f"    parameters  seed = 3\n{'':16}a: iso.smoothness = 0.25\n{'':16}b: iso.smoothness = 0.5\n" in blocks[0]
    assert blocks[0].count(f"{MOTION}  sha256 ") == 1 and poses("a") in blocks[0] and poses("b") in blocks[0]


def test_generated_motion_has_its_seed_and_no_raw_file(repository):
    last = printed(repository).split("\n\n")[-1]
    assert last.startswith("preprocess name=x\n") and 'reader = "synthetic", seed = 7\n' in last
    assert "raw data" not in last


@pytest.mark.parametrize("published", [False, True])
def test_an_input_that_changed_since_is_told(repository, published):
    if published:
        ledger.write("t", ledger.current("t", repository.jobs))
    before = checksum(MOTION)
    assert "changed since: " not in printed(repository)
    edit(MOTION)
    line = f"{MOTION}  sha256 {before}, changed since: here sha256 {checksum(MOTION)}\n"
    assert f"    from        {line}" in printed(repository)
    assert (f"    made        {line}" in printed(repository)) == published  # without a ledger its time alone tells


def test_an_output_written_after_its_job_ended_is_told(repository):
    Path(TABLE).write_text("\n".join(LINES))
    assert ", written after its job ended, as it is here\n" in printed(repository)


@pytest.mark.parametrize("path", ["", ".", "results/.."])
def test_no_path_is_told(path):
    with pytest.raises(UserError, match=f"^trace: '{path}' is no file; expected the path of one$"):
        trace.track_of(path, None)


def test_a_module_of_which_nobody_knows_what_it_was_is_not_said_to_be_unchanged(repository):
    for path in Path(".snakemake/metadata").iterdir():
        path.unlink()
    assert "    modules     1, of 1 nobody recorded what they were\n" in printed(repository)


def test_a_module_that_changed_since_is_the_only_one_named(repository):
    assert "    modules     1, none changed since" in printed(repository)
    before = checksum("code.py")
    edit("code.py")
    assert f"    modules     1, 1 changed since\n{'':16}code.py  sha256 {before}, changed since: " in printed(
        repository
    )


def test_a_parameter_that_is_otherwise_now_is_told(repository):
    job = replace(repository.jobs[1], params=("""'{"seed": 1, "smoothness": 0.9}'""",))
    repository.jobs[1] = job
    assert "    since then  parameter iso.smoothness: 0.1 -> 0.9\n" in printed(repository)


def test_what_is_not_here_is_known_from_the_ledger(repository):
    ledger.write("t", ledger.current("t", repository.jobs))
    whole = printed(repository)
    expected = {path: checksum(path) for path in (MOTION, poses("a"), scores("a"))}
    for path in expected:
        Path(path).unlink()
    for job in repository.jobs:
        for output in job.outputs:
            records.path_of(output).unlink()
    text = printed(repository)
    for path, digest in expected.items():
        assert f"{path}  sha256 {digest}, not here\n" in text
    assert text.replace(", not here", "") == whole
    assert f"    provenance  {ledger.entry_of('t', poses('a'))}\n" in text


def test_without_any_record_that_is_said(repository):
    records.path_of(poses("a")).unlink()
    block = next(block for block in printed(repository).split("\n\n") if block.startswith("refine"))
    assert "    provenance  no record\n" in block
    assert f"from        {MOTION}  sha256 {checksum(MOTION)}\n" in block


def test_a_file_made_by_no_job_is_told_apart(repository):
    steps = trace.steps(found(repository), TABLE, row(repository, "1"))
    assert all(file.note == "" for step in steps for file in step.inputs)
    repository.jobs[0] = replace(repository.jobs[0], inputs=("out.txt",))
    assert "out.txt  sha256 " in printed(repository) and ", made by no job" in printed(repository)


def test_the_raw_archive_has_the_checksum_that_its_reader_demands(repository, monkeypatch):
    params = ("""'{"reader": "cmu_mocap", "seed": 7}'""",)
    repository.jobs[0] = replace(repository.jobs[0], params=params)
    repository.record(repository.jobs[0], MOTION)
    raw = "cmu_mocap/cmu_mocap.tar.xz"
    assert f"    raw data    {raw}  sha256 b39fa53c" in printed(repository)
    repository.make(f"mirror/{raw}", "other bytes")
    monkeypatch.setenv("ISOPOSE_DATA_MIRROR", "mirror")
    assert f"changed since: here sha256 {checksum(f'mirror/{raw}')}" in printed(repository)
    assert set(resting(repository, f"mirror/{raw}")) == {1, 2, 3}


def test_a_table_of_the_paper_rests_on_its_transcription_alone(repository):
    path, source = "reports/t/published/tables/published_7.csv", f"{PRINTED}/table7.csv"
    job = replace(repository.job("published_table", [source, "code.py"], [path]), wildcards={"number": "7"})
    repository.make(source, "of the paper")
    repository.make(path, "method,mpjpe,note\nours,45.0,\n")
    repository.record(job, path)
    repository.jobs.append(job)
    ((table, [(row, columns)]),) = trace.resting(found(repository), source).tables.items()
    assert (table, row.number, columns) == (path, 1, ["method", "mpjpe"])
    text = trace_text.of_rows(found(repository), path, [row])
    assert f"from        {source}  sha256 {checksum(source)}, numbers of the paper, in git" in text
    edit(source)
    text = trace_text.of_rows(found(repository), path, [row])
    assert f"changed since: here sha256 {checksum(source)}" in text


def test_the_papers_numbers_in_a_table_rest_on_their_transcription(repository):
    source = f"{PRINTED}/table2.csv"
    table = next(job for job in repository.jobs if job.outputs == (TABLE,))
    with_paper = replace(table, inputs=(source, *table.inputs))
    repository.jobs[repository.jobs.index(table)] = with_paper
    repository.make(source, "of the paper")
    repository.record(with_paper, TABLE)
    assert resting(repository, source) == {1: ["paper_mpjpe"]}
    assert source in printed(repository, "1") and source not in printed(repository, "2")


def test_all_of_a_row_of_the_paper_rests_on_its_transcription():
    cells_of = {"row": "paper", "label": "Ours, paper", "p_mpjpe_S1 Jog": "10.8", "track": "", "run": "", "note": "x"}
    source = f"{PRINTED}/table4.csv"
    assert cells.columns_on(cells.Row(9, cells_of), source) == ["label", "p_mpjpe_S1 Jog", "note"]
    assert cells.columns_on(cells.Row(1, cells_of | {"row": "base"}), source) == []


def test_licensed_data_is_a_folder_with_checksums_in_a_file(repository):
    params = ("""'{"reader": "human36m", "seed": 7}'""",)
    repository.jobs[0] = replace(repository.jobs[0], params=params)
    repository.record(repository.jobs[0], MOTION)
    where = "checksums of its label files: .cache/isopose/checksums/human36m.json"
    assert f"    raw data    data/raw/human36m  a folder; {where}" in printed(repository)
    assert set(resting(repository, "data/raw/human36m/S9/Videos.tgz")) == {1, 2, 3}


def test_the_cells_that_rest_on_a_file_are_those_made_from_it(repository):
    assert resting(repository, poses("a")) == {1: ["clean_mpjpe"]}
    assert resting(repository, scores("b")) == {2: ["clean_mpjpe"], 3: ["clean_mpjpe"]}
    choice = ["validation_last", "selected"]
    assert resting(repository, SELECTION) == {1: choice, 2: choice, 3: ["label", "selected"]}
    assert resting(repository, MOTION)[3] == ["label", "clean_mpjpe", "selected"]


def test_every_cell_rests_on_a_module_of_the_tables_job_and_on_the_table_itself(repository):
    (first, _, _) = cells.read(TABLE)
    filled = [column for column, text in first.cells.items() if text]
    assert resting(repository, "code.py")[1] == filled == resting(repository, TABLE)[1]


def test_the_estimators_errors_of_calibration_rest_on_the_calibration_alone():
    quality, calibration = "results/t/e/detections/test.json", "results/t/e/calibration/calibration.json"
    for measure, expected in (("pckh", quality), ("ece_platt", calibration)):
        row = cells.Row(1, {"measure": measure, "label": "x", "value": "0.9", "run": "e/estimator"})
        assert cells.scores_of(row, "e/estimator", [quality, calibration, "code.py"]) == [expected]
        assert cells.columns_on(row, expected) == ["value"]


def test_the_rows_that_rest_on_a_file_are_printed_by_columns(repository):
    text = trace_text.of_resting(trace.resting(found(repository), SELECTION), "t")
    assert text.splitlines() == [
        f"{SELECTION}  sha256 {checksum(SELECTION)}",
        "rests on it: rows of tables, 3; outputs in all, 1",
        f"{TABLE}: validation_last, selected",
        "    row 1: iso/a, Weights, soft",
        "    row 2: iso/b, Weights of one",
        f"{TABLE}: label, selected",
        "    row 3: iso/selected, ISO: Weights of one",
    ]


def test_a_file_that_no_row_rests_on_is_told_as_such(repository):
    text = trace_text.of_resting(trace.resting(found(repository), "out.txt"), "t")
    assert text.endswith("\nrests on it: rows of tables, none; outputs in all, 1")
    repository.make("stray.txt", "read by nobody")
    text = trace_text.of_resting(trace.resting(found(repository), "stray.txt"), "t")
    assert text == "stray.txt: nothing rests on it; no job of the track 't' reads or makes it"


def test_a_file_with_other_bytes_than_were_read_is_told_as_such(repository):
    assert trace.resting(found(repository), MOTION).file == File(MOTION, checksum(MOTION), checksum(MOTION))
    before = checksum(MOTION)
    edit(MOTION)
    assert trace.resting(found(repository), MOTION).file == File(MOTION, before, checksum(MOTION))


def test_a_table_that_is_not_here_is_named_without_rows(repository):
    Path(TABLE).unlink()
    text = trace_text.of_resting(trace.resting(found(repository), MOTION), "t")
    assert text.endswith(f"\n{TABLE}: rests on it and is not here")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("params.yaml", "params.yaml: shapes the jobs themselves; "),
        ("workflow/rules/iso.smk", "explain --track t` says what would run"),
        (".cache/isopose/cmu_mocap-1/x.bvh", "is read by a module, not as an input of a job; "),
        (".cache/isopose/cmu_mocap-1/x.bvh", "or of the archive that it is from"),
        ("src/isopose/nope.py", "src/isopose/nope.py: is not here, and no job of the track 't' makes it"),
        ("results", "results: is a folder; expected a file; name one that is in it"),
        ("results/t/sequences/t.h5", f"no job of the track 't' makes it; did you mean {MOTION}?"),
    ],
)
def test_a_file_whose_rows_the_jobs_do_not_tell_is_refused(repository, path, said):
    with pytest.raises(UserError) as error:
        trace.resting(found(repository), path)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("0", "has no row '0'; expected 1 to 3, or the name or label of one"),
        ("4", "has no row '4'; "),
        ("iso/aa", "; did you mean 'iso/a'?"),
    ],
)
def test_a_row_that_is_not_there_is_refused_with_the_nearest(repository, wanted, said):
    with pytest.raises(UserError, match=f"^{TABLE}: ") as error:
        row(repository, wanted)
    assert said in str(error.value)


def test_a_table_that_is_not_there_is_refused_with_the_nearest_or_with_what_makes_it(repository):
    with pytest.raises(UserError, match=f"is no table of the track 't'; .* did you mean {TABLE}"):
        trace.table_rows(found(repository), "reports/t/e/tables/isos.csv", "1")
    Path(TABLE).unlink()
    with pytest.raises(UserError, match=f"python -m isopose.bridge run --track t`.*restore --track t {TABLE}`"):
        row(repository, "1")


def test_a_row_of_a_run_that_the_table_was_not_made_from_is_refused(repository):
    edit(TABLE, "\n".join([LINES[0], LINES[1].replace(",iso/a,", ",iso/c,")]))
    with pytest.raises(UserError, match="names the run 'iso/c', which its job does not read; .*verify --track t"):
        row(repository, "1")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"row,label,run\nx,y\n",
        b"row,row,run\nx,y,z\n",
        b"some text\n",
        b'row,label,run\n"x,y,z\n',
        b"row,label,run\nx,\xff,z\n",
        b"row,label,run\nx,\0,z\n\x89PNG",
    ],
)
def test_a_file_that_is_no_table_is_refused_in_one_line(repository, content):
    Path(TABLE).write_bytes(content)
    with pytest.raises(UserError, match=f"^{TABLE}: is no table .* make it again$"):
        row(repository, "1")


def test_the_track_is_that_of_the_path_or_the_one_asked_for(repository):
    assert trace.track_of(TABLE, None) == trace.track_of(TABLE, "t") == trace.track_of("src.txt", "t") == "t"
    assert trace.track_of("src.txt", None) == "demo"
    assert trace.track_of(os.path.abspath(TABLE), None) == "t"
    with pytest.raises(UserError, match="belongs to the track 't'; expected one of 'open'; type --track t"):
        trace.track_of(TABLE, "open")


def test_a_path_is_named_as_in_the_repository(repository):
    module = Path(cells.__file__)
    assert trace.relative(str(module)) == "src/isopose/bridge/cells.py"
    assert trace.relative(os.path.abspath(TABLE)) == trace.relative(f"./{TABLE}") == TABLE


def test_tables_of_the_paper_are_read_too():
    for path in (Path(__file__).parents[3] / "reports/open").glob("*/tables/*.csv"):
        rows = cells.read(str(path))
        assert [row.number for row in rows] == [*range(1, len(rows) + 1)]
        assert all(row.runs for row in rows) or path.parent.parent.name == "published"
