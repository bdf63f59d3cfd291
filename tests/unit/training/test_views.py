import numpy as np
import torch
from scipy.spatial.transform import Rotation
from tests.unit.conftest import camera_at, swinging_skeleton
from tests.unit.training.test_data import dense

from isopose.camera import project, world_to_camera
from isopose.crops import boxes_around
from isopose.heatmaps import render
from isopose.models.embedding import MapEntries
from isopose.models.lifter import normalised_boxes
from isopose.training.views import about_vertical, carried_boxes, move_pixels, to_box


def seen_from(joints, camera):
    """Joints in the camera frame, and boxes round their projections as the lifter gets them."""
    boxes = boxes_around(project(world_to_camera(joints, camera), camera), 1.3)
    return torch.from_numpy(world_to_camera(joints, camera)), torch.from_numpy(normalised_boxes(boxes, camera))


def test_the_axis_is_the_worlds_vertical():
    rng = np.random.default_rng(0)
    cameras, angles = Rotation.random(8, random_state=0).as_matrix(), rng.uniform(-4, 4, 8)
    expected = Rotation.from_rotvec(angles[:, None] * cameras[:, :, 2]).as_matrix()
    found = about_vertical(torch.from_numpy(cameras).float(), torch.from_numpy(angles).float())
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_turned_person_is_what_a_camera_further_round_sees():
    joints = swinging_skeleton(20, phase=0.0)  # stands on the axis round which the cameras lie
    here, box = seen_from(joints, camera_at(0.4))
    expected, expected_box = seen_from(joints, camera_at(0.4 + 1.1))
    turn = about_vertical(torch.from_numpy(camera_at(0.4).R)[None].float(), torch.tensor([-1.1]))[0].double()
    root = here[:, :1]
    there = (here - root) @ turn.T + root
    torch.testing.assert_close(there, expected, atol=1e-5, rtol=0)
    carried = carried_boxes(box[None].double(), here[None], there[None])[0]
    torch.testing.assert_close(carried, expected_box.double(), atol=1e-5, rtol=0)


def test_the_box_spans_its_crop():
    joints, box = seen_from(swinging_skeleton(5, phase=1.0), camera_at(2.0))
    inside = to_box(joints[None], box[None])
    assert (inside.abs().amax((-2, -1)) - 1 / 1.3).abs().max() < 1e-5


def test_moving_pixels_moves_the_mean_and_keeps_the_sum():
    points = torch.full((2, 1, 17, 2), 7.0)
    maps = render(points, 16, 1.0).flatten(0, 2).flatten(1)
    index, pixel = (maps > 0.01).nonzero().T
    entries = MapEntries(index, pixel, maps[index, pixel], 16)
    offsets = torch.tensor([1.25, -0.5]).expand(2, 1, 17, 2)
    moved = dense(move_pixels(entries, offsets, torch.tensor([False, True])), (2, 17))
    still = dense(entries, (2, 17))
    assert torch.equal(moved[0], still[0])
    torch.testing.assert_close(moved[1].sum((-1, -2)), still[1].sum((-1, -2)))
    axis = torch.arange(16.0)
    mean = (moved[1].sum(-2) * axis).sum(-1) / moved[1].sum((-1, -2))
    torch.testing.assert_close(mean, torch.full((17,), 8.25))
