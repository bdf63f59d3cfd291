"""Files as git has them. Paths are relative to the current folder, which is the repository."""

import subprocess
from collections.abc import Sequence

from isopose.errors import UserError


def take_back(paths: Sequence[str]) -> None:
    """Bring back those of some files that git keeps, as it has them; outside a repository it keeps none.

    Errors: UserError where git fails.
    """
    if not paths:
        return  # to git no path is every path
    listed = subprocess.run(["git", "ls-files", "-z", "--", *paths], capture_output=True, text=True).stdout
    if tracked := listed.split("\0")[:-1]:
        done = subprocess.run(["git", "checkout", "--quiet", "--", *tracked], capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"git: {' '.join(done.stderr.split())}; expected to take {tracked[0]} from git; try again")
