"""The heat map of latency: every delivery in one cell, few cells for any run."""

from __future__ import annotations

import polars as pl
import pytest

from reports.grids import SHADES, Cells, levels
from reports.heat import COLUMNS, ROWS, column_s, heat
from reports.histogram import bucket_index


def counted(*rows: tuple[int, float, int]) -> pl.DataFrame:
    """(second, latency in ms, how many) as ``latency.by_second`` has them."""
    second, took, n = zip(*rows, strict=True)
    buckets = bucket_index([round(ms * 1000) for ms in took])
    return pl.DataFrame({"second": list(second), "bucket": buckets, "n": pl.Series(n, dtype=pl.UInt32)})


def cell(cells: Cells, second: float, ms: float) -> int:
    column = max(i for i, left in enumerate(cells.x_edges[:-1]) if left <= second)
    row = max(i for i, below in enumerate(cells.y_edges[:-1]) if below <= ms)
    return cells.counts[column][row]


def test_a_delivery_is_counted_where_it_was_due_and_as_long_as_it_took() -> None:
    found = heat(counted((0, 1.5, 7), (0, 90.0, 1), (2, 1.5, 3), (2, 1.51, 4)), 4)
    assert found is not None
    assert found.x_edges == (0, 1, 2, 3, 4)
    assert (cell(found, 0, 1.5), cell(found, 0, 90.0), cell(found, 2, 1.5)) == (7, 1, 7)
    assert sum(map(sum, found.counts)) == 15
    assert sum(found.counts[1]) == sum(found.counts[3]) == 0


@pytest.mark.parametrize("seconds", [1, 10, 120, 121, 3600, 7 * 86_400, 1_000_000])
def test_no_run_has_more_cells_than_a_screen_can_show(seconds: int) -> None:
    rows = [(second, ms, 1) for second in (0, seconds - 1) for ms in (0.001, 7.0, 3_600_000.0)]
    found = heat(counted(*rows), seconds)
    assert found is not None
    assert len(found.counts) <= COLUMNS
    assert {len(column) for column in found.counts} == {len(found.y_edges) - 1}
    assert len(found.y_edges) - 1 <= ROWS
    assert found.x_edges[-1] == seconds
    assert sum(map(sum, found.counts)) == len(rows)


def test_rows_are_equally_far_apart_on_a_log_scale() -> None:
    found = heat(counted((0, 1.0, 1), (0, 100.0, 1)), 1)
    assert found is not None
    ratios = [b / a for a, b in zip(found.y_edges, found.y_edges[1:], strict=False)]
    assert ratios == pytest.approx([ratios[0]] * len(ratios))


def test_what_was_due_outside_of_the_axis_is_left_out_and_nothing_is_no_map() -> None:
    assert heat(counted((-1, 1.0, 5), (9, 1.0, 5)), 9) is None
    assert heat(counted((0, 1.0, 1)).clear(), 10) is None
    assert heat(counted((0, 1.0, 1)), 0) is None


def test_a_column_lasts_a_round_time() -> None:
    assert [column_s(s) for s in (0, 34, 120, 121, 3600)] == [1, 1, 1, 2, 30]


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        pytest.param(1, (1,), id="one"),
        pytest.param(60, (1, 2, 5, 10, 20, 50), id="tens"),
        pytest.param(3000, (1, 3, 10, 30, 100, 300, 1000, 3000), id="thousands"),
        pytest.param(3001, (1, 3, 10, 30, 100, 300, 1000, 3000), id="a little more"),
        pytest.param(10**7, (1, 10, 100, 1000, 10**4, 10**5, 10**6, 10**7), id="millions"),
        pytest.param(10**8, (1, 100, 10**4, 10**6, 10**8), id="more than eight decades"),
    ],
)
def test_shades_begin_at_round_counts(most: int, expected: tuple[int, ...]) -> None:
    assert levels(most) == expected


def test_more_is_a_stronger_shade_and_none_is_no_shade() -> None:
    cells = Cells((0, 1), (1, 2), ((0,),), (1, 10, 100), "deliveries")
    assert [cells.shade(n) for n in (0, 1, 9, 10, 100, 5000)] == [None, 0, 0, 4, SHADES - 1, SHADES - 1]


def test_neighbours_of_one_shade_are_one_stretch() -> None:
    cells = Cells((0, 1, 2, 3, 4), (1, 2, 3), ((1, 0), (2, 0), (0, 9), (1, 0)), (1, 5), "deliveries")
    assert list(cells.stretches()) == [(0, 0, 0, 2), (0, 0, 3, 1), (SHADES - 1, 1, 2, 1)]
