import json
import pickle

import numpy as np
import pytest
from tests.unit.datasets.generators import coco as coco_generator
from tests.unit.datasets.generators import human36m as official
from tests.unit.datasets.generators.mutations import mutations
from tests.unit.datasets.test_human36m import Code, write_object_npz
from typer.testing import CliRunner

from isopose.datasets import human36m, import_detections
from isopose.datasets.store import DetectionStore, SequenceStore, ViewKey
from isopose.errors import UserError
from isopose.evaluation import keypoints
from isopose.skeleton import JOINTS

FRAMES = {("S11", "Directions"): 12, ("S11", "Directions 1"): 5}
IDS = {"Directions": "S11_Directions", "Directions 1": "S11_Directions_1"}
BROKEN = "54138969"


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Two trials of S11 as a labelled sequence store, and their release."""
    folder = tmp_path_factory.mktemp("raw")
    release = official.Release(folder / "human36m")
    release.add_metadata()
    for (subject, trial), frames in FRAMES.items():
        release.add(subject, trial, frames)
    clips = human36m.read_clips(release.root, folder / "cache", ["S11"], ["Directions"])
    with SequenceStore.create(folder / "sequences.h5") as store:
        for clip in clips:
            for view in clip.views.values():
                view.visible = np.arange(17)[None] % 3 > np.zeros((len(clip.joints3d), 1))
            store.write(clip)
    return release, folder / "sequences.h5"


def tracks(release, extra=0, joints=17, seed=0):
    """What a detector says, {trial: [(F + extra, K, 2) px of each camera]}: the truth and 3 px of noise."""
    rng = np.random.default_rng(seed)
    listed = {}
    for (subject, trial), frames in FRAMES.items():
        truth = [release.rig.project(release.joints[subject, trial], subject, c)[:, official.USED] for c in range(4)]
        padded = [np.concatenate([t, np.repeat(t[-1:], extra, 0)])[:, :joints] for t in truth]
        listed[trial] = [(t + rng.normal(0, 3, t.shape)).astype("f4") for t in padded]
        assert len(listed[trial][0]) == frames + extra
    return listed


def params(**changed):
    selection = {"source": "human36m", "cameras": list(official.CAMERAS)}
    return {"reader": "npz", "selections": [selection], "margin": 1.25, "smoothing": 1, "map_size": 64} | changed


def imported(raw, found, tmp_path, quality=None, **changed):
    output = tmp_path / "detections.h5"
    said = import_detections.run({"human36m": raw[1]}, found, output, params(**changed), quality)
    with DetectionStore(output) as store:
        return {key: store.read(key) for key in store.keys()}, said  # noqa: SIM118


def npz(folder, tree, **options):
    official.write_npz(folder / "data_2d.npz", "positions_2d", tree, **options)
    return folder / "data_2d.npz"


def test_the_communitys_file_comes_back(raw, tmp_path):
    given = tracks(raw[0], extra=3)
    quality = tmp_path / "quality.json"
    found, said = imported(raw, npz(tmp_path, {"S11": given}), tmp_path, quality)
    assert len(found) == 8
    errors, correct = [], []
    for trial, clip in IDS.items():
        for camera, track in zip(official.CAMERAS, given[trial], strict=True):
            view = found[ViewKey("human36m", clip, camera)]
            track = track[: FRAMES["S11", trial]]
            np.testing.assert_allclose(view.image_keypoints, track, atol=1e-4)
            assert (view.confidence == 1).all() and view.maps is None and view.map_size == 64
            extent = np.ptp(track, axis=1).max(-1)
            np.testing.assert_allclose(view.boxes[:, 2], 1.25 * extent, rtol=1e-5)
            assert view.keypoints.min() > -0.5 and view.keypoints.max() < 63.5  # inside the crop
            with SequenceStore(raw[1]) as store:
                read = store.read(clip)
            errors.append(np.linalg.norm(view.image_keypoints - read.views[camera].joints2d, axis=-1))
            head = keypoints.head_size(read.camera_joints(camera), read.cameras[camera])
            correct.append((errors[-1] <= head[:, None] / 2)[:, np.arange(17) % 3 > 0])
    assert 2 < np.concatenate(errors).mean() < 6  # 3 px of noise each way: the views are those of their cameras
    assert said.endswith(
        "8 views; 24 frames after the end of their clips cut; no confidence in 8 of them, so 1 for every joint"
    )
    scores = json.loads(quality.read_text())
    assert scores["frames"] == 4 * 17 and scores["auroc"] == 0.5
    assert scores["pckh"] == pytest.approx(np.concatenate(correct).mean())
    assert not any(name.startswith(("storage", "dense")) for name in scores)


def test_a_third_number_is_the_confidence(raw, tmp_path):
    rng = np.random.default_rng(1)
    given = {
        t: [np.concatenate([v, rng.random((*v.shape[:2], 1))], -1) for v in views]
        for t, views in tracks(raw[0]).items()
    }
    found, said = imported(raw, npz(tmp_path, {"S11": given}), tmp_path)
    view = found[ViewKey("human36m", "S11_Directions_1", official.CAMERAS[2])]
    np.testing.assert_allclose(view.confidence, given["Directions 1"][2][..., 2], rtol=1e-6)
    assert "no confidence" not in said


@pytest.mark.parametrize("whole", [True, False])
def test_the_broken_video_is_left_out_and_said(raw, tmp_path, whole):
    """Some files lack the whole trial, others the one camera's track."""
    given = tracks(raw[0])
    if whole:
        del given["Directions"]
    else:
        given["Directions"] = given["Directions"][1:]
    found, said = imported(raw, npz(tmp_path, {"S11": given}), tmp_path)
    assert len(found) == (4 if whole else 7)
    assert f"left out, as a video of the trial is broken: human36m/S11_Directions/{BROKEN}" in said


@pytest.mark.parametrize(("layout", "count"), [("mpii", 16), ("coco", 17)])
def test_joints_of_other_layouts_become_the_skeletons(raw, tmp_path, layout, count):
    given = tracks(raw[0], joints=count)
    found, _ = imported(raw, npz(tmp_path, {"S11": given}, layout=layout), tmp_path)
    track = given["Directions 1"][1].astype(float)
    points = found[ViewKey("human36m", "S11_Directions_1", official.CAMERAS[1])].image_keypoints
    if layout == "mpii":  # r_ankle 0, pelvis 6, thorax 7, head top 9, l_wrist 15
        expected = {"r_ankle": 0, "pelvis": 6, "thorax": 7, "head": 9, "l_wrist": 15}
        expected = {name: track[:, index] for name, index in expected.items()}
    else:  # nose 0, shoulders 5 and 6, hips 11 and 12, r_ankle 16
        expected = {"neck": track[:, 0], "r_ankle": track[:, 16]}
        expected |= {"thorax": (track[:, 5] + track[:, 6]) / 2, "pelvis": (track[:, 11] + track[:, 12]) / 2}
    for name, place in expected.items():
        np.testing.assert_allclose(points[:, JOINTS.index(name)], place, atol=2e-4)


# ---- COCO results ---------------------------------------------------------------------------------------------------


def write_results(folder, trial, camera, track, score=0.9, **changed):
    """Results of one view, from the "Results format" of cocodataset.org; track (F, 17, 3): x, y, confidence."""
    listed = [
        {"image_id": f, "category_id": 1, "keypoints": frame.ravel().tolist(), "score": score} | changed
        for f, frame in enumerate(track)
    ]
    path = folder / f"{IDS[trial]}.{camera}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps([*(json.loads(path.read_text()) if path.is_file() else []), *listed]))


@pytest.fixture
def results(tmp_path):
    """A folder of results of every view, and what they say."""
    rng = np.random.default_rng(2)
    given = {}
    for (_, trial), frames in FRAMES.items():
        for camera in official.CAMERAS:
            given[trial, camera] = rng.uniform(100, 900, (frames + 1, 17, 3))
            given[trial, camera][..., 2] = rng.random((frames + 1, 17))
            write_results(tmp_path / "coco", trial, camera, given[trial, camera])
    return tmp_path / "coco", given


def test_coco_results_come_back(raw, tmp_path, results):
    folder, given = results
    write_results(folder, "Directions", official.CAMERAS[1], np.full((2, 17, 3), 7.0), score=0.2)  # someone else
    found, said = imported(raw, folder, tmp_path, reader="coco")
    assert len(found) == 8 and "8 frames after the end" in said and "no confidence" not in said
    names = [name.replace("left_", "l_").replace("right_", "r_") for name in coco_generator.NAMES]
    for (trial, camera), track in given.items():
        view = found[ViewKey("human36m", IDS[trial], camera)]
        for name in ("l_wrist", "r_knee", "l_hip"):
            there, here = track[:-1, names.index(name)], JOINTS.index(name)
            np.testing.assert_allclose(view.image_keypoints[:, here], there[:, :2], atol=2e-4)
            np.testing.assert_allclose(view.confidence[:, here], there[:, 2], rtol=1e-6)
        hips = (track[:-1, names.index("l_hip")] + track[:-1, names.index("r_hip")]) / 2
        np.testing.assert_allclose(view.image_keypoints[:, 0], hips[:, :2], atol=2e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "has 0 frames; expected the 12 of its clip"),
        ('[{"image_id": 0, ', "is cut short or broken"),
        ("\0\1", "cannot be read"),
        ({"image_id": 10**15}, r"has 1000000000000001 frames; expected the 12"),
        ({"image_id": 3}, "has nobody in frame 2; expected a person in every frame"),
        ({"keypoints": [1.0] * 48}, "a detection is broken"),
        ({"keypoints": [float("nan")] * 51}, "holds NaN"),
        ({"keypoints": [5.0] * 51}, "those of frame 2 are all in one place; expected a person"),
    ],
)
def test_other_results_are_refused(raw, tmp_path, results, text, message):
    path = results[0] / f"S11_Directions.{official.CAMERAS[1]}.json"
    if isinstance(text, dict):
        listed = json.loads(path.read_text())
        listed[2] |= text
        text = json.dumps(listed)
    path.write_text(text)
    with pytest.raises(UserError, match=message) as refused:
        imported(raw, results[0], tmp_path, reader="coco", smoothing=5)
    assert "\n" not in str(refused.value) and "coco" in str(refused.value)
    assert not (tmp_path / "detections.h5").exists()


def test_mutated_results_are_read_or_refused_in_one_line(raw, tmp_path, results):
    path = results[0] / f"S11_Directions.{official.CAMERAS[1]}.json"
    for content in mutations(path.read_bytes()):
        path.write_bytes(content)
        try:
            imported(raw, results[0], tmp_path, reader="coco")
            (tmp_path / "detections.h5").unlink()
        except UserError as error:
            assert "\n" not in str(error)
        assert not list(tmp_path.glob("*.h5*"))


def test_a_missing_file_of_results_is_named(raw, tmp_path, results):
    (results[0] / f"S11_Directions_1.{BROKEN}.json").unlink()
    with pytest.raises(UserError, match=rf"S11_Directions_1\.{BROKEN}\.json: is missing"):
        imported(raw, results[0], tmp_path, reader="coco")


# ---- Files that are not as they should be ---------------------------------------------------------------------------


def with_nan(track):
    track[2, 3, 1] = np.nan
    return track


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v[:-1], r"'human36m/S11_Directions/\d+' has 11 frames; expected the 12 of its clip and at most 50"),
        (lambda v: np.repeat(v, 10, 0), "has 120 frames; expected the 12 of its clip"),
        (lambda v: v[:, :16], r"is \(12, 16, 2\); expected \(F, 17, 2\)"),
        (lambda v: v[..., :1], r"is \(12, 17, 1\); expected \(F, 17, 2\)"),
        (lambda v: v[..., 0], r"is \(12, 17\); expected"),
        (with_nan, "keypoints: 1 of 408 numbers are NaN or infinite"),
        (lambda v: v * np.float32(1e9), r"keypoints: one is [\d.e+]+ px out; expected at most 1e\+06"),
        (lambda v: np.zeros_like(v), "those of frame 0 are all in one place"),
    ],
)
def test_other_tracks_are_refused(raw, tmp_path, change, message):
    given = tracks(raw[0])
    given["Directions"] = [given["Directions"][0], change(given["Directions"][1]), *given["Directions"][2:]]
    path = npz(tmp_path, {"S11": given})
    with pytest.raises(UserError, match=rf"data_2d\.npz: .*{message}") as refused:
        imported(raw, path, tmp_path)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "detections.h5").exists()


def test_what_the_file_lacks_is_named(raw, tmp_path):
    given = tracks(raw[0])
    with pytest.raises(UserError, match="positions_2d has no trials of S11"):
        imported(raw, npz(tmp_path, {"S9": given}), tmp_path)
    del given["Directions 1"]
    with pytest.raises(UserError, match=r"has no detections of human36m/S11_Directions_1/\d+.*\(4 of 8 views\)"):
        imported(raw, npz(tmp_path, {"S11": given}), tmp_path)
    with pytest.raises(UserError, match=r"no\.npz: is missing"):
        imported(raw, tmp_path / "no.npz", tmp_path)


def test_a_truncated_file_and_pickled_code_are_refused(raw, tmp_path):
    path = npz(tmp_path, {"S11": tracks(raw[0])})
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"data_2d\.npz: cannot be read"):
            imported(raw, path, tmp_path)
    marker = tmp_path / "run"
    for tree in (
        {"S11": {"Directions": Code(marker)}},
        {"S11": {"Directions": [np.array([Code(marker)], object)] * 4}},
    ):
        write_object_npz(path, pickle.dumps(np.array(tree)))
        with pytest.raises(UserError, match="its pickle asks for posix.mkdir"):
            imported(raw, path, tmp_path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (
            {"keypoints_symmetry": [[1, 2], [3, 4]]},
            r"its left joints are \[1, 2\]; expected those of human36m, mpii, coco",
        ),
        ({"keypoints_symmetry": [["a"], [1]]}, "metadata has no keypoints_symmetry"),
        ({}, "metadata has no keypoints_symmetry"),
        ([1], "expected one pickled dict"),
    ],
)
def test_an_unknown_layout_of_joints_is_refused(raw, tmp_path, metadata, message):
    np.savez(tmp_path / "data_2d.npz", positions_2d={"S11": tracks(raw[0])}, metadata=np.array(metadata, object))
    with pytest.raises(UserError, match=message):
        imported(raw, tmp_path / "data_2d.npz", tmp_path)


def test_the_command_line(raw, tmp_path):
    runner = CliRunner()
    assert "COCO" in runner.invoke(import_detections.app, ["--help"]).output
    path, output = npz(tmp_path, {"S11": tracks(raw[0])}), tmp_path / "out.h5"

    def run(**changed):
        options = {"--store": f"human36m={raw[1]}", "--found": path, "--output": output}
        options["--params"] = json.dumps(params(**changed))
        arguments = [part for pair in options.items() for part in pair]
        return runner.invoke(import_detections.app, [str(argument) for argument in arguments])

    assert run().exit_code == 0
    with DetectionStore(output) as store:
        assert len(store.keys()) == 8
    assert "unknown parameter 'marign'" in str(run(marign=1).exception)
    assert "'reader' is 'csv'; expected one of npz, coco" in str(run(reader="csv").exception)
