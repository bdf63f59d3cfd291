from pathlib import Path

import pandas as pd
import pytest

from isopose.errors import UserError
from isopose.reporting import published

ROWS = {1: 18, 2: 13, 3: 8, 4: 49, 5: 7, 6: 8, 7: 9 * 16 + 1, 8: 9 * 16 + 1, 9: 80}
FOLDER = Path(published.__file__).parent


def load(number):
    return published.load(FOLDER / f"table{number}.csv")


def test_every_table_of_the_paper_is_there():
    assert {published.number(path) for path in FOLDER.glob("*.csv")} == ROWS.keys()


@pytest.mark.parametrize("table", ROWS)
def test_every_table_is_complete(table):
    data = load(table)
    assert len(data) == ROWS[table]
    assert data.drop(columns="note").notna().all().all()


@pytest.mark.parametrize(("table", "metric"), [(7, "mpjpe"), (8, "p_mpjpe")])
def test_rows_average_to_what_is_printed_or_say_so(table, metric):
    # The printed average is an independent check of fifteen transcribed cells.
    for method, rows in load(table).groupby("method"):
        cells = rows[rows["action"] != "Average"][metric]
        printed = rows[rows["action"] == "Average"].iloc[0]
        if len(cells) and "the row averages to" not in printed["note"]:
            assert len(cells) == 15
            # The peers' own averages weigh actions a little differently.
            assert cells.mean() == pytest.approx(printed[metric], abs=0.12), method


def test_humaneva_rows_average_to_what_is_printed_or_say_so():
    for method, rows in load(4).groupby("method"):
        printed = rows[rows["action"] == "Average"].iloc[0]
        if "the row averages to" not in printed["note"]:
            mean = rows[rows["action"] != "Average"]["p_mpjpe"].mean()
            assert mean == pytest.approx(printed["p_mpjpe"], abs=0.06), method


def test_known_errors_are_marked():
    repeated = load(6).iloc[:5]
    assert repeated["note"].str.startswith("error").all()
    assert repeated["p_mpjpe"].tolist() == load(5)["pck"].tolist()[:5]
    iso = load(7).query("method == 'Our result + ISO' and action == 'Average'").iloc[0]
    assert (iso["mpjpe"], iso["note"][:27]) == (38.7, "the row averages to 38.88; ")


def test_tables_agree_where_the_paper_repeats_itself():
    ablation = load(3).set_index("method")
    weights = load(2).set_index("method")
    columns = ["mpjpe", "p_mpjpe"]
    pd.testing.assert_series_equal(
        ablation.loc["+Temporal KCS", columns], weights.loc["Baseline (no ISO)", columns], check_names=False
    )
    offline = load(7).query("method == 'Our result (offline trained)' and action == 'Average'")
    assert offline["mpjpe"].item() == ablation.at["+2D Data", "mpjpe"]


def test_what_is_no_transcription_is_refused_in_one_line(tmp_path):
    path = tmp_path / "table3.csv"
    for content, said in (
        (None, r"No such file"),
        (b"", "No columns"),
        (b"\xff", "decode"),
        (b"method,mpjpe\n", "'note'"),
    ):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UserError, match=rf"table3\.csv: .*{said}") as error:
            published.load(path)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="scores.csv: is not named as a table of the paper"):
        published.number(tmp_path / "scores.csv")
