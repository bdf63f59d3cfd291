"""Lifting written plainly: every frame from a window of its own, of which only the centre's pose is kept.

Windows go through the network in batches. Beyond the clip's ends its first and its last frame stand in.
"""

import numpy as np
import torch

from isopose.models.embedding import MapEntries, Observations
from isopose.models.lifter import OUTPUT_UNIT, observe
from isopose.skeleton import NUM_JOINTS

BATCH = 50


@torch.no_grad()
def by_window(model, detections, camera, frames):
    """Poses (len(frames), 17, 3) of the chosen frames; each window goes through the whole lifter."""
    clip, reach = observe(detections, camera, with_maps=False), model.tcn.reach
    poses = []
    for window in _windows(frames, reach, len(detections.boxes)):
        maps = _maps(detections, window)
        seen = Observations(clip.coordinates[0][window], clip.confidence[0][window], clip.box[0][window], maps)
        poses.append(model(seen)[:, reach])
    return torch.cat(poses).numpy()


@torch.no_grad()
def by_window_of_embeddings(model, detections, camera, frames):
    """The same, but each frame is embedded once, and a branch computes nothing beside the centre's pose."""
    seen, reach = observe(detections, camera, with_maps=True), model.tcn.reach
    embedded = torch.cat([model.embedding(seen), seen.box], dim=-1)[0]
    poses = []
    for window in _windows(frames, reach, len(embedded)):
        x = embedded[window].transpose(1, 2)
        features = [part(x[..., reach - part.reach : reach + part.reach + 1]) for part in model.tcn.branches]
        offsets = model.tcn.head(torch.cat(features, dim=1)).view(-1, NUM_JOINTS, 3)
        poses.append(model.mean_pose + OUTPUT_UNIT * offsets)
    poses = torch.cat(poses)
    return (poses - poses[:, :1]).numpy()


def _windows(frames, reach, count):
    """Batches of windows (B, 2 reach + 1): the frames that each shows."""
    windows = np.clip(frames[:, None] + np.arange(-reach, reach + 1), 0, count - 1)
    return np.array_split(windows, -(-len(windows) // BATCH))


def _maps(detections, window):
    frame, joint, pixel, value = detections.maps.entries(window.ravel())
    index = torch.from_numpy(frame * NUM_JOINTS + joint)
    return MapEntries(index, torch.from_numpy(pixel), torch.from_numpy(value), detections.map_size)
