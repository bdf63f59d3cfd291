"""Numbers printed in the paper, one tidy CSV a table (see README.md here for sources and known errors)."""

from importlib import resources

import pandas as pd

from isopose.errors import UserError

TABLES = range(1, 10)


def load(table: int) -> pd.DataFrame:
    """Read the paper's table with that number; an empty `note` is an empty string.

    Errors are millimetres (`mpjpe`, `p_mpjpe`), per cent (`pck`) or radians (`mean_angle_error`).
    """
    if table not in TABLES:
        raise UserError(f"published table {table}: there is no such table; expected 1 to 9; name one of these")
    with resources.files(__name__).joinpath(f"table{table}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype={"strides": str, "note": str}).fillna({"note": ""})
