import colorsys

import numpy as np
import pytest

from isopose import appearance
from isopose.appearance import COLOUR, sample_appearance
from isopose.errors import UserError

SEEDS = range(200)


def overlap(first, second):
    return any(low < other_high and other_low < high for low, high in first for other_low, other_high in second)


@pytest.mark.parametrize("intervals", [appearance.GIRTH_INTERVALS, appearance.HUE_INTERVALS])
def test_intervals_of_the_splits_do_not_meet(intervals):
    assert not overlap(intervals["train"], intervals["test"])


@pytest.mark.parametrize("families", [appearance.CLOTHES, appearance.BACKGROUNDS, appearance.OCCLUDERS])
def test_families_of_the_splits_are_disjoint(families):
    assert not set(families["train"]) & set(families["test"])


@pytest.mark.parametrize("split", ["train", "test"])
def test_samples_stay_in_their_split(split):
    for seed in SEEDS:
        look = sample_appearance(seed, split)
        for girth in look.girths[:4]:
            assert any(low <= girth <= high for low, high in appearance.GIRTH_INTERVALS[split])
        for garment in ("shirt", "trousers"):
            hue = colorsys.rgb_to_hsv(*look.palette[COLOUR[garment]].astype(float) / 255)[0]
            assert any(low - 1e-5 <= hue <= high + 1e-5 for low, high in appearance.HUE_INTERVALS[split])


def test_same_seed_same_look_and_other_seed_another():
    first, again, other = (sample_appearance(seed, "train") for seed in ((3, 1), (3, 1), (3, 2)))
    np.testing.assert_array_equal(first.palette, again.palette)
    np.testing.assert_array_equal(first.girths, again.girths)
    assert not np.array_equal(first.palette, other.palette)


def test_a_background_can_be_given():
    assert sample_appearance(3, "train", background=17).background == 17


def test_plain_has_no_print():
    across, along, phase = sample_pattern_rows("plain")
    lines = sum(np.floor(across[i] * 0.07 + along[i] * np.linspace(-1, 1, 50) + phase[i]) for i in (0, 1))
    assert not (lines % 2).any()


@pytest.mark.parametrize("family", ["hoops", "checks", "pinstripes", "chevrons", "diamonds"])
def test_prints_show(family):
    across, along, phase = sample_pattern_rows(family)
    side, height = np.meshgrid(np.linspace(0, 0.2, 40), np.linspace(-0.2, 0.2, 40))
    lines = sum(np.floor(across[i] * side + along[i] * height + phase[i]) for i in (0, 1))
    assert 0.2 < (lines % 2).mean() < 0.8


def sample_pattern_rows(family):
    return appearance.sample_pattern(np.random.default_rng(0), family).T


@pytest.mark.parametrize("name", appearance.TEXTURES)
def test_textures_are_colour_images_from_their_seed(name):
    texture = appearance.TEXTURES[name]
    image = texture(np.random.default_rng(1), 64)
    assert image.shape == (64, 64, 3)
    assert np.isfinite(image).all()
    np.testing.assert_array_equal(image, texture(np.random.default_rng(1), 64))


def test_packing_keeps_colours():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3))
    np.testing.assert_array_equal(appearance.unpacked(appearance.packed(image)), image)


def test_an_unknown_split_is_refused():
    with pytest.raises(UserError, match="split: unknown value 'validation'"):
        sample_appearance(1, "validation")
