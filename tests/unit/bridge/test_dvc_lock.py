import hashlib
import subprocess
from pathlib import Path

import pytest
import yaml

from isopose.bridge import dvc_lock
from isopose.errors import UserError

LOCK = Path("experiments/t/dvc.lock")
TOLD = f"the stage last-x of {LOCK} has"


def lines():
    return [line for _, line in dvc_lock.differences("t")]


@pytest.fixture
def locked(track):
    """Edits of the lock of the published track, by the keys that lead there; returns what differs then."""
    track.publish(track.jobs)
    content = LOCK.read_text()

    def edited(*keys, value):
        found = yaml.safe_load(content)
        inner = found["stages"]
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        LOCK.write_text(yaml.safe_dump(found))
        return lines()

    assert lines() == []
    return edited


def place(output):
    """Where an output is in the list of the last stage."""
    return [out["path"] for out in yaml.safe_load(LOCK.read_text())["stages"]["last-x"]["outs"]].index(output)


def test_other_bytes_of_inputs_and_outputs_are_told(locked):
    md5 = hashlib.md5(b"out/b.csv").hexdigest()[:8]
    told = f"out/b.csv: has md5 and bytes {md5} and 9; {TOLD}"
    number = place("out/b.csv")
    assert locked("last-x", "outs", number, "md5", value="f" * 32) == [f"{told} ffffffff and 9"]
    assert locked("last-x", "outs", number, "size", value=8) == [f"{told} {md5} and 8"]
    (line,) = locked("last-x", "deps", 0, "md5", value="f" * 32)
    assert line.startswith("out/a.txt: has md5 and bytes ")


def test_a_file_that_is_not_here_has_one_md5_in_all_of_the_lock(locked):
    Path("out/a.txt").unlink()
    assert lines() == []
    (line,) = locked("last-x", "deps", 0, "md5", value="f" * 32)
    assert line.startswith("out/a.txt: is not here, and DVC's lock has md5 ")


def test_another_command_and_other_parameters_are_told(locked):
    assert locked("last-x", "cmd", value="true") == [
        f"last-x: its command in {LOCK} is another than in experiments/t/dvc.yaml"
    ]
    parameters = {"params.yaml": {"iso.smoothness": 0.2, "iso.hard_0?9": 2, "iso.absent": None}}
    assert locked("last-x", "params", value=parameters) == [f"params.yaml: iso.smoothness is 0.1; {TOLD} 0.2"]


def test_a_stage_too_many_or_too_few_is_told(locked):
    assert locked("other", value={"cmd": "true"}) == ["other: is no stage of experiments/t/dvc.yaml; expected one"]
    content = yaml.safe_load(LOCK.read_text())
    del content["stages"]["other"], content["stages"]["first-x"]
    LOCK.write_text(yaml.safe_dump(content))
    assert lines() == [f"first-x: is no stage of {LOCK}; expected one"]


def test_a_lock_that_is_not_there_is_told(track):
    track.publish(track.jobs)
    LOCK.unlink()
    (line,) = lines()
    assert line.startswith(f"{LOCK}: is not there; expected DVC's lock")


@pytest.mark.parametrize(
    "text", ["stages: [", "stages: []", "- 1", "\udcff", "stages: {last-x: {}, first-x: {}}", "stages: {last-x: 1}"]
)
def test_a_lock_that_cannot_be_read_is_told_in_one_line(track, text):
    track.publish(track.jobs)
    LOCK.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(
        UserError, match=r"^experiments/t/dvc\.lock: cannot be read.*; expected what .* take it"
    ) as caught:
        lines()
    assert "\n" not in str(caught.value)


def test_stages_that_are_no_more_are_forgotten_and_the_others_stay_as_they_are(track):
    track.publish(track.jobs)
    content = LOCK.read_text()
    found = yaml.safe_load(content)
    found["stages"]["gone"] = {"cmd": "true", "outs": [{"path": "out/gone.csv", "md5": "0" * 32, "size": 1}]}
    LOCK.write_text(yaml.safe_dump(found, sort_keys=False))
    assert any("gone: is no stage" in line for line in lines())
    dvc_lock.forget("t")
    assert lines() == [] and yaml.safe_load(LOCK.read_text()) == yaml.safe_load(content)
    before = LOCK.read_bytes()
    dvc_lock.forget("t")
    assert LOCK.read_bytes() == before


def cut(content):
    """The lock as DVC was stopped in writing it: empty, within a checksum, or before one."""
    at = content.index("md5: ", len(content) // 2)
    return ["", content[: at + 9], content[: content.rindex("\n", 0, at)], content[: at + 3]]


@pytest.mark.parametrize("number", range(4))
def test_a_lock_that_was_cut_short_is_what_git_has_or_none(track, number):
    track.publish(track.jobs)
    whole = LOCK.read_text()
    dvc_lock.mend("t")
    assert LOCK.read_text() == whole
    LOCK.write_text(cut(whole)[number])
    dvc_lock.mend("t")
    assert not LOCK.exists()
    dvc_lock.mend("t")
    LOCK.write_text(whole)
    subprocess.run(["git", "add", LOCK], check=True)
    LOCK.write_text(cut(whole)[number])
    dvc_lock.mend("t")
    assert LOCK.read_text() == whole


def test_outputs_that_are_not_here_are_in_the_lock_or_refused(track):
    track.publish(track.jobs)
    outputs = [output for job in track.jobs for output in job.outputs]
    for output in outputs:
        Path(output).unlink()
    dvc_lock.check_absent("t", outputs)
    LOCK.unlink()
    with pytest.raises(UserError, match=f"^{outputs[0]}: is not here, and {LOCK} has nothing of it; expected"):
        dvc_lock.check_absent("t", outputs)
    track.make(outputs[0], "here")
    with pytest.raises(UserError, match=f"^{outputs[1]}: is not here"):
        dvc_lock.check_absent("t", outputs)
