"""The lifter: an embedding and a temporal network, from 2D detections of a clip to its 3D poses."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isopose.arrays import check_array
from isopose.camera import Camera
from isopose.crops import image_to_crop
from isopose.datasets.store import Detections
from isopose.errors import UserError
from isopose.models.dilated_tcn import DilatedTCN
from isopose.models.embedding import MapEntries, Observations, build_embedding
from isopose.models.tcn import MultiStrideTCN
from isopose.models.weights import load_model, save_weights
from isopose.skeleton import MIRROR, NUM_JOINTS

ARCHITECTURES = ("multi_stride", "dilated")

BOX_SIZE = 3

OUTPUT_UNIT = 0.1
"""The network answers in decimetres: in metres a step of Adam would move a pose by too much at useful rates."""


class Lifter(nn.Module):
    """Observations of clips (B, T) to root-relative poses (B, T, 17, 3), m, camera frame, pelvis at zero.

    ``config`` is a plain dict, kept in the weight file's metadata: architecture (multi_stride or dilated),
    embedding {kind, width, channels}, box (whether the crop's place in the image is an input), strides, frames,
    width, max_layers, dropout, map_size. The network predicts the difference from ``mean_pose``, the mean of the
    training poses.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = dict(config)
        self.embedding = build_embedding(map_size=config["map_size"], **config["embedding"])
        inputs = self.embedding.width + BOX_SIZE * config["box"]
        common = {key: config[key] for key in ("width", "frames", "max_layers", "dropout")}
        if config["architecture"] == "multi_stride":
            self.tcn: MultiStrideTCN | DilatedTCN = MultiStrideTCN(inputs, strides=config["strides"], **common)
        elif config["architecture"] == "dilated":
            self.tcn = DilatedTCN(inputs, **common)
        else:
            known = ", ".join(ARCHITECTURES)
            raise UserError(f"architecture '{config['architecture']}' is unknown; expected one of {known}")
        self.register_buffer("mean_pose", torch.zeros(NUM_JOINTS, 3))

    @property
    def uses_maps(self) -> bool:
        """Whether the lifter looks at the heatmaps and not only at the keypoints."""
        return self.embedding.uses_maps

    def forward(self, observations: Observations) -> Tensor:
        """Poses of every frame of every clip; ValueError for another number of joints."""
        check_array("observations.coordinates", observations.coordinates, ("B", "T", NUM_JOINTS, 2))
        check_array("observations.confidence", observations.confidence, ("B", "T", NUM_JOINTS))
        return self.poses(self.embedding(observations), observations.box)

    def poses(self, embedded: Tensor, box: Tensor) -> Tensor:
        """Poses (B, T, 17, 3), m, from the frames' vectors (B, T, width of f_E) and their boxes (B, T, 3)."""
        x = torch.cat([embedded, box], dim=-1) if self.config["box"] else embedded
        poses = self.mean_pose + OUTPUT_UNIT * self.tcn(x)
        return poses - poses[..., :1, :]

    def save(self, path: Path) -> None:
        """Write weights and configuration to a safetensors file."""
        save_weights(path, self, "lifter", self.config)

    @classmethod
    def load(cls, path: Path) -> "Lifter":
        """Read a lifter, ready for inference."""
        return load_model(path, "lifter", cls)


def normalised_boxes(boxes: np.ndarray, camera: Camera) -> np.ndarray:
    """Boxes (F, 3), px, as centre and side in normalised image coordinates (x / z, y / z) of the camera."""
    focal, centre = camera.K[[0, 1], [0, 1]], camera.K[:2, 2]
    place = (boxes[:, :2] - centre) / focal
    return np.concatenate([place, boxes[:, 2:] / focal[0]], axis=1).astype(np.float32)


def to_crop(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Image pixels (F, J, 2) to crop coordinates in which the crop spans [-1, 1]."""
    return (2 * image_to_crop(points, boxes, 1)).astype(np.float32)


def map_to_crop(points: np.ndarray, size: int) -> np.ndarray:
    """Pixels (F, J, 2) of heatmaps of this size to crop coordinates in which the crop spans [-1, 1]."""
    return ((2 * points + 1) / size - 1).astype(np.float32)


def observe(detections: Detections, camera: Camera, with_maps: bool) -> Observations:
    """The lifter's input for one whole view, as a batch of one clip; ValueError for maps that it does not have."""
    maps = None
    if with_maps:
        frame, joint, pixel, value = detections.heatmaps().entries()
        index = torch.from_numpy(frame * NUM_JOINTS + joint)
        maps = MapEntries(index, torch.from_numpy(pixel), torch.from_numpy(value), detections.map_size)
    return Observations(
        torch.from_numpy(map_to_crop(detections.keypoints, detections.map_size))[None],
        torch.from_numpy(detections.confidence)[None],
        torch.from_numpy(normalised_boxes(detections.boxes, camera))[None],
        maps,
    )


def mirror_observations(observations: Observations) -> Observations:
    """What would be seen of the mirror image of the scene: x negated, left and right exchanged."""
    order = list(MIRROR)
    negate = observations.box.new_tensor([-1, 1])
    maps = observations.maps
    if maps is not None:
        mirrored_map = torch.arange(observations.confidence.numel()).view(-1, NUM_JOINTS)[:, order].flatten()
        mirrored_pixel = torch.arange(maps.size**2).view(maps.size, maps.size).flip(1).flatten()
        maps = replace(
            maps,
            map_index=mirrored_map.to(maps.pixel.device).index_select(0, maps.map_index),
            pixel=mirrored_pixel.to(maps.pixel.device).index_select(0, maps.pixel),
        )
    return Observations(
        observations.coordinates[..., order, :] * negate,
        observations.confidence[..., order],
        torch.cat([-observations.box[..., :1], observations.box[..., 1:]], dim=-1),
        maps,
    )


def mirror_pose(poses: Tensor) -> Tensor:
    """Mirror image of poses (..., 17, 3): x negated, left and right exchanged."""
    return poses[..., list(MIRROR), :] * poses.new_tensor([-1, 1, 1])


@torch.no_grad()
def lift(model: Lifter, detections: Detections, camera: Camera, flip: bool = False) -> np.ndarray:
    """Lift a whole view in one pass: root-relative poses (F, 17, 3), m, camera frame.

    flip averages the result with that of the mirrored input, mirrored back. Detections that hold NaN, or whose maps
    the lifter needs and are not there or of another size than it was trained for, are refused (ValueError).
    """
    _check_detections(model, detections)
    model.eval()
    observations = observe(detections, camera, model.uses_maps).to(model.mean_pose.device)
    poses = model(observations)
    if flip:
        poses = (poses + mirror_pose(model(mirror_observations(observations)))) / 2
    return poses[0].cpu().numpy()


def _check_detections(model: Lifter, detections: Detections) -> None:
    detections.check()
    if not model.uses_maps:
        return
    maps = detections.heatmaps()
    found, size = (maps.frames, maps.joints, maps.size, maps.size), model.config["map_size"]
    expected = (len(detections.boxes), NUM_JOINTS, size, size)
    if found != expected:
        raise ValueError(f"detections.maps: shape {found}; expected {expected}, those that the lifter was trained for")
