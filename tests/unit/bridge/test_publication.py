from pathlib import Path

import pytest
import yaml

from isopose.bridge import dvc_file, ledger, publication
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


def test_a_track_without_a_dvc_file_is_told(track):
    with pytest.raises(UserError, match=r"^experiments/t/dvc.yaml: is not there; expected what `python -m isopose"):
        publication.publish("t", track.jobs)
