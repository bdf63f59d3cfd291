"""Stage: import 2D detections that another program made into a detection store, in the place of detecting.

They have no heatmaps: lifters of ``embedding.kind`` coordinates and coordinates_confidence train on them and lift them.
The layouts, and what each leaves out: docs/detections.md.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import typer

from isopose import stage
from isopose.arrays import check_array
from isopose.crops import boxes_around
from isopose.datasets import coco, human36m
from isopose.datasets.images import to_skeleton
from isopose.datasets.store import Clip, Detections, DetectionStore, SequenceStore, ViewKey, select
from isopose.errors import UserError
from isopose.evaluation.detections import Quality
from isopose.files import write_text
from isopose.skeleton import NUM_JOINTS

PARAMETERS = {"reader": str, "selections": list, "margin": float, "smoothing": int, "map_size": int}
"""reader: one of READERS; selections: which views; margin, smoothing: of the boxes around the keypoints
(isopose.crops.boxes_around); map_size: side of the heatmaps in whose pixels the store counts keypoints."""

MOST_EXTRA_FRAMES = 50
"""Frames that a track may have beyond the end of its clip; they are cut. Of Human3.6M some videos go on for a few
frames after the poses have ended: the training views' CPN tracks have 2.7 more on average."""

FARTHEST = 1e6
"""px; a keypoint farther out is a broken file."""

SMALLEST = 1.0
"""px; keypoints that all lie within less are what some detectors write for nobody."""


class Track(NamedTuple):
    """Detections of a view: points (F, 17, 2), image px; confidence (F, 17), or None where the layout has none."""

    points: np.ndarray
    confidence: np.ndarray | None


class Wanted(NamedTuple):
    """What is known of a view before its detections: its clip's subject, its cameras by name, frames, broken video."""

    subject: str
    cameras: tuple[str, ...]
    frames: int
    broken_video: bool


Views = Mapping[ViewKey, Wanted]


def read_npz(path: Path, views: Views) -> Iterator[tuple[ViewKey, Track]]:
    """Tracks of a community file ``data_2d_h36m_*.npz``: a view is found by subject, trial and camera.

    A clip's cameras, in the order of their names, are those of the file's lists.
    """
    wanted = {(key.clip, key.view): key for key in views}
    if len(wanted) < len(views):
        raise UserError(f"{path}: two sources have clips of one name; expected selections of one source in params.yaml")
    cameras = {view.subject: view.cameras for view in views.values()}
    for found in human36m.read_detections(path, cameras, list(cameras)):
        key = wanted.get((found.clip, found.view))
        if key is not None:
            given = () if found.confidence is None else (found.confidence,)
            points, *confidence = to_skeleton(found.joint_set, found.points, *given)
            yield key, Track(points, confidence[0] if confidence else None)


def read_coco(path: Path, views: Views) -> Iterator[tuple[ViewKey, Track]]:
    """Tracks of a folder of COCO results, ``<clip>.<view>.json``: ``image_id`` is the frame, the first one 0.

    Of several people in a frame, the one of the highest score.
    """
    for key, view in views.items():
        file = path / f"{key.clip}.{key.view}.json"
        if view.broken_video and not file.is_file():
            continue
        results = coco.read_results(file)
        frames = int(results.image_ids.max(initial=-1)) + 1
        _check_length(file, key, frames, view.frames)
        order = np.argsort(results.scores, kind="stable")
        best = np.full(frames, -1)
        best[results.image_ids[order]] = order
        if (best < 0).any():
            raise UserError(
                f"{file}: has nobody in frame {np.argmin(best)}; expected a person in every frame, the first one 0; "
                "fill in what the detector has missed"
            )
        yield key, Track(results.points[best], results.confidence[best])


READERS: Mapping[str, Callable[[Path, Views], Iterator[tuple[ViewKey, Track]]]] = MappingProxyType(
    {"npz": read_npz, "coco": read_coco}
)


def detections_of(track: Track, frames: int, params: Mapping[str, Any]) -> Detections:
    """Detections of the first ``frames`` frames of a track, in boxes around them; ValueError for NaN and the like."""
    points, confidence = (None if values is None else values[:frames] for values in track)
    check_array("keypoints", points, (frames, NUM_JOINTS, 2), finite=True)
    if np.abs(points).max() > FARTHEST:
        raise ValueError(f"keypoints: one is {np.abs(points).max():g} px out; expected at most {FARTHEST:g}")
    empty = np.ptp(points, axis=1).max(axis=-1) < SMALLEST
    if empty.any():  # before the boxes are averaged, which would hide it
        raise ValueError(f"keypoints: those of frame {np.argmax(empty)} are all in one place; expected a person")
    boxes = boxes_around(points, params["margin"], params["smoothing"])
    detections = Detections.from_image(points, confidence, boxes, params["map_size"])
    detections.check()
    return detections


def _check_length(path: Path, key: ViewKey, found: int, frames: int) -> None:
    if not frames <= found <= frames + MOST_EXTRA_FRAMES:
        raise UserError(
            f"{path}: '{key}' has {found} frames; expected the {frames} of its clip and at most {MOST_EXTRA_FRAMES} "
            "after its end, which are cut; give the detections of this clip at its frame rate"
        )


def read_wanted(stores: Mapping[str, str | Path], selections: Sequence[Mapping[str, Any]]) -> dict[ViewKey, Wanted]:
    """The selected views. Clips are read one at a time and not kept."""
    views: dict[ViewKey, Wanted] = {}
    clips: dict[tuple[str, str], Wanted] = {}
    for key in select(stores, selections):
        if key[:2] not in clips:
            clip = _read_clip(stores, key)
            broken = bool(clip.attributes.get("broken_video"))
            clips[key[:2]] = Wanted(clip.subject, tuple(sorted(clip.cameras)), len(clip.joints3d), broken)
        views[key] = clips[key[:2]]
    return views


def _read_clip(stores: Mapping[str, str | Path], key: ViewKey) -> Clip:
    with SequenceStore(stores[key.source]) as sequences:
        return sequences.read(key.clip)


def run(
    stores: Mapping[str, str | Path],
    found: Path,
    output: Path,
    params: Mapping[str, Any],
    quality: Path | None = None,
) -> str:
    """Write the detections of every selected view and, if asked, their scores; returns a line on what was read."""
    reader = params["reader"]
    if reader not in READERS:
        raise UserError(f"--params: 'reader' is '{reader}'; expected one of {', '.join(READERS)}")
    views = read_wanted(stores, params["selections"])
    scores, cut, unsure, lacking = Quality(), 0, 0, dict(views)
    with DetectionStore.create(output) as store:
        for key, track in stage.track_progress(READERS[reader](found, views), "import", len(views)):
            frames = lacking.pop(key).frames
            _check_length(found, key, len(track.points), frames)
            try:
                detections = detections_of(track, frames, params)
            except ValueError as error:
                raise UserError(f"{found}: '{key}': {error}; detect it again") from error
            store.write(key, detections)
            cut, unsure = cut + len(track.points) - frames, unsure + (track.confidence is None)
            if quality:
                clip = _read_clip(stores, key)
                if clip.views[key.view].visible is None:
                    raise UserError(f"{key}: has no visibility labels; expected a labelled store; label it first")
                scores.add(clip, key.view, detections)
        left_out = [str(key) for key, view in lacking.items() if view.broken_video]
        absent = [str(key) for key in lacking if str(key) not in left_out]
        if absent or len(left_out) == len(views):
            raise UserError(
                f"{found}: has no detections of {', '.join([*absent, *left_out][:3])} ({len(lacking)} of {len(views)} "
                "views); expected every view of the selection; narrow it in params.yaml, or give another file"
            )
    if quality:
        write_text(quality, json.dumps(scores.summary(output.stat().st_size), indent=1, sort_keys=True) + "\n")
    notes = [f"{len(views) - len(lacking)} views", f"{cut} frames after the end of their clips cut"]
    notes += [f"no confidence in {unsure} of them, so 1 for every joint"] if unsure else []
    notes += [f"left out, as a video of the trial is broken: {', '.join(left_out)}"] if left_out else []
    return f"{output}: {'; '.join(notes)}"


app = typer.Typer(add_completion=False)


@app.command()
def main(
    store: list[str] = stage.STORE_OPTION,
    found: Path = typer.Option(..., help="A .npz of the community, or a folder of COCO results <clip>.<view>.json."),
    output: Path = typer.Option(..., help="Detection store to write (HDF5)."),
    quality: Path | None = typer.Option(None, help="Where to write the scores of the detections (JSON)."),
    params: str = stage.PARAMS_OPTION,
) -> None:
    """Import detections that another program made. Of the stores, labels are read for the scores alone."""
    options = stage.parse_params(params, PARAMETERS)
    typer.echo(run(stage.parse_named(store), found, output, options, quality))


if __name__ == "__main__":
    stage.run(app)
