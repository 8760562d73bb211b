"""Effects of faults on connections and streams, each seen present and absent, from records alone."""

from __future__ import annotations

import pytest

from reports.connection_effects import CONNECTION_EFFECTS
from reports.effects import EFFECTS, SLOWING, FaultEffect, effects
from reports.history import CONN_ERRNO, CONN_OK, Kind, Transport
from reports.noticing import Noticings, noticings
from reports.sessions import closes
from tests.reports.synthetic import MS, T0, Cut, S, Slow, Synthetic, fault_lines, in_memory, small

ODD = [1, 3, 5, 7]


def effect(made: Synthetic) -> FaultEffect:
    history = in_memory(made)
    return effects(history, closes(history))[0]


def on(kind: str, *, ordinals: list[int] = ODD, begin: float = 4, end: float = 6) -> list[dict[str, object]]:
    return fault_lines("f", kind, begin, end, target="b", ordinals=ordinals)


def dialled(made: Synthetic, client: int, at: float, answer: float, status: int = CONN_OK) -> Synthetic:
    """One more attempt to connect."""
    made.add(Kind.CONN, answer, client=client, serial=status, t2=T0 + round(at * S))
    return made


RESET = CONN_ERRNO + 104
ENDING = ("disconnect", "half_open", "half_close", "limit_time", "flap", "storm", "corrupt")
TURNING_AWAY = ("refuse", "accept_close", "fail_first_n", "connect_blackhole")
BY_TRANSPORT = {"refuse_upgrade": Transport.WEBSOCKET, "buffer_stream": Transport.SSE}
SILENCING = ("blackhole", "partition", "stall")
SLOW = ("loss", "delay")


def test_every_kind_on_clients_has_a_measure() -> None:
    assert set(CONNECTION_EFFECTS) == {
        *ENDING,
        *TURNING_AWAY,
        *BY_TRANSPORT,
        *SILENCING,
        *SLOW,
        "connect_delay",
        "node_start",
        "promote",
    }
    assert set(CONNECTION_EFFECTS) <= set(EFFECTS)
    assert {kind for kind in CONNECTION_EFFECTS if kind in SLOWING} == {
        *TURNING_AWAY, *BY_TRANSPORT, *SLOW, "stall", "connect_delay",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ENDING)
def test_ended_connections_of_the_clients_that_were_chosen_are_its_effect(kind: str) -> None:
    cut = [Cut(4, 6.2, clients=frozenset(ODD))]
    found = effect(small(cuts=cut, faults=on(kind)))
    assert found.had_effect
    assert (found.effects["closes"], found.effects["clients"]) == (4, 4)


@pytest.mark.parametrize("kind", ENDING)
def test_ended_connections_of_others_are_not(kind: str) -> None:
    found = effect(small(cuts=[Cut(4, 6, clients=frozenset({5, 7}))], faults=on(kind, ordinals=[1, 3])))
    assert not found.had_effect
    assert "ended" in found.why_not


def test_a_storm_that_let_somebody_in_had_not_the_effect_that_it_means() -> None:
    made = small(cuts=[Cut(4, 4.2, clients=frozenset(ODD))], faults=on("storm"))
    assert "were let in while it lasted" in effect(made).why_not


def test_a_storm_tells_how_close_together_everybody_came_in() -> None:
    made = small(cuts=[Cut(4, 6.2, clients=frozenset(ODD))], faults=on("storm"))
    for client in ODD:
        dialled(made, client, 5.0, 6.01)
    found = effect(made)
    assert found.effects["let_in_at_its_end"] == 4
    assert found.effects["all_in_s"] == pytest.approx(0.01, abs=0.002)


def test_half_open_tells_how_long_the_slowest_took_and_what_the_proxy_saw() -> None:
    lines = on("half_open")
    lines[-1]["effect"] = [{"counts": {"left": 3, "gave_up": 2}}, {"counts": {"left": 1}}]
    found = effect(small(cuts=[Cut(5.5, 6.2, clients=frozenset(ODD))], faults=lines))
    assert (found.effects["left"], found.effects["gave_up"]) == (4, 2)
    assert found.effects["noticed_max_s"] == pytest.approx(1.5, abs=0.01)


@pytest.mark.parametrize("kind", TURNING_AWAY)
def test_failed_attempts_show_a_closed_door(kind: str) -> None:
    found = effect(dialled(small(faults=on(kind)), 3, 5.0, 5.1, RESET))
    assert found.had_effect
    assert (found.effects["attempts"], found.effects["failed"]) == (1, 1)


@pytest.mark.parametrize("kind", TURNING_AWAY)
def test_a_door_that_let_everybody_in_had_no_effect(kind: str) -> None:
    assert "went well" in effect(dialled(small(faults=on(kind)), 3, 5.0, 5.1)).why_not


@pytest.mark.parametrize("kind", [*TURNING_AWAY, "connect_delay"])
def test_a_door_at_which_nobody_came_had_no_effect(kind: str) -> None:
    made = dialled(small(faults=on(kind)), 2, 5.0, 5.1, RESET)  # not one of its clients
    dialled(made, 3, 3.9, 4.5)  # dialled before it began
    assert effect(made).why_not == "none of its clients dialled while it lasted"


@pytest.mark.parametrize(("kind", "mine"), list(BY_TRANSPORT.items()))
def test_a_strict_proxy_shows_in_failed_attempts_by_what_it_refuses(kind: str, mine: Transport) -> None:
    for transport in Transport:
        made = small(faults=on(kind))
        made.add(Kind.CONN, 5.1, client=3, serial=RESET, t2=T0 + 5 * S, pub_seq=2, flags=transport)
        found = effect(made)
        assert found.had_effect is (transport is mine)
        assert (found.effects["attempts"], found.effects["failed"]) == (transport is mine, transport is mine)


def test_an_attempt_that_is_answered_at_the_end_shows_a_black_hole() -> None:
    found = effect(dialled(small(faults=on("connect_blackhole")), 3, 5.0, 6.05))
    assert found.had_effect
    assert (found.effects["failed"], found.effects["late"]) == (0, 1)


def test_and_so_does_one_through_a_proxy_that_is_opened_before_the_last_one_is() -> None:
    began, undone_ms = on("connect_blackhole"), 200  # that the nemesis takes
    stopped_ns = T0 + 6 * S - undone_ms * MS
    lines = [line | ({"t": stopped_ns} if line["phase"] == "stop" else {}) for line in began]
    found = effect(dialled(small(faults=lines), 3, 5.0, 5.9))
    assert (found.had_effect, found.effects["late"]) == (True, 1)


@pytest.mark.parametrize(("took_s", "had_effect"), [(0.2, True), (0.006, False)], ids=["late", "as ever"])
def test_a_late_connection_is_compared_with_those_of_other_times(took_s: float, had_effect: bool) -> None:
    found = effect(dialled(small(faults=on("connect_delay")), 3, 5.0, 5.0 + took_s))
    assert found.had_effect is had_effect
    assert found.effects["others_p50_ms"] == pytest.approx(4.0)


def test_dials_that_another_fault_held_are_not_what_a_slow_door_is_compared_with() -> None:
    storm = fault_lines("storm", "storm", 8, 11, target="all")
    made = dialled(small(faults=[*on("connect_delay"), *storm]), 3, 5.0, 5.4)
    for client in range(1, 9):
        dialled(made, client, 8.1, 9.9 + 0.01 * client)
        dialled(made, client, 8.2, 9.9 + 0.01 * client)
    found = effect(made)
    assert found.effects["others_p50_ms"] == pytest.approx(4.0)
    assert found.had_effect


@pytest.mark.parametrize("kind", SILENCING)
def test_clients_that_hear_nothing_show_a_silence(kind: str) -> None:
    found = effect(small(cuts=[Cut(4, 6, clients=frozenset(ODD))], faults=on(kind)))
    assert found.had_effect
    assert (found.effects["clients_heard_before"], found.effects["clients_silenced"]) == (4, 4)


@pytest.mark.parametrize("kind", TURNING_AWAY)
def test_an_attempt_that_another_fault_kept_waiting_counts_when_it_fails(kind: str) -> None:
    assert effect(dialled(small(faults=on(kind)), 3, 3.9, 4.5, RESET)).had_effect


@pytest.mark.parametrize("kind", SILENCING)
def test_what_was_held_and_flows_on_while_the_fault_is_undone_breaks_no_silence(kind: str) -> None:
    made = Synthetic(bare=True, clients=2, channels=1, faults=on(kind, ordinals=[1]))
    made.faults[-2]["t"] = T0 + 59 * S // 10  # stop: 100 ms before the revert
    for t in (3.0, 3.5, 5.95):
        made.add(Kind.RECV, t, client=1, channel=1, publisher=2, pub_seq=1, serial=1, epoch=1)
    assert effect(made).had_effect


@pytest.mark.parametrize("kind", SILENCING)
def test_clients_that_go_on_hearing_show_none(kind: str) -> None:
    found = effect(small(cuts=[Cut(4, 6, clients=frozenset({1}))], faults=on(kind)))
    assert not found.had_effect
    assert found.why_not == "3 of its 4 clients still got something"


@pytest.mark.parametrize("kind", SILENCING)
def test_publishes_that_nothing_answers_show_that_one_way_is_closed(kind: str) -> None:
    made = Synthetic(bare=True, clients=2, channels=1, faults=on(kind, ordinals=[1]))
    for t in (3.0, 3.5, 4.6, 5.0, 5.5):
        made.add(Kind.RECV, t, client=1, channel=1, publisher=2, pub_seq=1, serial=1, epoch=1)
    made.add(Kind.SEND, 4.8, client=1, channel=1, publisher=1, pub_seq=1, serial=100)
    assert effect(made).had_effect
    made.add(Kind.ACK, 4.9, client=1, channel=1, publisher=1, pub_seq=1, serial=2, epoch=1)
    assert not effect(made).had_effect


@pytest.mark.parametrize("kind", SLOW)
def test_a_shift_of_all_latencies_shows(kind: str) -> None:
    assert effect(small(slows=[Slow(4, 6, 40, clients=frozenset(ODD))], faults=on(kind))).had_effect
    assert not effect(small(faults=on(kind))).had_effect


@pytest.mark.parametrize("kind", SLOW)
def test_a_few_late_messages_show_though_the_median_stands(kind: str) -> None:
    found = effect(small(rate=200.0, slows=[Slow(5, 5.08, 200, clients=frozenset(ODD))], faults=on(kind)))
    assert found.had_effect
    assert found.effects["delivery_later"] >= 3
    assert found.effects["delivery_shift_p50_ms"] < 5


def test_what_could_not_be_read_shows_damage() -> None:
    made = small(faults=on("corrupt"))
    made.add(Kind.BAD, 5.0, client=3, serial=1)
    assert effect(made).effects["unreadable"] == 1
    assert effect(made).had_effect


# ── how long a dead connection was kept ───────────────────────────────────────────────────


def kept(made: Synthetic) -> Noticings:
    history = in_memory(made)
    return noticings(history, closes(history))


def half_open(side: str, **counts: int) -> list[dict[str, object]]:
    lines = on("half_open")
    lines[1]["effect"] = [{"toxic": {"attributes": {"side": side}}}]
    lines[-1]["effect"] = [{"counts": counts}]
    return lines


def test_a_client_s_close_says_when_it_noticed() -> None:
    found = kept(small(cuts=[Cut(5.5, 6.5, clients=frozenset({1, 3}))], faults=half_open("client")))
    assert found.client_ms == pytest.approx((1501, 1501, 1999, 1999), abs=2)  # two kept it to the end
    assert found.server_ms == ()


def test_a_client_that_was_not_connected_when_it_began_has_nothing_to_notice() -> None:
    cuts = [Cut(3.5, 4.5, clients=frozenset({1})), Cut(5.5, 6.5, clients=frozenset({3, 5, 7}))]
    assert len(kept(small(cuts=cuts, faults=half_open("client"))).client_ms) == 3


@pytest.mark.parametrize(
    ("counts", "server_ms"),
    [
        pytest.param({"left": 4, "gave_up": 4, "gave_up_max_ms": 1200}, (1200.0,), id="all noticed"),
        pytest.param({"left": 4, "gave_up": 3, "gave_up_max_ms": 1200}, (1999.0,), id="one kept to the end"),
        pytest.param({}, (), id="none was left"),
    ],
)
def test_the_server_s_socket_says_when_it_noticed(
    counts: dict[str, int], server_ms: tuple[float, ...]
) -> None:
    found = kept(small(cuts=[Cut(4, 4.5, clients=frozenset(ODD))], faults=half_open("server", **counts)))
    assert found.server_ms == server_ms
    assert found.client_ms == ()


def test_a_fault_that_was_never_undone_says_nothing() -> None:
    assert kept(small(faults=half_open("client")[:2])) == Noticings()
