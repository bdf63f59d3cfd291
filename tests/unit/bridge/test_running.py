import fcntl
import os
from pathlib import Path

import pytest

from isopose.bridge import ledger, records, running
from isopose.errors import UserError

# A chain as of a track: each rule's inputs and outputs. `labels` is read by all that follows.
CHAIN = {
    "preprocess": (["src.txt"], ["seq"]),
    "label": (["seq"], ["labels"]),
    "detect": (["labels"], ["detections", "quality"]),
    "train": (["labels", "detections"], ["weights"]),
    "lift": (["labels", "weights"], ["poses"]),
    "refine": (["labels", "poses"], ["refined"]),
    "evaluate": (["labels", "refined"], ["scores"]),
}


@pytest.fixture
def chain(track):
    """The jobs of the chain and of the goal that reads its end, all made and recorded; by rule."""
    track.make("src.txt", "source")
    jobs = {rule: track.job(rule, inputs, outputs) for rule, (inputs, outputs) in CHAIN.items()}
    for job in jobs.values():
        for output in job.outputs:
            track.make(output, output)
            track.record(job, output)
    jobs["all"] = track.job("all", ["scores"], [])
    return jobs


def lacking(*outputs):
    for output in outputs:
        Path(output).unlink()


def changed(track, job):
    for output in job.outputs:
        track.record(job, output, params=["'{}'"])


def test_nothing_is_wanted_where_no_job_runs(chain):
    lacking("seq", "labels", "detections", "poses")
    assert running.waves([*chain.values()]) == []


def test_what_idle_jobs_read_too_is_made_in_runs_of_its_own_in_order(track, chain):
    changed(track, chain["refine"])
    lacking("seq", "labels", "detections", "poses")
    # The weights rest on detections, which nobody wants; poses nobody else reads.
    assert running.waves([*chain.values()]) == [["labels"]]


def test_a_file_waits_for_another_in_its_past_that_is_made_too(track, chain):
    chain["figure"] = track.job("figure", ["poses", "detections"], ["figure"])
    chain["other"] = track.job("other", ["poses"], ["plot"])
    for rule in ("figure", "other"):
        track.make(chain[rule].outputs[0], rule)
        track.record(chain[rule], chain[rule].outputs[0])
    changed(track, chain["figure"])
    lacking("labels", "detections", "poses")
    # Poses rest on weights, which were made from detections: in one run the weights would be made again.
    assert running.waves([*chain.values()]) == [["labels"], ["detections"], ["poses"]]


def test_what_comes_out_otherwise_is_left_to_snakemake(track, chain):
    changed(track, chain["preprocess"])
    lacking("labels", "detections", "poses")
    assert running.waves([*chain.values()]) == []


def test_a_changed_input_or_a_missing_record_counts_as_a_change(track, chain):
    lacking("labels")
    track.make("refined", "edited")
    assert running.waves([*chain.values()]) == [["labels"]]
    track.make("refined", "refined")
    assert running.waves([*chain.values()]) == []
    records.path_of("scores").unlink()
    assert running.waves([*chain.values()]) == [["labels"]]


def rules(jobs):
    return [job.rule for job in jobs]


def test_a_plan_has_what_depends_on_a_change_and_the_intermediates_that_it_needs(track, chain):
    jobs = [*chain.values()]
    assert running.planned(jobs) == []
    lacking("seq", "detections")
    assert running.planned(jobs) == []  # nobody reads them
    changed(track, chain["lift"])
    assert rules(running.planned(jobs)) == ["lift", "refine", "evaluate"]
    lacking("labels")
    assert rules(running.planned(jobs)) == ["preprocess", "label", "lift", "refine", "evaluate"]


def test_a_plan_has_what_is_asked_for_and_not_here(chain):
    lacking("scores", "labels")
    assert rules(running.planned([*chain.values()])) == ["label", "evaluate"]


def test_what_an_output_asked_for_by_name_needs_is_made_first_where_idle_jobs_read_it(chain):
    lacking("scores", "labels")
    asked = [job for job in chain.values() if job.outputs]  # those of the target `scores`
    assert running.waves(asked) == [["labels"]]


@pytest.fixture
def snakemake(track, monkeypatch):
    """A command of that name which only notes what it is asked for, and fails if that is `wrong`."""
    monkeypatch.setenv("PATH", "bin:" + os.environ["PATH"])
    track.make("bin/snakemake", '#!/bin/sh\necho "$*" >> asked\n[ "$4" != wrong ]\n')
    Path("bin/snakemake").chmod(0o755)
    for name in ("Snakefile", "params.yaml", "experiments/t/params.yaml"):
        track.make(name, "")


def test_what_a_stage_has_made_is_entered(track, snakemake):
    running.run_and_enter("t", ["out/b.csv"], "2")
    assert Path("asked").read_text() == "--nolock --cores 2 out/b.csv --configfile experiments/t/params.yaml\n"
    assert ledger.outputs("t") == ["out/b.csv"]


def test_a_failed_run_is_told_and_enters_nothing(track, snakemake):
    with pytest.raises(UserError, match="^snakemake: failed"):
        running.run_and_enter("t", ["wrong"], "2")
    assert ledger.outputs("t") == []


def test_one_run_at_a_time(track, snakemake):
    with Path(".run.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(UserError, match="already running"):
            running.run_and_enter("t", ["out/b.csv"], "2")
    running.run_and_enter("t", ["out/b.csv"], "2")


def test_an_unknown_track_is_told(track, snakemake):
    with pytest.raises(UserError, match="^--track: no track 'u'; the tracks here are demo, t$"):
        running.run_and_enter("u", ["out/b.csv"], "2")
    assert not Path(".run.lock").exists()


def test_another_folder_is_told_and_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"^{tmp_path}: has no Snakefile; expected the folder of the repository$"):
        running.hold_lock("demo")
    assert not [*tmp_path.iterdir()]
