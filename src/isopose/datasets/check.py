"""Which files of a dataset are there, missing or wrong: what its reader's ``FILES`` say, looked at before a long job.

Files are opened in a process with limits of time and memory, and no more of them is read than shows their layout: of a
folder or an archive of many files the first, or every one where that is asked for. A file's checksum is compared where
one is published.
"""

import os
import tempfile
from collections.abc import Iterable
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from isopose import stage
from isopose.datasets.raw_files import Member, Part, copy_member, listed, members, places
from isopose.datasets.sources import check_file, reader_module
from isopose.datasets.worker import READ_SECONDS, Arrays, Worker
from isopose.errors import UserError

LICENSED = ("human36m", "humaneva", "mpi_inf_3dhp", "three_dpw", "penn_action", "mpii", "coco")
"""Datasets with a folder of their own name in the folder of raw data."""

MIRRORED = ("cmu_mocap", "bandai_namco")
"""Datasets in the mirror."""

FETCHED = ("cmu_mocap",)
"""Those of them whose files are fetched, and checked, where there is no mirror."""

BYTES_A_SECOND = 1 << 23
"""The slowest reading that is waited for: the first file of a part may come last in its archive."""

MOST_SAMPLE = 1 << 30
"""Bytes of the file of an archive that is looked at."""


class Report(NamedTuple):
    """What was found of a dataset: needed and there, of so many needed; lines of missing and wrong; useful and not
    there.
    """

    name: str
    there: int
    needed: int
    missing: list[str]
    wrong: list[str]
    without: dict[str, list[str]]

    @property
    def status(self) -> str:
        """Found, partly or not available: whether every needed file is there and none is wrong."""
        if not (self.there or self.missing or self.wrong):
            return "not available"
        return "partly" if self.missing or self.wrong else "found"

    def lines(self) -> list[str]:
        """The report in words: a line of the dataset, and one of each file that is wrong or missing."""
        card = f"docs/datasets/{self.name}.md"
        if self.status == "not available" and self.name in FETCHED:
            return [f"{self.name:13} not in a mirror: its files are fetched when a track needs them: {card}"]
        if self.status == "not available":
            return [f"{self.name:13} {self.status}: where to apply, and what goes where: {card}"]
        faults = [f"  wrong    {line}" for line in self.wrong]
        faults += [f"  missing  {line}; see {card}" for line in self.missing]
        faults += [f"  without  {', '.join(names)} (for {use} alone)" for use, names in self.without.items()]
        return [f"{self.name:13} {self.status}: {self.there} of {self.needed} needed files", *faults]


def check(name: str, root: Path | None, every: bool = False) -> Report:
    """Look at what is under a dataset's folder, None for none, of its reader's ``FILES``; nothing is written there.

    every: open every file of a folder or archive, not the first alone.
    """
    parts = reader_module(name).FILES
    report = Report(name, 0, sum(not part.use for part in parts), [], [], {})
    if root is None or not any(places(root, part) for part in parts):
        return report
    there = 0
    with Worker() as worker, tempfile.TemporaryDirectory() as scratch:
        for part in stage.track_progress(parts, f"check {name}"):
            found = places(root, part)
            if not found and part.use:
                report.without.setdefault(part.use, []).append(part.archive or part.inner)
            elif not found and (root / part.instead).is_file():
                there += 1
            elif not found:
                report.missing.append(_missing(root, part))
            elif fault := _fault(found, part, worker, Path(scratch), every):
                report.wrong.append(fault)
            else:
                there += not part.use
    return report._replace(there=there)


def _missing(root: Path, part: Part) -> str:
    name = part.preferred or part.inner
    expected = f"{part.archive} as downloaded, or {name} unpacked" if part.archive else name
    return f"{root / (part.archive or name)}: expected {expected}; copy it there"


def _fault(found: Iterable[Path], part: Part, worker: Worker, scratch: Path, every: bool) -> str | None:
    """What is wrong with a part; nothing, if one of the places that it may be in is right."""
    faults = []
    for place in found:
        try:
            _check(place, part, worker, scratch, every)
            return None
        except UserError as error:
            faults.append(str(error))
    return faults[0]


def _check(place: Path, part: Part, worker: Worker, scratch: Path, every: bool) -> None:
    expected = f"{part.inner} as its dataset's card says"
    worker.seconds = READ_SECONDS + place.stat().st_size / BYTES_A_SECOND
    if part.checksum:
        check_file(place, part.checksum, "copy it from the source again")
    elif place.is_dir():
        pattern = part.sample or "*"
        files = listed(place, pattern) if part.look else list(islice(place.glob(pattern), part.count))
        if len(files) < part.count:
            raise UserError(f"{place}: holds {len(files)} files {pattern}; expected {part.count}; unpack it again")
        if part.look:
            for file in stage.track_progress(files, place.name) if every else files[:1]:
                worker.read(look_at_file, file, expected, part)
    elif part.archive and PurePosixPath(place.name).match(part.archive):
        worker.read(look_at_archive, place, f"a whole archive with {part.inner}", part, scratch, every)
    elif part.look:
        worker.read(look_at_file, place, expected, part)


def look_at_file(path: Path, part: Part) -> Arrays:
    """In the worker: a file as it is."""
    part.look(path)
    return {}


def look_at_archive(archive: Path, part: Part, scratch: Path, every: bool) -> Arrays:
    """In the worker: the first of a part's files that a zip or tar has, or every one; and whether it is whole."""
    pattern = f"{part.inner}/{part.sample}" if part.sample else part.inner
    count = 0
    for member in members(archive, part.inner):
        if not PurePosixPath(member.name).match(pattern):
            continue
        if part.look and (every or not count):
            _look_at_member(archive, member, part, scratch)
        count += 1
        if not (every or _is_zip(archive)):  # the names of a tar's files are all over it
            _check_end(archive)
            return {}
    if count < part.count:
        raise UserError(f"{archive}: has {count} files {pattern}; expected {part.count}; download it again")
    return {}


def _is_zip(archive: Path) -> bool:
    return archive.suffix == ".zip"


def _look_at_member(archive: Path, member: Member, part: Part, scratch: Path) -> None:
    if member.size > MOST_SAMPLE:
        raise UserError(f"{archive}: {member.name} has more than {MOST_SAMPLE} bytes; download it again")
    path = scratch / PurePosixPath(member.name).name
    copy_member(member, path)
    try:
        part.look(path)
    except UserError as error:
        raise UserError(str(error).replace(str(path), f"{archive}, {path.name}")) from error
    except Exception as error:  # whatever a library raises on a broken file, which is one of many
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{archive}, {path.name}: cannot be read ({reason}); download it again") from error
    finally:
        path.unlink()


def _check_end(archive: Path) -> None:
    """Refuse a .tar.gz that is cut short: it ends with the length of what it holds, which is blocks of 512 bytes."""
    with archive.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return
        file.seek(-4, os.SEEK_END)
        if int.from_bytes(file.read(4), "little") % 512:
            raise UserError(f"{archive}: is cut short; expected the whole archive; download it again")
