"""The nemesis: walks a plan, applies its faults, reverts every one, records each step.

A stepper: ``step(now_ns)`` does what is due and returns; it never sleeps and starts no
thread. Whoever runs the load calls it at each tick, and ``heal()`` at the end, whatever
the end was. What a fault does is data from its kind (``Script``); here is only how each
action is carried out.

Faults may overlap on one target. An end leaves to another fault what that one still
holds: of two downs on one proxy the last to end switches it on, of two kills the last
starts the process. A signal to a process that such a fault has taken away is recorded as
an error of that fault, but is no problem of the run. Nor is a test hook of a process that a
fault has paused: it is not asked, since it would answer when woken, at a time that nobody planned.

Between begin and end a fault may have steps, at their times or when a process has ended;
each is recorded as one more ``engine_effect``.

Due times are those of the plan, also when a step comes late: a fault that begins late
does not last longer. The lateness is recorded as ``skew_ns``.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, assert_never

from chaos.faults import FAULTS
from chaos.faults.base import (
    Action,
    AddToxic,
    Fault,
    Hook,
    LimitFiles,
    OnProcess,
    Promote,
    RemoveToxic,
    Script,
    SetEnabled,
    Signal,
    Start,
    Step,
    Toxic,
)
from chaos.journal import Phase
from chaos.plan import Plan, PlannedFault
from chaos.process import NotRunning


class Wire(Protocol):
    """What the nemesis asks of an engine (chaos.engines.base.Engine)."""

    @property
    def abilities(self) -> frozenset[str]: ...
    def add_toxic(self, proxy: str, toxic: Toxic) -> Mapping[str, Any]: ...
    def remove_toxic(self, proxy: str, name: str) -> bool: ...
    def counts(self, proxy: str, name: str) -> Mapping[str, int]: ...
    def set_enabled(self, proxy: str, enabled: bool) -> None: ...


class HasPid(Protocol):
    @property
    def pid(self) -> int: ...


class Processes(Protocol):
    """What it asks of a supervisor (chaos.process.Supervisor)."""

    def signal(self, name: str, signum: int, *, fault_id: str = "") -> int: ...
    def restart(self, name: str, *, fault_id: str = "") -> HasPid: ...
    def running(self, name: str) -> bool: ...
    def limit_files(self, name: str, most_bytes: int | None) -> int: ...
    def hook(self, name: str, hook: str, *, ms: int) -> int: ...


class Brokers(Protocol):
    """What it asks of those who know the run's brokers."""

    def promote(self, process: str) -> Mapping[str, Any]:
        """Make a replica the broker; what confirms it."""
        ...


class FaultJournal(Protocol):
    """Where it records (chaos.journal.Journal)."""

    def planned(self, faults: Sequence[PlannedFault], t0_ns: int) -> None: ...
    def fault(
        self,
        fault: PlannedFault,
        phase: Phase,
        *,
        t: int | None,
        planned_t: int,
        effect: Sequence[Mapping[str, Any]] = (),
        pids: Sequence[int] = (),
        error: str | None = None,
    ) -> None: ...


@dataclass(slots=True, eq=False)
class _Live:
    """A fault that was applied and is not yet reverted."""

    fault: PlannedFault
    script: Script
    left: list[Action]  # what is to be done at its end: of script.revert, and of steps
    steps: list[tuple[int, Step]]  # still to be done, and when at the latest, ns
    whole: bool = True  # every action of ``apply`` was confirmed
    stuck: bool = False  # its lease has ended, and a revert failed: for ``heal`` to try again


@dataclass(slots=True)
class _Outcome:
    """What came of some actions."""

    effect: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def pids(self) -> list[int]:
        return [item["pid"] for item in self.effect if "pid" in item]

    @property
    def error(self) -> str | None:
        return "; ".join(self.errors) or None


class Nemesis:
    """Applies and reverts the faults of one plan.

    Args:
        t0_ns: start of the load, CLOCK_MONOTONIC; the plan's times count from it.
        engine: None when clients dial the server directly; the plan may then have process faults only.
        brokers: None when the run has none of its own; the plan may then promote nobody.
        clock: stamps what is recorded; what is due depends on ``step``'s argument alone.
    Raises:
        ValueError: the plan needs an ability that the running engine lacks.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        t0_ns: int,
        engine: Wire | None,
        supervisor: Processes,
        journal: FaultJournal,
        brokers: Brokers | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        table: Mapping[str, type[Fault]] = FAULTS,
    ) -> None:
        abilities = engine.abilities if engine is not None else frozenset()
        for fault in plan.faults:
            if lacking := plan.params(fault, table=table).requires() - abilities:
                raise ValueError(
                    f"fault {fault.id!r}: the running engine lacks {', '.join(sorted(lacking))}; "
                    "use another engine or a newer version"
                )
        self._t0_ns = t0_ns
        self._engine = engine
        self._processes = supervisor
        self._journal, self._brokers = journal, brokers
        self._clock = clock
        self._pending = [(fault, plan.script(fault, table=table)) for fault in plan.faults]
        self._live: list[_Live] = []  # in order of start
        self._paused: dict[str, str] = {}  # by which fault, by process
        self.problems: list[str] = []  # what failed; none of it may be kept from the report
        journal.planned(plan.faults, t0_ns)

    @property
    def next_due_ns(self) -> int | None:
        """When the next fault begins or ends; None when nothing is left.

        A fault that ends with the exit of a process may end before: keep stepping.
        """
        times = [self._start_ns(fault) for fault, _ in self._pending[:1]]
        for live in self._live:
            if not live.stuck:
                times += [self._end_ns(live.fault), *(at for at, _ in live.steps)]
        return min(times, default=None)

    @property
    def done(self) -> bool:
        """Nothing is in force and nothing is to come."""
        return not self._pending and not self._live

    def active(self, now_ns: int) -> dict[str, int]:
        """Faults in force, by id, and how long each still lasts, ns; below 0 its end is overdue."""
        return {live.fault.id: self._end_ns(live.fault) - now_ns for live in self._live}

    def step(self, now_ns: int) -> None:
        """Begin and end what is due by now, in order of time; at one time, ends come first."""
        self._follow_exits()
        while (due := self.next_due_ns) is not None and due <= now_ns:
            live_ones = [live for live in self._live if not live.stuck]
            ending = [live for live in live_ones if self._end_ns(live.fault) == due]
            stepping = [live for live in live_ones if any(at == due for at, _ in live.steps)]
            if ending:
                self._end(ending[0], due)
            elif stepping:
                self._take(stepping[0], next(item for item in stepping[0].steps if item[0] == due), now_ns)
            else:
                self._begin(*self._pending.pop(0))

    def _follow_exits(self) -> None:
        """Do what waits for the end of a process that has ended."""
        for live in list(self._live):
            exits = live.script.ends_with
            if exits is not None and not live.stuck and not self._processes.running(exits):
                self._end(live, self._end_ns(live.fault))
                continue
            for item in list(live.steps):
                gone = item[1].when_gone
                if gone is not None and not live.stuck and not self._processes.running(gone):
                    self._take(live, item, item[0])

    def heal(self, now_ns: int) -> list[str]:
        """Revert all that is in force, the last applied first, and begin nothing more.

        Tries every fault, also those whose revert failed before. Safe to call again.

        Returns:
            A line for each revert that failed now; with any, the run must not pass.
        """
        self._pending.clear()
        before = len(self.problems)
        for live in reversed(list(self._live)):
            self._end(live, min(now_ns, self._end_ns(live.fault)))
        return self.problems[before:]

    def _start_ns(self, fault: PlannedFault) -> int:
        return self._t0_ns + fault.at_ns

    def _end_ns(self, fault: PlannedFault) -> int:
        return self._t0_ns + fault.end_ns

    def _begin(self, fault: PlannedFault, script: Script) -> None:
        begin_ns, end_ns = self._start_ns(fault), self._end_ns(fault)
        steps = [(begin_ns + round(step.after_s * 1e9), step) for step in script.steps]
        live = _Live(fault, script, list(script.revert), [item for item in steps if _fits(*item, end_ns)])
        self._live.append(live)  # before its first action: an interrupt must find it here
        self._record(fault, "start", begin_ns)
        outcome, excused = _Outcome(), True
        for action in script.apply:
            try:
                outcome.effect.append(self._do(action, live))
            except Exception as error:  # whatever it is, the other actions and the revert must follow
                outcome.errors.append(_text(error))
                excused = excused and isinstance(error, NotRunning) and self._taken_away(action, live)
        live.whole = not outcome.errors
        self._record(fault, "engine_effect", begin_ns, outcome)
        if not excused:
            self.problems.append(f"fault {fault.id!r} was not applied: {outcome.error}")

    def _take(self, live: _Live, item: tuple[int, Step], now_ns: int) -> None:
        """One step of a fault in force."""
        due_ns, step = item
        live.steps.remove(item)
        if step.every_s is not None:
            every_ns = round(step.every_s * 1e9)
            again_ns = due_ns + every_ns * (1 + max(0, now_ns - due_ns) // every_ns)
            if _fits(again_ns, step, self._end_ns(live.fault)):
                live.steps.append((again_ns, step))
        live.left += [action for action in step.undo if action not in live.left]
        outcome = _Outcome()
        for action in step.do:
            try:
                outcome.effect.append(self._do(action, live))
            except NotRunning as error:
                if not isinstance(action, OnProcess):
                    raise
                outcome.effect.append({"process": action.process, "gone": str(error)})
            except Exception as error:
                outcome.errors.append(_text(error))
        self._record(live.fault, "engine_effect", due_ns, outcome)
        if outcome.errors:
            self.problems.append(f"fault {live.fault.id!r}: a step of it failed: {outcome.error}")
        if not live.steps and not live.left:
            self._end(live, self._end_ns(live.fault))

    def _do(self, action: Action, live: _Live) -> dict[str, Any]:
        """An action before the end; one that is due at the end too is then done with."""
        if action not in live.left:
            return self._carry_out(action, live.fault.id)
        holder = self._holder(action, live)
        effect = {"left_to": holder} if holder else self._carry_out(action, live.fault.id)
        live.left.remove(action)
        return effect

    def _end(self, live: _Live, planned_t: int) -> None:
        live.steps.clear()
        self._record(live.fault, "stop", planned_t)
        outcome = _Outcome()
        for action in list(live.left):
            try:
                if holder := self._holder(action, live):
                    outcome.effect.append({"left_to": holder})
                else:
                    outcome.effect.append(self._undo(action, live))
                live.left.remove(action)
            except Exception as error:
                outcome.errors.append(_text(error))
        live.stuck = bool(live.left)
        if not live.stuck:
            self._live.remove(live)
        self._record(live.fault, "revert", planned_t, outcome)
        if outcome.errors:
            self.problems.append(f"fault {live.fault.id!r} was not reverted: {outcome.error}")

    def _holder(self, action: Action, ending: _Live) -> str | None:
        """Another fault in force that ends with the same action, and so will do it."""
        others = [live for live in self._live if live is not ending and not live.stuck]
        return next((live.fault.id for live in others if action in live.left), None)

    def _taken_away(self, action: Action, live: _Live) -> bool:
        """Whether a fault in force holds down the process that an action was meant for, or its hooks."""
        if isinstance(action, Hook) and action.process in self._paused:
            return True
        return isinstance(action, OnProcess) and self._holder(Start(action.process), live) is not None

    def _undo(self, action: Action, live: _Live) -> dict[str, Any]:
        """Carry out an action of a revert, where to find nothing left to undo may be right."""
        try:
            effect = self._carry_out(action, live.fault.id)
        except NotRunning as error:
            if not isinstance(action, Signal | LimitFiles | Hook):
                raise
            return {"process": action.process, "gone": str(error)}  # killed while it stood still
        if effect.get("removed") is False and live.whole and not live.stuck:
            self.problems.append(
                f"fault {live.fault.id!r}: {action} found nothing: someone else changes this engine"
            )
        return effect

    def _carry_out(self, action: Action, fault_id: str) -> dict[str, Any]:
        """Do it; what confirms that it was done."""
        match action:
            case AddToxic(proxy, toxic):
                return {"proxy": proxy, "toxic": dict(self._wire.add_toxic(proxy, toxic))}
            case RemoveToxic(proxy, name, counted):
                counts = {"counts": self._counts(proxy, name)} if counted else {}
                removed = self._wire.remove_toxic(proxy, name)
                return {"proxy": proxy, "toxic": name, "removed": removed} | counts
            case SetEnabled(proxy, enabled):
                self._wire.set_enabled(proxy, enabled)
                return {"proxy": proxy, "enabled": enabled}
            case Signal(process, signum):
                pid = self._processes.signal(process, signum, fault_id=fault_id)
                if signum == signal.SIGSTOP:
                    self._paused[process] = fault_id
                elif signum == signal.SIGCONT:
                    self._paused.pop(process, None)
                return {"process": process, "pid": pid, "signal": signal.Signals(signum).name}
            case Start(process):
                self._paused.pop(process, None)
                pid = self._processes.restart(process, fault_id=fault_id).pid
                return {"process": process, "pid": pid, "started": True}
            case LimitFiles(process, most_bytes):
                pid = self._processes.limit_files(process, most_bytes)
                return {"process": process, "pid": pid, "file_bytes": most_bytes}
            case Hook(process, name, ms):
                if process in self._paused:
                    raise NotRunning(f"process {process!r} is paused by fault {self._paused[process]!r}")
                pid = self._processes.hook(process, name, ms=ms)
                return {"process": process, "pid": pid, "hook": name, "ms": ms}
            case Promote(process):
                if self._brokers is None:
                    raise ValueError("this run has no brokers of its own")
                return {"process": process, **self._brokers.promote(process)}
            case _:
                assert_never(action)

    def _counts(self, proxy: str, name: str) -> dict[str, int] | None:
        """What a toxic has counted; None when it cannot be told, which is no reason to leave it there."""
        try:
            return dict(self._wire.counts(proxy, name))
        except Exception:
            return None

    @property
    def _wire(self) -> Wire:
        if self._engine is None:
            raise ValueError("this run has no engine of wire faults")
        return self._engine

    def _record(
        self, fault: PlannedFault, phase: Phase, planned_t: int, outcome: _Outcome | None = None
    ) -> None:
        """Write a line; a journal that fails is a problem of the run, and no reason to stop healing it."""
        outcome = outcome or _Outcome()
        try:
            self._journal.fault(
                fault,
                phase,
                t=self._clock(),
                planned_t=planned_t,
                effect=outcome.effect,
                pids=outcome.pids,
                error=outcome.error,
            )
        except OSError as error:
            self.problems.append(f"fault {fault.id!r}: its {phase} is not recorded: {error}")


def _fits(at_ns: int, step: Step, end_ns: int) -> bool:
    """Whether a step can be done before its fault ends."""
    return at_ns + round(step.lasts_s * 1e9) < end_ns


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
