"""Unpacks the wanted files of a .tgz archive into the cache, with limits; nothing of it lands anywhere else."""

import re
import shutil
import tarfile
import zlib
from pathlib import Path

from isopose.errors import UserError
from isopose.files import atomic_folder, sha256

MAX_BYTES = 2**30
"""The most that an archive may hold, unpacked, wanted or not; also the most its download may weigh."""

MAX_MEMBERS = 10_000


def unpack(archive: Path, cache: Path, wanted: re.Pattern[str]) -> Path:
    """Unpack the files whose path matches ``wanted`` whole; return the folder, which is named by the SHA-256.

    UserError for an archive that is broken, too large, or holds a link, a device or a path that leads out of it.
    """
    if archive.stat().st_size > MAX_BYTES:
        raise UserError(
            f"{archive}: is {archive.stat().st_size} bytes; expected at most {MAX_BYTES}; download it again"
        )
    target = cache / f"{archive.stem}-{sha256(archive)[:12]}"
    if not target.is_dir():
        try:
            with atomic_folder(target) as temporary, tarfile.open(archive, "r|gz") as tar:
                _extract(tar, archive, temporary, wanted)
        except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError, OverflowError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"{archive}: cannot be unpacked ({reason}); expected a .tgz as downloaded; download it again"
            ) from error
    return target


def _extract(tar: tarfile.TarFile, archive: Path, folder: Path, wanted: re.Pattern[str]) -> None:
    total = 0
    for count, member in enumerate(tar, start=1):
        total += member.size
        if count > MAX_MEMBERS or total > MAX_BYTES:
            limit = f"{MAX_MEMBERS} members and {MAX_BYTES} bytes"
            raise UserError(f"{archive}: holds more than {limit}; expected poses alone; download it again")
        if not (member.isfile() or member.isdir()):
            raise UserError(f"{archive}: holds a link or device '{member.name}'; expected files; download it again")
        member = tarfile.data_filter(member, str(folder))
        name = member.name.removeprefix("./")
        if member.isfile() and wanted.fullmatch(name):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with tar.extractfile(member) as source, path.open("wb") as copy:
                shutil.copyfileobj(source, copy)
            if path.stat().st_size != member.size:
                raise tarfile.ReadError(f"'{name}' ends early")
