"""Numbers printed in the paper, one tidy CSV a table (see README.md here for sources and known errors)."""

import re
from pathlib import Path

import pandas as pd

from isopose.errors import UserError


def load(path: Path) -> pd.DataFrame:
    """Read the transcription ``table<number>.csv`` of a table; an empty `note` is an empty string.

    Errors are millimetres (`mpjpe`, `p_mpjpe`), per cent (`pck`) or radians (`mean_angle_error`). UserError for a file
    that is no transcription.
    """
    try:
        data = pd.read_csv(path, dtype={"strides": str, "note": str})
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: no table of the paper's numbers ({reason}); take it from git again") from error
    if list(data)[-1] != "note":
        raise UserError(
            f"{path}: its last column is not 'note'; expected a table of the paper's numbers; take it from git"
        )
    return data.fillna({"note": ""})


def number(path: Path) -> int:
    """The number of a transcription's table. Errors: UserError for a name without one."""
    if not (match := re.fullmatch(r"table(\d+)\.csv", path.name)):
        raise UserError(
            f"{path}: is not named as a table of the paper; expected table<number>.csv, as {__name__} has them"
        )
    return int(match[1])
