"""Figures that show people: the Cylinder Man on images, test frames with poses, occlusion augmentation.

Which frames are shown follows from a rule stated at each function, never from how well they came out.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from isopose import skeleton
from isopose.camera import project
from isopose.crops import boxes_around
from isopose.datasets.footage import RECORDED, Recordings
from isopose.datasets.store import Clip, DetectionStore, PoseStore, SequenceStore, ViewKey, reader_of, select
from isopose.datasets.worker import Worker
from isopose.errors import UserError
from isopose.evaluation.metrics import mpjpe
from isopose.occlusion import cylinder_man
from isopose.rendering import view_frames
from isopose.reporting import style
from isopose.reporting.tables import spoken

if TYPE_CHECKING:
    from isopose.occlusion.masking import Corruption

_log = logging.getLogger(__name__)

PICTURE_SIZE = 256
"""Side of a picture of a person, px."""

BLANK = 235
"""Grey of a picture whose footage is not at hand."""

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


@dataclass(frozen=True)
class Scenes:
    """Where pictures come from: stores by source; split, the looks of rendered people; raw, the licensed datasets."""

    stores: Mapping[str, str]
    split: str
    raw: Path

    def picture(self, clip: Clip, key: ViewKey, boxes: np.ndarray, frame: int) -> np.ndarray:
        """A frame of a view in its box, of boxes (F, 3), px, RGB (S, S, 3): rendered, or from the view's footage.

        Detections made elsewhere need no footage: where it is not at hand, the picture is blank.
        """
        reader, chosen = reader_of(self.stores[key.source]), np.array([frame])
        if reader not in RECORDED:
            return view_frames(clip, key.view, boxes, chosen, PICTURE_SIZE, self.split)[0]
        try:
            with Worker() as worker:
                recorded = Recordings(reader, self.raw / reader, worker)
                return recorded.view_frames(clip, key.view, boxes, chosen, PICTURE_SIZE)[0]
        except UserError as error:
            _log.warning("the picture of %s is left blank: %s", key, error)
            return np.full((PICTURE_SIZE, PICTURE_SIZE, 3), BLANK, np.uint8)


def show_image(axes: Axes, image: np.ndarray, box: np.ndarray) -> None:
    """Show a crop (S, S, 3) at its place in the image; box (3,) centre and side, px."""
    x, y, half = box[0], box[1], box[2] / 2
    axes.imshow(image, extent=(x - half, x + half, y + half, y - half), interpolation="bilinear")
    axes.set_xlim(x - half, x + half)
    axes.set_ylim(y + half, y - half)


def cylinder_man_figure(scenes: Scenes, selections: list[dict[str, Any]], output: Path, note: str) -> None:
    """Figure 6: three views, evenly spaced over the selection, where the body hides most of its joints."""
    with style.figure(output, note) as figure:
        keys = spread(select(scenes.stores, selections), 3)
        figure.set_size_inches(style.WIDTH, 6.2)
        panels = figure.subplots(2, len(keys), squeeze=False)
        for column, key in enumerate(keys):
            clip = read_clip(scenes.stores, key)
            camera = clip.cameras[clip.views[key.view].camera]
            all_joints = clip.camera_joints(key.view)
            all_visible = cylinder_man.visibility(all_joints)
            frame = int(np.argmin(all_visible.sum(axis=1)))
            joints, visible = all_joints[frame].astype(np.float64), all_visible[frame]
            boxes = boxes_around(clip.views[key.view].joints2d)
            image = scenes.picture(clip, key, boxes, frame)

            top, bottom = panels[:, column]
            show_image(top, image, boxes[frame])
            draw_cylinders(top, joints, visible, lambda points, camera=camera: project(points, camera), joints)
            top.set_title(f"{clip.subject}, {spoken(clip.action)}\nhidden joints: {(~visible).sum()}", fontsize=8)
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
    scenes: Scenes,
    detections: Path,
    predictions: Mapping[str, str],
    labels: Mapping[str, str],
    count: int,
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
            clip = read_clip(scenes.stores, key)
            hidden = (~clip.views[key.view].visible).sum(axis=1)
            frame = int(np.argmax(np.where(hidden <= 10, hidden, -1)))
            found = detected.read(key)
            image = scenes.picture(clip, key, found.boxes, frame)
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


KINDS = {
    "point": "point, $p_1$ = {point:g}",
    "frame": "frame, $p_2$ = {frame:g}",
    "continuous_point": "continuous point, $p_3$ = {continuous_point:g}, $l$ = {max_length}",
    "continuous_frame": "continuous frame, $p$ = {continuous_frame:g}, $l$ = {max_length}",
    "shift": "shift, $p$ = {shift:g}, up to {shift_pixels} heatmap px",
    "swap": "left-right swap, $p$ = {swap:g} a pair",
}
"""Augmentations of paper 3.3, by the parameter of their rate: their titles."""

STATES = {
    "as detected": "#E4E4E4",
    "hidden": style.INK,
    "shifted": style.ORANGE,
    "swapped with the other side": style.SKY,
}
"""What becomes of a joint, and its colour."""

AS_DETECTED, HIDDEN, SHIFTED, SWAPPED = range(len(STATES))

PAIRED = [joint for pair in skeleton.SYMMETRIC_PAIRS for joint in pair]
ROWS = [joint for joint in reversed(range(skeleton.NUM_JOINTS)) if joint not in PAIRED] + PAIRED
"""Joints from the head down the trunk, then pair by pair, so that the two joints of a swap lie side by side."""


def draw_kinds(frames: int, masking: Mapping[str, Any], seed: int) -> "dict[str, Corruption]":
    """Corruption of one clip by each of KINDS alone, and by "all" as training draws it for an augmented clip.

    masking: see :func:`isopose.occlusion.masking.draw_corruption`. How many random numbers that takes does not depend
    on the rates, so with the same seed each kind is its very part of "all".
    """
    import torch  # here, because the other pictures need none

    from isopose.occlusion.masking import draw_corruption

    zeros = {kind: {other: 0.0 for other in KINDS if other != kind} for kind in KINDS} | {"all": {}}
    shape = (1, frames, skeleton.NUM_JOINTS)
    return {
        kind: draw_corruption(shape, {**masking, **others, "share": 1.0}, torch.Generator().manual_seed(seed))
        for kind, others in zeros.items()
    }


def joint_states(corruption: "Corruption") -> np.ndarray:
    """What becomes of each joint of the first clip (T, 17), an index of STATES; what is hidden shows nothing else."""
    shift, order, keep = (getattr(corruption, part)[0].numpy() for part in ("shift", "order", "keep"))
    swapped = order != np.arange(order.shape[1])
    shifted = np.take_along_axis((shift != 0).any(axis=-1), order, axis=1)
    return np.select([~keep, swapped, shifted], [HIDDEN, SWAPPED, SHIFTED], AS_DETECTED)


def corrupted_keypoints(keypoints: np.ndarray, corruption: "Corruption", map_size: int) -> np.ndarray:
    """Keypoints (T, 17, 2) of a clip, in crop coordinates, as the lifter sees them after the corruption."""
    import torch

    from isopose.models.embedding import Observations
    from isopose.occlusion.masking import corrupt

    points = torch.from_numpy(keypoints)[None]
    observations = Observations(points, torch.ones(points.shape[:-1]), torch.zeros(*points.shape[:2], 3))
    return corrupt(observations, corruption, map_size).coordinates[0].numpy()


def masking_figure(
    detections: Path, masking: Mapping[str, Any], frames: int, seed: int, output: Path, note: str
) -> None:
    """Each augmentation of paper 3.3 and all together, joint by frame, on a clip as long as in training.

    Of shift and swap, the skeleton of the most changed frame. The clip is the start of the store's first view.
    """
    from isopose.models.lifter import map_to_crop

    with DetectionStore(detections) as store:
        found = store.read(store.keys()[0])
    index = np.minimum(np.arange(frames), len(found.keypoints) - 1)
    detected = map_to_crop(found.keypoints[index], found.map_size)
    corruptions = draw_kinds(frames, masking, seed)
    states = {kind: joint_states(corruption) for kind, corruption in corruptions.items()}
    titles = {kind: title.format(**masking) for kind, title in KINDS.items()}
    titles["all"] = f"all together, in {masking['share']:g} of the clips"
    with style.figure(output, note) as figure:
        figure.set_size_inches(style.WIDTH, 7.4)
        panels = figure.subplots(3, 3)
        shown = dict(zip(titles, panels.flat, strict=False))
        for kind, axes in shown.items():
            show_states(axes, states[kind], titles[kind])
        for axes in panels[:, 0]:
            axes.set_yticks(range(len(ROWS)), [spoken(skeleton.JOINTS[joint]) for joint in ROWS])
        for kind, axes in zip(("shift", "swap"), panels[2, 1:], strict=True):
            seen = corrupted_keypoints(detected, corruptions[kind], found.map_size)
            frame = most_changed(states[kind], np.linalg.norm(seen - detected, axis=-1))
            shown[kind].plot(frame, -1, "v", color=style.INK, markersize=5, clip_on=False, scaley=False)
            shown[kind].set_xlabel("frame", fontsize=8)
            draw_corrupted(axes, detected[frame], seen[frame], states[kind][frame])
            axes.set_title(f"{kind}, frame {frame} (grey: as detected)", fontsize=8)
        shown["all"].set_xlabel("frame", fontsize=8)
        handles = [Patch(facecolor=colour, label=state) for state, colour in STATES.items()]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))


def most_changed(states: np.ndarray, distance: np.ndarray) -> int:
    """The frame of which most joints are changed; of several, the one whose joints (T, 17) moved farthest in sum."""
    return int(np.lexsort((-distance.sum(axis=1), -(states != AS_DETECTED).sum(axis=1)))[0])


def show_states(axes: Axes, states: np.ndarray, title: str) -> None:
    """Show joint states (T, 17) as an image, joints downwards as in ROWS."""
    colours = ListedColormap(list(STATES.values()))
    axes.imshow(states[:, ROWS].T, cmap=colours, vmin=0, vmax=len(STATES) - 1, aspect="auto", interpolation="none")
    axes.set_yticks([])
    axes.set_title(title, fontsize=8, pad=9)
    axes.tick_params(labelsize=7, length=0)
    axes.grid(visible=False)


def draw_corrupted(axes: Axes, detected: np.ndarray, seen: np.ndarray, states: np.ndarray) -> None:
    """Draw joints (17, 2), crop coordinates, as the lifter sees them over the detected ones, coloured by state."""
    draw_skeleton(axes, detected, ["#CCCCCC"] * len(skeleton.BONES), linewidth=4)
    draw_skeleton(axes, seen, [style.INK] * len(skeleton.BONES), linewidth=1.2)
    for state, colour in enumerate(STATES.values()):
        changed = {"markersize": 7, "zorder": 4} if state else {"markersize": 3, "zorder": 3}
        axes.plot(*seen[states == state].T, "o", color=colour, markeredgecolor=style.INK, **changed)
    axes.set(xlim=(-1, 1), ylim=(1, -1))
    blank(axes)
