"""Files written whole or not at all, and their checksums."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` when the block ends well, else remove it."""
    temporary = _temporary(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        _remove(temporary)


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """As :func:`atomic_path`, for a folder: yield an empty one, which becomes ``path`` unless that is there already."""
    temporary = _temporary(path)
    _remove(temporary)
    temporary.mkdir()
    try:
        yield temporary
        try:
            temporary.rename(path)
        except OSError:
            if not Path(path).is_dir():  # else another job was first, with the same bytes
                raise
    finally:
        _remove(temporary)


def _temporary(path: Path | str) -> Path:
    """A name beside ``path`` for this process alone; what killed processes left of ``path`` is removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = re.compile(rf"\.{re.escape(path.stem)}\.(\d+){re.escape(path.suffix)}")
    for other in path.parent.iterdir():
        found = name.fullmatch(other.name)
        if found and not _is_running(int(found[1])):
            _remove(other)
    return path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # someone else's
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def md5(path: Path | str) -> str:
    """Hexadecimal MD5 of a file's bytes: what DVC knows files by."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def sha256(path: Path | str) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
