import pandas as pd
import pytest

from isopose.errors import UserError
from isopose.reporting import published

ROWS = {1: 18, 2: 13, 3: 8, 4: 49, 5: 7, 6: 8, 7: 9 * 16 + 1, 8: 9 * 16 + 1, 9: 80}


@pytest.mark.parametrize("table", published.TABLES)
def test_every_table_is_complete(table):
    data = published.load(table)
    assert len(data) == ROWS[table]
    assert data.drop(columns="note").notna().all().all()


@pytest.mark.parametrize(("table", "metric"), [(7, "mpjpe"), (8, "p_mpjpe")])
def test_rows_average_to_what_is_printed_or_say_so(table, metric):
    # The printed average is an independent check of fifteen transcribed cells.
    for method, rows in published.load(table).groupby("method"):
        cells = rows[rows["action"] != "Average"][metric]
        printed = rows[rows["action"] == "Average"].iloc[0]
        if len(cells) and "the row averages to" not in printed["note"]:
            assert len(cells) == 15
            # The peers' own averages weigh actions a little differently.
            assert cells.mean() == pytest.approx(printed[metric], abs=0.12), method


def test_humaneva_rows_average_to_what_is_printed_or_say_so():
    for method, rows in published.load(4).groupby("method"):
        printed = rows[rows["action"] == "Average"].iloc[0]
        if "the row averages to" not in printed["note"]:
            mean = rows[rows["action"] != "Average"]["p_mpjpe"].mean()
            assert mean == pytest.approx(printed["p_mpjpe"], abs=0.06), method


def test_known_errors_are_marked():
    repeated = published.load(6).iloc[:5]
    assert repeated["note"].str.startswith("error").all()
    assert repeated["p_mpjpe"].tolist() == published.load(5)["pck"].tolist()[:5]
    iso = published.load(7).query("method == 'Our result + ISO' and action == 'Average'").iloc[0]
    assert (iso["mpjpe"], iso["note"][:27]) == (38.7, "the row averages to 38.88; ")


def test_tables_agree_where_the_paper_repeats_itself():
    ablation = published.load(3).set_index("method")
    weights = published.load(2).set_index("method")
    columns = ["mpjpe", "p_mpjpe"]
    pd.testing.assert_series_equal(
        ablation.loc["+Temporal KCS", columns], weights.loc["Baseline (no ISO)", columns], check_names=False
    )
    offline = published.load(7).query("method == 'Our result (offline trained)' and action == 'Average'")
    assert offline["mpjpe"].item() == ablation.at["+2D Data", "mpjpe"]


def test_an_unknown_table_is_refused():
    with pytest.raises(UserError, match="published table 10"):
        published.load(10)
