"""Figures that show people: the Cylinder Man on rendered images, test frames with predicted poses.

Which frames are shown follows from a rule stated at each function, never from how well they came out.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from isopose import skeleton
from isopose.camera import project
from isopose.crops import boxes_around
from isopose.datasets.store import Clip, DetectionStore, PoseStore, SequenceStore, ViewKey, select
from isopose.evaluation.metrics import mpjpe
from isopose.occlusion import cylinder_man
from isopose.rendering import view_frames
from isopose.reporting import style
from isopose.reporting.tables import spoken

YAW = np.radians(40)
"""Turn about the vertical axis at which 3D poses are drawn, so that depth shows."""


def side_colours() -> list[str]:
    """Colour of each bone of skeleton.BONES: right, left or trunk."""
    right, left = (set(side) for side in zip(*skeleton.SYMMETRIC_PAIRS, strict=True))
    return [
        style.RIGHT if child in right else style.LEFT if child in left else style.MIDDLE for _, child in skeleton.BONES
    ]


def draw_skeleton(axes: Axes, points: np.ndarray, colours: list[str] | None = None, **line: Any) -> None:
    """Draw bones between points (17, 2)."""
    for (parent, child), colour in zip(skeleton.BONES, colours or side_colours(), strict=True):
        axes.plot(*points[[parent, child]].T, color=colour, solid_capstyle="round", **line)


def turned(points: np.ndarray, angle: float) -> np.ndarray:
    """Camera-frame points (..., 3), m, turned about the vertical axis and seen orthographically: (..., 2)."""
    x = points[..., 0] * np.cos(angle) + points[..., 2] * np.sin(angle)
    return np.stack([x, points[..., 1]], axis=-1)


def outlines(joints: np.ndarray, sight: np.ndarray) -> dict[str, np.ndarray]:
    """Corners (4, 3) of the rectangle each cylinder shows; joints (17, 3), m, and lines of sight (17, 3)."""
    corners = {}
    torso = np.mean([np.linalg.norm(joints[s] - joints[cylinder_man.THORAX]) for s in cylinder_man.SHOULDERS])
    for part in cylinder_man.PARTS:
        start, end = joints[part.start], joints[part.end]
        across = np.cross(end - start, sight[part.start])
        across = across / max(np.linalg.norm(across), 1e-9) * (part.radius or torso)
        corners[part.name] = np.stack([start - across, end - across, end + across, start + across])
    return corners


def read_clip(stores: Mapping[str, str], key: ViewKey) -> Clip:
    """Read the clip of a view."""
    with SequenceStore(stores[key.source]) as store:
        return store.read(key.clip)


def spread(items: list[Any], count: int) -> list[Any]:
    """``count`` items evenly spaced over a list, or all of a shorter one."""
    if len(items) <= count:
        return items
    return [items[round(i)] for i in np.linspace(0, len(items) - 1, count)]


def blank(axes: Axes) -> None:
    """A panel for pictures: equal axes, y down, no ticks."""
    axes.set_aspect("equal")
    axes.set_axis_off()
    if not axes.yaxis_inverted():
        axes.invert_yaxis()


def show_image(axes: Axes, image: np.ndarray, box: np.ndarray) -> None:
    """Show a crop (S, S, 3) at its place in the image; box (3,) centre and side, px."""
    x, y, half = box[0], box[1], box[2] / 2
    axes.imshow(image, extent=(x - half, x + half, y + half, y - half), interpolation="bilinear")
    axes.set_xlim(x - half, x + half)
    axes.set_ylim(y + half, y - half)


def cylinder_man_figure(
    stores: Mapping[str, str], selections: list[dict[str, Any]], split: str, output: Path, note: str
) -> None:
    """Figure 6: three views, evenly spaced over the selection, where the body hides most of its joints."""
    with style.figure(output, note) as figure:
        keys = spread(select(stores, selections), 3)
        figure.set_size_inches(style.WIDTH, 6.2)
        panels = figure.subplots(2, len(keys), squeeze=False)
        for column, key in enumerate(keys):
            clip = read_clip(stores, key)
            camera = clip.cameras[clip.views[key.view].camera]
            all_joints = clip.camera_joints(key.view)
            all_visible = cylinder_man.visibility(all_joints)
            frame = int(np.argmin(all_visible.sum(axis=1)))
            joints, visible = all_joints[frame].astype(np.float64), all_visible[frame]
            boxes = boxes_around(clip.views[key.view].joints2d)
            image = view_frames(clip, key.view, boxes, np.array([frame]), 256, split)[0]

            top, bottom = panels[:, column]
            show_image(top, image, boxes[frame])
            draw_cylinders(top, joints, visible, lambda points, camera=camera: project(points, camera), joints)
            top.set_title(f"{clip.subject}, {spoken(clip.action)}, hidden joints: {(~visible).sum()}", fontsize=9)
            from_side = np.broadcast_to([-1.0, 0.0, 0.0], joints.shape)
            relative = joints - joints[0]
            draw_cylinders(bottom, relative, visible, lambda points: turned(points, np.pi / 2), from_side)
            bottom.annotate("", (-0.75, 0), (-1.2, 0), arrowprops={"arrowstyle": "->", "color": style.INK})
            bottom.text(-1.2, -0.06, "camera", fontsize=9)
            bottom.set(xlim=(-1.25, 0.85), ylim=(1.0, -0.95))
            for panel in (top, bottom):
                blank(panel)
        panels[1, 0].set_title("the same poses seen from the side", fontsize=9)
        handles = panels[0, 0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper center", ncols=2)


def draw_cylinders(axes: Axes, joints: np.ndarray, visible: np.ndarray, flatten: Callable, sight: np.ndarray) -> None:
    """Draw outlines of the cylinders, bones, visible and hidden joints; ``flatten`` maps (N, 3) to (N, 2)."""
    for corners in outlines(joints, sight).values():
        axes.fill(*flatten(corners).T, facecolor=style.SKY, edgecolor=style.BLUE, alpha=0.35, linewidth=0.8)
    points = flatten(joints)
    draw_skeleton(axes, points, [style.INK] * len(skeleton.BONES), linewidth=1.2)
    axes.plot(
        *points[visible].T,
        "o",
        color=style.GREEN,
        markeredgecolor="white",
        markersize=6,
        label="visible joint",
    )
    hidden = points[~visible]
    axes.plot(
        *hidden.T,
        "X",
        color=style.ORANGE,
        markeredgecolor="white",
        markersize=8,
        label="joint hidden by the body",
    )


def samples_figure(
    stores: Mapping[str, str],
    detections: Path,
    predictions: Mapping[str, str],
    labels: Mapping[str, str],
    count: int,
    split: str,
    output: Path,
    note: str,
) -> None:
    """Test frames: the image with the detected 2D joints, then each model's 3D pose over the ground truth.

    Views are evenly spaced over those predicted; each shows the frame with most joints hidden, but no more
    than ten: the frames that this work is about.
    """
    with DetectionStore(detections) as detected, style.figure(output, note) as figure:
        opened = {name: PoseStore(path) for name, path in predictions.items()}
        keys = spread(next(iter(opened.values())).keys(), count)
        figure.set_size_inches(style.WIDTH, 1.9 * (1 + len(opened)))
        panels = figure.subplots(1 + len(opened), len(keys), squeeze=False)
        for column, key in enumerate(keys):
            clip = read_clip(stores, key)
            hidden = (~clip.views[key.view].visible).sum(axis=1)
            frame = int(np.argmax(np.where(hidden <= 10, hidden, -1)))
            found = detected.read(key)
            image = view_frames(clip, key.view, found.boxes, np.array([frame]), 256, split)[0]
            show_image(panels[0, column], image, found.boxes[frame])
            draw_skeleton(panels[0, column], found.image_keypoints[frame], linewidth=1.5)
            panels[0, column].set_title(f"{spoken(clip.action)}\nhidden joints: {hidden[frame]}", fontsize=8)
            joints = clip.camera_joints(key.view)[frame]
            truth = joints - joints[:1]
            for axes, (name, store) in zip(panels[1:, column], opened.items(), strict=True):
                pose = store.read(key)[frame]
                draw_skeleton(axes, turned(truth, YAW), ["#BBBBBB"] * len(skeleton.BONES), linewidth=3)
                draw_skeleton(axes, turned(pose, YAW), linewidth=1.5)
                axes.set_xlim(-0.9, 0.9)
                axes.set_ylim(1.05, -0.95)
                title = f"{1000 * float(mpjpe(pose, truth)):.0f} mm"
                axes.set_title(title if column else f"{labels[name]}: {title}", fontsize=8)
            for axes in panels[:, column]:
                blank(axes)
        for store in opened.values():
            store.close()
