"""Stage: labelled crops for the 2D estimator from real images: people in photographs, and frames of recorded views.

The file is that of rendered people (:mod:`isopose.labelled_images`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import typer

from isopose import stage
from isopose.crops import boxes_from_rectangles
from isopose.datasets.footage import RECORDED, crop_files, footage_of, is_broken, read_crops, recorded_boxes
from isopose.datasets.official import PHOTOGRAPHED, RAW_OPTION
from isopose.datasets.store import Clip, PhotographStore, SequenceStore, ViewKey, reader_of, select
from isopose.datasets.worker import Worker
from isopose.errors import UserError
from isopose.evaluation.keypoints import head_size
from isopose.labelled_images import create, crop_labels, jittered

PARAMETERS = {
    "selections": list,
    "images": int,
    "size": int,
    "map_size": int,
    "margin": float,
    "crop_jitter": dict,
    "split": str,
    "seed": int,
}
"""The stage's parameters: which people and views, how many images, their and the labels' resolution, the person's box
(see isopose.labelled_images.jittered), and a name for the split, on which the draws depend."""

BLOCK = 64
"""Images that are read and written at once."""

Row = dict[str, Any]
"""What is known of an image: source, clip, view, subject, frame; and points (17, 2), visible, labelled (17,), head_size
and box (3,), image px; of a frame also occluders (M, 4), image px."""


def draw(stores: Mapping[str, Path], params: Mapping[str, Any], rng: np.random.Generator) -> list[Row]:
    """Draw people and frames: a selection with equal odds, then one of its people, or one of its views and its frame.

    UserError for a source that has no images.
    """
    selections = params["selections"]
    chosen = rng.integers(len(selections), size=params["images"])
    place = rng.random((params["images"], 2))
    rows: list[Row] = [{} for _ in chosen]
    for number, selection in enumerate(selections):
        images = np.flatnonzero(chosen == number)
        reader = reader_of(stores[selection["source"]])
        if reader in PHOTOGRAPHED:
            found = _people(stores, selection, place[images], params["margin"])
        elif reader in RECORDED:
            found = _frames(stores, selection, place[images], params["margin"])
        else:
            raise UserError(f"{stores[selection['source']]}: source '{reader}' has no images; render its views instead")
        for image, row in zip(images, found, strict=True):
            rows[image] = row
    return rows


def _people(stores: Mapping[str, Path], selection: Mapping[str, Any], place: np.ndarray, margin: float) -> list[Row]:
    """People of a photograph store, by place (n, 2) in 0..1."""
    source = selection["source"]
    with PhotographStore(stores[source]) as store:
        people = store.read()
    boxes = boxes_from_rectangles(people.boxes, margin)
    return [
        {
            **{"source": source, "clip": str(people.images[index]), "view": "", "subject": str(index), "frame": 0},
            **{"points": people.points[index], "visible": people.visible[index], "labelled": people.labelled[index]},
            **{"head_size": people.head_sizes[index], "box": boxes[index]},
        }
        for index in (place[:, 0] * len(people.images)).astype(int)
    ]


def _frames(stores: Mapping[str, Path], selection: Mapping[str, Any], place: np.ndarray, margin: float) -> list[Row]:
    """Frames of recorded views, by place (n, 2) in 0..1: of the view among its selection, and of the frame in it."""
    keys = select(stores, [dict(selection)])
    views = (place[:, 0] * len(keys)).astype(int)
    rows: list[Row] = [{} for _ in views]
    for clip_id, group in groupby(np.unique(views), key=lambda index: keys[index].clip):
        with SequenceStore(stores[selection["source"]]) as store:
            clip = store.read(clip_id)
        for index in group:
            key = keys[index]
            if is_broken(clip, key.view):
                raise UserError(f"{key}: its video is broken; expected another view; take it out of the selection")
            labels = _labels(clip, key, margin)
            for image in np.flatnonzero(views == index):
                frame = int(place[image, 1] * len(clip.joints3d))
                rows[image] = {name: values[frame] for name, values in labels.items()}
                rows[image] |= {**key._asdict(), "subject": clip.subject, "frame": frame}
    return rows


def _labels(clip: Clip, key: ViewKey, margin: float) -> dict[str, np.ndarray]:
    """What is known of all F frames of a view: of a clip of 2D labels alone, not the size of the head."""
    view = clip.views[key.view]
    if view.visible is None:
        raise UserError(f"{key}: has no visibility; expected a labelled store; run isopose.occlusion.label on it first")
    if clip.only_2d:
        heads = np.full(len(view.joints2d), np.nan)
        labelled = view.visible
    else:
        heads = head_size(clip.camera_joints(key.view), clip.cameras[view.camera])
        labelled = np.broadcast_to(clip.joint_valid, view.visible.shape)
    return {
        "points": view.joints2d,
        "visible": view.visible,
        "labelled": labelled,
        "head_size": heads,
        "box": recorded_boxes(clip, key.view, margin, smoothing=1),
        "occluders": np.empty((len(view.joints2d), 0, 4)) if view.occluders is None else view.occluders,
    }


def cut(stores: Mapping[str, Path], rows: Sequence[Row], boxes: np.ndarray, size: int, raw: Path, images: Any) -> None:
    """Read the pixels of every row in its box (N, 3) into images (N, size, size, 3), an array or an HDF5 dataset.

    Rows of one view are read together, in the order of their frames.
    """
    order = sorted(range(len(rows)), key=lambda i: tuple(rows[i][name] for name in ("source", "clip", "view", "frame")))
    blocks = [
        (key, members[start : start + BLOCK])
        for key, group in groupby(order, key=lambda i: tuple(rows[i][name] for name in ("source", "clip", "view")))
        for members in [list(group)]
        for start in range(0, len(members), BLOCK)
    ]
    with Worker() as worker:
        for (source, clip_id, view), members in stage.track_progress(blocks, "cut images", len(blocks)):
            reader = reader_of(stores[source])
            if reader in PHOTOGRAPHED:
                crops = crop_files(raw / reader, [clip_id] * len(members), boxes[members], size, worker)
            else:
                with SequenceStore(stores[source]) as store:
                    whole = footage_of(reader, store.read(clip_id), view)
                footage = replace(whole, frames=whole.frames[[rows[i]["frame"] for i in members]])
                occluders = np.array([rows[i]["occluders"] for i in members])
                chosen = np.arange(len(members))
                crops = read_crops(raw / reader, footage, boxes[members], chosen, size, worker, occluders)
            for image, crop in zip(members, crops, strict=True):
                images[image] = crop


def run(stores: Mapping[str, Path], output: Path, params: Mapping[str, Any], raw: Path) -> None:
    """Draw, read and write labelled images (docs/rendering.md has the layout)."""
    rng = np.random.default_rng([params["seed"], params["split"] == "test", 4])
    rows = draw(stores, params, rng)
    points, visible, labelled, heads, boxes = (
        np.array([row[name] for row in rows]) for name in ("points", "visible", "labelled", "head_size", "box")
    )
    boxes = jittered(boxes, params["crop_jitter"], rng)
    labels = crop_labels(points, visible, labelled, heads, boxes, params["map_size"])
    labels["frame"] = np.array([row["frame"] for row in rows])
    labels |= {name: np.array([row[name] for row in rows], "S") for name in ("source", "clip", "view", "subject")}
    shape = (len(rows), params["size"])
    with create(output, shape, labels, split=params["split"], map_size=params["map_size"]) as images:
        cut(stores, rows, boxes, params["size"], raw, images)


app = typer.Typer(add_completion=False)


@app.command()
def main(
    store: list[str] = stage.STORE_OPTION,
    output: Path = typer.Option(..., help="Labelled images (HDF5)."),
    params: str = stage.PARAMS_OPTION,
    raw: Path = RAW_OPTION,
) -> None:
    """Cut labelled images of people from photographs and recorded views."""
    run(stage.parse_named(store), output, stage.parse_params(params, PARAMETERS), raw)


if __name__ == "__main__":
    stage.run(app)
