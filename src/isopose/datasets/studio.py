"""Four cameras around a clip, like Human3.6M's: cam1 to cam4 at the corners of the room, looking at its middle."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isopose.camera import Camera, project, world_to_camera
from isopose.datasets.sources import generator

AZIMUTHS = {"cam1": 45.0, "cam2": 135.0, "cam3": 225.0, "cam4": 315.0}
"""Direction from the middle of the volume to each camera, degrees about the vertical from world x."""


@dataclass(frozen=True)
class Studio:
    """What the cameras are like: image side and focal length in px (Human3.6M: 1000 and 1145), height and least
    distance from the middle of the motion in m, least depth of any joint in m, share of the image kept free at its
    border, OpenCV's five distortion coefficients.
    """

    image_size: int = 1000
    focal: float = 1145.0
    height: float = 1.6
    distance: float = 5.0
    min_depth: float = 2.0
    margin: float = 0.04
    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0)


def place_cameras(
    joints: np.ndarray, names: Sequence[str], subject: str, seed: int, studio: Studio
) -> dict[str, Camera]:
    """Cameras around motion (F, 17, 3), m, world.

    Every subject has its own small shifts of azimuth (8 degrees), height (10 cm), distance (20 cm), focal length and
    centre (1 %), drawn from the seed. A camera is moved away until every joint is in the image and deep enough.
    """
    low, high = joints.reshape(-1, 3).min(axis=0), joints.reshape(-1, 3).max(axis=0)
    middle = (low + high) / 2
    cameras = {}
    for name in names:
        azimuth, height, distance, focal, cx, cy = generator("camera", seed, subject, name).uniform(-1, 1, 6)
        angle = np.deg2rad(AZIMUTHS[name] + 8 * azimuth)
        outward = np.array([np.cos(angle), np.sin(angle), 0.0])
        f, centre = studio.focal * (1 + 0.01 * focal), (studio.image_size - 1) / 2
        k = np.array([[f, 0, centre * (1 + 0.01 * cx)], [0, f, centre * (1 + 0.01 * cy)], [0, 0, 1]])
        metres = studio.distance + 0.2 * distance
        camera = _look_at(middle, outward, metres, low[2] + studio.height + 0.1 * height, k, studio)
        while not _sees(camera, joints, studio):
            metres *= 1.05
            camera = _look_at(middle, outward, metres, low[2] + studio.height + 0.1 * height, k, studio)
        cameras[name] = camera
    return cameras


def _look_at(
    target: np.ndarray, outward: np.ndarray, distance: float, height: float, k: np.ndarray, studio: Studio
) -> Camera:
    position = np.array([*(target + distance * outward)[:2], height])
    away = (target - position) / np.linalg.norm(target - position)
    right = np.cross(away, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(away, right), away])
    size = (studio.image_size, studio.image_size)
    return Camera(k, rotation, position, np.array(studio.distortion, float), size)


def _sees(camera: Camera, joints: np.ndarray, studio: Studio) -> bool:
    points = world_to_camera(joints, camera)
    if points[..., 2].min() < studio.min_depth:
        return False
    pixels = project(points, camera)
    border = studio.margin * studio.image_size
    return bool(pixels.min() >= border and pixels.max() <= studio.image_size - 1 - border)
