import numpy as np
import pytest
from scipy.stats import binom

from isopose.evaluation import bootstrap, protocols


def test_averages_over_frames_and_actions():
    sums, counts = np.array([10.0, 30.0, 4.0, 0.0]), np.array([1, 3, 2, 0])
    actions = np.array(["walk", "walk", "box", "none"])
    assert protocols.over_frames(sums, counts) == pytest.approx(44 / 6)
    assert protocols.over_actions(sums, counts, actions) == pytest.approx((10 + 2) / 2)


def test_interval_of_a_mean_is_its_normal_one():
    rng = np.random.default_rng(0)
    values = rng.normal(50, 5, 400)
    names = np.arange(400).astype(str)
    low, high = bootstrap.interval(values, np.ones(400), names, np.full(400, "a"), 4000, seed=1)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.06)
    assert high == pytest.approx(values.mean() + half, abs=0.06)


def test_interval_by_a_loop_over_resamples():
    rng = np.random.default_rng(2)
    clips, actions = np.repeat(["a", "b", "c", "d"], 2), np.array(["w", "w", "w", "w", "x", "x", "x", "x"])
    sums, counts = rng.uniform(10, 90, 8), rng.integers(1, 9, 8)
    drawn = np.random.default_rng(5).multinomial(4, [0.25] * 4, size=200)
    means = []
    for times in drawn:
        rows = np.concatenate([np.repeat(np.flatnonzero(clips == c), n) for c, n in zip("abcd", times, strict=True)])
        by_action = [rows[actions[rows] == name] for name in "wx"]
        means.append(np.mean([sums[r].sum() / counts[r].sum() for r in by_action if len(r)]))
    expected = np.quantile(means, [0.025, 0.975])
    np.testing.assert_allclose(bootstrap.interval(sums, counts, clips, actions, 200, seed=5), expected)


def test_groups_of_one_clip_move_together():
    """Splitting a clip into groups must not narrow the interval."""
    rng = np.random.default_rng(3)
    sums, clips = rng.uniform(10, 90, 20), np.arange(20)
    whole = bootstrap.interval(sums, np.ones(20), clips, np.zeros(20), 500, seed=0)
    split = bootstrap.interval(np.tile(sums / 2, 2), np.full(40, 0.5), np.tile(clips, 2), np.zeros(40), 500, seed=0)
    np.testing.assert_allclose(whole, split)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_interval_with_one_bad_clip_is_that_of_the_binomial(level):
    """Of n clips one has the error n: a resample's mean is how often it was drawn, binomial in n and 1/n."""
    names = np.arange(20)
    sums = np.where(names == 7, 20.0, 0.0)
    found = bootstrap.interval(sums, np.ones(20), names, np.zeros(20), 20_000, seed=0, level=level)
    tail = (1 - level) / 2
    assert found == tuple(binom.ppf([tail, 1 - tail], 20, 1 / 20))


def test_interval_of_a_single_clip_is_its_error():
    assert bootstrap.interval(np.array([6.0]), np.array([4]), np.array(["a"]), np.array(["w"]), 50, seed=0) == (
        1.5,
        1.5,
    )
