"""Reads marker files, in a worker: C3D (c3d.org's manual), and the .mat that HumanEva's toolbox saves of it.

Both give points (F, N, 3) in the file's unit, zero where one was not seen, and labels (N,), prefixes included. C3D is
read as computers with Intel's byte order write it.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from isopose.datasets.worker import Arrays
from isopose.errors import UserError

BLOCK = 512
INTEL = 84
_KEY = 80
MAX_BYTES = 2**28


def read_c3d(path: Path) -> Arrays:
    """The points and labels of a C3D file."""
    size = path.stat().st_size
    if not BLOCK <= size <= MAX_BYTES:
        raise UserError(f"{path}: has {size} bytes; expected a C3D file of {BLOCK} to {MAX_BYTES}")
    data = path.read_bytes()
    if data[1] != _KEY:
        raise UserError(f"{path}: is no C3D file: its second byte is {data[1]}; expected {_KEY}")
    section = (data[0] - 1) * BLOCK
    processor = struct.unpack_from("<B", data, section + 3)[0]
    if processor != INTEL:
        raise UserError(f"{path}: is of processor type {processor}; expected {INTEL} (Intel); convert it")
    count, analog, first, last, _, scale, block = struct.unpack_from("<HHHHHfH", data, 2)
    labels = _c3d_labels(data, section)
    if len(labels) < count:
        raise UserError(f"{path}: names {len(labels)} of its {count} points; expected POINT:LABELS for each")
    kind = np.dtype("<f4" if scale < 0 else "<i2")
    frames, width = last - first + 1, 4 * count + analog
    if count == 0 or frames < 1 or (block - 1) * BLOCK + frames * width * kind.itemsize > size:
        raise UserError(f"{path}: is cut off: it says {frames} frames of {count} points; copy it from the source again")
    values = np.frombuffer(data, kind, frames * width, (block - 1) * BLOCK).reshape(frames, width)
    points = values[:, : 4 * count].reshape(frames, count, 4)[..., :3].astype(np.float64)
    return {"points": points if scale < 0 else points * scale, "labels": np.array(labels[:count])}


def _c3d_labels(data: bytes, section: int) -> list[str]:
    """POINT:LABELS of the parameter section."""
    groups: dict[int, bytes] = {}
    found: dict[int, list[str]] = {}
    for number, name, content in _records(data, section + 4):
        if number < 0:
            groups[-number] = name
        elif name == b"LABELS" and content[:2] == b"\xff\x02":  # characters, two axes: length and number
            length, count = content[2], content[3]
            words = (content[4 + length * i : 4 + length * (i + 1)] for i in range(count))
            found[number] = [word.decode("latin-1").strip() for word in words]
    return next((labels for number, labels in found.items() if groups.get(number) == b"POINT"), [])


def _records(data: bytes, position: int) -> Iterator[tuple[int, bytes, bytes]]:
    """Group number (negative: of a group itself), name and content of each record."""
    while True:
        length, number = struct.unpack_from("<bb", data, position)
        length = abs(length)  # negative: locked
        if length == 0 or number == 0:
            return
        name = data[position + 2 : position + 2 + length]
        start = position + 2 + length
        offset = struct.unpack_from("<H", data, start)[0]
        yield number, name.upper(), data[start + 2 : start + offset]
        if offset < 2:  # the last record may say 0
            return
        position = start + offset


def read_mat(path: Path) -> Arrays:
    """The points and labels of a file that @mocap_stream/mocap_stream.m saved: Markers and ParameterGroup."""
    from scipy.io import loadmat

    content = loadmat(path, appendmat=False, variable_names=["Markers", "ParameterGroup"])
    points, groups = content.get("Markers"), content.get("ParameterGroup")
    if points is None or groups is None:
        raise UserError(f"{path}: lacks Markers or ParameterGroup; expected both, as the toolbox saves them")
    if points.ndim != 3 or points.shape[2] != 3 or points.dtype.kind != "f" or not points.size:
        raise UserError(f"{path}: Markers is {points.shape} of {points.dtype}; expected (frames, markers, 3) numbers")
    labels = _mat_labels(groups)
    if len(labels) < points.shape[1]:
        raise UserError(f"{path}: names {len(labels)} of its {points.shape[1]} markers; expected POINT, LABELS")
    return {"points": points.astype(np.float64), "labels": np.array(labels[: points.shape[1]])}


def _mat_labels(groups: np.ndarray) -> list[str]:
    """ParameterGroup(POINT).Parameter(LABELS).data, a cell array of texts."""
    for group in groups.ravel():
        if _text(group["name"]) == "POINT":
            for parameter in group["Parameter"].ravel():
                if _text(parameter["name"]) == "LABELS":
                    return [_text(cell) for cell in parameter["data"].ravel()]
    return []


def _text(value: Any) -> str:
    while isinstance(value, np.ndarray) and value.size:
        value = value.ravel()[0]
    return value.strip() if isinstance(value, str) else ""
