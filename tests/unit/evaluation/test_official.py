import numpy as np
import pandas as pd
import pytest
from scipy.spatial import procrustes
from typer.testing import CliRunner

from isopose.camera import Camera, camera_to_world
from isopose.datasets.store import Clip, PoseStore, SequenceStore, View, ViewKey
from isopose.errors import UserError
from isopose.evaluation import official
from isopose.skeleton import JOINTS, index

FRONT = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
CAMERA = Camera(np.array([[1000.0, 0, 500], [0, 1000, 500], [0, 0, 1]]), FRONT, np.array([0, -5.0, 1]))
LSP = (
    *("r_ankle", "r_knee", "r_hip", "l_hip", "l_knee", "l_ankle"),
    *("r_wrist", "r_elbow", "r_shoulder", "l_shoulder", "l_elbow", "l_wrist", "thorax", "neck"),
)


def write(folder, clips, name="test"):
    """Poses and the labelled store of clips (id, subject, action, predicted, target (F, 17, 3), attributes)."""
    with (
        SequenceStore.create(folder / f"{name}.h5") as sequences,
        PoseStore.create(folder / f"{name}_poses.h5") as poses,
    ):
        for clip_id, subject, action, predicted, target, attributes in clips:
            joints = camera_to_world(target + [0.3, -0.2, 5], CAMERA)
            clip = Clip(clip_id, joints, np.ones(17, bool), subject, action, 50.0, "s", attributes, {"cam": CAMERA})
            for view in ("cam", "cam_occluded"):
                clip.views[view] = View("cam", np.zeros((len(target), 17, 2)), np.ones((len(target), 17), bool))
            sequences.write(clip)
            poses.write(ViewKey("s", clip_id, "cam"), predicted)
            poses.write(ViewKey("s", clip_id, "cam_occluded"), predicted + np.arange(17)[:, None])


def run(folder, protocol, *options):
    output = folder / "scores.csv"
    arguments = ["--protocol", protocol, "--poses", folder / "test_poses.h5", "--store", f"s={folder / 'test.h5'}"]
    arguments += ["--output", output, *options]
    result = CliRunner().invoke(official.app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    scores = pd.read_csv(output)
    assert list(scores) == ["group", "metric", "value", "frames"]
    return scores


def random_poses(frames, seed):
    """Targets about the root, and predictions some centimetres off."""
    rng = np.random.default_rng(seed)
    target = rng.normal(0, 0.4, (frames, 17, 3))
    target[:, 0] = 0
    predicted = target + rng.normal(0, 0.03, target.shape) * (np.arange(17) > 0)[:, None]
    return predicted, target


def aligned_error(predicted, target, names):
    """Mean P-MPJPE, mm, of poses over named joints, by scipy, which scales both shapes to norm one."""
    joints, errors = [JOINTS.index(name) for name in names], []
    for one, two in zip(predicted[:, joints], target[:, joints], strict=True):
        first, second, _ = procrustes(two, one)
        errors.append(1000 * np.linalg.norm(two - two.mean(0)) * np.linalg.norm(first - second, axis=1).mean())
    return np.mean(errors)


def test_humaneva_is_by_subject_and_action_and_averages_those_of_the_papers_table(tmp_path):
    """The average is of four cells, whatever their frames, and Box is none of them; spine and neck do not count."""
    names = [name for name in JOINTS if name not in ("spine", "neck")]
    plan = {("S1", "Walking"): 5, ("S2", "Walking"): 3, ("S1", "Jog"): 4, ("S2", "Jog"): 2, ("S1", "Box"): 6}
    clips, cells = [], {}
    for number, ((subject, action), frames) in enumerate(reversed(plan.items())):
        predicted, target = random_poses(frames, number)
        cells[subject, action] = aligned_error(predicted, target, names)
        predicted[:, [index("spine"), index("neck")]] += 0.5
        for part in (slice(2), slice(2, None)):  # the frames of a cell come from several clips
            if len(target[part]):
                clip = (f"{subject}_{action}_{part.start}", subject, action, predicted[part], target[part], {})
                clips.append(clip)
    write(tmp_path, clips)
    scores = run(tmp_path, "humaneva")
    groups = ["S1 Walking", "S2 Walking", "S1 Jog", "S2 Jog", "S1 Box"]
    assert scores["group"].tolist() == [*groups, "average"]
    assert set(scores["metric"]) == {"p_mpjpe"}
    assert scores["value"].tolist()[:5] == pytest.approx([cells[tuple(g.split())] for g in groups], abs=2e-3)
    assert scores["value"].iloc[5] == pytest.approx(np.mean([cells[tuple(g.split())] for g in groups[:4]]), abs=2e-3)
    assert scores["frames"].tolist() == [5, 3, 4, 2, 6, 14]


def test_humanevas_wrong_head_of_s3_counts(tmp_path):
    predicted, target = random_poses(3, 0)
    write(tmp_path, [("c", "S3", "Walking", predicted, target, {})])
    before = run(tmp_path, "humaneva")["value"]
    predicted[:, index("head")] += 0.2
    write(tmp_path, [("c", "S3", "Walking", predicted, target, {})])
    assert run(tmp_path, "humaneva")["value"].gt(before + 5).all()


def test_without_an_action_of_the_papers_table_there_is_no_average(tmp_path):
    write(tmp_path, [("c", "S1", "Box", *random_poses(2, 0), {})])
    assert run(tmp_path, "humaneva")["group"].tolist() == ["S1 Box"]


def test_mpi_inf_3dhp_is_by_scene_and_activity(tmp_path):
    """One of the 14 joints is 102 mm off in some frames, another 200 mm in others; the rest is right."""
    target = random_poses(4, 0)[1]
    near, far, right = (target.copy() for _ in range(3))
    near[:, index("l_wrist"), 0] += 0.102
    far[:, index("l_wrist"), 0] += 0.2
    far[:, index("spine"), 0] += 0.2  # does not count
    activity = {"activity": np.array([1, 1, 1, 7], np.uint8)}
    clips = [
        ("TS5", "TS5", "outdoor", near, target, activity),
        ("TS1", "TS1", "green_screen", far, target, activity),
        ("TS3", "TS3", "no_green_screen", right, target, {"activity": np.full(4, 3, np.uint8)}),
    ]
    write(tmp_path, clips)
    scores = run(tmp_path, "mpi_inf_3dhp")
    groups = ["All", "green_screen", "no_green_screen", "outdoor", "Standing/Walking", "Sitting", "Miscellaneous"]
    assert scores["group"].tolist() == [group for group in groups for _ in ("pck", "auc")]
    assert scores["metric"].tolist() == ["pck", "auc"] * len(groups)
    wide = scores.pivot(index="group", columns="metric", values="value").loc[groups]
    one = 100 / 14
    assert wide["pck"].tolist() == pytest.approx(
        [100 - one / 3, 100 - one, 100, 100, 100 - one / 2, 100, 100 - one / 2], abs=1e-3
    )
    # Of the 31 thresholds 0, 5 .. 150 a right joint is below 30, one 102 mm off below 10, one 200 mm off below none.
    best, nearer, farther = 100 * 30 / 31, 100 * (13 * 30 + 10) / 14 / 31, 100 * 13 * 30 / 14 / 31
    expected = [(nearer + farther + best) / 3, farther, best, nearer]
    expected += [(nearer + farther) / 2, best, (nearer + farther) / 2]
    assert wide["auc"].tolist() == pytest.approx(expected, abs=1e-3)
    frames = scores.groupby("group")["frames"].first().loc[groups]
    assert frames.tolist() == [12, 4, 4, 4, 6, 4, 2]


def test_3dpw_is_over_its_14_joints(tmp_path):
    predicted, target = random_poses(7, 0)
    expected = aligned_error(predicted, target, LSP)
    predicted[:, [index("spine"), index("head")]] += 0.5
    write(tmp_path, [("a", "p0", "x", predicted[:3], target[:3], {}), ("b", "p1", "x", predicted[3:], target[3:], {})])
    scores = run(tmp_path, "three_dpw")
    assert scores[["group", "metric", "frames"]].values.tolist() == [["all", "p_mpjpe", 7]]
    assert scores["value"].tolist() == pytest.approx([expected], abs=2e-3)


def test_the_joint_adaptation_of_3dpw_comes_from_the_other_poses_alone(tmp_path):
    """The truth of the other clips is a map of what is predicted there; that of the scored ones is it but for 40 mm."""
    rng = np.random.default_rng(0)
    weights = np.eye(17) + rng.normal(0, 0.1, (17, 17))
    weights[0] = weights[:, 0] = 0
    predicted = [random_poses(frames, seed)[0] for frames, seed in ((40, 1), (6, 2))]
    target = [weights @ poses for poses in predicted]
    target[1][:, index("l_ankle"), 0] += 0.04
    write(tmp_path, [("other", "p0", "x", predicted[0], target[0], {})], "other")
    write(tmp_path, [("scored", "p0", "x", predicted[1], target[1], {})])
    fit = ["--fit-poses", tmp_path / "other_poses.h5", "--fit-store", f"s={tmp_path / 'other.h5'}"]
    scores = run(tmp_path, "three_dpw", *fit)
    assert scores["group"].tolist() == ["all", "all, joints adapted"]
    assert scores["frames"].tolist() == [6, 6]
    expected = [aligned_error(poses, target[1], LSP) for poses in (predicted[1], weights @ predicted[1])]
    assert scores["value"].tolist() == pytest.approx(expected, abs=5e-3)
    assert expected[1] < 10 < expected[0]


def test_what_cannot_be_scored_is_one_line(tmp_path):
    predicted, target = random_poses(2, 0)
    write(tmp_path, [("clip_7", "S1", "Walking", predicted, target, {})])
    poses, labelled = tmp_path / "test_poses.h5", f"s={tmp_path / 'test.h5'}"
    fit = ["--fit-poses", poses, "--fit-store", labelled]
    for protocol, options, message in (
        ("mpi_inf_3dhp", [], "s/clip_7: has no 'activity'"),
        ("human36m", [], "--protocol: is 'human36m'; expected one of humaneva, mpi_inf_3dhp, three_dpw"),
        ("three_dpw", fit[:2], "expected both or neither"),
        ("three_dpw", fit[2:], "expected both or neither"),
        ("humaneva", fit, "'humaneva' has no joint adaptation"),
        ("three_dpw", fit, "has the clip 'clip_7', which is scored"),
    ):
        with pytest.raises(UserError, match=message) as error:
            run(tmp_path, protocol, *options)
        assert "\n" not in str(error.value)


def test_views_with_drawn_occluders_alone_are_refused(tmp_path):
    predicted, target = random_poses(2, 0)
    write(tmp_path, [("c", "S1", "Walking", predicted, target, {})])
    with PoseStore.create(tmp_path / "test_poses.h5") as poses:
        poses.write(ViewKey("s", "c", "cam_occluded"), predicted)
    with pytest.raises(UserError, match="no poses of views without drawn occluders"):
        run(tmp_path, "humaneva")
