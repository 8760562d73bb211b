"""A nemesis among fakes: an engine, a process and a journal in memory, and a clock that is told the time."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any

from chaos.engines.base import EngineTimeout
from chaos.engines.embedded import EmbeddedEngine
from chaos.faults.base import Toxic
from chaos.nemesis import Nemesis
from chaos.plan import Plan, PlannedFault, make_plan, parse_faults
from chaos.process import NotRunning

S = 1_000_000_000
T0 = 1_000 * S


class FakeEngine:
    """Proxies a and b in memory. ``fail`` says which calls raise what."""

    def __init__(self) -> None:
        self.abilities = EmbeddedEngine.claims
        self.counted: dict[str, int] | None = None  # None: it does not answer
        self.enabled = {"a": True, "b": True}
        self.toxics: dict[str, list[Toxic]] = {"a": [], "b": []}
        self.calls: list[str] = []
        self.fail: dict[str, Exception] = {}

    def _call(self, text: str) -> None:
        self.calls.append(text)
        if text in self.fail:
            raise self.fail[text]

    def add_toxic(self, proxy: str, toxic: Toxic) -> dict[str, Any]:
        self._call(f"add {proxy} {toxic.name}")
        self.toxics[proxy].append(toxic)
        return {"name": toxic.name}

    def remove_toxic(self, proxy: str, name: str) -> bool:
        self._call(f"remove {proxy} {name}")
        there = [toxic for toxic in self.toxics[proxy] if toxic.name == name]
        self.toxics[proxy] = [toxic for toxic in self.toxics[proxy] if toxic.name != name]
        return bool(there)

    def counts(self, proxy: str, name: str) -> dict[str, int]:
        if self.counted is None:
            raise EngineTimeout("no answer")
        return self.counted

    def set_enabled(self, proxy: str, enabled: bool) -> None:
        self._call(f"{proxy} {'on' if enabled else 'off'}")
        self.enabled[proxy] = enabled

    def as_found(self) -> bool:
        return all(self.enabled.values()) and not any(self.toxics.values())


@dataclass
class FakeProcess:
    pid: int


class FakeProcesses:
    """One process, chatd-1. SIGKILL ends it at once, SIGTERM when ``drains`` says so."""

    def __init__(self) -> None:
        self.pid = 100
        self.alive = True
        self.paused = False
        self.drains = True
        self.file_bytes: int | None = None
        self.fail_hook: Exception | None = None
        self.calls: list[str] = []
        self.fail_restart: Exception | None = None

    def signal(self, name: str, signum: int, *, fault_id: str = "") -> int:
        self.calls.append(f"{signal.Signals(signum).name} {fault_id}")
        if not self.alive:
            raise NotRunning(f"process {name!r} is not running")
        self.paused = {signal.SIGSTOP: True, signal.SIGCONT: False}.get(signum, self.paused)
        self.alive = not (signum == signal.SIGKILL or (signum == signal.SIGTERM and self.drains))
        return self.pid

    def restart(self, name: str, *, fault_id: str = "") -> FakeProcess:
        self.calls.append(f"start {fault_id}")
        if self.fail_restart:
            raise self.fail_restart
        self.pid, self.alive, self.paused, self.file_bytes = self.pid + 1, True, False, None
        return FakeProcess(self.pid)

    def limit_files(self, name: str, most_bytes: int | None) -> int:
        self.calls.append(f"limit {most_bytes}")
        if not self.alive:
            raise NotRunning(f"process {name!r} is not running")
        self.file_bytes = most_bytes
        return self.pid

    def hook(self, name: str, hook: str, *, ms: int) -> int:
        self.calls.append(f"{hook} {ms}")
        if not self.alive:
            raise NotRunning(f"process {name!r} is not running")
        if self.fail_hook:
            raise self.fail_hook
        return self.pid

    def running(self, name: str) -> bool:
        return self.alive


class FakeJournal:
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.full = False

    def planned(self, faults: Any, t0_ns: int) -> None:
        for fault in faults:
            self.fault(fault, "planned", t=None, planned_t=t0_ns + fault.at_ns)

    def fault(self, fault: PlannedFault, phase: str, **line: Any) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.lines.append({"id": fault.id, "phase": phase, **line})

    def steps(self, fault_id: str) -> list[str]:
        return [line["phase"] for line in self.lines if line["id"] == fault_id]

    def last(self, fault_id: str, phase: str) -> dict[str, Any]:
        return [line for line in self.lines if (line["id"], line["phase"]) == (fault_id, phase)][-1]


def latency(fault_id: str, at_s: float, duration_s: float, **keys: Any) -> dict[str, Any]:
    return {"id": fault_id, "kind": "latency", "target": "a", "at_s": at_s, "duration_s": duration_s,
            "latency_ms": 5, **keys}  # fmt: skip


def down(fault_id: str, at_s: float, duration_s: float, target: str = "a") -> dict[str, Any]:
    return {"id": fault_id, "kind": "down", "target": target, "at_s": at_s, "duration_s": duration_s}


def process(kind: str, fault_id: str, at_s: float, duration_s: float, **keys: Any) -> dict[str, Any]:
    return {"id": fault_id, "kind": kind, "target": "chatd-1", "at_s": at_s, "duration_s": duration_s, **keys}


def plan_of(*faults: dict[str, Any]) -> Plan:
    return make_plan(parse_faults({}, faults, run_s=100), seed=1, clients=4, phases=())


class Bench:
    """A nemesis among fakes. The clock is 1 ms ahead of the last step at each reading."""

    def __init__(self, *faults: dict[str, Any]) -> None:
        self.engine, self.processes, self.journal = FakeEngine(), FakeProcesses(), FakeJournal()
        self.now = T0
        self.nemesis = Nemesis(
            plan_of(*faults),
            t0_ns=T0,
            engine=self.engine,
            supervisor=self.processes,
            journal=self.journal,
            clock=self.tick,
        )

    def tick(self) -> int:
        self.now += 1_000_000
        return self.now

    def step(self, s: float) -> None:
        self.now = T0 + round(s * S)
        self.nemesis.step(self.now)

    def heal(self, s: float) -> list[str]:
        self.now = T0 + round(s * S)
        return self.nemesis.heal(self.now)
