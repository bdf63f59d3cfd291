import numpy as np
import pytest

from isopose.datasets.occluders import Occluders, draw_occluders, occlusion_seconds

FPS = 50.0


@pytest.fixture(scope="module")
def joints2d():
    rng = np.random.default_rng(0)
    person = rng.uniform([420, 250], [560, 750], (17, 2))
    return person + np.linspace([0, 0], [80, 10], 300)[:, None]


def test_each_occluder_is_one_run_within_the_durations(joints2d):
    settings = Occluders(per_second=2.0)
    lengths = []
    for seed in range(20):
        boxes = draw_occluders(joints2d, FPS, (1000, 1000), settings, seed)
        assert boxes.shape == (300, 12, 4)
        present = np.isfinite(boxes).all(axis=-1)
        assert (present == np.isfinite(boxes).any(axis=-1)).all()
        starts = (np.diff(np.pad(present.astype(int), ((1, 0), (0, 0))), axis=0) == 1).sum(axis=0)
        assert (starts == 1).all()
        seconds = occlusion_seconds(boxes, FPS)
        for column in range(12):
            length = present[:, column].sum()
            lengths.append(length)
            np.testing.assert_allclose(seconds[present[:, column], column], length / FPS)
            assert (seconds[~present[:, column], column] == 0).all()
    assert min(lengths) >= 3 and max(lengths) <= 100  # 0.06 to 2 seconds
    assert min(lengths) < 8 and max(lengths) > 60


def test_occluders_cross_the_person(joints2d):
    boxes = draw_occluders(joints2d, FPS, (1000, 1000), Occluders(per_second=2.0), "view")
    x, y = joints2d[:, None, :, 0], joints2d[:, None, :, 1]
    x0, y0, x1, y1 = (boxes[..., [side]] for side in range(4))
    hidden = (x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1)
    assert hidden.any(axis=(0, 2)).mean() > 0.8  # most hide a joint at some time
    assert 0.02 < hidden.any(axis=1).mean() < 0.7
    pillars = (boxes[..., 1] == 0) & (boxes[..., 3] == 999)
    assert pillars.any() and (np.isfinite(boxes[..., 0]) & ~pillars).any()


def test_occluders_repeat_and_depend_on_the_view(joints2d):
    first, again, other = (draw_occluders(joints2d, FPS, (1000, 1000), Occluders(), 1, v) for v in ("a", "a", "b"))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other, equal_nan=True)


def test_a_clip_shorter_than_an_occluder_is_covered_whole():
    boxes = draw_occluders(np.ones((4, 17, 2)) * np.arange(17)[:, None], FPS, (100, 100), Occluders(seconds=(1, 2)), 0)
    assert np.isfinite(boxes).all()
