"""Fan-out: from the first to the last subscriber whom a message reaches live."""

from __future__ import annotations

import pytest

from reports.fan_out import spreads
from reports.history import Flag, Kind
from reports.latency import Selection
from tests.reports.synthetic import T0, S, Synthetic, in_memory


def heard(made: Synthetic, pub_seq: int, *arrivals_s: float, due_s: float = 3.0, flags: int = 0) -> None:
    for client, at_s in enumerate(arrivals_s, start=1):
        what = {"channel": 1, "publisher": 9, "pub_seq": pub_seq, "serial": pub_seq, "epoch": 1}
        made.add(Kind.RECV, at_s, client=client, t2=T0 + round(due_s * S), flags=flags, **what)


def bare() -> Synthetic:
    return Synthetic(clients=4, channels=2, bare=True)


def test_a_spread_is_between_the_first_and_the_last_arrival() -> None:
    made = bare()
    heard(made, 1, 3.5, 3.1, 3.2)
    found = spreads(in_memory(made))
    assert found.count == 1
    assert found.max_ms == pytest.approx(400, rel=2e-3)


def test_what_one_alone_got_or_got_later_has_no_spread() -> None:
    made = bare()
    heard(made, 1, 3.1)
    heard(made, 2, 3.1, 3.3, flags=Flag.REPLAYED)
    heard(made, 3, 1.1, 1.3, due_s=1.0)  # in the warm-up
    assert spreads(in_memory(made)).count == 0


def test_spreads_are_those_of_the_phase() -> None:
    made = bare()
    heard(made, 1, 1.1, 1.3, due_s=1.0)
    heard(made, 2, 3.1, 3.2)
    assert spreads(in_memory(made), Selection(phase="warm-up")).max_ms == pytest.approx(200, rel=2e-3)
