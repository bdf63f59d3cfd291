"""Training data of the lifter: detections and labels in memory as flat arrays, and batches of clips cut from them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from isopose.datasets.store import Clip, Detections, DetectionStore, SequenceStore, ViewKey
from isopose.errors import UserError
from isopose.models.embedding import MapEntries, Observations
from isopose.models.lifter import map_to_crop, mirror_observations, mirror_pose, normalised_boxes, to_crop
from isopose.occlusion.cylinder_man import visibility
from isopose.occlusion.masking import hide
from isopose.skeleton import MIRROR, NUM_JOINTS
from isopose.sparse_maps import SparseMaps
from isopose.training.losses import random_rotations, rotate
from isopose.training.views import about_vertical, carried_boxes, move_pixels, to_box

_MIRROR_X = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))


@dataclass(frozen=True)
class LabelledView:
    """A view's detections with the clip they belong to; the camera frame is ``view``'s."""

    key: ViewKey
    clip: Clip
    detections: Detections

    @property
    def joints3d(self) -> np.ndarray:
        """Ground truth (F, 17, 3), m, camera frame."""
        return self.clip.camera_joints(self.key.view)


def read_views(detections: Path, stores: Mapping[str, Path], with_maps: bool = False) -> list[LabelledView]:
    """All views of a detection store with their ground truth from the sequence stores (source -> path).

    with_maps: refuse (UserError) detections without heatmaps.
    """
    views = []
    with DetectionStore(detections) as detected:
        keys = detected.keys()
        if not keys:
            raise UserError(f"{detections}: holds no views; expected at least one; check the role in params.yaml")
        if missing := {key.source for key in keys} - set(stores):
            raise UserError(f"{detections}: no sequence store for {sorted(missing)}; give --store <source>=<path>")
        for source in dict.fromkeys(key.source for key in keys):
            with SequenceStore(stores[source]) as store:
                clips = {}
                for key in (key for key in keys if key.source == source):
                    clips = {key.clip: clips.get(key.clip) or store.read(key.clip)}
                    views.append(LabelledView(key, clips[key.clip], detected.read(key)))
    try:
        for view in views if with_maps else ():
            view.detections.heatmaps()
    except ValueError as error:
        raise UserError(f"{detections}: '{view.key}': {error}") from error
    return views


@dataclass(frozen=True)
class Frames:
    """All frames of a role's views, one after the other; N frames, V views.

    observed: coordinates (N, 17, 2), confidence (N, 17), box (N, 3) as in Observations; maps or None;
    joints3d (N, 17, 3), m, camera frame, NaN for 2D labels alone; joints2d (N, 17, 2): truth in crop coordinates;
    visible (N, 17): seen, and a label; valid (V, 17): the view's dataset has the joint; rotations (V, 3, 3): world to
    camera; starts (V + 1,): first frame of each view; clips: the views of each clip.
    """

    coordinates: Tensor
    confidence: Tensor
    box: Tensor
    maps: SparseMaps | None
    joints3d: Tensor
    joints2d: Tensor
    visible: Tensor
    valid: Tensor
    rotations: Tensor
    starts: np.ndarray
    clips: list[list[int]]

    @classmethod
    def load(cls, detections: Path, stores: Mapping[str, Path], with_maps: bool) -> "Frames":
        """Read a detection store and its ground truth into memory."""
        views = read_views(detections, stores, with_maps)
        members: dict[tuple[str, str], list[int]] = {}
        for index, view in enumerate(views):
            members.setdefault(view.key[:2], []).append(index)
        labels = [view.clip.views[view.key.view] for view in views]
        cameras = [view.clip.cameras[label.camera] for view, label in zip(views, labels, strict=True)]
        boxes = [view.detections.boxes for view in views]
        for view, label in zip(views, labels, strict=True):
            if label.visible is None:
                raise UserError(f"{view.key}: has no visibility labels; expected a labelled store; label it first")

        def joined(parts: list[np.ndarray]) -> Tensor:
            return torch.from_numpy(np.concatenate(parts).astype(np.float32))

        return cls(
            joined([map_to_crop(view.detections.keypoints, view.detections.map_size) for view in views]),
            joined([view.detections.confidence for view in views]),
            joined([normalised_boxes(box, camera) for box, camera in zip(boxes, cameras, strict=True)]),
            _join_maps([view.detections.maps for view in views]) if with_maps else None,
            joined([view.joints3d for view in views]),
            joined([to_crop(label.joints2d, box) for label, box in zip(labels, boxes, strict=True)]),
            joined([label.visible & view.clip.joint_valid for view, label in zip(views, labels, strict=True)]),
            joined([view.clip.joint_valid[None] for view in views]),
            joined([camera.R[None] for camera in cameras]),
            np.cumsum([0, *(len(box) for box in boxes)]),
            list(members.values()),
        )

    @property
    def only_2d(self) -> bool:
        """Whether some of the frames have 2D labels alone."""
        return bool(self.joints3d.isnan().any())

    @property
    def mean_pose(self) -> Tensor:
        """Mean root-relative pose (17, 3), m, camera frame: what a lifter that knows nothing would say."""
        return (self.joints3d - self.joints3d[:, :1]).double().mean(0).float()


def _join_maps(parts: list[SparseMaps]) -> SparseMaps:
    """Heatmaps of several views, one after the other."""
    if len({part.size for part in parts}) > 1:
        raise UserError(f"heatmaps of sizes {sorted({part.size for part in parts})} cannot be trained on together")
    before = np.cumsum([0, *(len(part.pixel) for part in parts)])
    pointers = [part.pointer[:-1] + offset for part, offset in zip(parts, before, strict=False)]
    return SparseMaps(
        np.concatenate([*pointers, before[-1:]]),
        np.concatenate([part.pixel for part in parts]),
        np.concatenate([part.value for part in parts]),
        parts[0].joints,
        parts[0].size,
    )


@dataclass(frozen=True)
class Batch:
    """B clips of T frames: inputs, root-relative poses (B, T, 17, 3), m, camera rotations (B, 3, 3), 2D ground truth
    (B, T, 17, 2) in crop coordinates, visible (B, T, 17) and valid (B, 17), as of :class:`Frames`.
    """

    observations: Observations
    poses: Tensor
    rotations: Tensor
    joints2d: Tensor
    visible: Tensor
    valid: Tensor

    def to(self, device: torch.device | str) -> "Batch":
        """Copy to a device."""
        return Batch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Sampler:
    """Cuts random batches of ``clips`` clips of ``length`` frames; a clip shorter than that repeats its last frame.

    pairs: the second half of a batch shows the same clips and frames as the first, from other views. flip: share of
    clips that are mirrored. rotate3d: share of clips whose skeleton is rotated as in Eq. 5 (the ablation's "Base").
    virtual_views: share of clips seen from a virtual camera (paper 3.4).
    """

    frames: Frames
    clips: int
    length: int
    generator: torch.Generator
    pairs: bool = False
    flip: float = 0.0
    rotate3d: float = 0.0
    virtual_views: float = 0.0

    def draw(self) -> Batch:
        """A random batch."""
        views, offsets = self._choose()
        first = torch.from_numpy(self.frames.starts[:-1])[views]
        count = torch.from_numpy(np.diff(self.frames.starts))[views]
        index = first[:, None] + torch.minimum(offsets[:, None] + torch.arange(self.length), count[:, None] - 1)
        batch = self._gather(index, views)
        if self.virtual_views:
            batch = self._virtual(batch, self.frames.joints3d[index])
        if self.rotate3d:
            batch = self._rotated(batch, self.frames.joints3d[index])
        return self._mirrored(batch) if self.flip else batch

    def _choose(self) -> tuple[Tensor, Tensor]:
        """Views (B,) and first frames (B,); long clips come more often."""
        rounds = 2 if self.pairs else 1
        lengths = np.diff(self.frames.starts)
        weights = torch.tensor([float(lengths[views].sum()) for views in self.frames.clips])
        chosen = torch.multinomial(weights, self.clips // rounds, replacement=True, generator=self.generator)
        views, offsets = [], []
        for clip in chosen.tolist():
            members = self.frames.clips[clip]
            order = torch.randperm(len(members), generator=self.generator).tolist()
            views.append([members[order[i % len(order)]] for i in range(rounds)])
            latest = max(int(lengths[members[0]]) - self.length, 0)
            offsets.append(int(torch.randint(latest + 1, (), generator=self.generator)))
        return torch.tensor(views).T.flatten(), torch.tensor(offsets).repeat(rounds)

    def _gather(self, index: Tensor, views: Tensor) -> Batch:
        frames = self.frames
        maps = None
        if frames.maps is not None:
            frame, joint, pixel, value = frames.maps.entries(index.flatten().numpy())
            map_index = torch.from_numpy(frame * NUM_JOINTS + joint)
            maps = MapEntries(map_index, torch.from_numpy(pixel), torch.from_numpy(value), frames.maps.size)
        joints3d = frames.joints3d[index]
        return Batch(
            Observations(frames.coordinates[index], frames.confidence[index], frames.box[index], maps),
            joints3d - joints3d[..., :1, :],
            frames.rotations[views],
            frames.joints2d[index],
            frames.visible[index],
            frames.valid[views],
        )

    def _coin(self, probability: float) -> Tensor:
        """True for a share of the clips, alike in both views of a pair. (B,)."""
        half = self.clips // 2 if self.pairs else self.clips
        return (torch.rand(half, generator=self.generator) < probability).repeat(self.clips // half)

    def _rotated(self, batch: Batch, joints3d: Tensor) -> Batch:
        """Turn the skeletons of some clips about the pelvis (angles as in Eq. 5). The crop stays where it was."""
        turned = self._coin(self.rotate3d)
        rotations = torch.where(turned[:, None, None], random_rotations(self.clips, self.generator), torch.eye(3))
        there = rotate(batch.poses, rotations) + joints3d[..., :1, :]
        return self._carried(batch, joints3d, there, rotations, batch.observations.box, turned)

    def _virtual(self, batch: Batch, joints3d: Tensor) -> Batch:
        """Show some clips as a virtual camera would that went round the person at its own height (paper 3.4).

        The crop follows the person; what the Cylinder Man hides from the virtual camera is zero.
        """
        chosen, angles = torch.rand(2, self.clips, generator=self.generator)
        chosen = chosen < self.virtual_views
        rotations = about_vertical(batch.rotations, (2 * torch.pi * angles) * chosen)
        there = rotate(batch.poses, rotations) + joints3d[..., :1, :]
        box = carried_boxes(batch.observations.box, joints3d, there)
        visible = torch.where(chosen[:, None, None], visibility(there).to(batch.visible), batch.visible)
        batch = self._carried(batch, joints3d, there, rotations, box, chosen)
        shown = (visible > 0) | ~chosen[:, None, None]
        return replace(batch, observations=hide(batch.observations, shown), visible=visible)

    @staticmethod
    def _carried(batch: Batch, here: Tensor, there: Tensor, rotations: Tensor, box: Tensor, clips: Tensor) -> Batch:
        """Move the joints from here to there (B, T, 17, 3), m, camera frame, and the crops to box; 2D input and all.

        A keypoint moves as its joint's projection does, so the detector's own error stays; so do the pixels of its
        heatmap. clips (B,): those that move at all.
        """
        moved = to_box(there, box) - to_box(here, batch.observations.box)
        maps = batch.observations.maps
        observations = replace(
            batch.observations,
            coordinates=batch.observations.coordinates + moved,
            box=box,
            maps=maps and move_pixels(maps, moved * (maps.size / 2), clips),
        )
        poses = there - there[..., :1, :]
        return replace(
            batch,
            observations=observations,
            poses=poses,
            rotations=rotations @ batch.rotations,
            joints2d=batch.joints2d + moved,
        )

    def _mirrored(self, batch: Batch) -> Batch:
        """Mirror some clips: their camera's "rotation" then contains the reflection, as Eq. 2 needs it."""
        mirror = self._coin(self.flip)
        mirrored = mirror_observations(batch.observations)
        order = list(MIRROR)

        def choose(there: Tensor, here: Tensor) -> Tensor:
            return torch.where(mirror.view(-1, *[1] * (here.dim() - 1)), there, here)

        maps = batch.observations.maps
        if maps is not None:
            each_map = mirror.repeat_interleave(self.length * NUM_JOINTS)
            chosen = each_map.index_select(0, maps.map_index)
            maps = replace(
                maps,
                map_index=torch.where(chosen, mirrored.maps.map_index, maps.map_index),
                pixel=torch.where(chosen, mirrored.maps.pixel, maps.pixel),
            )
        seen = batch.observations
        return Batch(
            Observations(
                choose(mirrored.coordinates, seen.coordinates),
                choose(mirrored.confidence, seen.confidence),
                choose(mirrored.box, seen.box),
                maps,
            ),
            choose(mirror_pose(batch.poses), batch.poses),
            choose(_MIRROR_X @ batch.rotations, batch.rotations),
            choose(batch.joints2d[..., order, :] * torch.tensor([-1.0, 1.0]), batch.joints2d),
            choose(batch.visible[..., order], batch.visible),
            choose(batch.valid[..., order], batch.valid),
        )
