"""What a licence holder puts under data/raw: where a reader's files are, and archives read and unpacked safely.

Nothing is written beside the archives: what is needed of them goes to the cache.
"""

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from isopose.errors import UserError
from isopose.files import atomic_folder

CACHE = Path(".cache/isopose")

MOST_MEMBERS = 1_000_000
"""Members an archive may have (Penn Action, the largest here, has about 170,000)."""

ASIDE = "reading from Python"
"""The use of parts that no workflow reads."""

MOST_BYTES = 8 << 30
"""Bytes that may be unpacked from one archive; images are read where they are."""


class Part(NamedTuple):
    """A file or folder that a reader reads; its module's ``FILES`` has them all.

    inner: its path under the dataset's folder, and in its archive, where a file without a folder is found at any depth;
    archive: what it comes in, or a pattern of that, or "" where it comes as it is; preferred: another path under the
    dataset's folder that is looked at first; use: what it is for, or "" if the labels need it; sample, count: of a
    folder, the pattern of the files in it, and how many there are; look: raises where a file, the first of a folder,
    has not the layout that the reader takes; checksum: SHA-256, where one is published; section: the source's ``part``
    that alone reads it, or "" for all; instead: a file under the dataset's folder that does without it, or "".
    """

    inner: str
    archive: str = ""
    preferred: str = ""
    use: str = ""
    sample: str = ""
    count: int = 1
    look: Callable[[Path], Any] | None = None
    checksum: str = ""
    section: str = ""
    instead: str = ""


class Member(NamedTuple):
    """A member of an archive; kind: file, folder or link (devices too)."""

    name: str
    size: int
    kind: str
    open: Callable[[], IO[bytes] | None]


def places(root: Path, part: Part) -> list[Path]:
    """Where a part is under a dataset's folder: unpacked, or else its archive; several where that is a pattern.

    Errors: UserError where the folder may not be read.
    """
    try:
        unpacked = [root / name for name in (part.preferred, part.inner) if name and (root / name).exists()]
        archives = sorted(root.glob(part.archive)) if part.archive else []
        return unpacked[:1] or [path for path in archives if path.is_file()]
    except PermissionError as error:
        raise UserError(
            f"{error.filename}: may not be read ({error.strerror}); expected the dataset's files; make it readable"
        ) from error


def listed(folder: Path, pattern: str) -> list[Path]:
    """Files of a folder by a pattern, sorted, but for those that systems leave, whose names begin with a dot."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def locate(root: Path, part: Part, cache: Path) -> Path:
    """A part, unpacked: where it is under the root, or else from its archive, in the cache."""
    found = places(root, part)
    if not found:
        raise UserError(
            f"{root / part.archive}: is missing; expected {part.archive} as downloaded (or {part.inner} unpacked) in "
            f"{root}; copy it there"
        )
    archive = found[0]
    if archive != root / part.archive:
        return archive
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
            for member in members(archive, inner):
                path = folder / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                copy_member(member, path)
    except UserError:
        raise
    except Exception as error:  # whatever a library raises on a broken archive becomes one line
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"{archive}: cannot be unpacked ({reason}); expected a whole zip or tar archive; download it again"
        ) from error
    return target


def copy_member(member: Member, path: Path) -> None:
    """Copy a member of an archive to a path; an error of the archive's library where it is broken or cut short."""
    with member.open() as source, path.open("wb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
    if path.stat().st_size != member.size:
        raise tarfile.ReadError(f"'{member.name}' ends early")


def read_content(path: Path, inner: str, limit: int) -> bytes:
    """The bytes of a file, or with ``inner`` of that member of an archive; UserError where they exceed the limit."""
    if not inner:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    else:
        with closing(members(path, inner)) as found:  # the archive is open as long as they are
            member = next(found, None)
            if member is None:
                raise UserError(f"{path}: has no {inner}; copy it from the source again")
            with member.open() as file:
                content = file.read(limit + 1)
    if len(content) > limit:
        raise UserError(f"{path}: {inner or 'the file'} has more than {limit} bytes; copy it from the source again")
    return content


def members(archive: Path, inner: str) -> Iterator[Member]:
    """The files at or under ``inner`` in a zip or tar, in its order.

    UserError for a member that leads out of the archive's folder, a link or a device among these files, or an archive
    of too many members or bytes; whatever its library raises for a broken one.
    """
    total = 0
    for count, member in enumerate(_all_members(archive)):
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or "\\" in member.name:
            raise UserError(_refusal(archive, f"its member {member.name[:80]!r} leads out of its folder"))
        total += member.size
        if count == MOST_MEMBERS:
            raise UserError(_refusal(archive, f"it has more than {MOST_MEMBERS} members"))
        if total > MOST_BYTES:
            raise UserError(_refusal(archive, f"it unpacks to more than {MOST_BYTES >> 30} GiB"))
        if member.kind == "folder" or not (PurePosixPath(inner) in (path, *path.parents) or path.name == inner):
            continue
        if member.kind != "file":
            raise UserError(_refusal(archive, f"its member {member.name[:80]!r} is a link or a device"))
        yield member._replace(name=str(path))


def _refusal(archive: Path, reason: str) -> str:
    return f"{archive}: is refused, {reason}; expected the archive as downloaded; download it again"


def _all_members(archive: Path) -> Iterator[Member]:
    if archive.suffix == ".zip" or zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                mode = info.external_attr >> 16
                kind = "folder" if info.is_dir() else "link" if stat.S_ISLNK(mode) else "file"
                yield Member(info.filename, info.file_size, kind, lambda info=info: file.open(info))
    else:
        with tarfile.open(archive) as file:
            for info in file:
                kind = "folder" if info.isdir() else "file" if info.isreg() else "link"
                yield Member(info.name, info.size, kind, lambda info=info: file.extractfile(info))
