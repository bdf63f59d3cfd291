"""Stage: which joints are visible in each view, by the Cylinder Man, the occluders and the image's edges."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import typer

from isopose import stage
from isopose.datasets.store import Clip, SequenceStore
from isopose.occlusion.cylinder_man import visibility
from isopose.occlusion.rectangles import covered, inside_image

PARAMETERS = {"projection": str}

app = typer.Typer(add_completion=False)


@app.command()
def main(
    sequences: Path = typer.Option(..., help="Sequence store to label."),
    output: Path = typer.Option(..., help="Copy of the store with the visibility of every view."),
    params: str = stage.PARAMS_OPTION,
) -> None:
    """Label the visibility of every joint in every view."""
    run(sequences, output, **stage.parse_params(params, PARAMETERS))


def run(sequences: Path, output: Path, projection: str) -> None:
    """Copy a sequence store and fill in `View.visible`."""
    with SequenceStore(sequences) as source, SequenceStore.create(output, **_attributes(source)) as target:
        for clip_id in stage.track_progress(source.clips(), "label"):
            target.write(label(source.read(clip_id), projection))


def label(clip: Clip, projection: str) -> Clip:
    """The clip with the visibility `(F, 17)` of every view.

    A joint is visible when the Cylinder Man does not hide it, no occluder covers it and it lies inside the image. Clips
    of 2D labels alone keep those that they came with.
    """
    if clip.only_2d:
        return clip
    # The views of one camera, with and without occluders, share the body's own occlusion.
    view_of = {view.camera: name for name, view in clip.views.items()}
    joints = [clip.camera_joints(name) for name in view_of.values()]
    own = dict(zip(view_of, visibility(np.stack(joints), projection=projection), strict=True)) if joints else {}
    views = {}
    for name, view in clip.views.items():
        visible = own[view.camera] & inside_image(view.joints2d, clip.cameras[view.camera].size)
        if view.occluders is not None:
            visible &= ~covered(view.joints2d, view.occluders)
        views[name] = replace(view, visible=visible)
    return replace(clip, views=views)


def _attributes(store: SequenceStore) -> dict:
    return {name: value for name, value in store.attributes.items() if name not in ("kind", "version")}


if __name__ == "__main__":
    stage.run(app)
