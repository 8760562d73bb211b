"""What is seen of a fault that ends a node's connections to its broker; and the growth of a counter."""

from __future__ import annotations

import polars as pl
import pytest

from reports.counters import growth
from reports.effects import FaultEffect, effects
from reports.link_effects import COLUMN, LINK_EFFECTS
from reports.sessions import closes
from tests.reports.synthetic import T0, fault_lines, in_memory, small

NS = 1_000_000_000


def sampled(column: str = COLUMN, **counts: tuple[float, ...]) -> pl.DataFrame:
    """Samples at the end of each second, by process (``chatd_2`` for chatd-2)."""
    rows = [
        {"t": T0 + (second + 1) * NS, "process": process.replace("_", "-"), column: float(count)}
        for process, each in counts.items()
        for second, count in enumerate(each)
    ]
    return pl.DataFrame(rows)


def effect(kind: str, daemon: pl.DataFrame | None, target: str = "link-2") -> FaultEffect:
    history = in_memory(small(faults=fault_lines("f", kind, 4, 6, target=target)))
    return effects(history, closes(history), daemon)[0]


QUIET = (0.0,) * 10
CALLED = (0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 3.0, 3.0, 3.0, 3.0)  # three channels, in the sixth second


@pytest.mark.parametrize("kind", LINK_EFFECTS)
def test_a_broken_link_shows_in_the_doubts_of_its_node(kind: str) -> None:
    found = effect(kind, sampled(chatd_1=QUIET, chatd_2=CALLED))
    assert found.had_effect
    assert (found.effects["doubts"], found.effects["doubts_before"]) == (3, 0)


@pytest.mark.parametrize("kind", LINK_EFFECTS)
def test_doubts_of_another_node_are_not_its_effect(kind: str) -> None:
    found = effect(kind, sampled(chatd_1=CALLED, chatd_2=QUIET))
    assert not found.had_effect
    assert found.why_not == "chatd-2 doubted what it heard from the broker no more often than before"
    assert effect(kind, sampled(chatd_1=CALLED, chatd_2=QUIET), "link-*").had_effect  # the way of every node


def test_as_many_doubts_as_before_are_no_effect() -> None:
    steady = tuple(float(second) for second in range(1, 11))
    assert not effect("down", sampled(chatd_2=steady)).had_effect


def test_a_server_that_does_not_count_its_doubts_tells_nothing() -> None:
    why = f"chatd-2 did not tell {COLUMN}, by which a broken link is known"
    assert effect("down", None).why_not == why
    assert effect("down", sampled("chatd_connections", chatd_2=QUIET)).why_not == why


def test_growth_is_summed_over_processes_and_a_restart_sets_a_count_back() -> None:
    samples = sampled("n", chatd_1=(5, 7, 1, 2), chatd_2=(0, 10, 10, 20))
    all_of_it = (T0, T0 + 10 * NS)
    assert growth(samples, "n", all_of_it, process="chatd-1") == 2 + 1 + 1
    assert growth(samples, "n", all_of_it, process="chatd-*") == 4 + 20
    assert growth(samples, "n", all_of_it) == 4 + 20
    assert growth(samples.drop("process").head(4), "n", all_of_it) == 4
    assert growth(samples, "n", (T0 + 2 * NS, T0 + 3 * NS)) == 1 + 0  # the sample at its end is within
    assert growth(samples, "n", (T0 + 20 * NS, T0 + 30 * NS)) is None
    assert growth(samples, "m", all_of_it) is None
    assert growth(None, "n", all_of_it) is None
