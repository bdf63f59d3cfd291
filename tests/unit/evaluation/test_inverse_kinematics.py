import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from isopose.datasets.human36m import protocol_angles
from isopose.evaluation.inverse_kinematics import REST, bone_lengths, positions, rotations
from isopose.skeleton import BONES, PARENTS, index


def random_joints(*shape):
    rng = np.random.default_rng(0)
    joints = np.zeros((*shape, 17, 3))
    joints[..., 0, :] = rng.normal(size=(*shape, 3))
    for parent, child in BONES:
        joints[..., child, :] = joints[..., parent, :] + 0.3 * rng.normal(size=(*shape, 3))
    return joints


@pytest.mark.parametrize("shape", [(), (500,), (4, 50)])
def test_forward_kinematics_gives_the_positions_back(shape):
    joints = random_joints(*shape)
    local = rotations(joints)
    back = positions(local, bone_lengths(joints), joints[..., 0, :])
    assert np.abs(back - joints).max() < 1e-6
    np.testing.assert_allclose(local @ local.swapaxes(-1, -2), np.broadcast_to(np.eye(3), local.shape), atol=1e-10)
    np.testing.assert_allclose(np.linalg.det(local), 1)


def test_a_bone_turns_by_the_shortest_way_without_twist():
    joints = random_joints(100)
    vectors = Rotation.from_matrix(rotations(joints)[:, 1:].reshape(-1, 3, 3)).as_rotvec().reshape(100, 16, 3)
    assert np.abs((vectors * REST[1:]).sum(-1)).max() < 1e-6


def test_each_rotation_by_scipy_a_bone_at_a_time():
    joints = random_joints(20)
    for pose, local in zip(joints, rotations(joints), strict=True):
        frames = [Rotation.from_matrix(local[0])]
        for child in range(1, 17):
            before = frames[PARENTS[child]]
            seen = before.inv().apply(pose[child] - pose[PARENTS[child]])
            seen /= np.linalg.norm(seen)
            axis = np.cross(REST[child], seen)
            turn = Rotation.from_rotvec(axis / np.linalg.norm(axis) * np.arccos(REST[child] @ seen))
            np.testing.assert_allclose(local[child], turn.as_matrix(), atol=1e-6)
            frames.append(before * turn)


def test_the_whole_body_turned_changes_the_root_alone():
    joints = random_joints(50)
    turn = Rotation.from_euler("xyz", [0.4, -1.0, 2.0])
    turned = turn.apply(joints.reshape(-1, 3)).reshape(joints.shape)
    before, after = rotations(joints), rotations(turned)
    np.testing.assert_allclose(after[:, 1:], before[:, 1:], atol=1e-7)
    np.testing.assert_allclose(after[:, 0], turn.as_matrix() @ before[:, 0], atol=1e-9)


def test_euler_angles_give_the_rotations_back():
    local = rotations(random_joints(50))
    angles = protocol_angles(local)
    assert angles.shape == (50, 17, 3)
    assert not angles[:, 0].any()
    x, y, z = angles[:, 1:].reshape(-1, 3).T[..., None] * np.eye(3)[:, None]
    back = Rotation.from_rotvec(z) * Rotation.from_rotvec(y) * Rotation.from_rotvec(x)
    matrices = back.as_matrix().reshape(50, 16, 3, 3)
    np.testing.assert_allclose(matrices, local[:, 1:], atol=1e-9)


def test_the_pose_at_rest_has_no_rotation_and_an_opposite_bone_half_a_turn():
    rest = np.broadcast_to(np.eye(3), (17, 3, 3))
    joints = positions(np.array(rest), np.full(17, 0.3), np.zeros(3))
    np.testing.assert_allclose(rotations(joints), rest, atol=1e-12)
    for parent, child in BONES:
        if child in PARENTS or child in (index("r_ankle"), index("l_ankle")):
            continue
        folded = joints.copy()
        folded[child] = 2 * joints[parent] - joints[child]
        local = rotations(folded)
        np.testing.assert_allclose(np.trace(local[child]), -1, atol=1e-9)
        np.testing.assert_allclose(positions(local, bone_lengths(folded), np.zeros(3)), folded, atol=1e-9)


def test_what_has_no_direction_is_refused():
    joints = random_joints(5)
    joints[2, index("l_wrist")] = joints[2, index("l_elbow")]
    with pytest.raises(ValueError, match="l_wrist has no direction in 1 of 5"):
        rotations(joints)
    with pytest.raises(ValueError, match="16, 3"):
        rotations(joints[:, :16])
