import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from isopose.datasets.kinematics import forward_kinematics, playback_times, resample

PARENTS = (-1, 0, 1, 0)


@pytest.fixture
def motion():
    rng = np.random.default_rng(0)
    quaternions = Rotation.random(7 * 4, rng=rng).as_quat().reshape(7, 4, 4)
    return rng.normal(size=(4, 3)), quaternions, rng.normal(size=(7, 3))


def test_forward_kinematics_matches_chained_homogeneous_matrices(motion):
    offsets, quaternions, root = motion
    positions, orientations = forward_kinematics(PARENTS, offsets, quaternions, root)
    for frame in range(7):
        world = []
        for joint, parent in enumerate(PARENTS):
            local = np.eye(4)
            local[:3, :3] = Rotation.from_quat(quaternions[frame, joint]).as_matrix()
            local[:3, 3] = root[frame] if parent < 0 else offsets[joint]
            world.append(local if parent < 0 else world[parent] @ local)
        np.testing.assert_allclose(positions[frame], [m[:3, 3] for m in world], atol=1e-12)
        np.testing.assert_allclose(orientations[frame], [m[:3, :3] for m in world], atol=1e-12)


def test_resample_agrees_with_scipy_slerp(motion):
    _, quaternions, root = motion
    times = np.array([0.0, 0.25, 2.5, 5.99, 6.0])
    rotated, moved = resample(quaternions, root, times)
    for joint in range(4):
        expected = Slerp(np.arange(7), Rotation.from_quat(quaternions[:, joint]))(times)
        error = (Rotation.from_quat(rotated[:, joint]) * expected.inv()).magnitude()
        assert error.max() < 1e-9
    np.testing.assert_allclose(moved.T, [np.interp(times, np.arange(7), axis) for axis in root.T])


def test_resampled_bones_keep_their_length(motion):
    offsets, quaternions, root = motion
    rotated, moved = resample(quaternions, root, np.linspace(0, 6, 50))
    positions, _ = forward_kinematics(PARENTS, offsets, rotated, moved)
    lengths = np.linalg.norm(positions[:, 2] - positions[:, 1], axis=-1)
    np.testing.assert_allclose(lengths, np.linalg.norm(offsets[2]), rtol=1e-12)


@pytest.mark.parametrize(("fps", "target", "speed"), [(120, 50, 1.0), (60, 50, 2.0), (30, 30, 1.0), (120, 50, 0.5)])
def test_playback_times(fps, target, speed):
    times = playback_times(241, fps, target, speed)
    np.testing.assert_allclose(np.diff(times), fps * speed / target)
    assert times[0] == 0
    assert 240 - fps * speed / target < times[-1] <= 240
