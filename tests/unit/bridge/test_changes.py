import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from isopose.bridge import changes, ledger


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def parameters(track, old, new, names=("iso.smoothness", "seed")):
    """What is said of parameters that were a JSON text and are another."""
    job = replace(track.last, params=tuple(map(repr, new)), parameters=names)
    return changes.declared(job, track.recorded(track.last, params=list(map(repr, old))))


def test_nothing_differs_from_a_jobs_own_record(track):
    for job in track.jobs:
        assert changes.declared(job, track.recorded(job)) == []
        assert changes.changed_inputs(job, track.recorded(job), sha256) == {}


@pytest.mark.parametrize(
    ("old", "new", "names", "said"),
    [
        ('{"smoothness": 0.05}', '{"smoothness": 0.1}', ["iso.smoothness"], ["iso.smoothness: 0.05 -> 0.1"]),
        ('{"a": {"b": 1, "c": 2}}', '{"a": {"b": 1, "c": [3]}}', ["x.hard_0.9.a"], ["x.hard_0.9.a.c: 2 -> [3]"]),
        ('{"a": 1}', '{"a": 1, "b": null}', ["x.a", "x.b"], ["x.b: absent -> null"]),
        ('{"a": 1, "b": 2}', '{"a": 1}', ["x.a"], ["b: 2 -> absent"]),
        (
            '{"a": 1}',
            '{"a": true}',
            ["lifter.a", "variants.base.set.a"],
            ["lifter.a or variants.base.set.a: 1 -> true"],
        ),
        ('{"a": [{"b": 1}, {"b": 2}]}', '{"a": [{"b": 1}, {"b": 3}]}', ["e.a"], ["e.a.1.b: 2 -> 3"]),
        ('{"a": {}}', '{"a": {"b": 1}}', ["a"], ["a: {} -> absent", "a.b: absent -> 1"]),
        ('{"a": 1}', '{"a": 1.0}', ["bad"], ["a: 1 -> 1.0"]),
    ],
)
def test_a_parameter_is_named_with_both_values(track, old, new, names, said):
    assert parameters(track, ["same", old], ["same", new], tuple(names)) == [f"parameter {line}" for line in said]


def test_other_arguments_are_shown_whole(track):
    assert parameters(track, ["--a x", 3], ["--a y", 3]) == ['argument: "--a x" -> "--a y"']
    assert parameters(track, [], ["x"]) == ['argument: absent -> "x"']
    assert parameters(track, ["{x}"], ["3"]) == ['argument: "{x}" -> "3"']
    (line,) = parameters(track, ["x" * 500], ["y"])
    assert len(line) < 150 and line.endswith('... -> "y"')


def test_inputs_command_and_software_are_told(track):
    record = track.recorded(
        track.last, inputs={"old.txt": "12"}, code="mv {input} {output}", software_stack_hash="other"
    )
    assert changes.declared(track.last, record) == [
        "input out/a.txt is new",
        "input old.txt is no longer one",
        "the command of the rule last has changed",
        "the software environment has changed",
    ]
    assert changes.declared(track.last, replace(record, code=ledger.REFUSED)) == [ledger.REFUSED]


def test_changed_inputs_are_told_with_their_checksums_and_absent_ones_are_not(track):
    track.make("step.py", "old")
    job = replace(track.last, inputs=("out/a.txt", "step.py", "src.txt"))
    record = track.recorded(job)
    track.make("out/a.txt", "edited")
    track.make("step.py", "new")
    Path("src.txt").unlink()
    assert changes.changed_inputs(job, record, sha256) == {
        "out/a.txt": f"input out/a.txt: sha256 {track.sha256('out/a.txt')[:8]} -> {track.sha256('edited')[:8]}",
        "step.py": f"module step.py: sha256 {track.sha256('old')[:8]} -> {track.sha256('new')[:8]}",
    }
    # Nothing can be said of an input that has no checksum.
    assert changes.changed_inputs(job, replace(record, inputs=dict.fromkeys(job.inputs)), sha256) == {}


def runs(job, reason="why", follows=False, **values):
    return replace(job, needs_run=True, reason=reason, follows=follows, **values)


def test_nothing_would_run(track):
    assert changes.explanation(track.jobs) == "nothing would run"


def test_jobs_that_only_follow_are_counted(track):
    first = runs(track.first, params=("""'{"seed": 1, "smoothness": 0.2}'""",))
    last = runs(track.last, follows=True)
    everything = replace(track.last, rule="all", outputs=(), needs_run=True)
    assert changes.explanation([first, last, replace(last, outputs=("out/none",)), everything]).splitlines() == [
        "first name=x",
        "    parameter iso.smoothness: 0.1 -> 0.2",
        "2 more because of these: last 2",
    ]


def test_a_job_that_follows_and_has_its_own_reason_is_told(track):
    last = runs(track.last, follows=True, code="mv {input} {output}")
    assert changes.explanation([last]).splitlines() == ["last name=x", "    the command of the rule last has changed"]


def test_an_edited_file_is_no_reason_where_it_would_be_made_again(track):
    track.make("out/a.txt", "edited")
    told = f"    input out/a.txt: sha256 {track.sha256('out/a.txt')[:8]} -> {track.sha256('edited')[:8]}"
    assert changes.explanation([track.first, runs(track.last)]).splitlines() == ["last name=x", told]
    assert changes.explanation([runs(track.first), runs(track.last, follows=True)]).splitlines() == [
        "first name=x",
        "    why",
        "1 more because of these: last 1",
    ]


def test_an_output_whose_job_was_killed_is_told(track):
    track.start("out/b.csv")
    assert changes.explanation([track.first, runs(track.last, "Forced execution")]).splitlines() == [
        "last name=x",
        "    out/b.csv may be incomplete: its job has not ended",
    ]


def test_what_is_missing_and_what_only_snakemake_knows_is_told(track):
    Path("out/b.csv").unlink()
    assert changes.explanation([runs(track.first, "Forced execution"), runs(track.last)]).splitlines() == [
        "first name=x",
        "    Forced execution",
        "last name=x",
        "    out/b.csv is missing",
    ]
