import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

from isopose.bridge import ledger, records, verification


def problems(track, *jobs):
    return verification.problems("t", jobs or track.jobs)


def short(track, text):
    return track.sha256(text)[:8]


def test_all_agrees_with_and_without_a_ledger_and_without_an_intermediate(track):
    assert problems(track) == []
    track.publish(track.jobs)
    assert problems(track) == []
    Path("out/a.txt").unlink()
    assert problems(track) == []


def test_a_hand_edited_output_is_not_the_ledgers(track):
    track.publish(track.jobs)
    time = os.stat("out/b.csv").st_mtime
    track.make("out/b.csv", "edited")
    os.utime("out/b.csv", (time, time))
    assert problems(track) == [
        f"out/b.csv: has sha256 {short(track, 'edited')}; the ledger has {short(track, 'out/b.csv')}"
    ]


def test_an_input_that_changed_is_found_although_it_is_older(track):
    track.make("out/a.txt", "edited")
    os.utime("out/a.txt", (9, 9))
    told = f"input out/a.txt: sha256 {short(track, 'out/a.txt')} -> {short(track, 'edited')} since"
    assert problems(track) == [f"{told} out/b.csv was made"]
    track.make("src.txt", "edited")
    assert problems(track)[0].endswith(" since out/a.txt and 1 more was made")


def test_a_missing_record_is_found(track):
    records.path_of("out/a.json").unlink()
    (line,) = problems(track)
    assert line.startswith("out/a.json: has no record in .snakemake; expected one")


def test_a_record_that_is_not_the_jobs_is_found_also_where_snakemake_did_not_look(track):
    changed = replace(track.last, params=("""'{"seed": 2, "smoothness": 0.1}'""",))
    assert problems(track, track.first, changed) == ["out/b.csv: parameter seed: 1 -> 2"]


def test_an_output_whose_job_was_killed_is_found(track):
    track.start("out/b.csv")
    waiting = replace(track.last, needs_run=True, reason="Forced execution")
    assert problems(track, track.first, waiting) == ["out/b.csv: may be incomplete: its job has not ended"]


def test_what_only_snakemake_knows_is_told_once(track):
    waiting = replace(track.last, needs_run=True, reason="Forced execution")
    assert problems(track, track.first, waiting) == ["out/b.csv: would be made again: Forced execution"]
    assert problems(track, track.first, replace(waiting, follows=True)) == []
    track.make("out/a.txt", "edited")
    assert len(problems(track, track.first, waiting)) == 1


STALE = f"experiments/t/dvc.yaml: {verification.STALE}"


def test_a_ledger_and_records_of_different_runs_are_told_apart(track):
    track.publish([track.first])
    assert problems(track) == ["out/b.csv: is not in the ledger, provenance/t", STALE]
    track.publish(track.jobs)
    track.record(track.last, "out/b.csv", params=["1"], log=["other"])
    last = replace(track.last, params=("1",))
    assert problems(track, track.first, last) == [
        "out/b.csv: its record in .snakemake is not the ledger's (params, log)"
    ]
    assert problems(track, track.first) == ["out/b.csv: is in the ledger, but no job makes it", STALE]


def test_bytes_that_the_ledger_refused_are_told_once(track):
    track.publish(track.jobs)
    track.make("out/b.csv", "edited")
    ledger.install("t")
    told = f"out/b.csv: has sha256 {short(track, 'edited')}; the ledger has {short(track, 'out/b.csv')}"
    assert problems(track) == [told]
    assert verification.problems("t", track.jobs, published=False) == [f"out/b.csv: {ledger.REFUSED}"]


def test_what_dvcs_lock_says_otherwise_is_told_unless_it_has_been_told(track):
    track.publish(track.jobs)
    lock = Path("experiments/t/dvc.lock")
    lock.write_text(lock.read_text().replace(hashlib.md5(b"out/b.csv").hexdigest(), "f" * 32))
    (line,) = problems(track)
    assert line.startswith("out/b.csv: has md5 and bytes ")
    track.make("out/b.csv", "edited")
    (line,) = problems(track)
    assert line.startswith("out/b.csv: has sha256 ")


def test_a_refused_output_that_is_not_here_is_told(track):
    """An input had other bytes when the ledger was installed; Snakemake would make the output again."""
    track.publish(track.jobs)
    Path("out/b.csv").unlink()
    track.make("out/a.txt", "edited")
    assert "out/b.csv" in ledger.install("t")
    track.make("out/a.txt", "out/a.txt")
    assert problems(track) == [f"{output}: {ledger.REFUSED}" for output in ("out/a.txt", "out/b.csv")]
    ledger.follow("t")
    assert problems(track) == []


def test_a_track_that_never_ran_is_told_in_a_line_with_what_to_do(track):
    track.publish(track.jobs)
    for folder in ("out", ".snakemake"):
        shutil.rmtree(folder)
    (line,) = problems(track)
    assert line.startswith("t: no output of this track is here") and "restore --track t` brings back" in line
    shutil.rmtree("provenance")
    (line,) = problems(track)
    assert line.endswith("expected its results; `python -m isopose.bridge run --track t` makes it")
