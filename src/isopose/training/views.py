"""Other views of the same motion: where a person and its heatmaps go when the camera moves round it (paper 3.4)."""

import torch
from torch import Tensor

from isopose.camera import check_before_camera
from isopose.models.embedding import MapEntries


def about_vertical(cameras: Tensor, angles: Tensor) -> Tensor:
    """Rotations (B, 3, 3), camera frame, by angles (B,), rad, about the world's vertical axis.

    cameras (B, 3, 3): world to camera; the world's z is up. Turning the person so is what a camera sees that goes
    round it the other way.
    """
    x, y, z = cameras[..., 2].unbind(-1)  # the vertical in the camera frame
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).view(-1, 3, 3)
    sine, cosine = angles.sin()[:, None, None], angles.cos()[:, None, None]
    return torch.eye(3) + sine * cross + (1 - cosine) * (cross @ cross)  # Rodrigues


def to_box(joints: Tensor, box: Tensor) -> Tensor:
    """Joints (B, T, K, 3), m, camera frame, as coordinates (B, T, K, 2) of the crop, which spans [-1, 1].

    box (B, T, 3): centre and side in normalised image coordinates (x / z, y / z). ValueError for a joint that is not
    before the camera.
    """
    check_before_camera("joints", joints)
    return 2 * (joints[..., :2] / joints[..., 2:] - box[..., None, :2]) / box[..., None, 2:]


def carried_boxes(box: Tensor, here: Tensor, there: Tensor) -> Tensor:
    """Boxes (B, T, 3) that lie round the joints there as box (B, T, 3) does round the joints here (B, T, K, 3).

    What the box's margin and its tracker's delay add stays, as shares of the extent of the person.
    """
    (centre, extent), (new_centre, new_extent) = (_extent(joints) for joints in (here, there))
    growth = new_extent / extent
    return torch.cat([new_centre + (box[..., :2] - centre) * growth, box[..., 2:] * growth], dim=-1)


def _extent(joints: Tensor) -> tuple[Tensor, Tensor]:
    """Centre (B, T, 2) and longer side (B, T, 1) of the projected joints' bounding box, normalised coordinates."""
    points = joints[..., :2] / joints[..., 2:]
    low, high = points.amin(-2), points.amax(-2)
    return (low + high) / 2, (high - low).amax(-1, keepdim=True)


def move_pixels(maps: MapEntries, offsets: Tensor, clips: Tensor) -> MapEntries:
    """Move each heatmap of the chosen clips by its offset (B, T, K, 2), map pixels, with bilinear weights.

    A pixel is shared among the four that it then lies between, so the same pixel may occur several times (their
    values add up); what leaves the map is dropped. clips (B,) bool.
    """
    chosen = clips[maps.map_index // offsets[0, ..., 0].numel()]
    still = (~chosen).nonzero()[:, 0]
    moving = chosen.nonzero()[:, 0]
    index, pixel, value = (part[moving] for part in (maps.map_index, maps.pixel, maps.value))
    position = torch.stack([pixel % maps.size, pixel // maps.size], dim=1) + offsets.flatten(0, 2)[index]
    corner = position.floor()
    rest = position - corner
    indices, pixels, values = [maps.map_index[still]], [maps.pixel[still]], [maps.value[still]]
    for right, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column, row = corner[:, 0].long() + right, corner[:, 1].long() + down
        weight = (rest[:, 0] if right else 1 - rest[:, 0]) * (rest[:, 1] if down else 1 - rest[:, 1])
        inside = (row >= 0) & (row < maps.size) & (column >= 0) & (column < maps.size) & (weight > 0)
        indices.append(index[inside])
        pixels.append((row * maps.size + column)[inside])
        values.append((value * weight)[inside])
    order = torch.argsort(torch.cat(indices), stable=True)
    return MapEntries(torch.cat(indices)[order], torch.cat(pixels)[order], torch.cat(values)[order], maps.size)
