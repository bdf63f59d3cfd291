import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from isopose.evaluation.joint_adaptation import COMMON_JOINTS, JointAdaptation, common_joints, p_mpjpe_3dpw
from isopose.skeleton import JOINTS


@pytest.fixture
def poses():
    poses = np.random.default_rng(0).normal(0, 0.4, (5, 8, 17, 3))
    poses[..., 0, :] = 0  # the root
    return poses


def test_a_known_map_is_recovered(poses):
    known = np.random.default_rng(1).normal(size=(14, 17))
    known[:, 0] = 0  # nothing tells what the root, zero, weighs
    found = JointAdaptation.fit(poses, known @ poses)
    np.testing.assert_allclose(found.weights, known, atol=1e-9)
    new = np.random.default_rng(2).normal(size=(3, 17, 3))
    expected = np.zeros((3, 14, 3))
    for pose, joint, source, axis in np.ndindex(3, 14, 17, 3):
        expected[pose, joint, axis] += known[joint, source] * new[pose, source, axis]
    np.testing.assert_allclose(found(new), expected, atol=1e-8)


def test_a_noisy_map_is_the_least_squares_one(poses):
    """Against an iterative solver that knows nothing of the closed form."""
    poses = poses[:, :4, 1:5]
    target = np.random.default_rng(3).normal(size=(*poses.shape[:2], 2, 3))
    found = JointAdaptation.fit(poses, target).weights
    best = least_squares(
        lambda weights: (np.einsum("kj,fcja->fcka", weights.reshape(2, 4), poses) - target).ravel(), np.zeros(8)
    )
    np.testing.assert_allclose(found.ravel(), best.x, atol=1e-5)


def test_a_turned_pose_gives_the_turned_result(poses):
    adaptation = JointAdaptation(np.random.default_rng(4).normal(size=(14, 17)))
    turn = Rotation.random(random_state=5).as_matrix()
    np.testing.assert_allclose(adaptation(poses @ turn), adaptation(poses) @ turn, atol=1e-12)


def test_the_score_is_over_the_common_14_joints(poses):
    truth = poses.copy()
    truth[..., JOINTS.index("head"), :] = np.nan  # 3DPW has no top of the head
    choose = np.eye(17)[[JOINTS.index(name) for name in COMMON_JOINTS]]
    assert common_joints(truth).shape == (5, 8, 14, 3)
    turn = Rotation.random(random_state=6).as_matrix()
    error = p_mpjpe_3dpw(2 * poses @ turn, truth, JointAdaptation(choose))
    np.testing.assert_allclose(error, 0, atol=1e-12)
    spoiled = poses.copy()
    spoiled[..., [JOINTS.index(name) for name in ("pelvis", "spine", "head")], :] += 1  # none of the 14
    np.testing.assert_allclose(p_mpjpe_3dpw(spoiled, truth, JointAdaptation(choose)), 0, atol=1e-12)
    spoiled[..., JOINTS.index("r_ankle"), :] += 1
    assert (p_mpjpe_3dpw(spoiled, truth, JointAdaptation(choose)) > 0.01).all()


@pytest.mark.parametrize(
    ("predicted", "target", "message"),
    [
        (np.ones((4, 17, 3)), np.ones((5, 14, 3)), r"target: shape \(5, 14, 3\); expected \(4, K, 3\)"),
        (np.full((4, 17, 3), np.nan), np.ones((4, 14, 3)), r"predicted: 204 of 204 numbers are NaN"),
        (np.ones((4, 17, 2)), np.ones((4, 14, 3)), r"predicted: shape \(4, 17, 2\)"),
    ],
)
def test_what_cannot_be_fitted_is_told(predicted, target, message):
    with pytest.raises(ValueError, match=message):
        JointAdaptation.fit(predicted, target)
    with pytest.raises(ValueError, match=r"poses: shape \(4, 16, 3\); expected \(..., 17, 3\)"):
        JointAdaptation(np.ones((14, 17)))(np.ones((4, 16, 3)))
