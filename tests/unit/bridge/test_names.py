import json

import pytest

from isopose import config
from isopose.bridge.names import Named, NamedText, Parameters, at, derived, keys_of, laid_over, options, text

VALUES = {
    "seed": 1,
    "iso": {
        "iterations": 150,
        "lifter": "full",
        "weightings": {
            "hard_0.9": {"label": "Hard", "weighting": {"threshold": 0.9}},
            "hard_0.9_camera": {"weighting": {"threshold": 0.8}},
        },
    },
    "variants": {"full": {"masking": None}},
}
PARAMETERS = Parameters(VALUES)
value, section = PARAMETERS.value, PARAMETERS.section


def test_a_key_with_a_dot_is_one_key():
    assert keys_of(VALUES, "iso.weightings.hard_0.9.weighting") == ("iso", "weightings", "hard_0.9", "weighting")
    assert value("iso.weightings.hard_0.9.weighting").value == {"threshold": 0.9}
    assert value("iso.weightings.hard_0.9_camera.weighting.threshold").value == 0.8


@pytest.mark.parametrize("name", ["iso.weightings.hard_0", "iso.iterations.more", "iso.", "is", "variants.full.set"])
def test_an_absent_name_leads_nowhere(name):
    assert keys_of(VALUES, name) is None
    assert PARAMETERS.get(name) == Named(None, ())
    assert section(name) == {}
    with pytest.raises(KeyError, match=name):
        value(name)


def test_a_null_is_there_and_has_its_name():
    assert value("variants.full.masking") == Named(None, ("variants.full.masking",))


def test_a_section_names_every_key_that_it_gives():
    taken = section("iso", without=("lifter", "weightings"))
    assert taken == {"iterations": Named(150, ("iso.iterations",))}
    only = section("iso.weightings.hard_0.9", only=("weighting", "projection"))
    assert only == {"weighting": Named({"threshold": 0.9}, ("iso.weightings.hard_0.9.weighting",))}


def test_options_are_the_json_of_their_values_and_know_their_names():
    given = options(
        section("iso", only=("iterations",)),
        {"plain": {"z": 1, "a": [2.5, None]}},
        seed=value("seed"),
        rows=derived([{"name": "x", "label": value("iso.weightings.hard_0.9.label")}], value("iso.lifter")),
    )
    assert str(given) == (
        '{"iterations": 150, "plain": {"a": [2.5, null], "z": 1}, "rows": [{"label": "Hard", "name": "x"}], "seed": 1}'
    )
    assert given.names == ("iso.iterations", "iso.lifter", "iso.weightings.hard_0.9.label", "seed")


def test_what_is_replaced_leaves_no_name():
    given = options(section("iso", only=("iterations",)), {"iterations": value("seed")})
    assert json.loads(given) == {"iterations": 1} and given.names == ("seed",)


def test_a_section_laid_over_another_is_the_merged_section():
    values = {
        "base": {"kept": 1, "replaced": 2, "merged": {"a": 1, "b": {"c": 2}}, "nulled": {"d": 3}, "filled": None},
        "over": {"replaced": 5, "merged": {"b": {"c": 6, "e": 7}}, "nulled": None, "filled": {"f": 8}, "added": 9},
    }
    parameters = Parameters(values)
    merged = laid_over(parameters.section("base"), parameters.section("over"))
    assert {key: named.value for key, named in merged.items()} == config.merge(values["base"], values["over"])
    assert {key: named.names for key, named in merged.items()} == {
        "kept": ("base.kept",),
        "replaced": ("over.replaced",),
        "merged": ("base.merged", "over.merged"),
        "nulled": ("over.nulled",),
        "filled": ("over.filled",),
        "added": ("over.added",),
    }


def test_named_text_is_plain_text_to_snakemake():
    made = text("demo/full", value("seed"), value("iso.lifter"))
    assert made == "demo/full" and made.names == ("iso.lifter", "seed")
    assert repr(made) == repr("demo/full")  # what Snakemake keeps of a parameter, to see whether it changed
    assert NamedText("x", ["b", "a", "b"]).names == ("a", "b")


def test_at_follows_keys():
    assert at(VALUES, ("iso", "weightings", "hard_0.9", "label")) == "Hard"
