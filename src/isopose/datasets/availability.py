"""What of a track can run with the licensed datasets that are there, and by name what cannot, with those it lacks."""

import copy
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from isopose.config import merge
from isopose.datasets.check import LICENSED
from isopose.datasets.raw_files import listed, places
from isopose.datasets.sources import reader_module
from isopose.datasets.store import NEED_MAPS
from isopose.errors import UserError

ROLES = ("images", "train3d", "train2d", "validation", "calibration", "adaptation", "dynamics", "test")


class Absence(NamedTuple):
    """What is not available, in words, and the datasets that it would need."""

    what: str
    datasets: tuple[str, ...]


def is_there(dataset: str, raw: Path, section: str | None = None) -> bool:
    """Whether any label file of a licensed dataset lies under ``raw``; whether all do is its reader's business.

    section: the ``part`` that the source reads, of a dataset that has parts. An archive of any name proves nothing.
    """
    root = raw / dataset
    labels = [part for part in reader_module(dataset).FILES if not part.use]
    if any((root / part.instead).is_file() for part in labels):
        return True
    named = [part._replace(archive="") if "*" in part.archive else part for part in labels]
    return any(places(root, part) for part in named if not section or part.section in ("", section))


def short_folders(raw: Path, datasets: Iterable[str]) -> Iterator[str]:
    """A line for each unpacked folder of labels that has fewer files than its dataset: these alone are read."""
    for dataset in datasets:
        for part in (part for part in reader_module(dataset).FILES if part.count > 1):
            for place in (place for place in places(raw / dataset, part) if place.is_dir()):
                found = len(listed(place, part.sample))
                if found < part.count:
                    yield (
                        f"{place}: holds {found} files {part.sample}, the dataset has {part.count}; results will be of"
                        " these alone; unpack it again"
                    )


def present_only(config: Mapping[str, Any], raw: Path) -> tuple[dict[str, Any], list[Absence]]:
    """A track's parameters without what needs absent datasets, and what was left out.

    A selection of an absent dataset is left out of its role. An evaluation with a role that is then empty is left out,
    and those that use its models, but for an adaptation, which it does without; without any 2D-only data the variants
    that train on it are, and ISO starts from the last adversarial variant before, which every evaluation then scores.
    UserError where no evaluation remains.
    """
    readers = {name: source["reader"] for name, source in config["sources"].items()}
    absent = {
        name
        for name, source in config["sources"].items()
        if source["reader"] in LICENSED and not is_there(source["reader"], raw, source.get("part"))
    }
    if not absent:
        return dict(config), []
    left = copy.deepcopy(dict(config))
    left["sources"] = {name: source for name, source in left["sources"].items() if name not in absent}
    absences = _drop_selections(left["evaluations"], readers, absent)
    if not left["evaluations"]:
        raise UserError(
            f"params: track '{config['track']}' has no data: {', '.join(sorted({readers[name] for name in absent}))} "
            f"are not under {raw}; put the "
            "files there that docs/datasets/<dataset>.md lists; `python -m isopose.datasets check` says what is found"
        )
    lost = [
        name for name, kept in left["evaluations"].items() if "train2d" in config["evaluations"][name].keys() - kept
    ]
    if lost:
        lacking = {
            readers[selection["source"]] for name in lost for selection in config["evaluations"][name]["train2d"]
        }
        absences += _drop_variants(left, tuple(sorted(lacking)))
    return left, absences


def _drop_selections(evaluations: dict[str, Any], readers: Mapping[str, str], absent: Collection[str]) -> list[Absence]:
    """Take absent sources out of the roles, and evaluations that cannot do without out of their mapping."""
    lost: dict[str, set[str]] = {}
    absences = []
    for name, evaluation in evaluations.items():
        for role in [role for role in ROLES if evaluation.get(role)]:
            kept = [selection for selection in evaluation[role] if selection["source"] not in absent]
            lacking = {readers[selection["source"]] for selection in evaluation[role] if selection not in kept}
            if kept:
                evaluation[role] = kept
            elif role in ("train2d", "adaptation"):
                del evaluation[role]
            elif role != "images" or not evaluation.get("detections"):
                lost.setdefault(name, set()).update(lacking)
            if lacking and (kept or role == "adaptation"):
                absences.append(
                    Absence(f"{name}: {'a part of ' if kept else ''}the role {role}", tuple(sorted(lacking)))
                )
    for name, evaluation in evaluations.items():
        lost.setdefault(name, set()).update(lost.get(evaluation.get("models_of"), ()))
    for name in [name for name in evaluations if lost[name]]:
        del evaluations[name]
        absences = [absence for absence in absences if not absence.what.startswith(f"{name}:")]
        absences.append(Absence(name, tuple(sorted(lost[name]))))
    return absences


def trained_lifters(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The parameters of each variant's lifter: the full lifter's, with the variant's differences laid over."""
    return {name: merge(config["lifter"], variant.get("set", {})) for name, variant in config["variants"].items()}


def _drop_variants(config: dict[str, Any], lacking: tuple[str, ...]) -> list[Absence]:
    """Take out the variants that train on 2D-only data, which no evaluation then has."""
    trained = trained_lifters(config)
    dropped = [name for name, lifter in trained.items() if lifter["weights"]["projection"] > 0]
    names = [name for name in trained if name not in dropped]
    if config["iso"]["lifter"] in dropped:
        blind = any(evaluation.get("detections") for evaluation in config["evaluations"].values())  # has no heatmaps
        usable = {name for name in names if not (blind and trained[name]["embedding"]["kind"] in NEED_MAPS)}
        before = [name for name in names if trained[name]["discriminator"] and name in usable]
        if not before:
            kind = "with a discriminator and without heatmaps" if blind else "with a discriminator"
            raise UserError(
                f"params: without {', '.join(lacking)} no variant {kind} is left"
                " for ISO to start from; add one with weights.projection 0, or the data"
            )
        config["iso"]["lifter"] = before[-1]
    config["variants"] = {name: config["variants"][name] for name in names}
    for evaluation in config["evaluations"].values():
        evaluation.pop("train2d", None)
        if evaluation.get("variants"):
            scored = {*evaluation["variants"], config["iso"]["lifter"]}
            evaluation["variants"] = [name for name in names if name in scored]
    return [Absence(f"lifter '{name}'", lacking) for name in dropped]
