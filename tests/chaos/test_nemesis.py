"""The nemesis with fakes and an explicit now: what it does when, what it records, that it always reverts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.engines.base import EngineRefused, EngineTimeout
from chaos.nemesis import Nemesis
from chaos.plan import Plan, make_plan, parse_faults
from chaos.process import ProcessError
from tests.chaos.nemesis_bench import (
    T0,
    Bench,
    FakeEngine,
    FakeJournal,
    FakeProcesses,
    S,
    down,
    latency,
    plan_of,
    process,
)


def test_a_fault_is_applied_when_due_and_reverted_when_its_lease_ends():
    bench = Bench(latency("x", 10, 5))
    assert bench.nemesis.next_due_ns == T0 + 10 * S
    bench.step(9.999)
    assert bench.engine.calls == []
    assert bench.nemesis.active(T0 + 9 * S) == {}
    bench.step(10)
    assert bench.engine.calls == ["add a x_downstream"]
    assert bench.nemesis.active(T0 + 12 * S) == {"x": 3 * S}
    assert bench.nemesis.next_due_ns == T0 + 15 * S
    bench.step(10)
    bench.step(14.999)
    assert bench.engine.calls == ["add a x_downstream"]
    assert not bench.nemesis.done
    bench.step(15)
    assert bench.engine.calls == ["add a x_downstream", "remove a x_downstream"]
    assert bench.nemesis.done
    assert bench.nemesis.next_due_ns is None
    assert bench.nemesis.problems == []


def test_each_step_of_a_fault_is_recorded_with_its_own_time():
    bench = Bench(latency("x", 10, 5))
    bench.step(10.5)
    bench.step(15)
    start, end, ms = T0 + 10 * S, T0 + 15 * S, 1_000_000
    assert bench.journal.lines == [
        {"id": "x", "phase": "planned", "t": None, "planned_t": start},
        {"id": "x", "phase": "start", "t": start + S // 2 + ms, "planned_t": start,
         "effect": [], "pids": [], "error": None},
        {"id": "x", "phase": "engine_effect", "t": start + S // 2 + 2 * ms, "planned_t": start,
         "effect": [{"proxy": "a", "toxic": {"name": "x_downstream"}}], "pids": [], "error": None},
        {"id": "x", "phase": "stop", "t": end + ms, "planned_t": end,
         "effect": [], "pids": [], "error": None},
        {"id": "x", "phase": "revert", "t": end + 2 * ms, "planned_t": end,
         "effect": [{"proxy": "a", "toxic": "x_downstream", "removed": True}], "pids": [], "error": None},
    ]  # fmt: skip


def test_planned_lines_of_all_faults_come_first():
    bench = Bench(latency("x", 10, 5), down("d", 1, 1))
    assert [(line["id"], line["phase"]) for line in bench.journal.lines] == [
        ("d", "planned"),
        ("x", "planned"),
    ]


def test_a_late_step_does_what_was_due_in_order_of_time_and_ends_before_starts():
    bench = Bench(down("d1", 1, 1), down("d2", 2, 1), latency("x", 1.5, 50))
    bench.step(10)
    assert bench.engine.calls == ["a off", "add a x_downstream", "a on", "a off", "a on"]
    assert bench.nemesis.active(T0 + 10 * S) == {"x": 41_500_000_000}


def test_of_two_downs_on_one_proxy_the_last_to_end_switches_it_on():
    bench = Bench(down("d1", 1, 4), down("d2", 2, 6), down("other", 2, 1, target="b"))
    bench.step(5)
    assert bench.engine.enabled == {"a": False, "b": True}
    assert bench.journal.last("d1", "revert")["effect"] == [{"left_to": "d2"}]
    bench.step(8)
    assert bench.engine.enabled == {"a": True, "b": True}
    assert bench.nemesis.done
    assert bench.nemesis.problems == []


def test_a_down_on_all_proxies_leaves_to_another_only_the_one_it_shares():
    bench = Bench(down("all", 1, 2, target="all"), down("a", 2, 5))
    bench.step(3)
    assert bench.engine.enabled == {"a": False, "b": True}
    assert bench.journal.last("all", "revert")["effect"] == [
        {"left_to": "a"},
        {"proxy": "b", "enabled": True},
    ]


def test_two_toxics_of_one_type_on_one_proxy_do_not_meet():
    bench = Bench(latency("x", 1, 4, direction="both"), latency("y", 2, 6, direction="both"))
    bench.step(5)
    assert [toxic.name for toxic in bench.engine.toxics["a"]] == ["y_upstream", "y_downstream"]


def test_kill_takes_the_process_away_until_its_lease_ends():
    bench = Bench(process("kill", "k", 10, 5))
    bench.step(10)
    assert not bench.processes.alive
    assert bench.journal.last("k", "engine_effect")["pids"] == [100]
    bench.step(14)
    assert not bench.processes.alive
    bench.step(15)
    assert bench.processes.alive
    assert bench.journal.last("k", "revert")["pids"] == [101]
    assert bench.processes.calls == ["SIGKILL k", "start k"]


def test_of_two_kills_the_last_to_end_starts_the_process():
    bench = Bench(process("kill", "k1", 10, 5), process("kill", "k2", 12, 6))
    for s in (10, 12, 15):
        bench.step(s)
    assert not bench.processes.alive
    assert (
        bench.journal.last("k2", "engine_effect")["error"] == "NotRunning: process 'chatd-1' is not running"
    )
    bench.step(18)
    assert bench.processes.alive
    assert bench.processes.calls.count("start k2") == 1
    assert bench.nemesis.problems == []  # k2 found nothing to kill because of k1: no fault of the harness


def test_a_kill_during_a_pause_leaves_nothing_to_wake():
    bench = Bench(process("pause", "p", 10, 5), process("kill", "k", 12, 5))
    for s in (10, 12, 15):
        bench.step(s)
    assert bench.journal.last("p", "revert")["effect"] == [
        {"process": "chatd-1", "gone": "process 'chatd-1' is not running"}
    ]
    bench.step(17)
    assert bench.processes.alive
    assert bench.nemesis.problems == []


def test_a_pause_of_a_process_that_a_kill_has_taken_away_is_recorded_and_excused():
    bench = Bench(process("kill", "k", 10, 5), process("pause", "p", 12, 5))
    for s in (10, 12, 15, 17):
        bench.step(s)
    assert bench.journal.last("p", "engine_effect")["error"] == "NotRunning: process 'chatd-1' is not running"
    assert bench.processes.alive
    assert not bench.processes.paused
    assert bench.nemesis.problems == []


def test_a_kill_that_finds_the_process_gone_by_itself_is_a_problem_and_still_starts_it():
    bench = Bench(process("kill", "k", 10, 5))
    bench.processes.alive = False
    bench.step(10)
    assert bench.nemesis.problems == [
        "fault 'k' was not applied: NotRunning: process 'chatd-1' is not running"
    ]
    bench.step(15)
    assert bench.processes.alive


def test_the_last_of_two_pauses_wakes_the_process():
    bench = Bench(process("pause", "p1", 10, 5), process("pause", "p2", 12, 5))
    for s in (10, 12, 15):
        bench.step(s)
    assert bench.processes.paused
    bench.step(17)
    assert not bench.processes.paused


def test_a_restart_starts_the_process_as_soon_as_it_has_ended():
    bench = Bench(process("restart", "r", 10, 30))
    bench.processes.drains = False
    bench.step(10)
    bench.step(11)
    assert bench.processes.calls == ["SIGTERM r"]
    bench.processes.alive = False
    bench.step(12)
    assert bench.processes.calls == ["SIGTERM r", "start r"]
    assert bench.journal.steps("r") == ["planned", "start", "engine_effect", "stop", "revert"]
    assert bench.nemesis.done


def test_a_restart_starts_the_process_anyway_when_its_lease_ends():
    bench = Bench(process("restart", "r", 10, 30))
    bench.processes.drains = False
    bench.step(10)
    bench.step(39.9)
    assert bench.processes.calls == ["SIGTERM r"]
    bench.step(40)
    assert bench.processes.calls == ["SIGTERM r", "start r"]


def test_a_restart_while_a_kill_holds_the_process_down_leaves_the_start_to_it():
    bench = Bench(process("kill", "k", 10, 10), process("restart", "r", 12, 20))
    for s in (10, 12, 13):
        bench.step(s)
    assert not bench.processes.alive
    assert bench.journal.last("r", "revert")["effect"] == [{"left_to": "k"}]
    bench.step(20)
    assert bench.processes.alive
    assert bench.nemesis.done


def test_term_leaves_the_process_away_until_its_lease_ends():
    bench = Bench(process("term", "t", 10, 9, deadline_s=3))
    for s in (10, 12, 13, 18):
        bench.step(s)
    assert not bench.processes.alive
    gone = {"process": "chatd-1", "gone": "process 'chatd-1' is not running"}
    assert bench.journal.last("t", "engine_effect")["effect"] == [gone]
    bench.step(19)
    assert bench.processes.calls == ["SIGTERM t", "SIGKILL t", "start t"]
    assert bench.nemesis.problems == []


def test_term_kills_who_still_runs_at_its_deadline():
    bench = Bench(process("term", "t", 10, 9, deadline_s=3))
    bench.processes.drains = False
    bench.step(10)
    assert bench.nemesis.next_due_ns == T0 + 13 * S
    bench.step(12.9)
    assert bench.processes.alive
    bench.step(13)
    assert not bench.processes.alive
    assert bench.journal.last("t", "engine_effect")["pids"] == [100]


def test_rolling_starts_a_process_as_soon_as_it_has_ended_and_is_over_when_nothing_is_left():
    bench = Bench(process("rolling", "r", 10, 30, deadline_s=5))
    bench.step(10)
    assert not bench.processes.alive
    bench.step(10.1)
    assert bench.processes.calls == ["SIGTERM r", "start r"]
    assert bench.nemesis.done
    steps = ["planned", "start", "engine_effect", "engine_effect", "stop", "revert"]
    assert bench.journal.steps("r") == steps


def test_rolling_gives_up_waiting_at_the_deadline_of_a_process():
    bench = Bench(process("rolling", "r", 10, 30, deadline_s=5))
    bench.processes.drains = False
    bench.step(14.9)
    assert bench.processes.calls == ["SIGTERM r"]
    bench.step(15)
    assert bench.processes.calls == ["SIGTERM r", "start r"]
    assert bench.nemesis.done


def test_healing_a_rolling_restart_starts_only_whose_turn_has_come():
    specs = parse_faults(
        {}, [process("rolling", "r", 10, 30, deadline_s=5) | {"target": "chatd-*"}], run_s=100,
        processes=("chatd-1", "chatd-2"),
    )  # fmt: skip
    plan = make_plan(specs, seed=1, clients=4, phases=(), processes=("chatd-1", "chatd-2"))
    processes = FakeProcesses()
    nemesis = Nemesis(plan, t0_ns=T0, engine=None, supervisor=processes, journal=FakeJournal())
    nemesis.step(T0 + 10 * S)
    nemesis.heal(T0 + 11 * S)
    assert processes.calls == ["SIGTERM r", "start r"]
    assert nemesis.done


def test_a_crash_loop_kills_and_starts_again_and_again():
    bench = Bench(process("crash_loop", "c", 10, 5, every_s=2))
    for s in (10, 12, 14, 15):
        bench.step(s)
        assert bench.processes.alive
    assert bench.processes.calls == ["SIGKILL c", "start c"] * 3  # and not once more at its end
    assert bench.nemesis.done


def test_a_step_that_was_missed_is_not_made_up_for():
    bench = Bench(process("crash_loop", "c", 10, 50, every_s=2))
    bench.step(10)
    bench.step(31)
    assert bench.processes.calls == ["SIGKILL c", "start c"] * 2
    assert bench.nemesis.next_due_ns == T0 + 32 * S


def test_a_crash_loop_leaves_the_start_to_a_kill_that_holds_the_process_down():
    bench = Bench(process("kill", "k", 10, 5), process("crash_loop", "c", 11, 10, every_s=2))
    for s in (10, 11, 13):
        bench.step(s)
    assert not bench.processes.alive
    bench.step(15)
    assert bench.processes.alive
    assert bench.nemesis.problems == []


def test_a_loop_is_blocked_as_often_as_the_lease_has_room_for_a_whole_block():
    bench = Bench(process("loop_block", "b", 10, 3.2, block_ms=500, every_s=1))
    for s in (10, 11, 12, 13, 13.2):
        bench.step(s)
    assert bench.processes.calls == ["block 500", "block 500", "block 500", "block 0"]


def test_a_paused_process_is_asked_for_no_hook_and_the_run_goes_on():
    bench = Bench(process("pause", "p", 9, 2.5), process("loop_block", "b", 10, 3.2, block_ms=500, every_s=1))
    for s in (9, 10, 11, 11.5, 12, 13.2):
        bench.step(s)
    assert bench.processes.calls == ["SIGSTOP p", "SIGCONT p", "block 500", "block 0"]
    paused = "process 'chatd-1' is paused by fault 'p'"
    effects = [line for line in bench.journal.lines if (line["id"], line["phase"]) == ("b", "engine_effect")]
    assert effects[0]["error"] == f"NotRunning: {paused}"
    assert effects[1]["effect"] == [{"process": "chatd-1", "gone": paused}]
    assert bench.nemesis.problems == []


def test_a_process_that_was_started_anew_while_paused_is_asked_for_its_hooks():
    bench = Bench(
        process("pause", "p", 9, 6),
        process("kill", "k", 10, 1),
        process("loop_block", "b", 12, 2, block_ms=500),
    )
    for s in (9, 10, 11, 12):
        bench.step(s)
    assert bench.processes.calls[-1] == "block 500"
    assert bench.nemesis.problems == []


def test_a_hook_whose_lease_ends_in_a_pause_is_done_with():
    bench = Bench(process("loop_block", "b", 10, 2, block_ms=500), process("pause", "p", 11, 3))
    for s in (10, 11, 12, 14):
        bench.step(s)
    assert bench.processes.calls == ["block 500", "SIGSTOP p", "SIGCONT p"]
    assert bench.nemesis.problems == []
    assert bench.nemesis.done


def test_a_step_that_fails_is_a_problem_and_stops_no_revert():
    bench = Bench(process("loop_block", "b", 10, 3, block_ms=500, every_s=1))
    bench.step(10)
    bench.processes.fail_hook = ProcessError("it does not answer")
    bench.step(11)
    assert bench.nemesis.problems == ["fault 'b': a step of it failed: ProcessError: it does not answer"]
    bench.processes.fail_hook = None
    bench.step(13)
    assert bench.nemesis.done


def test_a_full_disk_has_room_again_when_its_lease_ends_or_the_process_is_another():
    bench = Bench(process("disk_full", "d", 10, 5), process("kill", "k", 12, 6))
    bench.step(10)
    assert bench.processes.file_bytes == 0
    for s in (12, 15):
        bench.step(s)
    gone = {"process": "chatd-1", "gone": "process 'chatd-1' is not running"}
    assert bench.journal.last("d", "revert")["effect"] == [gone]
    bench.step(18)
    assert bench.processes.file_bytes is None
    assert bench.nemesis.problems == []


def test_an_exception_of_any_kind_in_a_fault_leaves_the_other_faults_and_its_own_revert():
    bench = Bench(latency("x", 1, 10), down("d", 2, 10), latency("y", 3, 10, target="b"))
    bench.engine.fail = {"a off": RuntimeError("a bug of ours")}
    for s in (1, 2, 3, 13):
        bench.step(s)
    assert bench.nemesis.problems == ["fault 'd' was not applied: RuntimeError: a bug of ours"]
    assert bench.engine.calls[-3:] == ["remove a x_downstream", "a on", "remove b y_downstream"]
    assert bench.nemesis.done


def test_heal_reverts_what_is_in_force_the_last_applied_first_and_begins_nothing_more():
    bench = Bench(
        latency("x", 1, 50), down("d", 2, 50, target="b"), process("kill", "k", 3, 50), latency("y", 60, 5)
    )
    bench.step(5)
    assert bench.heal(6) == []
    assert bench.engine.calls[2:] == ["b on", "remove a x_downstream"]
    assert bench.processes.alive
    assert bench.engine.as_found()
    assert bench.nemesis.done
    order = [line["id"] for line in bench.journal.lines if line["phase"] == "revert"]
    assert order == ["k", "d", "x"]
    assert bench.journal.last("x", "revert")["planned_t"] == T0 + 6 * S  # the heal, not the lease's end
    bench.step(70)
    assert bench.heal(71) == []
    assert bench.journal.steps("y") == ["planned"]


def test_heal_tries_every_fault_and_reports_what_failed_then_tries_again():
    bench = Bench(latency("x", 1, 50), down("d", 2, 50), process("kill", "k", 3, 50))
    bench.step(5)
    bench.engine.fail = {"a on": EngineTimeout("no answer")}
    bench.processes.fail_restart = OSError("no more processes")
    assert bench.heal(6) == [
        "fault 'k' was not reverted: OSError: no more processes",
        "fault 'd' was not reverted: EngineTimeout: no answer",
    ]
    assert bench.engine.toxics["a"] == []
    assert list(bench.nemesis.active(T0)) == ["d", "k"]
    assert not bench.nemesis.done
    bench.engine.fail.clear()
    bench.processes.fail_restart = None
    assert bench.heal(7) == []
    assert bench.nemesis.done
    assert bench.engine.as_found()
    assert len(bench.nemesis.problems) == 2  # a revert that failed once fails the run


def test_a_revert_that_fails_in_a_step_is_reported_and_left_to_heal():
    bench = Bench(down("d", 1, 1))
    bench.step(1)
    bench.engine.fail = {"a on": EngineRefused(500, "listen tcp: address already in use")}
    bench.step(2)
    bench.step(3)
    assert bench.engine.calls == ["a off", "a on"]  # not at every step
    reason = "EngineRefused: listen tcp: address already in use (status 500)"
    assert bench.nemesis.problems == [f"fault 'd' was not reverted: {reason}"]
    assert bench.journal.last("d", "revert")["error"] == reason
    bench.engine.fail.clear()
    assert bench.heal(4) == []
    assert bench.engine.as_found()


def test_only_what_is_left_of_a_revert_is_tried_again():
    bench = Bench(down("d", 1, 1, target="all"))
    bench.step(1)
    bench.engine.fail = {"b on": EngineTimeout("no answer")}
    bench.step(2)
    bench.engine.fail.clear()
    bench.heal(3)
    assert bench.engine.calls[2:] == ["a on", "b on", "b on"]


def test_a_fault_that_is_applied_in_part_is_a_problem_and_is_reverted_whole():
    bench = Bench(latency("x", 1, 1, target="all"))
    bench.engine.fail = {"add a x_downstream": EngineTimeout("no answer")}
    bench.step(1)
    assert bench.nemesis.problems == ["fault 'x' was not applied: EngineTimeout: no answer"]
    assert [toxic.name for toxic in bench.engine.toxics["b"]] == ["x_downstream"]
    bench.step(2)
    assert bench.engine.calls[2:] == [
        "remove a x_downstream",
        "remove b x_downstream",
    ]  # a may have it after all
    assert bench.engine.as_found()
    assert len(bench.nemesis.problems) == 1


def test_a_toxic_that_someone_else_removed_is_a_problem():
    bench = Bench(latency("x", 1, 1))
    bench.step(1)
    bench.engine.toxics["a"].clear()
    bench.step(2)
    (problem,) = bench.nemesis.problems
    assert "found nothing: someone else changes this engine" in problem
    assert bench.nemesis.done


def test_a_journal_that_cannot_be_written_is_a_problem_and_stops_no_revert():
    bench = Bench(down("d", 1, 50))
    bench.step(1)
    bench.journal.full = True
    bench.heal(2)
    assert bench.engine.as_found()
    assert bench.nemesis.problems == [
        "fault 'd': its stop is not recorded: [Errno 28] No space left on device",
        "fault 'd': its revert is not recorded: [Errno 28] No space left on device",
    ]


def test_an_interrupt_in_the_middle_of_applying_leaves_the_fault_to_heal():
    bench = Bench(down("d", 1, 50, target="all"))

    def interrupted(proxy: str, enabled: bool) -> None:
        bench.engine.enabled[proxy] = enabled
        raise KeyboardInterrupt

    original, bench.engine.set_enabled = bench.engine.set_enabled, interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        bench.step(1)
    bench.engine.set_enabled = original  # type: ignore[method-assign]
    assert not bench.engine.as_found()
    assert bench.heal(2) == []
    assert bench.engine.as_found()


def nemesis(plan: Plan, engine: FakeEngine | None) -> Nemesis:
    return Nemesis(plan, t0_ns=T0, engine=engine, supervisor=FakeProcesses(), journal=FakeJournal())


def test_a_running_engine_that_lacks_an_ability_is_refused_before_the_first_fault():
    engine = FakeEngine()
    engine.abilities = engine.abilities - {"toxic:latency"}
    with pytest.raises(ValueError, match="fault 'x': the running engine lacks toxic:latency"):
        nemesis(plan_of(latency("x", 1, 1)), engine)


def test_a_run_without_an_engine_takes_process_faults_only():
    assert not nemesis(plan_of(process("kill", "k", 1, 1)), None).done
    with pytest.raises(ValueError, match="fault 'd': the running engine lacks enabled"):
        nemesis(plan_of(down("d", 1, 1)), None)


def test_an_empty_plan_is_done():
    bench = Bench()
    assert bench.nemesis.done
    bench.step(1)
    assert bench.heal(2) == []


MAKERS: list[Callable[[str, float, float], dict[str, Any]]] = [
    latency,
    down,
    lambda i, at, s: down(i, at, s, target="all"),
    lambda i, at, s: process("kill", i, at, s),
    lambda i, at, s: process("pause", i, at, s),
    lambda i, at, s: process("restart", i, at, s),
    lambda i, at, s: process("term", i, at, s, deadline_s=0.5),
    lambda i, at, s: process("rolling", i, at, s, deadline_s=0.5),
    lambda i, at, s: process("crash_loop", i, at, s, every_s=0.7),
    lambda i, at, s: process("disk_full", i, at, s),
]


@given(
    st.lists(st.tuples(st.sampled_from(MAKERS), st.integers(0, 20), st.integers(1, 20)), max_size=6),
    st.lists(st.integers(0, 45), max_size=12).map(sorted),
    st.integers(0, 50),
)
def test_whatever_overlaps_and_whenever_it_is_healed_all_is_as_found(chosen, steps, heal_at):
    bench = Bench(*[make(f"f{n}", at, lasts) for n, (make, at, lasts) in enumerate(chosen)])
    for s in steps:
        bench.step(s)
    assert bench.heal(heal_at) == []
    assert bench.engine.as_found()
    assert bench.processes.alive
    assert not bench.processes.paused
    assert bench.processes.file_bytes is None
    assert bench.nemesis.done
    assert bench.nemesis.problems == []
    for n in range(len(chosen)):
        steps_of = list(dict.fromkeys(bench.journal.steps(f"f{n}")))
        assert steps_of in (["planned"], ["planned", "start", "engine_effect", "stop", "revert"])
