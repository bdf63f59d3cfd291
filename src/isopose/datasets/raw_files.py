"""What a licence holder puts under data/raw: which files are there, and archives unpacked safely.

Nothing is written beside the archives: what is needed of them goes to the cache.
"""

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from isopose.errors import UserError
from isopose.files import atomic_folder

CACHE = Path(".cache/isopose")

MOST_MEMBERS = 1_000_000
"""Members an archive may have (Penn Action, the largest here, has about 170,000)."""

MOST_BYTES = 8 << 30
"""Bytes that may be unpacked from one archive; images are read where they are."""


class Part(NamedTuple):
    """A file or folder of a dataset (``inner``, a path under the root) and the archive it comes in; needed: to read
    the labels.
    """

    inner: str
    archive: str
    needed: bool = True


class Files(NamedTuple):
    """Paths that are there, and a line for each needed or useful part that is not."""

    found: list[Path]
    missing: list[str]


class _Member(NamedTuple):
    name: str
    size: int
    kind: str
    open: Callable[[], IO[bytes] | None]


def find(root: Path, parts: Sequence[Part]) -> Files:
    """Which parts of a dataset are under its folder, as archives or unpacked."""
    found, missing = [], []
    for part in parts:
        there = [root / name for name in (part.inner, part.archive) if (root / name).exists()]
        found += there[:1]
        if not there:
            use = "needed" if part.needed else "needed for images alone"
            missing.append(f"{root / part.archive} (or, unpacked, {part.inner}): is missing; {use}")
    return Files(found, missing)


def locate(root: Path, part: Part, cache: Path) -> Path:
    """A part, unpacked: where it is under the root, or else from its archive, in the cache."""
    if (root / part.inner).exists():
        return root / part.inner
    archive = root / part.archive
    if not archive.is_file():
        raise UserError(
            f"{archive}: is missing; expected {part.archive} as downloaded (or {part.inner} unpacked) in {root}; "
            f"copy it there"
        )
    place = unpack(archive, part.inner, cache) / part.inner
    if not place.exists():
        raise UserError(f"{archive}: has no {part.inner}; expected {part.archive} as downloaded; download it again")
    return place


def unpack(archive: Path, inner: str, cache: Path) -> Path:
    """Unpack what lies at or under ``inner`` in a zip or tar to the cache, once; return the folder.

    Regular files alone, none with a path that leads out; UserError for anything else, or for too much.
    """
    status = archive.stat()
    target = cache / f"{archive.name}-{inner.replace('/', '_')}-{status.st_size:x}-{status.st_mtime_ns:x}"
    if target.is_dir():
        return target
    try:
        with atomic_folder(target) as folder:
            _unpack(archive, inner, folder)
    except UserError:
        raise
    except Exception as error:  # whatever a library raises on a broken archive becomes one line
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"{archive}: cannot be unpacked ({reason}); expected a whole zip or tar archive; download it again"
        ) from error
    return target


def _unpack(archive: Path, inner: str, folder: Path) -> None:
    total = 0
    for count, member in enumerate(_members(archive)):
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or "\\" in member.name:
            raise UserError(_refusal(archive, f"its member {member.name[:80]!r} leads out of its folder"))
        if count == MOST_MEMBERS:
            raise UserError(_refusal(archive, f"it has more than {MOST_MEMBERS} members"))
        if PurePosixPath(inner) not in (path, *path.parents) or member.kind == "folder":
            continue
        if member.kind != "file":
            raise UserError(_refusal(archive, f"its member {member.name[:80]!r} is a link or a device"))
        total += member.size
        if total > MOST_BYTES:
            raise UserError(_refusal(archive, f"it unpacks to more than {MOST_BYTES >> 30} GiB"))
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with member.open() as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)


def _refusal(archive: Path, reason: str) -> str:
    return f"{archive}: is refused, {reason}; expected the archive as downloaded; download it again"


def _members(archive: Path) -> Iterator[_Member]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                mode = info.external_attr >> 16
                kind = "folder" if info.is_dir() else "link" if stat.S_ISLNK(mode) else "file"
                yield _Member(info.filename, info.file_size, kind, lambda info=info: file.open(info))
    else:
        with tarfile.open(archive) as file:
            for info in file:
                kind = "folder" if info.isdir() else "file" if info.isreg() else "link"
                yield _Member(info.name, info.size, kind, lambda info=info: file.extractfile(info))
