import numpy as np
import pytest
from scipy.spatial import procrustes
from tests.unit.datasets.generators import mpi_inf_3dhp as generator

from isopose.datasets import humaneva
from isopose.evaluation import protocols
from isopose.skeleton import JOINTS, index


def poses(frames, seed):
    """A target and a prediction: the joints off by known distances, whole millimetres, in known directions."""
    rng = np.random.default_rng(seed)
    target = rng.normal(0, 0.4, (frames, 17, 3))
    direction = rng.normal(size=(frames, 17, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    distance = rng.integers(0, 300, (frames, 17)) + 0.5
    distance[:, 0] = 0
    return target + direction * distance[..., None] / 1000, target, distance


def counted(distance):
    """PCK and AUC of distances (F, 17), mm, by counting joint after joint, as mpii_compute_3d_pck.m."""
    near, curve, total = 0, np.zeros(31), 0
    for frame in distance:
        for name, value in zip(JOINTS, frame, strict=True):
            if name in ("pelvis", "spine", "neck"):
                continue
            total += 1
            near += value < 150
            curve += [value < threshold for threshold in range(0, 151, 5)]
    return near / total, (curve / total).mean()


def test_mpi_inf_3dhp_by_counting():
    predicted, target, distance = poses(60, 0)
    rng = np.random.default_rng(1)
    activities, scenes = rng.choice([1, 2, 7], 60, p=[0.7, 0.2, 0.1]), rng.choice(["outdoor", "green_screen"], 60)
    found = protocols.mpi_inf_3dhp(predicted, target, activities, scenes)
    groups = {
        "All": distance,
        "Standing/Walking": distance[activities == 1],
        "Exercising": distance[activities == 2],
        "Miscellaneous": distance[activities == 7],
        "outdoor": distance[scenes == "outdoor"],
        "green_screen": distance[scenes == "green_screen"],
    }
    assert set(found) == set(groups)  # activities without a frame are left out
    for name, values in groups.items():
        assert found[name][:2] == pytest.approx(counted(values)), name
        assert found[name].frames == len(values)


def test_all_is_weighted_by_frames():
    """3 frames of one activity and 1 of another: not the mean of the two."""
    target = np.zeros((4, 17, 3))
    predicted = target.copy()
    predicted[3, 1:] = 1
    found = protocols.mpi_inf_3dhp(predicted, target, np.array([1, 1, 1, 5]), np.array(["outdoor"] * 4))
    assert [found[name].pck for name in ("All", "Standing/Walking", "On The Floor")] == [0.75, 1, 0]
    assert found["All"].auc == pytest.approx(0.75 * 30 / 31)  # a distance of 0 is not below the threshold of 0


def test_150_mm_is_too_far_and_the_place_of_the_root_does_not_count():
    target = np.zeros((2, 17, 3))
    predicted = target + [5.0, 0, 0]
    predicted[0, index("l_knee"), 1] = 0.15
    predicted[1, index("l_knee"), 1] = 0.149999
    found = protocols.mpi_inf_3dhp(predicted, target, np.array([1, 2]), np.array(["a", "a"]))
    assert (found["Standing/Walking"].pck, found["Exercising"].pck) == (pytest.approx(13 / 14), 1)


def test_a_scene_is_weighted_as_the_test_sets_readme_says():
    """(TS5 * 276 + TS6 * 452) / (276 + 452), of the sequences' own PCK."""
    predicted, target, distance = poses(728, 5)
    sequences = np.repeat(["TS5", "TS6"], [276, 452])
    found = protocols.mpi_inf_3dhp(predicted, target, np.ones(728, int), np.repeat("outdoor", 728))
    first, second = (counted(distance[sequences == name])[0] for name in ("TS5", "TS6"))
    assert found["outdoor"].pck == pytest.approx((first * 276 + second * 452) / (276 + 452))


@pytest.mark.parametrize("joint", ["pelvis", "spine", "neck"])
def test_joints_that_are_not_official_do_not_count(joint):
    """Of the root only its place matters, to the others: here all 14 are off."""
    target = np.zeros((1, 17, 3))
    predicted = target.copy()
    predicted[0, index(joint)] = 1
    share = protocols.mpi_inf_3dhp(predicted, target, np.array([3]), np.array(["a"]))["All"].pck
    assert share == (0 if joint == "pelvis" else 1)


def test_the_14_joints_are_the_first_of_the_test_sets_order():
    """mpii_get_pck_auc_joint_groups.m counts joints 1 to 14 of the 17."""
    assert sorted(generator.OURS[name] for name in generator.RELEVANT_JOINTS[:14]) == sorted(
        protocols.MPI_INF_3DHP_JOINTS
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activities": np.array([1, 8])}, "activities: expected 1 to 7"),
        ({"scenes": np.array(["a"])}, r"scenes: shape \(1,\); expected \(2,\)"),
        ({"target": np.zeros((2, 14, 3))}, r"target: shape \(2, 14, 3\)"),
        ({"target": np.full((2, 17, 3), np.nan)}, "target: 102 of 102 numbers are NaN"),
    ],
)
def test_wrong_arguments_are_told(change, message):
    good = {"predicted": np.zeros((2, 17, 3)), "target": np.zeros((2, 17, 3))}
    good |= {"activities": np.array([1, 2]), "scenes": np.array(["a", "a"])}
    with pytest.raises(ValueError, match=message):
        protocols.mpi_inf_3dhp(**good | change)


def aligned_error(predicted, target):
    """P-MPJPE of one pose by scipy, which scales both shapes to norm one."""
    one, two, _ = procrustes(target, predicted)
    size = np.linalg.norm(target - target.mean(0))
    return size * np.linalg.norm(one - two, axis=1).mean()


def test_humaneva_by_subject_and_action():
    rng = np.random.default_rng(4)
    target = rng.normal(0, 0.4, (12, 17, 3))
    predicted = target + rng.normal(0, 0.02, target.shape)
    predicted[:, [index("spine"), index("neck")]] += 9  # the data set does not have them
    subjects = np.array(["S1"] * 5 + ["S2"] * 7)
    actions = np.array(["Jog", "Walking"] * 6)
    cells, average = protocols.humaneva(predicted, target, subjects, actions)
    joints = [index(name) for name in humaneva.JOINT_NAMES]
    errors = np.array([aligned_error(p[joints], t[joints]) for p, t in zip(predicted, target, strict=True)])
    expected = {
        (subject, action): errors[(subjects == subject) & (actions == action)].mean()
        for subject in ("S1", "S2")
        for action in ("Jog", "Walking")
    }
    assert cells == pytest.approx(expected)
    assert average == pytest.approx(sum(expected.values()) / 4)
