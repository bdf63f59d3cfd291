"""What every motion source is asked for, how its randomness is drawn, and how an archive of a mirror is opened."""

import hashlib
import importlib
import lzma
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from isopose.errors import UserError
from isopose.files import atomic_folder, sha256

MIRROR_VARIABLE = "ISOPOSE_DATA_MIRROR"


@dataclass(frozen=True)
class Request:
    """The clips wanted from a source.

    fps: frames a second of the clips; subjects: names, or None for all; actions: names, or None for all; speeds:
    playback speeds, one clip each; max_seconds: longer clips keep their middle (None: no limit); seed: of all chance;
    clips_per_action, seconds: how much a generator makes; mirror: folder with the archives, or None; cache: where
    archives are extracted and downloads kept.
    """

    fps: float
    subjects: Sequence[str] | None
    actions: Sequence[str] | None
    speeds: Sequence[float]
    max_seconds: float | None
    seed: int
    clips_per_action: int | None = None
    seconds: float | None = None
    mirror: Path | None = None
    cache: Path = Path(".cache/isopose")


def reader_module(reader: str) -> ModuleType:
    """The module that reads a source, imported by its name: who imports this module does not depend on all readers."""
    return importlib.import_module(f"isopose.datasets.{reader}")


def derive_seed(*parts: object) -> int:
    """A 31-bit seed that depends on every part and on nothing else (Python's own hash differs between runs)."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def generator(*parts: object) -> np.random.Generator:
    """The random generator that belongs to these parts, say ``("camera", seed, subject)``."""
    return np.random.default_rng(derive_seed(*parts))


def clip_id(name: str, speed: float) -> str:
    """Name of a clip played at a speed: ``13_18`` or ``13_18@2.0``."""
    return name if speed == 1.0 else f"{name}@{float(speed)}"


def middle(frames: int, fps: float, max_seconds: float | None) -> slice:
    """The middle ``max_seconds`` of a clip."""
    keep = frames if max_seconds is None else min(frames, max(1, round(max_seconds * fps)))
    start = (frames - keep) // 2
    return slice(start, start + keep)


def runs(valid: np.ndarray) -> list[slice]:
    """The stretches of true values in valid (F,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], valid, [False]]).astype(np.int8)))
    return [slice(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def check_known(wanted: Sequence[str] | None, known: Sequence[str], what: str, source: str) -> None:
    """Refuse names that a source does not have."""
    for name in wanted or ():
        if name not in known:
            raise UserError(f"{source}: has no {what} '{name}'; expected one of {', '.join(sorted(known))}")


def extract_archive(mirror: Path, name: str, checksum: str, cache: Path) -> Path:
    """Extract ``mirror/name`` (tar.xz) once and return the folder.

    The archive's SHA-256 is checked first, so a truncated or altered one never reaches the reader; xz is sequential,
    so everything is extracted, beside the final name, and renamed when whole.
    """
    target = cache / f"{Path(name).name.removesuffix('.tar.xz')}-{checksum[:12]}"
    if target.is_dir():
        return target
    archive = mirror / name
    if not archive.is_file():
        raise UserError(
            f"{archive}: is missing; expected {name} in the folder that {MIRROR_VARIABLE} names; "
            f"copy it there, or set {MIRROR_VARIABLE} to a folder that holds it"
        )
    check_file(archive, checksum, "copy it to the mirror again")
    try:
        with atomic_folder(target) as temporary, tarfile.open(archive, "r:xz") as tar:
            tar.extractall(temporary, filter="data")
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise UserError(
            f"{archive}: cannot be unpacked ({error}); expected a tar.xz; copy it to the mirror again"
        ) from error
    return target


def check_file(path: Path, checksum: str, advice: str) -> None:
    """Refuse a file that is missing or whose SHA-256 differs from the recorded one; advice: what to do then."""
    if not path.is_file():
        raise UserError(f"{path}: is missing; expected a file of SHA-256 {checksum[:16]}…; {advice}")
    found = sha256(path)
    if found != checksum:
        raise UserError(f"{path}: SHA-256 is {found[:16]}…; expected {checksum[:16]}…: truncated or altered; {advice}")


def check_extracted(files: Mapping[Path, str], folder: Path) -> None:
    """Check files that were extracted to a folder, given with their checksums."""
    for path, checksum in files.items():
        check_file(path, checksum, f"delete the folder {folder} and run again: it is extracted anew")


def read_checksums(path: Path) -> Mapping[str, str]:
    """Read a SHA256SUMS file: path relative to it -> checksum."""
    if not path.is_file():
        raise UserError(f"{path}: is missing; expected the archive's checksums; delete its folder and run again")
    lines = (line.split(maxsplit=1) for line in path.read_text().splitlines() if line.strip())
    return {name.strip().removeprefix("./"): checksum for checksum, name in lines}
