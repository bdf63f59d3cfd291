import hashlib
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from isopose.bridge import dvc_file, ledger, publication, records
from isopose.errors import UserError


@pytest.fixture
def shipping(track):
    """The track with its dvc.yaml, of which DVC keeps a.json to itself and git keeps a.txt."""
    outs = [{"out/a.txt": {"cache": False}}, {"out/a.json": {"push": False}}]
    stages = {"first": {"deps": ["src.txt"], "outs": outs}, "last": {"deps": ["out/a.txt"], "plots": ["out/b.csv"]}}
    track.make("experiments/t/dvc.yaml", yaml.safe_dump({"stages": stages}))
    return track


def test_what_ships_is_neither_gits_nor_kept_back(shipping):
    assert dvc_file.shipped("t") == ["out/b.csv"]


def test_nothing_is_published_of_what_does_not_agree(shipping):
    shipping.make("out/a.txt", "edited")
    Path("out/b.csv").unlink()
    with pytest.raises(UserError) as error:
        publication.publish("t", shipping.jobs)
    first, *named = str(error.value).splitlines()
    assert first == "nothing is published:"
    assert [line.split(": ")[0] for line in named] == ["input out/a.txt", "out/b.csv"]
    assert not ledger.folder("t").exists() and not dvc_file.lock_of("t").exists()


def test_of_a_track_that_never_ran_that_alone_is_said(shipping):
    shutil.rmtree("out")
    shutil.rmtree(".snakemake")
    with pytest.raises(UserError, match="^nothing is published:\nt: no output of this track is here; [^\n]*$"):
        publication.publish("t", shipping.jobs)


def test_a_track_without_a_dvc_file_is_told(track):
    with pytest.raises(UserError, match=r"^experiments/t/dvc.yaml: is not there; expected what `python -m isopose"):
        publication.publish("t", track.jobs)


def split_md5(text):
    name = hashlib.md5(text.encode()).hexdigest()
    return name[:2], name[2:]


def lose(path):
    """Take a file from DVC's cache and remote; returns what puts it back into the remote."""
    place = Path("files/md5").joinpath(*split_md5(Path(path).read_text()))
    (Path(".dvc/cache") / place).unlink()
    (Path("remote") / place).rename("lost")
    return lambda: Path("lost").rename(Path("remote") / place)


def run(track, job, **changes):
    """Results of a job with other bytes, which it has just made."""
    for output in job.outputs:
        track.make(output, f"mine, {output}")
        track.record(job, output, **changes)


def test_results_of_another_parameter_give_way_to_the_published_ones(published):
    run(published, published.last, params=["other"])
    assert publication.restore("t", published.jobs).refused == []
    assert Path("out/b.csv").read_text() == "out/b.csv"
    assert records.read("out/b.csv") == published.recorded(published.last)


def test_what_git_keeps_comes_from_git(published):
    run(published, published.first, params=["other"])
    Path("out/b.csv").unlink()
    assert publication.restore("t", published.jobs).refused == []
    assert [Path(output).read_text() for job in published.jobs for output in job.outputs] == [
        output for job in published.jobs for output in job.outputs
    ]
    Path("out/a.json").unlink()
    subprocess.run(["git", "add", "src.txt"], check=True)
    published.make("src.txt", "edited")
    assert publication.restore("t", published.jobs[1:]).refused == []
    assert Path("src.txt").read_text() == "edited" and not Path("out/a.json").exists()
    published.make("src.txt", "source")
    assert publication.restore("t", published.jobs).refused == []
    assert Path("out/a.json").read_text() == "out/a.json"


def test_results_stay_where_nothing_comes_for_them(published):
    put_back = lose("out/b.csv")
    run(published, published.last, params=["other"])
    mine = records.read("out/b.csv")
    for _ in range(2):
        with pytest.raises(UserError, match="^dvc: 1 outputs are not in DVC's remote, out/b.csv among them; what came"):
            publication.restore("t", published.jobs)
        assert Path("out/b.csv").read_text() == "mine, out/b.csv" and records.read("out/b.csv") == mine
    put_back()
    assert publication.restore("t", published.jobs).refused == []
    assert Path("out/b.csv").read_text() == "out/b.csv"


def test_results_of_the_parameters_as_they_are_stay_also_beside_a_target(published):
    last = replace(published.last, params=("other",))
    run(published, last)
    for jobs, kept in (([published.first, last], ["out/b.csv"]), ([published.first], [])):
        assert publication.restore("t", jobs) == (kept, [])
        assert Path("out/b.csv").read_text() == "mine, out/b.csv"
        assert records.read("out/b.csv") == published.recorded(last)


def test_results_with_the_published_bytes_keep_their_own_record(published):
    """Made again since a module has changed, which changed nothing in them: to restore asks for no third time."""
    published.make("src.txt", "edited")
    for output in published.first.outputs:
        published.make(output, output)
        published.record(published.first, output)
    assert publication.restore("t", published.jobs).refused == []
    assert records.read("out/a.txt") == published.recorded(published.first)


def test_what_somebody_put_there_stays_unless_it_can_be_had_again(published):
    published.make("out/b.csv", "edited")
    os.utime("out/b.csv", (9, 9))
    assert publication.restore("t", published.jobs).refused == ["out/b.csv"]
    assert Path("out/b.csv").read_text() == "edited"
    published.make(".dvc/cache/files/md5/{}/{}".format(*split_md5("edited")), "edited")
    assert publication.restore("t", published.jobs).refused == []
    assert Path("out/b.csv").read_text() == "out/b.csv"
