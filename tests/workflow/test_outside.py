"""Detections made elsewhere in the place of the estimator's: exported from a store, read back, learnt and scored."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from isopose import config
from isopose.datasets.store import DetectionStore, SequenceStore
from tests.unit.datasets.generators import human36m as official
from tests.workflow.conftest import ROOT, Project

pytestmark = pytest.mark.workflow

FOUND = {"reader": "npz", "path": "outside.npz"}
TRACK, NOISE = "smoke_outside", 3.0
RESULTS = f"results/{TRACK}"
SCORES = f"{RESULTS}/outside/scores/test/keypoints/seed1.csv"
CALIBRATION = f"{RESULTS}/outside/calibration/calibration.json"
OURS = {"render_images", "train_estimator", "detect"}


def role(*subjects, cameras=("cam1",)):
    return [{"source": "synthetic", "subjects": [*subjects], "cameras": [*cameras], "actions": ["kicking", "walking"]}]


def overlay(changed):
    """The smoke track with detections made elsewhere in every role, and a lifter that needs no heatmaps."""
    smoke = yaml.safe_load((ROOT / "experiments/smoke/params.yaml").read_text())
    outside = {
        "detections": FOUND,
        "train3d": role("S1", cameras=("cam1", "cam2")),
        "validation": role("S3"),
        "calibration": role("S4"),
        "test": role("S5", cameras=("cam1", "cam2")),
        "variants": ["keypoints"],
        "weightings": ["constant", "soft_1.0"],
    }
    differences = {"embedding": {"kind": "coordinates_confidence"}, "weights": {"projection": 0.0}}
    keypoints = {"label": "keypoints, without 2D data", "seeds": [1], "set": differences}
    track = {
        "track": TRACK,
        "evaluations": {"synthetic": None, "outside": outside},
        "variants": {"keypoints": keypoints},
        "iso": {"lifter": "keypoints"},
    }
    return config.merge(smoke, config.merge(track, changed))


def write(project, changed):
    path = project.folder / f"experiments/{TRACK}/params.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(overlay(changed), sort_keys=False))


def export(store, path):
    """Write the layout of the community's files; returns what it says: the truth and noise."""
    rng = np.random.default_rng(0)
    tree, told = {}, {}
    with SequenceStore(store) as sequences:
        for name in sequences.clips():
            clip = sequences.read(name)
            trial = name.removeprefix(f"{clip.subject}_")
            for camera in sorted(clip.cameras):
                truth = clip.views[camera].joints2d
                longer = np.concatenate([truth, truth[-1:]])  # a frame too many, as the community's have
                track = (longer + rng.normal(0, NOISE, longer.shape)).astype("f4")
                tree.setdefault(clip.subject, {}).setdefault(trial, []).append(track)
                told[name, camera] = track[:-1]
    official.write_npz(path, "positions_2d", tree)
    return told


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("outside"))
    write(project, {})
    store = f"{RESULTS}/labelled/synthetic.h5"
    project.run("snakemake", store, "--cores", "2", "--configfile", f"experiments/{TRACK}/params.yaml")
    told = export(project.folder / store, project.folder / "outside.npz")
    return project, told, project.snakemake("--", SCORES, CALIBRATION, track=TRACK)


def test_every_frame_is_scored_and_nothing_was_rendered_or_detected(outside):
    project, told, printed = outside
    scores = pd.read_csv(project.folder / SCORES)
    tested = [len(track) for (clip, _), track in told.items() if clip.startswith(("S5_kicking", "S5_walking"))]
    assert scores["frames"].sum() == sum(tested)
    assert np.isfinite(scores["mpjpe"]).all()
    assert "import_detections" in printed and not OURS & set(printed.split())
    assert not {"images", "estimator"} & {path.name for path in (project.folder / RESULTS / "outside").iterdir()}


def test_the_store_holds_what_the_file_says(outside):
    project, told, _ = outside
    with DetectionStore(project.folder / RESULTS / "outside/detections/test.h5") as store:
        assert len(store.keys()) == 4
        for key in store.keys():  # noqa: SIM118
            found = store.read(key)
            np.testing.assert_allclose(found.image_keypoints, told[key.clip, key.view], atol=1e-4)
            assert found.maps is None and found.map_size == 16


def test_a_confidence_that_says_nothing_is_calibrated_to_a_constant(outside):
    fitted = json.loads((outside[0].folder / CALIBRATION).read_text())
    assert fitted["kind"] == "constant"
    assert fitted["calibrator"]["parameters"]["probability"] == fitted["correct_share"] > 0.9
    log = (outside[0].folder / RESULTS / "logs/outside/calibrate.log").read_text()
    assert "weightings confidence, calibrated and hard are not meaningful" in log


def test_the_whole_page_needs_no_estimator(outside):
    planned = outside[0].snakemake("--dry-run", "--forceall", track=TRACK).split()
    assert "index" in planned and "import_detections" in planned and not OURS & set(planned)


def test_another_file_is_read_again(outside):
    project = outside[0]
    path = project.folder / "outside.npz"
    content = path.read_bytes()
    with np.load(path, allow_pickle=True) as file:
        tree = file["positions_2d"].item()
    for tracks in tree["S5"].values():
        tracks[0] += np.float32(1)
    official.write_npz(path, "positions_2d", tree)
    try:
        printed = project.snakemake("--dry-run", "--", SCORES, track=TRACK).split()
    finally:
        path.write_bytes(content)
    assert {"import_detections", "train_adversarial_lifter", "evaluate"} <= set(printed)
    assert not {"preprocess", "occlusion_labels"} & set(printed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"iso": {"lifter": "full"}, "evaluations": {"outside": {"variants": ["keypoints", "full"]}}},
            "without heatmaps, which embedding.kind of full needs",
        ),
        ({"evaluations": {"outside": {"variants": ["keypoints", "embedding"]}}}, "embedding.kind of embedding needs"),
        (
            {"evaluations": {"outside": {"detections": {"reader": "npy"}}}},
            "'evaluations.outside.detections.reader' is 'npy', expected one of npz, coco",
        ),
        (
            {"evaluations": {"ours": {"test": role("S5"), "images": role("S1")}, "outside": {"models_of": "ours"}}},
            "but the models of 'ours' saw the estimator's",
        ),
        (
            {"evaluations": {"more": {"test": role("S5"), "detections": FOUND, "variants": ["keypoints"]}}},
            "evaluations.more: has no role 'train3d', which the models of 'more' need",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(outside, changed, message):
    write(outside[0], changed)
    try:
        printed = outside[0].snakemake("--dry-run", track=TRACK, check=False)
    finally:
        write(outside[0], {})
    assert message in printed and "Traceback" not in printed
