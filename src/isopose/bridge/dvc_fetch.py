"""Fetching outputs through DVC's own library: its command line reads dvc.yaml and its lock anew for every output asked
for, which takes minutes for a hundred of them.
"""

import logging
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from isopose.bridge.dvc_file import path_of
from isopose.errors import UserError
from isopose.files import md5


def fetch(track: str, outputs: Collection[str]) -> None:
    """Bring outputs of a track from DVC's cache or their remote into the current folder, which is the repository.

    Errors: UserError where something cannot be had; what came stays.
    """
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)  # it warns of each file that it lacks, by MD5
    paths = {str(Path(output).absolute()) for output in outputs}
    try:
        with Repo() as repo, repo.lock:
            stages = repo.stage.load_all(path_of(track).as_posix())
            wanted = [out for stage in stages for out in stage.outs if out.fs_path in paths]
            missing = _pull(repo, wanted)
            for out in wanted:
                if out.hash_info not in missing:
                    out.checkout()
    except Exception as error:  # DVC passes on whatever its remotes raise
        raise UserError(f"dvc: cannot fetch what was published ({' '.join(str(error).split())}); {_AGAIN}") from error
    if missing:
        named = [str(out) for out in wanted if out.hash_info in missing]
        raise UserError(f"dvc: {len(named)} outputs are not in DVC's remote, {named[0]} among them; {_AGAIN}")


_AGAIN = "what came stays, and to restore again goes on from there; a run from scratch needs no remote"


def in_cache(paths: Iterable[str]) -> set[str]:
    """Those of some files in the current folder whose bytes DVC's cache has, so that they can be had again."""
    from dvc.repo import Repo

    with Repo() as repo:
        return {path for path in paths if repo.cache.local.exists(md5(path))}


def _pull(repo: Any, wanted: list[Any]) -> set[Any]:
    """Bring the bytes of outputs into DVC's cache; returns the hashes of those that are not there then."""
    objects: dict[Any, set[Any]] = {}
    for out in wanted:
        for remote, hashes in out.get_used_objs().items():
            objects.setdefault(remote, set()).update(hashes)
    for remote, hashes in objects.items():
        repo.cloud.pull(hashes, odb=remote)
    hashes = {out.hash_info for out in wanted}  # an empty one where the lock lacks a stage
    return {each for each in hashes if not each or not repo.cache.local.exists(each.value)}
