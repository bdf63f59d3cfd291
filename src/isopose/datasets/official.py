"""Licensed datasets as motion sources: clips that have cameras and views of their own, at the frame rate asked for."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import typer

from isopose.datasets.sources import reader_module
from isopose.datasets.store import Clip
from isopose.errors import UserError

RAW_VARIABLE = "ISOPOSE_RAW_DATA"
"""Environment variable that names the folder with a folder for every dataset."""

RAW_OPTION = typer.Option(
    Path("data/raw"), "--raw", envvar=RAW_VARIABLE, help="Folder with a folder for every licensed dataset; only read."
)

PER_FRAME = ("activity", "boxes")
"""Attributes of a clip that hold a value for each frame."""


OFFICIAL = ("human36m", "humaneva", "mpi_inf_3dhp", "three_dpw", "penn_action")
"""Names of the readers, which are modules beside this one with ``PARAMETERS``, those that apply to it with their types,
and ``read_source(root, cache, options)``, which yields clips. Imported by name, so that one's edit is not all's.
"""


PHOTOGRAPHED = ("mpii", "coco")
"""Names of the readers of people in photographs: modules with ``read_people(root, split, cache)``."""


def folder_of(reader: str, raw: Path) -> Path:
    """The folder of a licensed dataset; UserError where it is not there."""
    root = raw / reader
    if not root.is_dir():
        raise UserError(
            f"{root}: no such folder; expected the files of {reader} as downloaded; put there what "
            f"docs/datasets/{reader}.md lists, or set {RAW_VARIABLE} to the folder that holds {reader}/"
        )
    return root


def read_clips(reader: str, raw: Path, cache: Path, options: Mapping[str, Any]) -> Iterator[Clip]:
    """Clips of the files in ``raw/<reader>``, one at a time, at ``options["fps"]`` frames a second.

    Nothing is written in ``raw``; archives are unpacked in the cache. UserError where the folder is not there, is not
    whole, or lacks what the options name.
    """
    for clip in reader_module(reader).read_source(folder_of(reader, raw), cache, options):
        yield resample(clip, options["fps"])


def resample(clip: Clip, fps: float) -> Clip:
    """The clip at another frame rate, from the same first frame; ``recorded_fps`` says what it was.

    Joints in the world and in the image are interpolated linearly; a per-frame attribute and ``visible`` are those of
    the nearest recorded frame. No frame lies after the last recorded one.
    """
    attributes = clip.attributes | {"recorded_fps": clip.fps}
    if clip.fps == fps:
        return dataclasses.replace(clip, attributes=attributes)
    frames = len(clip.joints3d)
    count = int(np.floor((frames - 1) * fps / clip.fps + 1e-6)) + 1
    times = np.minimum(np.arange(count) * clip.fps / fps, frames - 1)
    nearest = np.rint(times).astype(int)
    views = {}
    for name, view in clip.views.items():
        visible = None if view.visible is None else view.visible[nearest]
        views[name] = dataclasses.replace(view, joints2d=_interpolate(view.joints2d, times), visible=visible)
    attributes |= {name: attributes[name][nearest] for name in PER_FRAME if name in attributes}
    joints3d = _interpolate(clip.joints3d, times)
    return dataclasses.replace(clip, joints3d=joints3d, fps=float(fps), attributes=attributes, views=views)


def _interpolate(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Values (F, J, C) at times (T,), in frames: (T, J, C)."""
    before = np.floor(times).astype(int)
    after = np.minimum(before + 1, len(values) - 1)
    share = (times - before)[:, None, None]
    return ((1 - share) * values[before] + share * values[after]).astype(values.dtype)
