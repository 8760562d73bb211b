"""Effects of faults, each seen present and absent, from records and exits alone; and recovery."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from reports.effects import EFFECTS, FaultEffect, effects
from reports.history import Flag, Kind
from reports.message_effects import MESSAGE_EFFECTS
from reports.recovery import Recovery, recoveries
from reports.sessions import closes, stays
from tests.reports.synthetic import (
    T0,
    Cut,
    Slow,
    Synthetic,
    exit_line,
    fault_lines,
    in_memory,
    small,
    start_line,
)


def effect(made: Synthetic, daemon: pl.DataFrame | None = None) -> FaultEffect:
    history = in_memory(made)
    return effects(history, closes(history), daemon)[0]


def recovery(made: Synthetic) -> Recovery:
    history = in_memory(made)
    return recoveries(history, closes(history), stays(history))[0]


CUTTING = ("down", "reset_peer", "limit_data", "timeout", "slow_close")


@pytest.mark.parametrize("kind", CUTTING)
def test_a_cut_shows_in_the_closes_of_its_clients(kind: str) -> None:
    found = effect(small(cuts=[Cut(4, 6, 1)], faults=fault_lines("f", kind, 4, 6, target="b")))
    assert found.had_effect
    assert (found.effects["closes"], found.effects["clients"]) == (4, 4)


@pytest.mark.parametrize("kind", CUTTING)
def test_a_cut_that_closed_nothing_had_no_effect(kind: str) -> None:
    found = effect(small(faults=fault_lines("f", kind, 4, 6, target="b")))
    assert not found.had_effect
    assert "ended" in found.why_not


def test_closes_of_the_other_proxys_clients_are_not_its_effect() -> None:
    found = effect(small(cuts=[Cut(4, 6, 0)], faults=fault_lines("f", "down", 4, 6, target="b")))
    assert not found.had_effect


def test_closes_on_purpose_are_nobodys_fault() -> None:
    made = small(faults=fault_lines("f", "down", 10.5, 15, target="all"))  # all close on purpose at 14 s
    assert not effect(made).had_effect


def test_a_connection_that_ends_when_the_fault_is_undone_counts() -> None:
    # Removing a timeout closes the connections that it held.
    made = small(cuts=[Cut(6.2, 7, 1)], faults=fault_lines("f", "timeout", 4, 6, target="b"))
    assert effect(made).effects["closes"] == 4


def test_but_not_when_the_next_fault_has_begun_by_then() -> None:
    made = small(cuts=[Cut(6.2, 7, 1)])
    made.faults = [
        *fault_lines("f", "down", 4, 6, target="b"),
        *fault_lines("next", "down", 6.15, 7, target="b"),
    ]
    assert not effect(made).had_effect


def test_named_ordinals_go_before_parity() -> None:
    lines = fault_lines("f", "down", 4, 6, target="b", ordinals=[1, 3])
    assert effect(small(cuts=[Cut(4, 6, 1)], faults=lines)).effects["clients"] == 2


SLOWING = ("latency", "bandwidth", "slicer")


@pytest.mark.parametrize("kind", SLOWING)
def test_a_slow_wire_shows_in_a_shift_of_latency(kind: str) -> None:
    found = effect(small(slows=[Slow(4, 6, 30, 0)], faults=fault_lines("f", kind, 4, 6, target="a")))
    assert found.had_effect
    assert found.effects["delivery_shift_p50_ms"] == pytest.approx(30, abs=3)
    assert abs(found.effects["delivery_control_shift_p50_ms"]) < 2


@pytest.mark.parametrize("kind", SLOWING)
def test_a_wire_that_was_as_fast_as_before_had_no_effect(kind: str) -> None:
    found = effect(small(faults=fault_lines("f", kind, 4, 6, target="a")))
    assert not found.had_effect
    assert "did not shift" in found.why_not


def test_a_server_that_slowed_down_for_all_is_not_the_faults_effect() -> None:
    found = effect(small(slows=[Slow(4, 6, 30)], faults=fault_lines("f", "latency", 4, 6, target="a")))
    assert not found.had_effect


def test_latency_for_all_clients_has_no_control_group_and_still_shows() -> None:
    assert effect(small(slows=[Slow(4, 6, 30)], faults=fault_lines("f", "latency", 4, 6))).had_effect


def test_latency_without_messages_to_compare_says_so() -> None:
    made = Synthetic(bare=True, faults=fault_lines("f", "latency", 4, 6))
    assert effect(made).why_not == "too few messages before or during it to compare their latency"


def counted(fault: str, kind: str, begin: float, end: float, taken: int, **more: Any) -> list[dict[str, Any]]:
    """Lines of a fault on messages; the proxy says with the revert how many it took."""
    lines = fault_lines(fault, kind, begin, end, target="b", **more)
    counts = {"acted": taken, "messages": 100}
    effect = [
        {"proxy": "b", "removed": True, "counts": counts},
        {"proxy": "b", "removed": True, "counts": {}},
    ]
    return [*lines[:-1], lines[-1] | {"effect": effect}]


CLOSING = ("frame_close", "frame_suppress_ping", "frame_oversize", "frame_bad_mask", "frame_bad_utf8")
COUNTED = sorted(set(MESSAGE_EFFECTS) - set(CLOSING))


@pytest.mark.parametrize("kind", CLOSING)
def test_a_fault_on_messages_that_must_end_connections_shows_in_closes(kind: str) -> None:
    found = effect(small(cuts=[Cut(4, 6, 1)], faults=counted("f", kind, 4, 6, 3)))
    assert found.had_effect
    assert (found.effects["messages_taken"], found.effects["messages_seen"]) == (3, 100)
    assert found.effects["closes"] == 4


@pytest.mark.parametrize("kind", CLOSING)
def test_without_a_close_the_word_of_the_proxy_is_not_enough(kind: str) -> None:
    found = effect(small(faults=counted("f", kind, 4, 6, 3)))
    assert not found.had_effect
    assert "nothing was refused" in found.why_not


@pytest.mark.parametrize("kind", COUNTED)
def test_a_fault_on_messages_whose_trace_is_a_finding_counts_by_what_it_took(kind: str) -> None:
    found = effect(small(faults=counted("f", kind, 4, 6, 3)))
    assert found.had_effect
    assert found.effects["messages_taken"] == 3


@pytest.mark.parametrize("kind", [*CLOSING, *COUNTED, "frame_delay"])
def test_a_fault_that_took_no_message_had_no_effect(kind: str) -> None:
    found = effect(small(cuts=[Cut(4, 6, 1)], faults=counted("f", kind, 4, 6, 0)))
    assert found.why_not == "the proxy took none of the 100 messages that it saw"


@pytest.mark.parametrize("kind", [*CLOSING, *COUNTED])
def test_a_fault_whose_count_was_never_told_had_no_effect(kind: str) -> None:
    found = effect(small(cuts=[Cut(4, 6, 1)], faults=fault_lines("f", kind, 4, 6, target="b")))
    assert "did not tell" in found.why_not


def test_held_messages_show_in_a_shift_of_latency() -> None:
    lines = counted("f", "frame_delay", 4, 6, 9)
    assert effect(small(slows=[Slow(4, 6, 30, 1)], faults=lines)).had_effect
    assert "did not shift" in effect(small(faults=lines)).why_not


def test_what_the_records_show_of_messages_stands_beside_the_count() -> None:
    figures = {kind: effect(small(faults=counted("f", kind, 4, 6, 3))).effects for kind in COUNTED}
    assert (figures["frame_drop"]["holes"], figures["frame_drop"]["retries"]) == (0, 0)
    assert figures["frame_duplicate"]["repeats"] == 0
    assert figures["frame_swap"]["overtaken"] == 0
    assert figures["frame_corrupt"] == {
        "messages_taken": 3, "messages_seen": 100, "damaged": 0, "unreadable": 0,
    }  # fmt: skip


def killed(*lines: dict[str, Any], kind: str = "kill", cut: bool = True) -> FaultEffect:
    made = small(cuts=[Cut(4, 5.5)] if cut else [])
    made.faults = [*fault_lines("f", kind, 4, 5.5, target="chatd-1"), *lines]
    return effect(made)


def test_a_kill_shows_in_an_exit_by_sigkill_and_a_start_after_it() -> None:
    found = killed(exit_line("f", 4.001), start_line("f", 5.4))
    assert found.had_effect
    assert found.effects == {"exits": 1, "starts": 1, "closes": 8, "clients": 8, "down_s": 1.399}


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        pytest.param([], "no process exit was recorded for it", id="no exit"),
        pytest.param([exit_line("other", 4.001)], "no process exit was recorded", id="another fault's exit"),
        pytest.param(
            [exit_line("f", 4.001, signal=None, code=0), start_line("f", 5.4)],
            "ended with code 0, not with SIGKILL",
            id="a clean exit",
        ),
        pytest.param([exit_line("f", 4.001)], "never started again", id="no start"),
        pytest.param(
            [start_line("f", 3.9), exit_line("f", 4.001)], "never started again", id="a start before"
        ),
    ],
)
def test_a_kill_without_its_exit_or_start_had_no_effect(lines: list[dict[str, Any]], why: str) -> None:
    found = killed(*lines)
    assert not found.had_effect
    assert why in found.why_not


def test_of_two_overlapping_kills_the_last_to_end_starts_the_process() -> None:
    revert = fault_lines("f", "kill", 4, 5.5)[-1] | {"effect": [{"left_to": "g"}]}
    assert killed(exit_line("f", 4.001), revert).had_effect


def test_a_restart_may_end_its_process_cleanly() -> None:
    assert killed(exit_line("f", 4.2, signal=None, code=0), start_line("f", 5.4), kind="restart").had_effect
    assert not killed(kind="restart").had_effect


def test_a_pause_shows_in_a_silence_as_long_as_itself() -> None:
    made = small(cuts=[Cut(4, 6)])
    made.faults = fault_lines("f", "pause", 4, 6, target="chatd-1")
    found = effect(made)
    assert found.had_effect
    assert found.effects["stall_s"] == pytest.approx(2, abs=0.1)


def test_a_pause_through_which_deliveries_went_on_had_no_effect() -> None:
    found = effect(small(faults=fault_lines("f", "pause", 4, 6, target="chatd-1")))
    assert not found.had_effect
    assert "deliveries went on" in found.why_not


def test_a_pause_in_a_run_that_was_silent_anyway_proves_nothing() -> None:
    made = Synthetic(bare=True, clients=2, channels=1)
    for t in (0.5, 3.5, 8.0):
        made.add(Kind.RECV, t, client=1, channel=1, publisher=2, pub_seq=1, serial=1, epoch=1)
    made.faults = fault_lines("f", "pause", 4, 5, target="chatd-1")
    assert "no longer than the silences before it" in effect(made).why_not


def test_a_process_that_left_is_measured_by_its_drain() -> None:
    found = killed(exit_line("f", 4.3, signal=None, code=0), start_line("f", 5.4), kind="term")
    assert found.had_effect
    assert (found.effects["drain_s"], found.effects["forced"]) == (0.299, 0)  # applied at 4.001
    assert killed(exit_line("f", 4.3), start_line("f", 5.4), kind="term").effects["forced"] == 1
    assert not killed(exit_line("f", 4.3, signal=None, code=0), kind="term").had_effect


def rolled(*lines: dict[str, Any]) -> FaultEffect:
    nodes = [start_line("", 0.1) | {"process": name} for name in ("chatd-1", "chatd-2", "other")]
    made = small(cuts=[Cut(4, 5.5)])
    made.faults = [*nodes, *fault_lines("f", "rolling", 4, 5.5, target="chatd-*"), *lines]
    return effect(made)


def test_a_rolling_restart_is_every_node_gone_and_back() -> None:
    one = [exit_line("f", 4.1), start_line("f", 4.2)]
    two = [line | {"process": "chatd-2"} for line in (exit_line("f", 4.8), start_line("f", 4.9))]
    assert rolled(*one, *two).had_effect
    assert rolled(*one).why_not == "the turn of chatd-2 never came"
    assert rolled(*one, two[0]).why_not == "chatd-2 was never started again"


def test_a_crash_loop_is_more_than_one_crash() -> None:
    crash = [exit_line("f", 4.1), start_line("f", 4.2)]
    assert killed(*crash, exit_line("f", 5.1), start_line("f", 5.2), kind="crash_loop").had_effect
    assert killed(*crash, kind="crash_loop").why_not == "its process ended only once"


def blocked(made: Synthetic, *, asked: bool = True, lag_s: tuple[float, ...] = ()) -> FaultEffect:
    """``lag_s``: what chatd had counted of its loop's lag after each second."""
    lines = fault_lines("f", "loop_block", 4, 6, target="chatd-1")
    step = {"process": "chatd-1", "hook": "block", "ms": 800}
    told = lines[1] | {"phase": "engine_effect", "effect": [step] if asked else []}
    made.faults = [lines[0], lines[1], told, *lines[2:]]
    times = [T0 + (number + 1) * 1_000_000_000 for number in range(len(lag_s))]
    daemon = pl.DataFrame({"t": times, "chatd_loop_lag_seconds_sum": list(lag_s)})
    return effect(made, daemon if lag_s else None)


def test_a_blocked_loop_shows_in_a_silence_as_long_as_the_block() -> None:
    found = blocked(small(cuts=[Cut(4, 4.7)]))
    assert found.had_effect
    assert (found.effects["blocks"], found.effects["block_ms"]) == (1, 800)
    assert "deliveries went on" in blocked(small()).why_not
    assert blocked(small(), asked=False).why_not == "its process was never asked to block"


def test_a_block_behind_a_slow_wire_shows_in_the_daemons_own_count_of_its_lag() -> None:
    calm = (0.01, 0.02, 0.03, 0.04)  # until the fault, at 4 s
    assert blocked(small(), lag_s=(*calm, 0.5, 0.8)).effects["loop_lag_s"] == pytest.approx(0.45)
    assert blocked(small(), lag_s=(*calm, 0.5, 0.8)).had_effect
    assert not blocked(small(), lag_s=(*calm, 0.05, 0.06)).had_effect
    assert not blocked(small(), lag_s=(0.01, 0.5, 0.9, 1.3, 1.75, 2.2)).had_effect  # it lagged as much before
    assert not blocked(small(), lag_s=(*calm, 0.0, 0.01)).had_effect  # a restart sets the count back


def full(*, sent: int, acks: int, repeated: bool = False) -> FaultEffect:
    made = Synthetic(bare=True, clients=2, channels=1, faults=fault_lines("f", "disk_full", 4, 6))
    what = {"client": 1, "channel": 1, "publisher": 1}
    made.add(Kind.ACK, 4.1, pub_seq=1, serial=1, epoch=1, **what)  # committed before
    for number in range(2, 2 + sent):
        made.add(Kind.SEND, 5.0, pub_seq=number, **what)
    for number in range(2, 2 + acks):
        made.add(
            Kind.ACK, 5.2, pub_seq=number, serial=number, epoch=1,
            flags=Flag.DUPLICATE if repeated else 0, **what,
        )  # fmt: skip
    return effect(made)


def test_a_full_disk_is_publishes_without_acks() -> None:
    assert full(sent=2, acks=0).had_effect
    assert full(sent=2, acks=1, repeated=True).had_effect  # what is known already needs no room
    assert full(sent=2, acks=1).why_not == "1 publishes were acked while no write could succeed"
    assert full(sent=0, acks=0).why_not == "nothing was sent while it lasted"


def test_silences_that_another_fault_made_are_no_measure_for_a_pause() -> None:
    made = small(cuts=[Cut(2, 4.2), Cut(8, 9)], steady_s=12.0)
    made.faults = fault_lines("f", "pause", 8, 9, target="chatd-1")
    assert "no longer than the silences before it" in effect(made).why_not
    made.faults += fault_lines("other", "kill", 2, 4.2, target="chatd-1")
    assert effect(made).had_effect


def test_a_load_worker_that_is_killed_shows_in_its_exit() -> None:
    made = small(faults=fault_lines("f", "client_kill", 4, 6, target="worker-1"))
    assert effect(made).why_not == "no load worker ended with SIGKILL for it"
    made.faults.append(exit_line("f", 4.1, process="worker-1", role="harness"))
    assert effect(made).had_effect


@pytest.mark.parametrize(
    ("workers", "target", "parity", "seen"),
    [
        pytest.param([1, 2], "worker-1", 1, True, id="its clients were silent"),
        pytest.param([1, 2], "worker-2", 1, False, id="another worker's were"),
        pytest.param([1], "worker-1", None, True, id="the only worker"),
    ],
)
def test_a_load_worker_that_stands_still_shows_in_the_silence_of_its_clients(
    workers: list[int], target: str, parity: int | None, seen: bool
) -> None:
    made = small(cuts=[Cut(4, 6, parity)], run={"workers": workers})
    made.faults = fault_lines("f", "client_pause", 4, 5.8, target=target)
    assert effect(made).had_effect is seen


@pytest.mark.parametrize("kind", [*EFFECTS, "a kind of tomorrow"])
def test_a_fault_that_was_never_applied_had_no_effect(kind: str) -> None:
    found = effect(small(faults=fault_lines("f", kind, 4, 6)[:1]))
    assert (found.had_effect, found.applied_s) == (False, None)
    assert found.why_not == "it was planned and never applied"


@pytest.mark.parametrize("kind", [*EFFECTS, "a kind of tomorrow"])
def test_every_kind_is_measured_in_a_run_without_records(kind: str) -> None:
    made = Synthetic(bare=True, faults=fault_lines("f", kind, 4, 6))
    assert effect(made).why_not


def test_a_kind_without_a_measure_is_seen_by_closes_or_by_a_shift() -> None:
    lines = fault_lines("f", "tomorrow", 4, 6)
    assert effect(small(cuts=[Cut(4, 6)], faults=lines)).had_effect
    assert effect(small(slows=[Slow(4, 6, 30)], faults=lines)).had_effect
    assert not effect(small(faults=lines)).had_effect


def test_times_count_from_the_start_of_the_schedule_and_errors_are_kept() -> None:
    lines = fault_lines("f", "down", 4, 6, target="b")
    lines[-1]["error"] = "the proxy did not answer"
    found = effect(small(faults=lines))
    assert (found.planned_s, found.applied_s, found.reverted_s) == (4.0, 4.001, 6.0)
    assert found.errors == ("the proxy did not answer",)


# ── recovery ──────────────────────────────────────────────────────────────────────────────


def test_recovery_counts_from_the_revert_to_the_last_subscription_live_again() -> None:
    made = small(cuts=[Cut(4, 6, 1)], faults=fault_lines("f", "down", 4, 6, target="b"))
    found = recovery(made)
    assert (found.cut_off, found.subscriptions, found.never_back) == (4, 8, 0)
    assert found.all_back_s is not None
    assert 0.05 < found.all_back_s < 1.0
    assert found.replayed > 0


def test_who_is_back_before_the_revert_makes_the_recovery_zero() -> None:
    made = small(cuts=[Cut(4, 5, 1)], faults=fault_lines("f", "down", 4, 7, target="b"))
    assert recovery(made).all_back_s == 0


def test_nobody_cut_off_is_no_recovery() -> None:
    found = recovery(small(faults=fault_lines("f", "latency", 4, 6)))
    assert (found.cut_off, found.subscriptions, found.all_back_s) == (0, 0, None)


def test_a_subscription_that_never_comes_back_is_counted() -> None:
    made = Synthetic(bare=True, clients=2, channels=1, faults=fault_lines("f", "down", 4, 6))
    for client in (1, 2):
        made.add(Kind.CONN, 0.1, client=client, serial=101)
        made.add(Kind.LIVE, 0.2, client=client, channel=1)
        made.add(Kind.CLOSE, 4.1, client=client, serial=1006)
    made.add(Kind.CONN, 6.4, client=1, serial=101)
    made.add(Kind.LIVE, 6.5, client=1, channel=1)
    found = recovery(made)
    assert (found.subscriptions, found.never_back, found.all_back_s) == (2, 1, None)


def test_a_cut_inside_of_a_slow_wire_is_the_cuts_doing() -> None:
    made = small(cuts=[Cut(4, 5, 1)], slows=[Slow(3, 8, 30)])
    made.faults = [*fault_lines("slow", "latency", 3, 8), *fault_lines("cut", "down", 4, 5, target="b")]
    history = in_memory(made)
    found = {r.fault: r.cut_off for r in recoveries(history, closes(history), stays(history))}
    assert found == {"slow": 0, "cut": 4}


def test_a_client_cut_twice_in_one_fault_counts_from_its_last_cut() -> None:
    made = Synthetic(bare=True, clients=1, channels=1, faults=fault_lines("f", "down", 4, 6))
    made.add(Kind.LIVE, 0.2, client=1, channel=1)
    made.add(Kind.CLOSE, 4.1, client=1, serial=1006)
    made.add(Kind.LIVE, 4.5, client=1, channel=1)
    made.add(Kind.CLOSE, 5.0, client=1, serial=1006)
    made.add(Kind.LIVE, 7.5, client=1, channel=1)
    assert recovery(made).all_back_s == 1.5
