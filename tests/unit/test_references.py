from pathlib import Path

import pytest

from isopose import config as parameters
from isopose import references
from isopose.errors import UserError

ROOT = Path(__file__).parents[2]


def of_track(track):
    overlay = None if track == "demo" else ROOT / f"experiments/{track}/params.yaml"
    config = parameters.load(ROOT / "params.yaml", overlay)
    return parameters.drop_nulls(config, ("sources", "evaluations", "variants"))


@pytest.fixture
def demo():
    return of_track("demo")


@pytest.mark.parametrize("track", ["demo", "open", "paper", "smoke"])
def test_tracks_name_what_is_there(track):
    references.check(of_track(track))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"iso": {"lifter": "ful"}}, "iso.lifter: 'ful' is no variant; did you mean 'full'?"),
        (
            {"iso": {"lifter": "base"}},
            "iso.lifter: 'base' has no discriminator, which ISO needs; expected one of spatial_kcs, temporal_kcs, f",
        ),
        (
            {"variants": {"full": {"set": {"discriminator": None}}}},
            "iso.lifter: 'full' has no discriminator, which ISO needs; expected one of spatial_kcs, temporal_kcs, u",
        ),
        ({"evaluations": {"synthetic": {"variants": ["base"]}}}, "variants: lacks 'full', from which ISO starts"),
        ({"evaluations": {"synthetic": {"variants": ["full", "bas"]}}}, "'bas' is no variant; did you mean 'base'?"),
        ({"evaluations": {"synthetic": {"weightings": ["zzz"]}}}, "'zzz' is no weighting; expected one of smoothness_"),
        ({"evaluations": {"synthetic": {"weightings": ["priors_only"]}}}, "weightings: has only controls"),
        ({"evaluations": {"synthetic": {"models_of": "x"}}}, "models_of: 'x' is no evaluation; expected one of synth"),
        (
            {"evaluations": {"synthetic": {"models_of": "synthetic"}}},
            "evaluations.synthetic.models_of: names the evaluation itself",
        ),
        (
            {"evaluations": {"a": {"models_of": "b"}, "b": {"models_of": "synthetic"}}},
            "evaluations.a.models_of: 'b' has the models of 'synthetic' itself; expected 'synthetic'",
        ),
    ],
)
def test_a_name_of_nothing_is_refused_by_name(demo, changed, message):
    with pytest.raises(UserError) as caught:
        references.check(parameters.merge(demo, changed))
    assert str(caught.value).startswith("params: ") and message in str(caught.value)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"source": "sintetic"}, "'sintetic' is no source; did you mean 'synthetic'?"),
        ({"subjects": ["S1", "S77"]}, "'S77' is no subject of 'synthetic'; did you mean 'S7'?"),
        ({"actions": ["walkin"]}, "'walkin' is no action of 'synthetic'; did you mean 'walking'?"),
        ({"speeds": [1.5]}, "'1.5' is no speed of 'synthetic'; expected one of 0.6, 1.0, 1.7"),
        ({"cameras": ["cam9"]}, "'cam9' is no camera of 'synthetic'; did you mean 'cam4'?"),
    ],
)
def test_a_selection_of_nothing_is_refused_by_name(demo, selection, message):
    demo["evaluations"]["synthetic"]["test"][0].update(selection)
    with pytest.raises(UserError) as caught:
        references.check(demo)
    assert str(caught.value) == f"params: evaluations.synthetic.test: {message}"


def test_views_that_were_not_occluded_are_refused(demo):
    demo["sources"]["synthetic"]["occluded"] = False
    with pytest.raises(UserError, match="synthetic.test: wants occluded views, which 'synthetic' has not; set sources"):
        references.check(demo)


@pytest.mark.parametrize(
    ("role", "selection"),
    [
        ("train3d", {"source": "mpii"}),
        ("images", {"source": "mpii", "cameras": ["camera"]}),
        ("train3d", {"source": "human36m"}),
    ],
)
def test_photographs_are_for_the_estimator_and_motion_has_cameras(role, selection):
    paper = of_track("paper")
    paper["evaluations"]["human36m"][role] = [selection]
    with pytest.raises(UserError, match=f"evaluations.human36m.{role}: the selection of '{selection['source']}' is wr"):
        references.check(paper)


def test_all_problems_are_told_at_once(demo):
    demo["iso"]["lifter"] = "nope"
    demo["evaluations"]["synthetic"]["weightings"] = ["constant", "nope"]
    with pytest.raises(UserError, match="iso.lifter: .*weightings: 'nope'"):
        references.check(demo)
