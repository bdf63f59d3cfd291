"""The smallest run on real motion: a few CMU clips through every rule."""

import os

import pandas as pd
import pytest
import yaml

from isopose import config
from isopose.datasets.store import SequenceStore
from tests.workflow.conftest import ROOT, Project

pytestmark = [
    pytest.mark.workflow,
    pytest.mark.real_motion,
    pytest.mark.skipif(
        not os.environ.get("ISOPOSE_DATA_MIRROR"),
        reason="ISOPOSE_DATA_MIRROR is not set: no motion capture archives here",
    ),
]


def role(*subjects, **more):
    return [{"source": "cmu_mocap", "subjects": list(subjects), "cameras": ["cam1"]} | more]


def real_overlay():
    """The smoke track with real motion in every role but the images'."""
    smoke = yaml.safe_load((ROOT / "experiments/smoke/params.yaml").read_text())
    cmu = {
        "reader": "cmu_mocap",
        "fps": 50,
        "subjects": ["07", "09", "10", "11", "12"],
        "actions": None,
        "speeds": [1.0],
    }
    cmu |= {
        "clips_per_action": None,
        "seconds": None,
        "max_seconds": 1.2,
        "cameras": ["cam1", "cam2"],
        "occluded": True,
    }
    roles = {"train3d": role("11", cameras=["cam1", "cam2"]), "train2d": role("10"), "validation": role("12")}
    roles |= {"calibration": role("09"), "test": role("07") + role("07", occluded=True)}
    evaluations = {
        "synthetic": None,
        "cmu_mocap": smoke["evaluations"]["synthetic"] | roles | {"weightings": ["constant", "soft_1.0"]},
    }
    return config.merge(smoke, {"track": "smoke_real", "sources": {"cmu_mocap": cmu}, "evaluations": evaluations})


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("real"))
    overlay = project.folder / "experiments/smoke_real/params.yaml"
    overlay.parent.mkdir()
    overlay.write_text(yaml.safe_dump(real_overlay()))
    project.snakemake(track="smoke_real")
    return project


def test_tables_come_from_real_motion_and_say_so(real):
    table = pd.read_csv(real.folder / "reports/smoke_real/cmu_mocap/tables/ablation.csv")
    assert table["dataset"].eq("cmu_mocap").all()
    page = (real.folder / "reports/smoke_real/index.html").read_text()
    assert "Synthetic data." not in page


def test_test_subjects_are_those_of_the_role(real):
    scores = pd.read_csv(
        real.folder / "results/smoke_real/cmu_mocap/scores/test/full/seed1.csv", dtype={"subject": str}
    )
    assert set(scores["subject"]) == {"07"}
    with SequenceStore(real.folder / "results/smoke_real/labelled/cmu_mocap.h5") as store:
        assert len(store.clips()) == 25  # those of the five subjects that pass the archive's quality check
        assert {store.read(clip).fps for clip in store.clips()} == {50.0}
