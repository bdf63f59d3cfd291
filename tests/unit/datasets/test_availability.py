import copy
from pathlib import Path

import pytest
import yaml
from tests.unit.datasets.generators import penn_action

from isopose import config as parameters
from isopose.datasets.availability import is_there, present_only, short_folders
from isopose.errors import UserError

ROOT = Path(__file__).parents[3]
FILES = {
    "human36m": "metadata.xml",
    "humaneva": "S1/Calibration_Data/C1.cal",
    "mpi_inf_3dhp": "mpi_inf_3dhp_test_set.zip",
    "three_dpw": "sequenceFiles.zip",
    "mpii": "mpii_human_pose_v1_u12_2.zip",
    "coco": "annotations/person_keypoints_train2017.json",
}
"""A file of each dataset: what is there at all is no business of its layout."""


@pytest.fixture
def paper():
    config = parameters.load(ROOT / "params.yaml", ROOT / "experiments/paper/params.yaml")
    return parameters.drop_nulls(config, ("sources", "evaluations", "variants"))


def fill(raw, *without):
    for dataset, name in FILES.items():
        if dataset not in without:
            (raw / dataset / name).parent.mkdir(parents=True)
            (raw / dataset / name).touch()
    if "penn_action" not in without:
        penn_action.write(raw / "penn_action", {1: penn_action.annotation()[0]})


def test_everything_runs_where_everything_is_there(paper, tmp_path):
    fill(tmp_path)
    before = copy.deepcopy(paper)
    assert present_only(paper, tmp_path) == (before, [])


def test_files_of_another_part_are_no_data_of_a_source(paper, tmp_path):
    fill(tmp_path, "mpi_inf_3dhp")
    training = tmp_path / "mpi_inf_3dhp/S1/Seq1/annot.mat"
    training.parent.mkdir(parents=True)
    training.touch()
    assert is_there("mpi_inf_3dhp", tmp_path, "train") and not is_there("mpi_inf_3dhp", tmp_path, "test")
    left, found = present_only(paper, tmp_path)
    assert "mpi_inf_3dhp_test" not in left["sources"] and "mpi_inf_3dhp" not in left["evaluations"]
    assert [(absence.what, absence.datasets) for absence in found] == [("mpi_inf_3dhp", ("mpi_inf_3dhp",))]


def test_an_archive_of_any_name_is_no_dataset_and_the_communitys_poses_are(tmp_path):
    root = tmp_path / "human36m"
    root.mkdir()
    (root / "pictures.zip").touch()
    assert not is_there("human36m", tmp_path)
    (root / "data_3d_h36m.npz").touch()
    assert is_there("human36m", tmp_path)


def test_embedded_data_need_no_files(tmp_path):
    config = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert present_only(config, tmp_path / "nowhere") == (config, [])


@pytest.mark.parametrize(
    ("dataset", "evaluations", "absences"),
    [
        (
            "human36m",
            ["humaneva"],
            [("human36m", "human36m"), ("mpi_inf_3dhp", "human36m"), ("three_dpw", "human36m")],
        ),
        ("humaneva", ["human36m", "mpi_inf_3dhp", "three_dpw"], [("humaneva", "humaneva")]),
        ("mpi_inf_3dhp", ["human36m", "humaneva", "three_dpw"], [("mpi_inf_3dhp", "mpi_inf_3dhp")]),
        ("three_dpw", ["human36m", "humaneva", "mpi_inf_3dhp"], [("three_dpw", "three_dpw")]),
        (
            "mpii",
            ["human36m", "humaneva", "mpi_inf_3dhp", "three_dpw"],
            [("human36m: a part of the role images", "mpii"), ("humaneva: a part of the role images", "mpii")],
        ),
    ],
)
def test_what_needs_an_absent_dataset_is_named(paper, tmp_path, dataset, evaluations, absences):
    fill(tmp_path, dataset)
    left, found = present_only(paper, tmp_path)
    assert list(left["evaluations"]) == evaluations
    assert [(absence.what, *absence.datasets) for absence in found] == absences
    assert dataset not in {source["reader"] for source in left["sources"].values()}
    bound = {
        s["source"] for e in left["evaluations"].values() for role in e.values() if isinstance(role, list) for s in role
    }
    assert bound <= set(left["sources"])


def test_an_evaluation_does_without_its_adaptation(paper, tmp_path):
    fill(tmp_path, "three_dpw")
    humaneva = paper["evaluations"]["humaneva"]
    humaneva["adaptation"] = [{"source": "three_dpw_test", "cameras": ["camera"]}]
    left, found = present_only(paper, tmp_path)
    assert left["evaluations"]["humaneva"] == {k: v for k, v in humaneva.items() if k != "adaptation"}
    assert ("humaneva: the role adaptation", ("three_dpw",)) in found


def test_without_2d_data_iso_starts_from_the_last_adversarial_lifter(paper, tmp_path):
    fill(tmp_path, "penn_action")
    left, found = present_only(paper, tmp_path)
    assert list(left["evaluations"]) == ["human36m", "humaneva", "mpi_inf_3dhp", "three_dpw"]
    assert left["iso"]["lifter"] == "temporal_kcs" and paper["iso"]["lifter"] == "full"
    assert "full" not in left["variants"] and "temporal_kcs" in left["variants"]
    assert ("lifter 'full'", ("penn_action",)) in found
    assert not any("train2d" in evaluation for evaluation in left["evaluations"].values())


def test_two_absent_datasets_may_take_an_evaluation_together(paper, tmp_path):
    fill(tmp_path, "mpii", "coco")
    left, found = present_only(paper, tmp_path)
    assert "humaneva" not in left["evaluations"] and "human36m" in left["evaluations"]
    assert ("humaneva", ("coco", "mpii")) in found


def test_no_data_at_all_is_one_line(paper, tmp_path):
    with pytest.raises(
        UserError, match=r"track 'paper' has no data: coco, human36m, .*docs/datasets/<dataset>.md lists"
    ):
        present_only(paper, tmp_path)


def test_a_half_unpacked_folder_is_told(tmp_path):
    penn_action.write(tmp_path / "penn_action", {1: penn_action.annotation()[0]})
    (line,) = short_folders(tmp_path, ["penn_action", "coco"])
    folder = tmp_path / "penn_action/Penn_Action/labels"
    assert line.startswith(f"{folder}: holds 1 files *.mat, the dataset has 2326; results will be of these alone")
    for number in range(2, 2327):
        (folder / f"{number:04}.mat").touch()
    assert not [*short_folders(tmp_path, ["penn_action"])]


def test_images_or_what_no_source_reads_alone_are_no_dataset(tmp_path):
    for folder in ("mpii/images", "mpii/annot", "coco/train2017"):
        (tmp_path / folder).mkdir(parents=True)
    assert not is_there("mpii", tmp_path) and not is_there("coco", tmp_path)
    (tmp_path / "mpii/mpii_human_pose_v1_u12_2.zip").touch()
    assert is_there("mpii", tmp_path)


@pytest.mark.parametrize("projection", [0.1, 0.0])
def test_detections_without_heatmaps_get_no_lifter_that_needs_them(paper, tmp_path, projection):
    """Without Penn Action, from the example of docs/detections.md: ISO may start from no lifter of heatmaps."""
    fill(tmp_path, "penn_action")
    paper["evaluations"]["human36m"] |= {"detections": {"reader": "npz", "path": "d.npz"}}
    paper["variants"]["keypoints"] = {
        "label": "on keypoints",
        "seeds": [1],
        "set": {"embedding": {"kind": "coordinates"}, "weights": {"projection": projection}},
    }
    paper["iso"]["lifter"] = "full"
    if projection:
        with pytest.raises(
            UserError, match="without penn_action no variant with a discriminator and without heatmaps is"
        ):
            present_only(paper, tmp_path)
    else:
        assert present_only(paper, tmp_path)[0]["iso"]["lifter"] == "keypoints"
