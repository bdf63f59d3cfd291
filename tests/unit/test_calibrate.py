import json

import numpy as np
import pytest
from scipy.special import expit

from isopose import calibrate
from isopose.camera import Camera, project
from isopose.crops import image_to_crop
from isopose.datasets.store import Clip, Detections, DetectionStore, SequenceStore, View, ViewKey
from isopose.errors import UserError
from isopose.evaluation import keypoints
from isopose.iso.calibration import Calibrator, expected_calibration_error, peak_logit
from isopose.sparse_maps import SparseMaps

PARAMS = {"kind": "platt", "bins": 10, "folds": 3}
FRAMES = 60


def person(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Joints (F, 17, 3) spread over a body's height, m, five metres away, standing upright."""
    joints = np.zeros((frames, 17, 3))
    joints[..., 1] = np.linspace(0.8, -0.8, 17)
    return joints + rng.normal(0, 0.02, joints.shape) + [0, 0, 5]


@pytest.fixture
def stores(tmp_path):
    """Three subjects whose detections are right with probability sigmoid(0.5 * logit(peak) - 1)."""
    rng = np.random.default_rng(0)
    camera = Camera(np.array([[1000.0, 0, 500], [0, 1000, 500], [0, 0, 1]]), np.eye(3), np.zeros(3))
    sequences, detections = tmp_path / "sequences.h5", tmp_path / "detections.h5"
    valid = np.ones(17, bool)
    valid[9] = False
    truths = {}
    with SequenceStore.create(sequences) as clips, DetectionStore.create(detections) as views:
        for name in ("a", "b", "c"):
            joints = person(FRAMES, rng)
            truth = project(joints, camera)
            view = View("cam1", truth, np.ones((FRAMES, 17), bool))
            clips.write(Clip(name, joints, valid, name, "walk", 50.0, "lab", {}, {"cam1": camera}, {"cam1": view}))
            confidence = expit(rng.normal(0.5, 1.5, (FRAMES, 17)))
            correct = rng.random((FRAMES, 17)) < expit(0.5 * peak_logit(confidence) - 1)
            head = keypoints.head_size(joints, camera)[:, None, None]
            offset = np.where(correct[..., None], 0.45, 0.55) * head * [0.6, -0.8]
            maps = SparseMaps.from_dense(np.zeros((FRAMES, 17, 8, 8)))
            boxes = np.ones((FRAMES, 3))
            found = Detections(image_to_crop(truth + offset, boxes, 8), confidence, boxes, maps)
            views.write(ViewKey("lab", name, "cam1"), found)
            truths[name] = correct[:, valid].ravel()
    return {"lab": sequences}, detections, truths


def test_right_means_within_half_the_head_size(stores):
    sequences, detections, truths = stores
    confidence, correct, subjects, clips = calibrate.labelled(sequences, detections)
    assert confidence.shape == correct.shape == subjects.shape == clips.shape == (3 * FRAMES * 16,)
    for name, truth in truths.items():
        np.testing.assert_array_equal(correct[subjects == f"lab/{name}"], truth)


def test_stage(stores, tmp_path):
    sequences, detections, _ = stores
    output = tmp_path / "calibration.json"
    calibrate.main([f"lab={sequences['lab']}"], detections, output, json.dumps(PARAMS))
    result = json.loads(output.read_text())
    assert result["kind"] == "platt"
    assert result["calibrator"] == result["fits"]["platt"]["calibrator"]
    assert result["calibrator"]["parameters"]["slope"] == pytest.approx(0.5, abs=0.1)
    assert result["calibrator"]["parameters"]["offset"] == pytest.approx(-1, abs=0.15)
    assert result["ece_before"] > 0.15
    assert result["ece_after"] < 0.05
    assert set(result["fits"]) == {"temperature", "platt", "isotonic"}
    assert sum(result["reliability_before"]["count"]) == result["detections"] == 3 * FRAMES * 16


def test_error_after_comes_from_people_left_out(stores):
    sequences, detections, _ = stores
    confidence, correct, subjects, _ = calibrate.labelled(sequences, detections)
    probability = np.empty(len(confidence))
    for name in np.unique(subjects):
        out = subjects == name
        probability[out] = Calibrator.fit("isotonic", confidence[~out], correct[~out])(confidence[out])
    result = calibrate.calibrate(confidence, correct, subjects, PARAMS)
    expected = expected_calibration_error(probability, correct, 10)
    assert result["fits"]["isotonic"]["ece"] == pytest.approx(expected)


@pytest.mark.parametrize("all_right", [False, True])
def test_a_confidence_that_never_differs_becomes_the_share_that_is_right(stores, tmp_path, all_right, capsys):
    sequences, detections, truths = stores
    plain = tmp_path / "plain.h5"
    with (
        SequenceStore(sequences["lab"]) as clips,
        DetectionStore(detections) as given,
        DetectionStore.create(plain) as written,
    ):
        for key in given.keys():  # noqa: SIM118
            found = given.read(key)
            points = clips.read(key.clip).views["cam1"].joints2d if all_right else found.image_keypoints
            written.write(key, Detections.from_image(points, None, found.boxes, 8))
    output = tmp_path / "calibration.json"
    calibrate.main([f"lab={sequences['lab']}"], plain, output, json.dumps(PARAMS))
    assert "weightings confidence, calibrated and hard are not meaningful" in capsys.readouterr().out
    result = json.loads(output.read_text())
    share = 1.0 if all_right else np.concatenate(list(truths.values())).mean()
    assert result["kind"] == "constant" and set(result["fits"]) == {"constant"}
    assert result["ece_before"] == pytest.approx(1 - share)
    probability = Calibrator.from_dict(result["calibrator"])(np.ones((3, 17)))
    np.testing.assert_allclose(probability, np.full((3, 17), share))


def test_unusable_input_is_refused(stores):
    sequences, detections, _ = stores
    with pytest.raises(UserError, match="--store lab=PATH"):
        calibrate.labelled({"other": sequences["lab"]}, detections)
    confidence, correct, subjects, _ = calibrate.labelled(sequences, detections)
    with pytest.raises(UserError, match="one clip"):
        calibrate.calibrate(confidence, correct, np.repeat("a", len(confidence)), PARAMS)
    with pytest.raises(UserError, match="'beta' is unknown"):
        calibrate.calibrate(confidence, correct, subjects, PARAMS | {"kind": "beta"})
