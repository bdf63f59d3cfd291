"""Human3.6M's metadata.xml, from the official code archive: the cameras, and which file holds which trial.

docs/datasets/human36m.md says what each convention here rests on.
"""

import re
import tarfile
import xml.etree.ElementTree as ET
import zipfile
import zlib
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from isopose.camera import Camera
from isopose.datasets.raw_files import Part, members, places, read_content
from isopose.errors import UserError

MAX_BYTES = 8 * 2**20

_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, ValueError, RuntimeError)
"""What the libraries raise for a broken archive (NotImplementedError is a RuntimeError)."""

DEFAULT_SIZES = ((1000, 1002), (1000, 1000), (1000, 1000), (1000, 1002))
"""Width and height of the four cameras' images, px, where the file does not say."""

_SUBJECTS = tuple(f"S{number}" for number in range(1, 12))
_TRIALS = tuple(product(range(2, 17), (1, 2)))
"""Action and subaction; action 1 is _ALL, a recording of no action."""

_OUTER, _INNER = 6, 9
"""Numbers in w0 for one camera of one subject (angles, centre) and for one camera (focal, centre, k, p)."""


class Trial(NamedTuple):
    """One recording: name is that of its files; subaction is 1 or 2."""

    name: str
    subaction: int


class Metadata(NamedTuple):
    """trials of each subject; cameras of each subject by their id, ``54138969`` and so on."""

    trials: Mapping[str, tuple[Trial, ...]]
    cameras: Mapping[str, Mapping[str, Camera]]


def read_metadata(root: Path) -> Metadata:
    """Read metadata.xml of ``root``, or of the first .zip there that holds one. UserError for none, or a broken one."""
    for path in places(root, FILE):
        archived = path.suffix == ".zip"
        if not archived or _holds_metadata(path):
            return parse(_content(path, FILE.inner if archived else ""), path)
    raise UserError(
        f"{root}: holds no metadata.xml and no .zip with one; expected that of Human3.6M's code archive; "
        "download the code and put its .zip there"
    )


def look(path: Path) -> None:
    """Read metadata.xml by itself."""
    parse(_content(path), path)


FILE = Part("metadata.xml", "*.zip", look=look)


def parse(content: bytes, path: Path) -> Metadata:
    """The metadata in the bytes of the file ``path``."""
    try:
        text = content.decode("utf-8")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ValueError("it defines entities")
        tree = ET.fromstring(text)
        rows = [[(cell.text or "").strip() for cell in row] for row in _element(tree, "mapping")]
        ids = [(item.text or "").strip() for item in _element(tree, "dbcameras/index2id")]
        numbers = np.array([float(number) for number in re.split(r"[\s,]+", _text(tree, "w0").strip("[] \n"))])
        return Metadata(_trials(rows), _cameras(numbers, ids, _sizes(rows)))
    except (ET.ParseError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: cannot be read ({reason}); expected metadata.xml of Human3.6M's code archive; download it again"
        ) from error


def _element(tree: ET.Element, name: str) -> ET.Element:
    found = tree.find(name)
    if found is None:
        raise ValueError(f"it has no element {name}")
    return found


def _text(tree: ET.Element, name: str) -> str:
    return _element(tree, name).text or ""


def _trials(rows: list[list[str]]) -> dict[str, tuple[Trial, ...]]:
    """The rows ``action, subaction, file name of S1, ..., of S11``."""
    if not rows or tuple(rows[0][2:]) != _SUBJECTS:
        raise ValueError("the first row of mapping does not name S1 to S11")
    named = {(row[0], row[1]): row[2:] for row in rows[1:] if len(row) == len(_SUBJECTS) + 2}
    trials: dict[str, list[Trial]] = {subject: [] for subject in _SUBJECTS}
    for action, subaction in _TRIALS:
        names = named.get((str(action), str(subaction)))
        if names is None:
            raise ValueError(f"mapping has no row of action {action}, subaction {subaction}")
        for subject, name in zip(_SUBJECTS, names, strict=True):
            if not re.fullmatch(r"[A-Za-z]+( \d)?", name):
                raise ValueError(f"mapping has a file name {name!r:.40}")
            trials[subject].append(Trial(name, subaction))
    return {subject: tuple(found) for subject, found in trials.items()}


def _sizes(rows: list[list[str]]) -> tuple[tuple[int, int], ...]:
    """From the row without action and subaction, whose cells are ``[1000 1002;1000 1000;...]``: the first one."""
    cells = [row[2] for row in rows if len(row) > 2 and not row[0] and not row[1] and row[2].startswith("[")]
    if not cells:
        return DEFAULT_SIZES
    numbers = [int(number) for number in re.findall(r"\d+", cells[0])]
    if len(numbers) != 8 or not all(1 <= number <= 10_000 for number in numbers):
        raise ValueError(f"mapping has image sizes {cells[0]!r:.60}")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _cameras(numbers: np.ndarray, ids: list[str], sizes: tuple[tuple[int, int], ...]) -> dict[str, dict[str, Camera]]:
    """From w0: camera by camera the eleven subjects' angles and centres (rad, mm), then the cameras' intrinsics."""
    if len(ids) != 4 or len(set(ids)) != 4 or not all(re.fullmatch(r"\d{8}", name) for name in ids):
        raise ValueError("index2id does not hold four cameras' numbers")
    outer = len(ids) * len(_SUBJECTS) * _OUTER
    if len(numbers) != outer + len(ids) * _INNER or not np.isfinite(numbers).all():
        raise ValueError(f"w0 holds {len(numbers)} numbers, or some that are not finite, not the 300 of the cameras")
    placed = numbers[:outer].reshape(len(ids), len(_SUBJECTS), _OUTER)
    inner = numbers[outer:].reshape(len(ids), _INNER)
    if (inner[:, :2] <= 0).any():
        raise ValueError("w0 has a focal length that is not above zero")
    return {
        subject: {name: camera(placed[index, number], inner[index], sizes[index]) for index, name in enumerate(ids)}
        for number, subject in enumerate(_SUBJECTS)
    }


def camera(outer: np.ndarray, inner: np.ndarray, size: tuple[int, int]) -> Camera:
    """Camera of 6 numbers (angles, rad; centre, mm) and 9 (focal fx, fy and centre, px; k1, k2, k3; p1, p2).

    R = Rx Ry Rz. The official projection has half of OpenCV's tangential cross terms, ``x (p1 y + p2 x) + p2 r^2``,
    which is OpenCV's model with p/2 and thin prism s1 = p2/2, s3 = p1/2, exactly.
    """
    fx, fy, cx, cy, k1, k2, k3, p1, p2 = inner
    rotation = Rotation.from_euler("XYZ", outer[:3]).as_matrix()
    distortion = np.array([k1, k2, p1 / 2, p2 / 2, k3, 0, 0, 0, p2 / 2, 0, p1 / 2, 0])
    return Camera(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), rotation, outer[3:] / 1000, distortion, size)


def _holds_metadata(archive: Path) -> bool:
    try:
        return any(True for _ in members(archive, FILE.inner))
    except (*_BROKEN, UserError):
        return False


def _content(path: Path, inner: str = "") -> bytes:
    try:
        return read_content(path, inner, MAX_BYTES)
    except _BROKEN as error:
        raise UserError(f"{path}: cannot be read ({error}); expected the code archive; download it again") from error
