"""What reads Human3.6M's binary files; runs inside :class:`isopose.datasets.worker.Worker` and nowhere else.

CDF by cdflib. Of the community's .npz, which hold a pickled dict, only dicts, lists and plain arrays: the pickle gets
no class and no function but those below, which call nothing of what the file names.
"""

import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import numpy as np

from isopose.errors import UserError

MAX_FRAMES = 100_000
"""Of one trial: half an hour."""

MAX_NPZ_BYTES = 2**30
"""Of one array, unpacked; the poses of the seven subjects are 0.2 GB."""


def read_cdf(path: Path, columns: int) -> dict[str, np.ndarray]:
    """``pose`` (F, columns): the one record of the variable Pose, as stored (float32 or float64)."""
    import cdflib

    pose = np.asarray(cdflib.CDF(path).varget("Pose"))
    expected = f"expected one record of (F, {columns}) floats"
    if pose.ndim != 3 or pose.shape[0] != 1 or pose.shape[2] != columns or not 0 < pose.shape[1] <= MAX_FRAMES:
        raise UserError(f"{path}: Pose is {pose.shape}; {expected}; download it again")
    if pose.dtype.kind != "f":
        raise UserError(f"{path}: Pose is of {pose.dtype}; {expected}; download it again")
    return {"pose": pose[0]}


def read_npz(path: Path, name: str, subject: str) -> dict[str, np.ndarray]:
    """The arrays of one subject in an .npz of the layout ``{subject: {trial: array or list of arrays}}``.

    Named ``<trial>``, or ``<trial>/<index>`` where the trial has a list.
    """
    tree = _unpickle(path, name)
    if not isinstance(tree, dict) or not isinstance(tree.get(subject), dict):
        raise UserError(f"{path}: {name} has no trials of {subject}; expected a dict of subjects; download it again")
    return {key: array for trial, value in tree[subject].items() for key, array in _arrays(path, trial, value)}


def read_npz_symmetry(path: Path) -> dict[str, np.ndarray]:
    """``left`` and ``right``: the indices of the left and right joints that an .npz names, or nothing of one without.

    From ``metadata``, a dict with ``keypoints_symmetry``: data/data_utils.py of VideoPose3D.
    """
    with zipfile.ZipFile(path) as archive:
        if "metadata.npy" not in archive.namelist():
            return {}
    metadata = _unpickle(path, "metadata")
    sides = metadata.get("keypoints_symmetry") if isinstance(metadata, dict) else None
    sides = [np.asarray(_plain(side)) for side in sides] if isinstance(sides, list | tuple) else []
    if len(sides) != 2 or any(side.ndim != 1 or side.dtype.kind not in "iu" for side in sides):
        raise UserError(f"{path}: metadata has no keypoints_symmetry, two lists of joints; download it again")
    return {"left": sides[0], "right": sides[1]}


def _arrays(path: Path, trial: Any, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    if not isinstance(trial, str) or not re.fullmatch(r"\w+( \d)?", trial):
        raise UserError(f"{path}: has a trial {trial!r:.40}; expected names as 'Eating 1'; download it again")
    value = _plain(value)
    several = isinstance(value, list)
    for index, item in enumerate(value if several else [value]):
        array = _plain(item)
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
            raise UserError(f"{path}: trial {trial} holds no floats; expected an array of them; download it again")
        yield f"{trial}/{index}" if several else trial, array


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, _Array) else value


def _unpickle(path: Path, name: str) -> Any:
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{name}.npy")
        if info.file_size > MAX_NPZ_BYTES:
            raise UserError(f"{path}: {name} is {info.file_size} bytes; expected at most {MAX_NPZ_BYTES}")
        with archive.open(info) as file:
            shape, dtype = _header(file)
            if shape != () or dtype.kind != "O":
                raise UserError(f"{path}: {name} is {dtype} {shape}; expected one pickled dict; download it again")
            return _plain(_Unpickler(file).load())[0]


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


class _Dtype:
    """Stands for numpy.dtype: plain numbers, and object as the dtype of lists."""

    def __init__(self, code: str, *_: Any) -> None:
        if not re.fullmatch(r"[biuf]\d|O8?", code):
            raise pickle.UnpicklingError(f"an array of {code!r:.40}")
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("an array of a structured type")
        self.order = state[1]


class _Array:
    """Stands for numpy.ndarray; ``value`` is the array, or the list of what an array of objects holds."""

    value: Any = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, content = state
        if dtype.code.startswith("O"):
            if not isinstance(content, list):
                raise pickle.UnpicklingError("an array of objects without their list")
            self.value = content
        else:
            flat = np.frombuffer(content, np.dtype(dtype.order + dtype.code))
            self.value = flat.reshape(shape, order="F" if fortran else "C")


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode(text: str, _: str) -> bytes:
    """Stands for _codecs.encode, by which old pickles write bytes."""
    return text.encode("latin1")


_ALLOWED = MappingProxyType(
    {
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        ("_codecs", "encode"): _encode,
    }
)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module.replace("numpy._core", "numpy.core"), name]
        except KeyError:
            raise pickle.UnpicklingError(f"its pickle asks for {module}.{name}"[:200]) from None
