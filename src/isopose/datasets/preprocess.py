"""The first stage: read a motion source, put cameras around every clip, and write the sequence store."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any

import numpy as np
import typer

from isopose import stage
from isopose.camera import project, world_to_camera
from isopose.datasets import bandai_namco, cmu_mocap, synthetic
from isopose.datasets.occluders import Occluders, draw_occluders
from isopose.datasets.sources import MIRROR_VARIABLE, Request, derive_seed
from isopose.datasets.store import OCCLUDED, Clip, SequenceStore, View
from isopose.datasets.studio import AZIMUTHS, Studio, place_cameras
from isopose.errors import UserError

READERS: Mapping[str, Callable[[Request], Iterator[Clip]]] = MappingProxyType(
    {
        "synthetic": synthetic.read_clips,
        "cmu_mocap": cmu_mocap.read_clips,
        "bandai_namco": bandai_namco.read_clips,
    }
)
"""A source is a module with ``read_clips``; a new one is named here and nowhere else."""

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
            boxes = draw_occluders(
                joints2d, clip.fps, camera.size, occluders, options["seed"], clip.source, clip.id, name
            )
            clip.views[name + OCCLUDED] = View(name, joints2d, occluders=boxes, seed=look)


def run(output: Path, options: Mapping[str, Any], mirror: Path | None, cache: Path) -> int:
    """Write the store; return the number of clips."""
    if options["reader"] not in READERS:
        raise UserError(f"--params: reader is '{options['reader']}'; expected one of {', '.join(READERS)}")
    for name in options["cameras"]:
        if name not in AZIMUTHS:
            raise UserError(f"--params: camera '{name}' is unknown; expected one of {', '.join(AZIMUTHS)}")
    if mirror is not None and not mirror.is_dir():
        raise UserError(f"{mirror}: no such folder; set {MIRROR_VARIABLE} to the folder that holds the archives")
    studio = _settings(Studio, options["camera"], "camera")
    occluders = _settings(Occluders, options["occluder"], "occluder")
    wanted = ("fps", "subjects", "actions", "speeds", "max_seconds", "seed", "clips_per_action", "seconds")
    request = Request(**{name: options[name] for name in wanted}, mirror=mirror, cache=cache)
    clips = READERS[options["reader"]](request)
    written = 0
    with SequenceStore.create(output, reader=options["reader"]) as store:
        for clip in stage.track_progress(clips, f"preprocess {options['reader']}"):
            add_views(clip, options, studio, occluders)
            store.write(clip)
            written += 1
        if not written:
            raise UserError(f"--params: no clip of {options['reader']} matches subjects and actions; widen them")
    return written


app = typer.Typer(add_completion=False)


@app.command()
def main(
    output: Path = typer.Option(..., help="Sequence store to write (HDF5)."),
    params: str = stage.PARAMS_OPTION,
    mirror: Path | None = typer.Option(None, help=f"Folder with the archives; default: ${MIRROR_VARIABLE}."),
    cache: Path = typer.Option(Path(".cache/isopose"), help="Where archives are extracted and downloads kept."),
) -> None:
    """Read a motion source into a sequence store with cameras, image positions and, if asked for, occluders."""
    options = stage.parse_params(params, PARAMETERS)
    if mirror is None and os.environ.get(MIRROR_VARIABLE):
        mirror = Path(os.environ[MIRROR_VARIABLE])
    clips = run(output, options, mirror, cache)
    typer.echo(f"{output}: {clips} clips of {options['reader']}")


if __name__ == "__main__":
    stage.run(app)
