import numpy as np
import pytest

from isopose.camera import project, world_to_camera
from isopose.datasets.studio import AZIMUTHS, Studio, place_cameras
from isopose.datasets.synthetic import generate

NAMES = list(AZIMUTHS)


@pytest.mark.parametrize("action", ["walking", "wide"])
@pytest.mark.parametrize("distortion", [(0, 0, 0, 0, 0), (-0.2, 0.2, -0.001, 0.001, 0.0)])
def test_every_joint_is_in_the_image_and_deep_enough(action, distortion):
    joints = generate("S1", action, 1.0, 3, 50, 1) + [3.0, -2.0, 0.0]
    studio = Studio(min_depth=2.5, distortion=distortion)
    for camera in place_cameras(joints, NAMES, "S1", 0, studio).values():
        points = world_to_camera(joints, camera)
        assert points[..., 2].min() >= 2.5
        pixels = project(points, camera)
        assert pixels.min() >= 40 and pixels.max() <= 959


def test_cameras_are_proper_upright_and_around_the_person():
    joints = generate("S1", "boxing", 1.0, 2, 50, 1)
    cameras = place_cameras(joints, NAMES, "S1", 0, Studio())
    middle = (joints.reshape(-1, 3).min(axis=0) + joints.reshape(-1, 3).max(axis=0)) / 2
    for name, camera in cameras.items():
        np.testing.assert_allclose(camera.R @ camera.R.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(camera.R) > 0
        assert camera.R[1, 2] < -0.9  # image y runs down
        outward = camera.T - middle
        azimuth = np.degrees(np.arctan2(outward[1], outward[0])) % 360
        assert abs(azimuth - AZIMUTHS[name]) <= 8
        assert 1.4 < camera.T[2] < 1.8
        assert 4.7 < np.linalg.norm(outward[:2]) < 5.6
        assert abs(camera.K[0, 0] - 1145) < 12 and camera.size == (1000, 1000)
    head, pelvis = (project(world_to_camera(joints[:, j], cameras["cam1"]), cameras["cam1"])[:, 1] for j in (10, 0))
    assert (head < pelvis).all()


def test_jitter_belongs_to_subject_and_seed():
    joints = generate("S1", "boxing", 1.0, 1, 50, 1)
    base = place_cameras(joints, NAMES, "S1", 0, Studio())
    again = place_cameras(joints, ["cam2"], "S1", 0, Studio())
    np.testing.assert_array_equal(base["cam2"].T, again["cam2"].T)
    for subject, seed in (("S2", 0), ("S1", 1)):
        assert np.abs(place_cameras(joints, NAMES, subject, seed, Studio())["cam1"].T - base["cam1"].T).max() > 1e-3
