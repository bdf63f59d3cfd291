"""The HDF5 stores: motion with its cameras and views, 2D detections, and 3D poses. The only code that knows the layout.

Sequence store: ``/<clip>/joints3d (F, 17, 3) m world``, ``joint_valid (17)``, ``cameras/<name>/{K, R, T, distortion,
size}``, ``views/<name>/{joints2d (F, 17, 2) px, visible (F, 17), occluders (F, M, 4) px}``. Detection and pose stores
hold one group a view, ``/<source>/<clip>/<view>``; of detections without heatmaps it has the attribute ``map_size`` in
the place of ``maps``. Every file carries ``kind`` and ``version`` and is written to a
temporary name first, so a file that exists is whole.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import h5py
import hdf5plugin
import numpy as np

from isopose.arrays import check_array
from isopose.camera import Camera, world_to_camera
from isopose.crops import crop_to_image, image_to_crop
from isopose.errors import UserError
from isopose.files import atomic_path
from isopose.skeleton import NUM_JOINTS
from isopose.sparse_maps import SparseMaps

VERSION = 1
_COMPRESSION = hdf5plugin.Zstd(clevel=15)
_FORMAT = ("v110", "latest")
"""HDF5 1.10's file format: a store of short views is a fifth smaller in it than in the library's default."""


@dataclass
class View:
    """One camera's look at a clip.

    camera: name of the camera; joints2d (F, 17, 2) px; visible (F, 17) bool or None before labelling;
    occluders (F, M, 4) px as x0, y0, x1, y1, NaN where absent, or None; seed: of the person's and scene's look.
    """

    camera: str
    joints2d: np.ndarray
    visible: np.ndarray | None = None
    occluders: np.ndarray | None = None
    seed: int = 0


@dataclass
class Clip:
    """A stretch of motion: joints3d (F, 17, 3), m, world frame (z up); joint_valid (17,) bool.

    A joint that a dataset lacks is an estimate, so that every body is whole: it is not scored and no label in training.
    A clip of 2D labels alone has NaN for joints3d.
    """

    id: str
    joints3d: np.ndarray
    joint_valid: np.ndarray
    subject: str
    action: str
    fps: float
    source: str
    attributes: dict[str, Any] = field(default_factory=dict)
    cameras: dict[str, Camera] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)

    @property
    def only_2d(self) -> bool:
        """Whether the clip has 2D labels alone."""
        return bool(np.isnan(self.joints3d).all())

    def camera_joints(self, view: str) -> np.ndarray:
        """Joints (F, 17, 3), m, in the camera frame of a view."""
        return world_to_camera(self.joints3d, self.cameras[self.views[view].camera]).astype(np.float32)


class ViewKey(NamedTuple):
    """Names one view of one clip of one source."""

    source: str
    clip: str
    view: str

    def __str__(self) -> str:
        return "/".join(self)


NEED_MAPS = ("conv", "linear")
"""Kinds of embedding (params.yaml, ``lifter.embedding.kind``) that look at the heatmaps; the others at keypoints."""


@dataclass
class Detections:
    """What a 2D estimator says of one view: this project's, with its heatmaps, or another's, without.

    keypoints (F, 17, 2) heatmap px, as decoded (quarters of a pixel, so they compress well); confidence (F, 17) raw
    peak height; boxes (F, 3) image px (see isopose.crops); maps: the whole heatmaps in crop pixels at ``maps.size``.
    Detections made elsewhere have no maps. Their keypoints then count in the pixels of heatmaps of ``crop_size`` px
    that would show the same crop, so that a sigma or a shift in heatmap px means the same for both;
    :attr:`image_keypoints` are image px always. Their confidence is the detector's, or 1 where it gave none.
    """

    keypoints: np.ndarray
    confidence: np.ndarray
    boxes: np.ndarray
    maps: SparseMaps | None = None
    crop_size: int | None = None

    @classmethod
    def from_image(
        cls, points: np.ndarray, confidence: np.ndarray | None, boxes: np.ndarray, crop_size: int
    ) -> "Detections":
        """Detections without maps of points (F, 17, 2), image px; confidence (F, 17), or None for 1 everywhere."""
        keypoints = image_to_crop(points.astype(np.float64), boxes, crop_size)
        ones = np.ones(points.shape[:-1], np.float32)
        return cls(keypoints, ones if confidence is None else confidence, boxes, crop_size=crop_size)

    @property
    def map_size(self) -> int:
        """Height and width of the heatmaps, px, or of those that the keypoints of detections without maps count in."""
        return self.crop_size if self.maps is None else self.maps.size

    @property
    def image_keypoints(self) -> np.ndarray:
        """Keypoints (F, 17, 2) in image px."""
        return crop_to_image(self.keypoints, self.boxes, self.map_size)

    def heatmaps(self) -> SparseMaps:
        """The maps; ValueError for detections without."""
        if self.maps is None:
            raise ValueError(
                f"has keypoints without heatmaps, which embedding.kind {' and '.join(NEED_MAPS)} need; expected "
                "coordinates or coordinates_confidence; change the lifter's embedding.kind, or detect with an estimator"
            )
        return self.maps

    def part(self, start: int, stop: int) -> "Detections":
        """The detections of the frames from start to stop."""
        arrays = (values[start:stop] for values in (self.keypoints, self.confidence, self.boxes))
        return Detections(*arrays, self.maps and self.maps.part(start, stop), self.crop_size)

    def check(self) -> None:
        """Refuse (ValueError) another number of joints or of frames, NaN and infinity."""
        frames = len(self.boxes)
        check_array("detections.keypoints", self.keypoints, (frames, NUM_JOINTS, 2), finite=True)
        check_array("detections.confidence", self.confidence, (frames, NUM_JOINTS), finite=True)
        check_array("detections.boxes", self.boxes, (frames, 3), finite=True)
        if not self.map_size:
            raise ValueError("detections: have neither maps nor crop_size; expected one of them")


class _Store:
    kind = ""

    def __init__(self, path: Path | str, _file: h5py.File | None = None) -> None:
        self.path = Path(path)
        self._file = _file or self._open()

    def _open(self) -> h5py.File:
        expected = f"expected an isopose {self.kind} store, version {VERSION}"
        try:
            file = h5py.File(self.path, "r")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error}); {expected}; delete it and run again") from error
        found = (file.attrs.get("kind"), file.attrs.get("version"))
        if found != (self.kind, VERSION):
            file.close()
            raise UserError(f"{self.path}: is {found[0]}, version {found[1]}; {expected}; delete it and run again")
        return file

    @classmethod
    @contextmanager
    def create(cls, path: Path | str, **attributes: Any) -> Iterator[Self]:
        """Open a new store for writing; it appears under its name only when the block ends well."""
        with atomic_path(path) as temporary, h5py.File(temporary, "w", libver=_FORMAT) as file:
            file.attrs.update({"kind": cls.kind, "version": VERSION, **attributes})
            yield cls(path, file)

    @property
    def attributes(self) -> dict[str, Any]:
        """The file's own attributes."""
        return dict(self._file.attrs)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def reader_of(path: Path | str) -> str:
    """The reader that a sequence or photograph store was made with."""
    with h5py.File(path, "r") as file:
        return str(file.attrs.get("reader"))


def _put(group: h5py.Group, name: str, array: np.ndarray) -> None:
    array = np.asarray(array)
    options = {"compression": _COMPRESSION, "shuffle": True} if array.nbytes > 1024 else {}
    group.create_dataset(name, data=array, track_times=False, **options)


class SequenceStore(_Store):
    """Clips of motion with cameras and views."""

    kind = "sequences"

    def clips(self) -> list[str]:
        """Ids of all clips, in order."""
        return sorted(self._file)

    def write(self, clip: Clip) -> None:
        """Add a clip."""
        group = self._file.create_group(clip.id)
        group.attrs.update({"subject": clip.subject, "action": clip.action, "fps": clip.fps, "source": clip.source})
        group.create_group("attributes").attrs.update(clip.attributes)
        _put(group, "joints3d", clip.joints3d.astype(np.float32))
        _put(group, "joint_valid", clip.joint_valid.astype(bool))
        for name, camera in clip.cameras.items():
            target = group.create_group(f"cameras/{name}")
            for key in ("K", "R", "T", "distortion", "size"):
                _put(target, key, np.asarray(getattr(camera, key)))
        for name, view in clip.views.items():
            target = group.create_group(f"views/{name}")
            target.attrs.update({"camera": view.camera, "seed": view.seed})
            _put(target, "joints2d", view.joints2d.astype(np.float32))
            if view.visible is not None:
                _put(target, "visible", view.visible.astype(bool))
            if view.occluders is not None:
                _put(target, "occluders", view.occluders.astype(np.float32))

    def read(self, clip_id: str) -> Clip:
        """Read one clip whole."""
        if clip_id not in self._file:
            raise UserError(f"{self.path}: has no clip '{clip_id}'; it holds {len(self._file)} clips")
        group = self._file[clip_id]
        views = {name: _read_view(view) for name, view in group.get("views", {}).items()}
        cameras = {name: _read_camera(camera) for name, camera in group.get("cameras", {}).items()}
        return Clip(
            id=clip_id,
            joints3d=group["joints3d"][()],
            joint_valid=group["joint_valid"][()],
            subject=str(group.attrs["subject"]),
            action=str(group.attrs["action"]),
            fps=float(group.attrs["fps"]),
            source=str(group.attrs["source"]),
            attributes=dict(group["attributes"].attrs),
            cameras=cameras,
            views=views,
        )

    def matches(self, clip_id: str, selection: Mapping[str, Any]) -> bool:
        """Whether a clip has the subject, action and speed a selection asks for (a missing list asks for any)."""
        found = self.traits(clip_id)
        return all(selection.get(key) is None or value in selection[key] for key, value in found.items())

    def traits(self, clip_id: str) -> dict[str, Any]:
        """A clip's subject, action and speed, by the names of a selection's lists."""
        group = self._file[clip_id]
        return {
            "subjects": group.attrs["subject"],
            "actions": group.attrs["action"],
            "speeds": group["attributes"].attrs.get("speed", 1.0),
        }

    def view_names(self, clip_id: str) -> list[str]:
        """Names of a clip's views."""
        return sorted(self._file[clip_id].get("views", {}))


@dataclass(frozen=True)
class Photographs:
    """N people in photographs, with the skeleton's 17 joints.

    images (N,): paths under the dataset's folder; points (N, 17, 2) px, NaN where not labelled; labelled and visible
    (N, 17) bool; boxes (N, 4) px, x0, y0, x1, y1; head_sizes (N,) px, as PCKh measures them, NaN where unknown.
    """

    images: np.ndarray
    points: np.ndarray
    labelled: np.ndarray
    visible: np.ndarray
    boxes: np.ndarray
    head_sizes: np.ndarray


class PhotographStore(_Store):
    """People in photographs: a flat array for each field of Photographs."""

    kind = "photographs"

    def write(self, people: Photographs) -> None:
        """Store everyone."""
        _put(self._file, "images", np.char.encode(people.images, "utf-8"))
        for name, kind in (("points", np.float32), ("labelled", bool), ("visible", bool)):
            _put(self._file, name, getattr(people, name).astype(kind))
        for name in ("boxes", "head_sizes"):
            _put(self._file, name, getattr(people, name).astype(np.float32))

    def read(self) -> Photographs:
        """Read everyone."""
        arrays = {name: self._file[name][()] for name in Photographs.__dataclass_fields__}
        return Photographs(**arrays | {"images": np.char.decode(arrays["images"], "utf-8")})


def _read_camera(group: h5py.Group) -> Camera:
    size = tuple(int(n) for n in group["size"][()])
    return Camera(group["K"][()], group["R"][()], group["T"][()], group["distortion"][()], size)


def _read_view(group: h5py.Group) -> View:
    optional = {key: group[key][()] if key in group else None for key in ("visible", "occluders")}
    return View(str(group.attrs["camera"]), group["joints2d"][()], **optional, seed=int(group.attrs["seed"]))


OCCLUDED = "_occluded"
"""Suffix of the view in which occluders cross in front of the person; the camera is the same."""


def select(stores: Mapping[str, Path], selections: list[dict[str, Any]]) -> list[ViewKey]:
    """Views that a role's selections name.

    A selection: ``source`` (a key of ``stores``), ``cameras``, ``occluded`` (bool), and optionally ``subjects``,
    ``actions``, ``speeds``. A selection that finds nothing, and a name in it that no clip of the source has, is an
    error: a role is never silently empty or smaller.
    """
    keys: list[ViewKey] = []
    for selection in selections:
        source = selection["source"]
        suffix = OCCLUDED if selection.get("occluded") else ""
        wanted = {camera + suffix for camera in selection["cameras"]}
        if source not in stores:
            raise UserError(f"the selection {selection} is of '{source}'; give --store {source}=PATH")
        with SequenceStore(stores[source]) as store:
            _check_known(store, selection)
            clips = [clip for clip in store.clips() if store.matches(clip, selection)]
            found = [ViewKey(source, c, v) for c in clips for v in store.view_names(c) if v in wanted]
        if not found:
            raise UserError(f"{stores[source]}: no view matches the selection {selection}; check params.yaml")
        if absent := wanted - {key.view for key in found}:
            raise UserError(f"{stores[source]}: no view {min(absent)} in the selection {selection}; check params.yaml")
        keys += found
    if len(set(keys)) < len(keys):
        raise UserError(f"two selections name the same view: {selections}; make them disjoint in params.yaml")
    return keys


def _check_known(store: SequenceStore, selection: Mapping[str, Any]) -> None:
    """Refuse a subject, action or speed that no clip has."""
    clips = [store.traits(clip) for clip in store.clips()]
    for key in ("subjects", "actions", "speeds"):
        known = {traits[key] for traits in clips}
        if unknown := [value for value in selection.get(key) or () if value not in known]:
            raise UserError(
                f"{store.path}: no clip has '{unknown[0]}', which the selection {selection} names in its {key}; "
                f"expected one of {', '.join(map(str, sorted(known)))}; check params.yaml and the dataset's files"
            )


class _ViewStore(_Store):
    def keys(self) -> list[ViewKey]:
        """All views, in order."""
        file = self._file
        return [ViewKey(s, c, v) for s in sorted(file) for c in sorted(file[s]) for v in sorted(file[s][c])]

    def _group(self, key: ViewKey) -> h5py.Group:
        if str(key) not in self._file:
            raise UserError(f"{self.path}: has no view '{key}'; it was made from other data; delete it and run again")
        return self._file[str(key)]


class DetectionStore(_ViewStore):
    """2D detections, one group a view."""

    kind = "detections"

    def write(self, key: ViewKey, detections: Detections) -> None:
        """Add the detections of a view."""
        group = self._file.create_group(str(key))
        for name in ("keypoints", "confidence", "boxes"):
            _put(group, name, getattr(detections, name).astype(np.float32))
        if detections.maps is None:
            group.attrs["map_size"] = detections.map_size
            return
        maps = group.create_group("maps")
        maps.attrs.update({"joints": detections.maps.joints, "size": detections.maps.size})
        for name in ("pointer", "pixel", "value"):
            _put(maps, name, getattr(detections.maps, name))

    def read(self, key: ViewKey) -> Detections:
        """Read the detections of a view; UserError where they have other joints or hold NaN."""
        group = self._group(key)
        detections = Detections(*(group[name][()] for name in ("keypoints", "confidence", "boxes")))
        if "maps" in group:
            detections.maps = _read_maps(group["maps"])
        else:
            detections.crop_size = int(group.attrs.get("map_size", 0))
        try:
            detections.check()
        except ValueError as error:
            raise UserError(f"{self.path}: '{key}': {error}; make it again") from error
        return detections


def _read_maps(group: h5py.Group) -> SparseMaps:
    arrays = (group[name][()] for name in ("pointer", "pixel", "value"))
    return SparseMaps(*arrays, joints=int(group.attrs["joints"]), size=int(group.attrs["size"]))


class PoseStore(_ViewStore):
    """3D poses (F, 17, 3), root-relative, camera frame, m; one group a view."""

    kind = "poses"

    def write(self, key: ViewKey, poses: np.ndarray) -> None:
        """Add the poses of a view."""
        _put(self._file.create_group(str(key)), "joints3d", poses.astype(np.float32))

    def read(self, key: ViewKey) -> np.ndarray:
        """Read the poses of a view."""
        return self._group(key)["joints3d"][()]
