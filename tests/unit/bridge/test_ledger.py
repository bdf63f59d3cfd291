import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from isopose.bridge import ledger, records
from isopose.errors import UserError

B = Path("provenance/t/out/b.csv.json")


def test_an_entry_is_the_record_and_the_bytes_with_one_item_a_line(track):
    ledger.write("t", ledger.current("t", track.jobs))
    assert ledger.outputs("t") == ["out/a.json", "out/a.txt", "out/b.csv"]
    assert B.read_text() == (
        '{\n  "code": "cp {input} {output}",\n'
        f'  "inputs": {{\n    "out/a.txt": "{track.sha256("out/a.txt")}"\n  }},\n'
        '  "log": [\n    "out/log"\n  ],\n'
        '  "params": [\n    "\'{\\"seed\\": 1, \\"smoothness\\": 0.1}\'"\n  ],\n'
        '  "record_format_version": 6,\n  "rule": "last",\n'
        f'  "sha256": "{track.sha256("out/b.csv")}",\n'
        '  "software_stack_hash": "d41d8"\n}\n'
    )


def test_nothing_is_written_where_bytes_may_not_be_the_jobs(track):
    ledger.write("t", ledger.current("t", track.jobs))
    before = B.read_text()
    track.make("out/a.json", "edited")
    os.utime("out/a.json", (9, 9))
    track.record(track.last, "out/b.csv", code="other")
    with pytest.raises(UserError, match=r"^out/a.json: was written after its job ended; expected .*") as caught:
        ledger.write("t", ledger.current("t", track.jobs))
    assert "\n" not in str(caught.value)
    assert B.read_text() == before
    records.path_of("out/a.txt").unlink()
    with pytest.raises(UserError, match=r"^out/a.txt: Snakemake has no record of it; .* \(and 1 more"):
        ledger.write("t", ledger.current("t", track.jobs))


def test_files_that_were_brought_here_are_known_by_their_bytes(track):
    ledger.write("t", ledger.current("t", track.jobs))
    os.utime("out/b.csv", (9, 9))
    ledger.write("t", ledger.current("t", track.jobs))
    track.record(track.last, "out/b.csv", code="other")
    os.utime("out/b.csv", (8, 8))
    with pytest.raises(UserError, match="^out/b.csv: was written after"):
        ledger.write("t", ledger.current("t", track.jobs))


def test_an_output_that_is_not_here_keeps_its_entry_and_one_that_no_job_makes_loses_it(track):
    ledger.write("t", ledger.current("t", track.jobs))
    before = B.read_text()
    Path("out/b.csv").unlink()
    ledger.write("t", ledger.current("t", track.jobs))
    assert B.read_text() == before
    ledger.write("t", ledger.current("t", [track.first]))
    assert ledger.outputs("t") == ["out/a.json", "out/a.txt"]
    with pytest.raises(UserError, match="^out/b.csv: is not here, and the ledger has no entry"):
        ledger.write("t", ledger.current("t", track.jobs))


def test_installed_records_are_those_that_snakemake_had(track):
    before = {output: records.read(output) for job in track.jobs for output in job.outputs}
    ledger.write("t", ledger.current("t", track.jobs))
    for output in before:
        records.path_of(output).unlink()
    Path("out/a.txt").unlink()
    assert ledger.install("t") == []
    assert {output: records.read(output) for output in before} == before
    assert records.ended("out/b.csv") == Path("out/b.csv").stat().st_mtime


@pytest.mark.parametrize("forget", [False, True])
def test_other_bytes_are_named_and_have_no_record_that_agrees(track, forget):
    ledger.write("t", ledger.current("t", track.jobs))
    if forget:
        records.path_of("out/b.csv").unlink()
    time = os.stat("out/b.csv").st_mtime
    track.make("out/b.csv", "out/c.csv")
    os.utime("out/b.csv", (time, time))
    assert ledger.install("t") == ["out/b.csv"]
    assert records.read("out/b.csv") == replace(track.recorded(track.last), code=ledger.REFUSED)
    with pytest.raises(UserError, match="^out/b.csv: was written after"):
        ledger.write("t", ledger.current("t", track.jobs))
    track.make("out/b.csv", "out/b.csv")
    assert ledger.install("t") == []
    assert records.read("out/b.csv") == track.recorded(track.last)


@pytest.mark.parametrize("text", ["<<<<<<< ours\n", "[]", '{"sha256": "12"}', '{"code": "x"}'])
def test_a_file_that_is_no_entry_is_refused(track, text):
    ledger.write("t", ledger.current("t", track.jobs))
    B.write_text(text)
    with pytest.raises(UserError, match="^provenance/t/out/b.csv.json: is no entry of the ledger; expected") as caught:
        ledger.install("t")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [{"job_hash": 1}, {"inputs": []}, {"rule": None}, {"params": "[]"}, {"params": [["a"]]}, {"inputs": {"a": 1}}],
)
def test_an_entry_with_an_unknown_key_or_a_wrong_type_is_refused(track, change):
    ledger.write("t", ledger.current("t", track.jobs))
    B.write_text(json.dumps(json.loads(B.read_text()) | change))
    with pytest.raises(UserError, match="is no entry of the ledger; expected a JSON object of code, inputs, log"):
        ledger.read("t", "out/b.csv")


def test_an_entry_that_was_being_written_is_none(track):
    ledger.write("t", ledger.current("t", track.jobs))
    before = ledger.outputs("t")
    B.with_name(".b.csv.99999999.json").write_text('{"code": "x')
    assert ledger.outputs("t") == before
    assert ledger.install("t") == [] and ledger.follow("t") == []


def test_a_job_that_was_killed_has_ended_where_the_bytes_are_the_ledgers(track):
    ledger.write("t", ledger.current("t", track.jobs))
    for output in ("out/a.txt", "out/b.csv"):
        track.start(output)
    track.make("out/b.csv", "half")
    assert ledger.install("t") == ["out/b.csv"]
    assert not records.is_incomplete("out/a.txt") and records.is_incomplete("out/b.csv")


def test_a_track_without_a_ledger_is_told(track):
    with pytest.raises(UserError, match="^provenance/t: is not there; .*was not published; .*--track t` makes"):
        ledger.install("t")


def test_an_output_that_was_just_made_is_entered_beside_the_others(track):
    ledger.write("t", ledger.current("t", [track.first]))
    ledger.add("t", ["out/b.csv"])
    assert {output: ledger.read("t", output) for output in ledger.outputs("t")} == ledger.current("t", track.jobs)


@pytest.fixture
def entered(track):
    """The track with its ledger, in which b.csv has been written since its job ended, with the same bytes."""
    ledger.write("t", ledger.current("t", track.jobs))
    os.utime("out/b.csv", (9, 9))
    return track


def test_what_was_brought_here_gets_its_record_from_the_ledger(entered):
    expected = entered.recorded(entered.last)
    records.path_of("out/b.csv").unlink()
    records.path_of("out/a.txt").unlink()
    Path("out/a.txt").unlink()
    assert ledger.follow("t") == []
    assert records.read("out/b.csv") == expected
    assert records.ended("out/b.csv") == 9
    assert records.read("out/a.txt") is not None


def test_a_record_of_a_run_that_was_undone_gives_way_to_the_ledgers(entered):
    entered.record(entered.last, "out/b.csv", params=["'{}'"])
    os.utime("out/b.csv", (8, 8))
    assert ledger.follow("t") == []
    assert records.read("out/b.csv") == entered.recorded(entered.last)


@pytest.mark.parametrize("forget", [False, True])
def test_an_edited_output_is_refused_and_accepted_again_with_the_ledgers_bytes(entered, forget):
    if forget:
        records.path_of("out/b.csv").unlink()
    entered.make("out/b.csv", "edited")
    assert ledger.follow("t") == ledger.follow("t") == ["out/b.csv"]
    assert records.read("out/b.csv").code == ledger.REFUSED
    entered.make("out/b.csv", "out/b.csv")
    assert ledger.follow("t") == []
    assert records.read("out/b.csv") == entered.recorded(entered.last)


def test_results_that_the_ledger_does_not_know_keep_their_records_although_they_were_copied(entered):
    entered.make("out/b.csv", "new")
    entered.record(entered.last, "out/b.csv", params=["'{}'"])
    os.utime("out/b.csv", (7, 7))
    assert ledger.follow("t") == []
    assert records.read("out/b.csv") == entered.recorded(entered.last, params=["'{}'"])


def test_without_a_ledger_there_is_nothing_to_follow(track):
    assert ledger.follow("t") == []


def test_an_output_of_inputs_that_changed_is_made_older_than_they_are_so_that_snakemake_compares(track):
    ledger.write("t", ledger.current("t", track.jobs))
    track.make("src.txt", "changed")
    for path in ("src.txt", "out/a.json", "out/a.txt", "out/b.csv"):
        os.utime(path, (100, 100))
    assert ledger.install("t") == []
    assert [os.stat(path).st_mtime for path in ("out/a.txt", "out/b.csv")] == [99, 100]
    assert records.ended("out/a.txt") == 99


def test_entries_that_never_ran_together_are_refused_also_where_the_input_is_not_here(track):
    ledger.write("t", ledger.current("t", track.jobs))
    entry = Path("provenance/t/out/a.txt.json")
    entry.write_text(json.dumps(json.loads(entry.read_text()) | {"sha256": "0" * 64}))
    Path("out/a.txt").unlink()
    assert ledger.install("t") == ["out/b.csv"]
    assert records.read("out/b.csv").code == ledger.REFUSED
