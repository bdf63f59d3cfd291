import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isopose import crops


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31 - 1), st.sampled_from([1, 24, 64, 256]))
def test_crop_to_image_is_the_exact_inverse(seed, size):
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 1000, (5, 17, 2))
    boxes = np.concatenate([rng.uniform(0, 1000, (5, 2)), rng.uniform(50, 800, (5, 1))], axis=1)
    there = crops.image_to_crop(points, boxes, size)
    np.testing.assert_allclose(crops.crop_to_image(there, boxes, size), points, atol=1e-9)


def test_the_box_spans_the_crop_from_edge_to_edge():
    boxes = np.array([[100.0, 50.0, 64.0]])
    corners = np.array([[[68.0, 18.0], [132.0, 82.0], [100.0, 50.0]]])
    np.testing.assert_allclose(crops.image_to_crop(corners, boxes, 32)[0], [[-0.5, -0.5], [31.5, 31.5], [15.5, 15.5]])


def test_boxes_hold_every_joint_with_the_margin():
    joints = np.random.default_rng(0).uniform(0, 500, (10, 17, 2))
    boxes = crops.boxes_around(joints, margin=1.25)
    inside = crops.image_to_crop(joints, boxes, 100)
    assert inside.min() > -0.5 + 9 and inside.max() < 99.5 - 9  # 1.25 leaves a tenth of the side on each edge


def test_smoothing_is_a_moving_average_over_frames():
    joints = np.zeros((9, 2, 2))
    joints[:, 1] = 10
    joints[4] += 30
    boxes = crops.boxes_around(joints, margin=1.0, smoothing=3)
    np.testing.assert_allclose(boxes[:, 0], [5, 5, 5, 15, 15, 15, 5, 5, 5])
    np.testing.assert_allclose(boxes[:, 2], 10)


def test_crop_intrinsics_project_straight_into_the_crop():
    rng = np.random.default_rng(0)
    K = np.array([[1100.0, 0, 480], [0, 1150, 520], [0, 0, 1]])
    boxes = np.concatenate([rng.uniform(0, 1000, (4, 2)), rng.uniform(50, 800, (4, 1))], axis=1)
    points = rng.uniform(-1, 1, (4, 17, 3)) + [0, 0, 4]
    image = points / points[..., 2:] @ K.T
    focal, centre = crops.crop_intrinsics(K, boxes, 48)
    seen = focal[:, None] * points[..., :2] / points[..., 2:] + centre[:, None]
    np.testing.assert_allclose(seen, crops.image_to_crop(image[..., :2], boxes, 48), atol=1e-9)


def test_a_clip_of_one_frame_is_its_own_average():
    joints = np.random.default_rng(0).uniform(0, 500, (1, 17, 2))
    np.testing.assert_array_equal(crops.boxes_around(joints, smoothing=9), crops.boxes_around(joints))


@pytest.mark.parametrize("smoothing", [1, 3])
def test_joints_that_no_box_can_be_put_around_are_told(smoothing):
    joints = np.random.default_rng(0).uniform(0, 500, (6, 17, 2))
    joints[2, 3] = np.nan  # the moving average would carry it to all frames that follow
    with pytest.raises(
        ValueError, match=r"joints2d: 2 of 204 numbers are NaN or infinite; expected finite \(F, J, 2\)"
    ):
        crops.boxes_around(joints, smoothing=smoothing)
    with pytest.raises(ValueError, match=r"joints2d: shape \(17, 2\); expected \(F, J, 2\)"):
        crops.boxes_around(joints[0], smoothing=smoothing)
    joints[1:] = 40
    with pytest.raises(ValueError, match=f"joints2d: all joints of frame {1 + smoothing // 2} are in one place"):
        crops.boxes_around(joints, smoothing=smoothing)


def test_boxes_of_rectangles_are_those_around_their_corners():
    corners = np.random.default_rng(0).uniform(0, 500, (12, 5, 2)).astype(np.float32)
    rectangles = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    np.testing.assert_array_equal(crops.rectangles_around(corners), rectangles)
    for margin, smoothing in ((1.0, 1), (1.25, 5)):
        expected = crops.boxes_around(corners, margin, smoothing)
        np.testing.assert_array_equal(crops.boxes_from_rectangles(rectangles, margin, smoothing), expected)


def test_frames_without_a_rectangle_have_the_nearest_ones():
    rectangles = np.full((8, 4), np.nan)
    rectangles[2], rectangles[5], rectangles[6] = (
        (0, 0, 10, 20),
        (30, 0, 40, 40),
        (9, 9, 9, 12),
    )  # the last has no width
    boxes = crops.boxes_from_rectangles(rectangles, margin=1.0)
    np.testing.assert_array_equal(boxes, [[5, 10, 20]] * 4 + [[35, 20, 40]] * 4)
    rectangles[:, 0] = np.nan
    with pytest.raises(ValueError, match=r"rectangles: none of 8 frames has one; expected \(F, 4\)"):
        crops.boxes_from_rectangles(rectangles)
    with pytest.raises(ValueError, match="rectangles: shape"):
        crops.boxes_from_rectangles(rectangles[:, :3])


def test_rectangles_leave_out_joints_that_are_not_labelled():
    joints = np.full((3, 17, 2), np.nan)
    joints[0, [2, 9]] = [[4, 30], [10, 5]]
    joints[1, 4] = [7, 7]
    joints[1, 5, 0] = 100
    expected = [[4, 5, 10, 30], [7, 7, 7, 7], [np.nan] * 4]
    np.testing.assert_array_equal(crops.rectangles_around(joints), expected)
