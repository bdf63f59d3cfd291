import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isopose import heatmaps


def test_render_is_the_gaussian_written_out():
    maps = heatmaps.render(np.array([[3.25, 5.5]]), 12, 1.5)
    expected = [[math.exp(-((x - 3.25) ** 2 + (y - 5.5) ** 2) / (2 * 1.5**2)) for x in range(12)] for y in range(12)]
    np.testing.assert_allclose(maps[0], expected, rtol=1e-12)


@settings(deadline=None, max_examples=50)
@given(st.floats(2, 28), st.floats(2, 28))
def test_decode_finds_the_peak_to_a_quarter_pixel(x, y):
    point, peak = heatmaps.decode(heatmaps.render(np.array([x, y]), 32, 2.0))
    assert np.abs(point - [x, y]).max() <= 0.2500001
    assert peak > math.exp(-0.5 / (2 * 2.0**2)) - 1e-9


def test_decode_does_not_shift_at_the_border():
    maps = np.zeros((8, 8))
    maps[0, 7], maps[1, 7], maps[0, 6] = 1.0, 0.5, 0.5
    point, peak = heatmaps.decode(maps)
    assert point.tolist() == [7, 0] and peak == 1


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31 - 1))
def test_decode_is_the_official_rule_where_that_shifts(seed):
    # The official code shifts where 1 < column < width - 1 and 1 < row < height - 1; nearer the border it does not.
    maps = np.random.default_rng(seed).random((4, 17, 9, 12))
    points, peaks = heatmaps.decode(maps)
    for frame, joint in np.ndindex(4, 17):
        grid = maps[frame, joint].tolist()
        peak, row, column = max((grid[y][x], y, x) for y in range(9) for x in range(12))
        assert peaks[frame, joint] == peak
        x, y = points[frame, joint]
        if 1 < column < 11 and 1 < row < 8:
            assert x == column + (0.25 if grid[row][column + 1] > grid[row][column - 1] else -0.25)
            assert y == row + (0.25 if grid[row + 1][column] > grid[row - 1][column] else -0.25)
        else:
            assert abs(x - column) <= 0.25 and abs(y - row) <= 0.25


def test_numpy_and_torch_decode_alike():
    maps = np.random.default_rng(0).random((3, 17, 16, 16))
    for ours, theirs in zip(heatmaps.decode(torch.tensor(maps)), heatmaps.decode(maps), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)


def test_a_point_outside_the_map_leaves_nothing_and_is_decoded_without_confidence():
    point, peak = heatmaps.decode(heatmaps.render(np.array([[-50.0, 4.0], [4.0, 4.0]]), 8, 1.0))
    assert peak.tolist() == [0, 1]
    assert point.tolist() == [[0, 0], [4, 4]]


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_what_is_no_point_or_no_map_is_told(kind):
    points, maps = kind(np.full((3, 2), np.nan)), np.zeros((2, 3, 8, 8))
    with pytest.raises(ValueError, match=r"points: 6 of 6 numbers are NaN or infinite; expected finite \(..., 2\)"):
        heatmaps.render(points, 8, 1.0)
    with pytest.raises(ValueError, match=r"points: shape \(3,\); expected \(..., 2\)"):
        heatmaps.render(points[:, 0], 8, 1.0)
    maps[1, 2, 3, 4] = np.nan
    with pytest.raises(ValueError, match=r"maps: 1 of 6 hold NaN; expected \(..., H, W\)"):
        heatmaps.decode(kind(maps))
    with pytest.raises(ValueError, match=r"maps: shape \(8,\); expected \(..., H, W\)"):
        heatmaps.decode(kind(maps[0, 0, 0]))
    with pytest.raises(ValueError, match=r"maps: torch.uint8; expected floating point"):
        heatmaps.decode(kind(np.zeros((8, 8), np.uint8)))
