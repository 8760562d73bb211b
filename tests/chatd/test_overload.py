"""The overload ladder: which rung, after which lag, for how long."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from chatd import overload
from chatd.config import Config
from chatd.flush import MAX_CORK_S
from chatd.overload import CLIMB_S, DESCEND_S, LONG_CORK_S, SAMPLE_S, WINDOW_S, Ladder, Rung
from chatd.server import Server
from tests.chatd.reader import Reader


class Hours:
    """A ladder whose time is moved by hand."""

    def __init__(self, limit_s: float = 0.1) -> None:
        self.ladder = Ladder(limit_s)
        self.now = 100.0
        self.shed = 0

    def pass_s(self, seconds: float, lag_s: float, connections: int = 1000) -> Rung:
        for _ in range(round(seconds / SAMPLE_S)):
            self.now += SAMPLE_S
            self.shed += self.ladder.observe(self.now, lag_s, connections)
        return self.ladder.rung


def test_it_climbs_one_rung_a_second_while_the_lag_lasts_and_comes_down_slowly() -> None:
    hours = Hours()
    assert hours.pass_s(10, 0.01) is Rung.CALM
    rungs = [hours.pass_s(CLIMB_S, 0.2) for _ in range(6)]
    assert rungs[0] is Rung.REFUSE
    assert sorted(rungs) == rungs
    assert rungs[-1] is Rung.SHED
    assert hours.pass_s(WINDOW_S, 0.01) is Rung.SHED, "the window still holds the lag"
    down = [hours.pass_s(DESCEND_S + SAMPLE_S, 0.01) for _ in range(5)]
    assert down == [Rung.CORK, Rung.DROP, Rung.REFUSE, Rung.CALM, Rung.CALM]


@pytest.mark.parametrize(
    ("rung", "refuse", "drop", "cork_s"),
    [
        pytest.param(Rung.CALM, False, False, MAX_CORK_S, id="calm"),
        pytest.param(Rung.REFUSE, True, False, MAX_CORK_S, id="refuse"),
        pytest.param(Rung.DROP, True, True, MAX_CORK_S, id="drop"),
        pytest.param(Rung.CORK, True, True, LONG_CORK_S, id="cork"),
        pytest.param(Rung.SHED, True, True, LONG_CORK_S, id="shed"),
    ],
)
def test_each_rung_keeps_what_those_below_it_do(rung, refuse, drop, cork_s) -> None:
    ladder = Ladder(0.1)
    ladder.rung = rung
    assert (ladder.refuse, ladder.drop_ephemeral, ladder.cork_s) == (refuse, drop, cork_s)


def test_one_late_timer_among_hundreds_changes_nothing() -> None:
    hours = Hours()
    hours.pass_s(WINDOW_S, 0.001)
    hours.pass_s(SAMPLE_S, 5.0)
    assert hours.pass_s(WINDOW_S, 0.001) is Rung.CALM


def test_between_calm_and_the_limit_it_stays_where_it_is() -> None:
    hours = Hours()
    hours.pass_s(1.5, 0.2)
    at = hours.ladder.rung
    assert at is not Rung.CALM
    hours.pass_s(WINDOW_S, 0.08)
    at = hours.ladder.rung
    assert hours.pass_s(60, 0.08) is at


def test_one_per_cent_a_second_is_shed_and_only_on_the_last_rung() -> None:
    hours = Hours()
    while hours.ladder.rung is not Rung.SHED:
        hours.pass_s(SAMPLE_S, 0.2)
        assert hours.shed <= 1
    hours.shed = 0
    hours.pass_s(10, 0.2)
    assert 98 <= hours.shed <= 101
    assert Hours().ladder.observe(1.0, 9.9, 0) == 0


def test_without_a_limit_there_is_no_ladder() -> None:
    hours = Hours(limit_s=0)
    assert hours.pass_s(60, 9.9) is Rung.CALM
    assert hours.shed == 0


def test_a_daemon_that_lags_refuses_drops_and_sheds_with_4102_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overload, "CLIMB_S", 0.05)
    monkeypatch.setattr(overload, "SHED_PER_S", 5.0)

    async def main() -> None:
        # Any timer is later than this: the daemon lags as soon as the first one fires.
        server = Server(Config(port=0, data=tmp_path / "data", drain_s=1, overload_lag_s=1e-9))
        await server.start()
        port = int(server.url.rsplit(":", 1)[1].split("/")[0])
        client = await Reader.dial(port, "ann", room="new")
        client.publish("m1")
        await client.lost.wait()
        assert client.code == 4102
        assert client.of("goodbye")[0]["code"] == 4102
        assert client.acked == {"m1": 1}
        assert server.refuse("127.0.0.1") is not None
        assert server.flusher.drop_ephemeral
        assert server.flusher.cork_s == LONG_CORK_S
        page = server.page("/metrics")
        assert page is not None
        assert "chatd_overload_level 4\n" in page.body
        assert 'chatd_closed_total{code="4102"} 1\n' in page.body
        assert (await server.store.read("room", 0, 10, 1000)).top == 1
        await Reader.hang_up()
        await server.stop()
        assert not server.failed

    asyncio.run(main())
