import numpy as np

from isopose.occlusion.rectangles import covered, inside_image, run_lengths


def test_covered_by_any_rectangle_and_never_by_an_absent_one():
    points = np.array([[[5.0, 5.0], [20.0, 5.0], [50.0, 50.0]]] * 2)
    rectangles = np.full((2, 2, 4), np.nan)
    rectangles[0] = [[0, 0, 10, 10], [15, 0, 25, 10]]
    np.testing.assert_array_equal(covered(points, rectangles), [[True, True, False], [False, False, False]])


def test_image_spans_half_a_pixel_around_its_outer_pixels():
    points = np.array([[-0.5, 0], [-0.6, 0], [99.4, 49.4], [99.5, 0], [0, 49.5]])
    np.testing.assert_array_equal(inside_image(points, (100, 50)), [True, False, True, False, False])


def test_run_lengths():
    flags = np.array([1, 1, 0, 1, 1, 1, 0, 0, 1], bool)
    np.testing.assert_array_equal(run_lengths(flags), [2, 2, 0, 3, 3, 3, 0, 0, 1])
    np.testing.assert_array_equal(run_lengths(np.zeros(3, bool)), [0, 0, 0])
