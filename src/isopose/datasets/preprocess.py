"""The first stage: read a source and write its store: of motion, with cameras put around it where it has none, or of
people in photographs.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import typer

from isopose import stage
from isopose.camera import project, world_to_camera
from isopose.datasets import official
from isopose.datasets.occluders import Occluders, draw_occluders
from isopose.datasets.official import OFFICIAL, PHOTOGRAPHED, RAW_OPTION
from isopose.datasets.sources import MIRROR_VARIABLE, Request, derive_seed, reader_module
from isopose.datasets.store import OCCLUDED, Clip, Photographs, PhotographStore, SequenceStore, View
from isopose.datasets.studio import AZIMUTHS, Studio, place_cameras
from isopose.errors import UserError

READERS = ("synthetic", "cmu_mocap", "bandai_namco")
"""A source of motion without cameras is a module with ``read_clips``; a new one is named here and nowhere else."""

PARAMETERS = {
    "reader": str,
    "fps": float,
    "subjects": (list, NoneType),
    "actions": (list, NoneType),
    "speeds": list,
    "clips_per_action": (int, NoneType),
    "seconds": (float, NoneType),
    "max_seconds": (float, NoneType),
    "cameras": list,
    "occluded": bool,
    "occluder": dict,
    "camera": dict,
    "seed": int,
}
"""Parameters of those sources; a licensed dataset has :data:`OFFICIAL_PARAMETERS` and its reader's own."""

OFFICIAL_PARAMETERS = {"reader": str, "fps": float, "occluded": bool, "occluder": dict, "seed": int}

PHOTOGRAPH_PARAMETERS = {"reader": str, "split": str}


def _settings(kind: type, values: Mapping[str, Any], name: str) -> Any:
    known = {field.name for field in fields(kind)}
    for key in values:
        if key not in known:
            raise UserError(f"--params: unknown parameter '{name}.{key}'; known: {sorted(known)}")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def add_views(clip: Clip, options: Mapping[str, Any], studio: Studio, occluders: Occluders) -> None:
    """Give a clip its cameras and a view from each, and a second, occluded view where asked for."""
    clip.cameras = place_cameras(clip.joints3d, options["cameras"], clip.subject, options["seed"], studio)
    for name, camera in clip.cameras.items():
        joints2d = project(world_to_camera(clip.joints3d, camera), camera).astype(np.float32)
        look = derive_seed("look", options["seed"], clip.source, clip.id, name)
        clip.views[name] = View(name, joints2d, seed=look)
    if options["occluded"]:
        add_occluded_views(clip, options["seed"], occluders)


def add_occluded_views(clip: Clip, seed: int, occluders: Occluders) -> None:
    """Give every view of a clip a second one, in which occluders cross in front of the person."""
    views = {}
    for name, view in clip.views.items():
        size = clip.cameras[view.camera].size
        joints2d = view.joints2d[:, clip.joint_valid]
        boxes = draw_occluders(joints2d, clip.fps, size, occluders, seed, clip.source, clip.id, name)
        views |= {name: view, name + OCCLUDED: replace(view, occluders=boxes)}
    clip.views = views


def parameters_of(reader: Any) -> Mapping[str, type | tuple[type, ...]]:
    """The parameters that a reader takes, with their types; UserError for an unknown reader."""
    if reader in READERS:
        return PARAMETERS
    if reader in OFFICIAL:
        return OFFICIAL_PARAMETERS | reader_module(reader).PARAMETERS
    if reader in PHOTOGRAPHED:
        return PHOTOGRAPH_PARAMETERS
    known = ", ".join([*READERS, *OFFICIAL, *PHOTOGRAPHED])
    raise UserError(f"--params: reader is '{reader}'; expected one of {known}")


def parse(params: str) -> dict[str, Any]:
    """The parameters, JSON, checked by what their reader takes."""
    try:
        reader = json.loads(params)["reader"]
    except (ValueError, TypeError, KeyError):
        reader = None
    expected = parameters_of(reader) if isinstance(reader, str) else PARAMETERS
    return stage.parse_params(params, expected)


def motion_clips(options: Mapping[str, Any], mirror: Path | None, cache: Path) -> Iterator[Clip]:
    """Clips of motion without cameras, with cameras placed around them."""
    for name in options["cameras"]:
        if name not in AZIMUTHS:
            raise UserError(f"--params: camera '{name}' is unknown; expected one of {', '.join(AZIMUTHS)}")
    if mirror is not None and not mirror.is_dir():
        raise UserError(f"{mirror}: no such folder; set {MIRROR_VARIABLE} to the folder that holds the archives")
    studio = _settings(Studio, options["camera"], "camera")
    occluders = _settings(Occluders, options["occluder"], "occluder")
    wanted = ("fps", "subjects", "actions", "speeds", "max_seconds", "seed", "clips_per_action", "seconds")
    request = Request(**{name: options[name] for name in wanted}, mirror=mirror, cache=cache)
    for clip in reader_module(options["reader"]).read_clips(request):
        add_views(clip, options, studio, occluders)
        yield clip


def official_clips(options: Mapping[str, Any], raw: Path, cache: Path) -> Iterator[Clip]:
    """Clips of a licensed dataset, which keep their cameras and views."""
    occluders = _settings(Occluders, options["occluder"], "occluder")
    for clip in official.read_clips(options["reader"], raw, cache, options):
        if options["occluded"]:
            add_occluded_views(clip, options["seed"], occluders)
        yield clip


def photographed_people(reader: str, split: str, raw: Path, cache: Path) -> Photographs:
    """Everyone in the photographs of a split of whom a joint is labelled, and who has a box."""
    people = reader_module(reader).read_people(official.folder_of(reader, raw), split, cache)
    points, labelled, visible = people.skeleton()
    kept = labelled.any(axis=-1) & (people.boxes[:, 2:] > people.boxes[:, :2]).all(axis=-1)
    columns = (people.images, points, labelled, visible, people.boxes, people.head_sizes)
    return Photographs(*(values[kept] for values in columns))


def write_photographs(output: Path, options: Mapping[str, Any], raw: Path, cache: Path) -> int:
    """Write the store of people in photographs; return the number of people."""
    people = photographed_people(options["reader"], options["split"], raw, cache)
    if not len(people.images):
        raise UserError(
            f"{raw / options['reader']}: nobody is labelled in the split '{options['split']}'; take another"
        )
    with PhotographStore.create(output, **options) as store:
        store.write(people)
    return len(people.images)


def run(
    output: Path, options: Mapping[str, Any], mirror: Path | None, cache: Path, raw: Path = Path("data/raw")
) -> int:
    """Write the store; return the number of clips, or of people in photographs.

    raw: holds a folder for every licensed dataset.
    """
    parameters_of(options["reader"])
    if options["reader"] in PHOTOGRAPHED:
        return write_photographs(output, options, raw, cache)
    if options["reader"] in OFFICIAL:
        clips = official_clips(options, raw, cache)
    else:
        clips = motion_clips(options, mirror, cache)
    written = 0
    with SequenceStore.create(output, reader=options["reader"]) as store:
        for clip in stage.track_progress(clips, f"preprocess {options['reader']}"):
            store.write(clip)
            written += 1
        if not written:
            raise UserError(f"--params: no clip of {options['reader']} matches its parameters; widen them")
    return written


app = typer.Typer(add_completion=False)


@app.command()
def main(
    output: Path = typer.Option(..., help="Sequence store to write (HDF5)."),
    params: str = stage.PARAMS_OPTION,
    mirror: Path | None = typer.Option(None, help=f"Folder with the archives; default: ${MIRROR_VARIABLE}."),
    cache: Path = typer.Option(Path(".cache/isopose"), help="Where archives are extracted and downloads kept."),
    raw: Path = RAW_OPTION,
) -> None:
    """Read a source into a store: motion with cameras, image positions and, if asked for, occluders; or photographs."""
    options = parse(params)
    if mirror is None and os.environ.get(MIRROR_VARIABLE):
        mirror = Path(os.environ[MIRROR_VARIABLE])
    count = run(output, options, mirror, cache, raw)
    typer.echo(f"{output}: {count} {'people' if options['reader'] in PHOTOGRAPHED else 'clips'} of {options['reader']}")


if __name__ == "__main__":
    stage.run(app)
