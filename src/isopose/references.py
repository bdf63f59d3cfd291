"""Parameters that name other parameters: each name must be there, before anything runs."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from isopose.datasets.availability import ROLES, trained_lifters
from isopose.datasets.official import PHOTOGRAPHED
from isopose.errors import UserError

_LISTED = ("subjects", "actions", "speeds", "cameras")  # of a source, which its selections choose from


def check(config: Mapping[str, Any]) -> None:
    """Refuse names that stand for nothing, and for what cannot be used there. Errors: UserError, a clause each.

    config: parameters that the schema accepts, without entries that are null.
    """
    problems = [*_of_iso(config)]
    for name, evaluation in config["evaluations"].items():
        where = f"evaluations.{name}"
        problems += _of_models(where, evaluation, config)
        for role in ROLES:
            for selection in evaluation.get(role) or ():
                problems += _of_selection(f"{where}.{role}", role, selection, config["sources"])
    if problems:
        raise UserError("params: " + "; ".join(dict.fromkeys(problems)))


def _of_iso(config: Mapping[str, Any]) -> Iterator[str]:
    lifter, variants = config["iso"]["lifter"], config["variants"]
    if lifter not in variants:
        yield from _unknown("iso.lifter", [lifter], "variant", variants)
        return
    adversarial = [name for name, trained in trained_lifters(config).items() if trained["discriminator"]]
    if lifter not in adversarial:
        yield f"iso.lifter: '{lifter}' has no discriminator, which ISO needs; expected one of {', '.join(adversarial)}"


def _of_models(where: str, evaluation: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    evaluations, weightings, lifter = config["evaluations"], config["iso"]["weightings"], config["iso"]["lifter"]
    owner = evaluation.get("models_of")
    if owner is not None:
        yield from _unknown(f"{where}.models_of", [owner], "evaluation", evaluations)
        first = evaluations.get(owner, {}).get("models_of")
        if evaluations.get(owner) is evaluation:
            yield f"{where}.models_of: names the evaluation itself; expected another, or leave it out"
        elif first is not None:
            yield f"{where}.models_of: '{owner}' has the models of '{first}' itself; expected '{first}'"
    if variants := evaluation.get("variants"):
        yield from _unknown(f"{where}.variants", variants, "variant", config["variants"])
        if lifter not in variants and lifter in config["variants"]:
            yield f"{where}.variants: lacks '{lifter}', from which ISO starts (iso.lifter); add it"
    scored = evaluation.get("weightings") or list(weightings)
    yield from _unknown(f"{where}.weightings", scored, "weighting", weightings)
    if all(weightings[name]["weighting"]["kind"] == "none" for name in scored if name in weightings):
        yield f"{where}.weightings: has only controls, of kind 'none', which are never chosen; add another weighting"


def _of_selection(where: str, role: str, selection: Mapping[str, Any], sources: Mapping[str, Any]) -> Iterator[str]:
    name = selection["source"]
    if name not in sources:
        yield from _unknown(where, [name], "source", sources)
        return
    source = sources[name]
    still, cameras = source["reader"] in PHOTOGRAPHED, "cameras" in selection
    if still == cameras or (still and role != "images"):
        expected = "no cameras, in the role images alone" if still else "cameras, the names of its views"
        yield f"{where}: the selection of '{name}' is wrong; expected {expected}"
    for key in _LISTED:
        if source.get(key) is not None:
            yield from _unknown(where, selection.get(key) or (), f"{key[:-1]} of '{name}'", source[key])
    if selection.get("occluded") and not source.get("occluded"):
        yield f"{where}: wants occluded views, which '{name}' has not; set sources.{name}.occluded, or leave them out"


def _unknown(where: str, names: Iterable[Any], kind: str, known: Iterable[Any]) -> Iterator[str]:
    """A clause for each name that is not known, with the nearest that is."""
    expected = list(map(str, known))
    for name in (name for name in names if name not in known):
        near = difflib.get_close_matches(name, expected, n=1) if isinstance(name, str) else []
        hint = f"did you mean '{near[0]}'?" if near else f"expected one of {', '.join(expected)}"
        yield f"{where}: '{name}' is no {kind}; {hint}"
