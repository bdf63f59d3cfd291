import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isopose.sparse_maps import MAP_THRESHOLD, SparseMaps


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31 - 1), st.integers(0, 4))
def test_sparse_maps_keep_every_pixel_above_the_threshold_within_one_step(seed, frames):
    maps = np.random.default_rng(seed).random((frames, 3, 8, 8)) ** 8
    dense = SparseMaps.from_dense(maps).dense()
    kept = maps >= MAP_THRESHOLD
    assert np.abs(dense - maps)[kept].max(initial=0) <= 1 / 255
    assert not dense[~kept].any()


def test_sparse_maps_of_chosen_frames_in_any_order():
    maps = np.random.default_rng(1).random((5, 2, 8, 8)).astype(np.float32)
    sparse = SparseMaps.from_dense(maps)
    chosen = np.array([3, 0, 3])
    np.testing.assert_array_equal(sparse.dense(chosen), sparse.dense()[chosen])
    assert sparse.frames == 5


def test_maps_that_the_sparse_form_cannot_hold_are_told():
    with pytest.raises(ValueError, match=r"maps: shape \(1, 2, 8, 6\); expected \(F, K, 6, 6\)"):
        SparseMaps.from_dense(np.zeros((1, 2, 8, 6)))
    with pytest.raises(ValueError, match=r"maps: 257 pixels wide; .*, at most 256"):
        SparseMaps.from_dense(np.zeros((1, 1, 257, 257)))
    corner = np.zeros((1, 1, 256, 256), np.float32)
    corner[0, 0, 255, 255] = 1
    np.testing.assert_array_equal(SparseMaps.from_dense(corner).dense(), corner)
