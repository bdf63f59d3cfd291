"""Checksums of a licensed dataset's label files: what Snakemake sees of them, wherever they lie.

It would know the files themselves by their paths: to move them, or to have them elsewhere on another machine, would
rerun all that was made from them.
"""

import json
from collections.abc import Collection, Iterable
from pathlib import Path

from isopose.datasets.raw_files import ASIDE, CACHE, Part, listed, places
from isopose.datasets.sources import reader_module
from isopose.errors import UserError
from isopose.files import sha256, write_text
from isopose.stage import track_progress

_SHOWN_FROM = 100 << 20  # bytes to read that take long enough for a progress bar


def refresh(reader: str, raw: Path, cache: Path = CACHE, sections: Collection[str] = ()) -> Path:
    """Write the SHA-256 of each label file by its path under the dataset's folder, unless this stands already.

    sections: the ``part`` of each source that reads the dataset; a label file that only another would read is left out.
    A file whose size and time of change are those of last time is not read again. Returns the JSON file. Errors:
    UserError where a label file cannot be read.
    """
    root, path = raw / reader, path_of(reader, cache)
    known_file = path.with_suffix(".known.json")
    known = _read(known_file)
    status = {file: file.stat() for file in label_files(root, reader_module(reader).FILES, sections)}
    names = {file: f"{file.absolute()} {found.st_size} {found.st_mtime_ns}" for file, found in status.items()}
    unread = [file for file in status if names[file] not in known]
    size = sum(status[file].st_size for file in unread)
    for file in track_progress(unread, f"checksums of {reader}") if size > _SHOWN_FROM else unread:
        known[names[file]] = _checksum(file)
    now = {file.relative_to(root).as_posix(): known[name] for file, name in names.items()}
    if unread:
        write_text(known_file, json.dumps({name: known[name] for name in names.values()}))
    if not path.exists() or _read(path) != now:
        write_text(path, json.dumps(now, indent=1, sort_keys=True) + "\n")
    return path


def path_of(reader: str, cache: Path = CACHE) -> Path:
    """Where a dataset's checksums are."""
    return cache / "checksums" / f"{reader}.json"


def label_files(root: Path, parts: Iterable[Part], sections: Collection[str] = ()) -> list[Path]:
    """The files of a dataset that are there and that clips are made from; of an unpacked folder those of its kind.

    sections: as in :func:`refresh`; without any, those of all.

    Errors: UserError where a folder cannot be read.
    """
    found = {
        part: places(root, part) or [file for file in [root / part.instead] if file.is_file()]
        for part in parts
        if _counts(part, sections)
    }
    try:
        files = [file for part, places_ in found.items() for place in places_ for file in _files(place, part)]
    except OSError as error:
        raise UserError(_unreadable(Path(error.filename or root), error)) from error
    return sorted(set(files))


def _counts(part: Part, sections: Collection[str]) -> bool:
    return part.use not in ("images", ASIDE) and (not sections or not part.section or part.section in sections)


def _files(place: Path, part: Part) -> list[Path]:
    if not place.is_dir():
        return [place]
    next(place.iterdir(), None)  # glob passes over what it may not read
    return [file for file in listed(place, part.sample or "**/*") if file.is_file()]


def _checksum(file: Path) -> str:
    try:
        return sha256(file)
    except OSError as error:
        raise UserError(_unreadable(file, error)) from error


def _unreadable(path: Path, error: OSError) -> str:
    return f"{path}: cannot be read ({error.strerror}); expected what the dataset has; make it readable"


def _read(path: Path) -> dict[str, str]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
