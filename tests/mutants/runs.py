"""RUNS: for each mutant the smallest real run that shows it, with the faults that it needs.

A run is a whole one: a chatd process, load workers, the proxy where there are faults, client 0, the
checks. What must be found is in ``chatd.mutants.MUTANTS``; here is what has to happen for it to show. Honest
servers that do what looks odd and is legal, and controls with a mechanism switched off, are here as well.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from chatd.mutants import CRASHES, MUTANTS, Mutant

SCENARIOS: Final = Path(__file__).parents[2] / "scenarios"
Table = dict[str, Any]

BASE: Final[Table] = {
    "version": 1,
    "why": "Is a server that is broken in this one way found out?",
    "server": {"retry_ms": [100, 500]},
    "workload": {
        "clients": 24,
        "channels": 6,
        "channels_per_client": 2,
        "connect_over_s": 0.5,
        "phase": [{"name": "load", "duration_s": 4.0, "publish_per_s": 80.0}],
    },
    "deadlines": {"settle_s": 10.0, "drain_quiet_s": 2.0},
    # A tenth of it is the lag that a run may have: a busy machine must not void these.
    "gate": [{"id": "some-day", "kind": "threshold", "metric": "delivery", "expr": "p(99) < 10s"}],
}
CUT: Final = {"id": "cut", "kind": "down", "target": "all", "at_s": 2.2, "duration_s": 0.7}
# Acks are on the wire when the cut comes: their publishes are sent again.
SLOW: Final = {
    "id": "slow", "kind": "latency", "target": "all", "at_s": 1.4, "duration_s": 1.4, "latency_ms": 300,
}  # fmt: skip
KILL: Final = {"id": "kill", "kind": "kill", "target": "chatd-1", "at_s": 2.5, "duration_s": 0.4}
DEAF: Final = {
    "id": "silence", "kind": "timeout", "target": "a", "at_s": 1.6, "duration_s": 4.5,
    "direction": "upstream",
}  # fmt: skip
LOAD: Final = {"name": "load", "duration_s": 4.0, "publish_per_s": 80.0}
QUIET: Final = {"name": "quiet", "duration_s": 3.0, "publish_per_s": 0.0}
# 40 clients, half of them on each of two channels: a message is delivered 20 times.
CROWD: Final = {
    "clients": 40,
    "channels": 2,
    "channels_per_client": 1,
    "phase": [{"name": "load", "duration_s": 8.0, "publish_per_s": 800.0}],
}
BLINK: Final = {"id": "cut", "kind": "down", "target": "all", "at_s": 2.5, "duration_s": 0.2}
AWAY: Final = {"share": 0.3, "at_s": 1.6, "duration_s": 2.0}


NONE: Final = Mutant("", "an honest server", frozenset())


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run and what must be found in it.

    ``mutant``: as ``server.mutant`` has it; "" for an honest server. ``frames``: the proxy changes messages.
    ``file``: the scenario that comes with chatproof to run, in the place of ``BASE``. ``classes``, ``may``:
    as in ``MUTANTS``, from which they are taken where they are None. ``declares``: gaps must be declared.
    ``least``: deliveries, so that what happened once happened in that many. ``exit``: what chatproof must
    end with, if the run is not void.
    """

    mutant: str = ""
    frames: bool = False
    number: str = ""
    file: str = ""
    server: Table = field(default_factory=dict)
    workload: Table = field(default_factory=dict)
    faults: tuple[Table, ...] = ()
    deadlines: Table = field(default_factory=dict)
    expect: Table = field(default_factory=dict)
    classes: frozenset[str] | None = None
    may: frozenset[str] | None = None
    declares: bool = False
    least: int = 1
    workers: int = 1
    exit: int = 3

    @property
    def must(self) -> frozenset[str]:
        return self._planted.classes if self.classes is None else self.classes

    @property
    def allowed(self) -> frozenset[str]:
        return self.must | (self._planted.may if self.may is None else self.may)

    @property
    def named(self) -> str:
        return self.number or self._planted.number

    @property
    def once(self) -> bool:
        return ":once" in self.mutant

    @property
    def counted(self) -> bool:
        """Whether what goes wrong is counted, by chatd or the proxy; chatd cannot count its own end."""
        return self.frames or (bool(self.mutant) and self.mutant.partition(":")[0] not in CRASHES)

    @property
    def _planted(self) -> Mutant:
        return MUTANTS.get(self.mutant.partition(":")[0], NONE)

    def scenario(self) -> Table:
        """As the tables of a scenario file."""
        tables = tomllib.loads((SCENARIOS / f"{self.file}.toml").read_text()) if self.file else deepcopy(BASE)
        tables["server"] |= {**({"mutant": self.mutant} if self.mutant else {}), **self.server}
        for section in ("workload", "deadlines", "expect"):
            tables.setdefault(section, {}).update(getattr(self, section))
        if self.frames and self.must:
            tables["faults"] = {"self_test": True}
        if self.faults:
            tables["fault"] = list(self.faults)
        return tables


def _once(mutant: str, faults: tuple[Table, ...] = ()) -> Run:
    return Run(mutant=mutant, workload=CROWD, faults=faults, least=100_000, workers=2)


def _absent(retain_n: int = 10) -> Table:
    return {"server": {"retain_n": retain_n}, "workload": {"absence": [AWAY]}}


RUNS: Final[Mapping[str, Run]] = {
    # More messages than the server keeps in memory of a channel: what is forgotten is then really read.
    "forget-acked": Run(mutant="forget-acked:0.05", workload={"channels": 1, "channels_per_client": 1}),
    "skip-subscriber": Run(mutant="skip-subscriber:0.01"),
    "resume-late": Run(mutant="resume-late", faults=(CUT,)),
    "resume-early": Run(mutant="resume-early", faults=(CUT,)),
    "no-dedupe": Run(mutant="no-dedupe", faults=(SLOW, CUT)),
    "dedupe-by-user": Run(mutant="dedupe-by-user:0.1"),
    "swap-frames": Run(mutant="swap-frames:0.01"),
    "overtake-replay": Run(mutant="overtake-replay", faults=(CUT,)),
    "replay-and-live": Run(mutant="replay-and-live", faults=(CUT,)),
    "race-serial": Run(
        mutant="race-serial",
        workload={
            "channels": 1,
            "channels_per_client": 1,
            "phase": [{**LOAD, "publish_per_s": 400.0, "duration_s": 3.0}],
        },
    ),
    "skip-serial": Run(mutant="skip-serial:0.05"),
    "cross-post": Run(mutant="cross-post:0.05"),
    "flip-byte": Run(mutant="flip-byte:0.005"),
    "nack-committed": Run(mutant="nack-committed:0.05"),
    "ack-wrong-serial": Run(mutant="ack-wrong-serial:0.05"),
    "race-publishes": Run(mutant="race-publishes:0.2"),
    "late-serial": Run(mutant="late-serial:0.2"),
    "reuse-epoch": Run(mutant="reuse-epoch", faults=(KILL,)),
    "forget-tail": Run(mutant="forget-tail", faults=(KILL,)),
    "resume-truncated": Run(mutant="resume-truncated", **_absent()),
    "gap-off-by-one": Run(mutant="gap-off-by-one", **_absent()),
    "evict-early": Run(mutant="evict-early", **_absent(20)),
    "trim-off-by-one": Run(
        mutant="trim-off-by-one",
        server={"retain_n": 10},
        workload={"phase": [LOAD, QUIET], "absence": [{"share": 0.3, "at_s": 1.6, "duration_s": 4.5}]},
    ),
    "after-unsubscribe": Run(
        mutant="after-unsubscribe", workload={"pause": [{"share": 0.3, "at_s": 2.0, "duration_s": 1.0}]}
    ),
    "before-subscribed": Run(mutant="before-subscribed", faults=(CUT,)),
    "echo-leak": Run(mutant="echo-leak:0.1", server={"echo": False}),
    "new-with-head": Run(mutant="new-with-head", workload={"connect_over_s": 2.5}),
    "ack-twice": Run(mutant="ack-twice:0.05"),
    "left-over": Run(mutant="left-over:0.05"),
    "drop-subscriber": Run(mutant="drop-subscriber:0.003"),
    "no-ack": Run(
        mutant="no-ack:0.02", workload={"ack_timeout_s": 30.0}, deadlines={"settle_s": 2.0, "ack_s": 1.5}
    ),
    "deaf-to-silence": Run(
        mutant="deaf-to-silence",
        server={"ping_s": 0.5, "pong_s": 0.5},
        workload={"phase": [{**LOAD, "duration_s": 6.5}]},
        faults=(DEAF,),
    ),
    "closed-after-restart": Run(mutant="closed-after-restart", faults=(KILL,), deadlines={"settle_s": 3.0}),
    # A load client is the mutant here: it never dials again.
    "never-reconnects": Run(
        number="M35",
        workload={"reconnect": "never"},
        faults=({**CUT, "target": "a"},),
        deadlines={"settle_s": 3.0},
        classes=frozenset({"V2"}),
    ),
    # Killed in the middle of a fan-out, by itself: nobody starts it again.
    "dies": Run(
        mutant="die-mid-fanout:0.01",
        deadlines={"settle_s": 2.0},
        classes=frozenset({"V6"}),
        may=frozenset({"V2", "V5"}),
    ),
    # Once in 100,000 deliveries. "within" is below the number of chances of such a run.
    "once-skip-subscriber": _once("skip-subscriber:once:1:80000"),
    "once-swap-frames": _once("swap-frames:once:2:80000"),
    "once-flip-byte": _once("flip-byte:once:3:80000"),
    "once-forget-acked": _once("forget-acked:once:4:4000"),
    "once-skip-serial": _once("skip-serial:once:5:4000"),
    "once-cross-post": _once("cross-post:once:6:4000"),
    "once-left-over": _once("left-over:once:7:4000"),
    "once-nack-committed": _once("nack-committed:once:8:4000"),
    "once-ack-wrong-serial": _once("ack-wrong-serial:once:9:4000"),
    "once-ack-twice": _once("ack-twice:once:10:4000"),
    "once-race-publishes": _once("race-publishes:once:11:4000"),
    "once-resume-late": _once("resume-late:once:12:30", (BLINK,)),
    "once-no-dedupe": _once("no-dedupe:once:13:20", (SLOW, BLINK)),
    # Benign: what an honest server may do is valid.
    "honest-late-and-retried": Run(faults=(SLOW, CUT), expect={"resumes": True}, exit=0),
    "honest-killed": Run(faults=(KILL,), expect={"resumes": True}, exit=0),
    "honest-gaps": Run(**_absent(), declares=True, exit=0),
    "honest-new-epoch": Run(server={"store": "memory"}, faults=(KILL,), declares=True, exit=0),
    "honest-churn": Run(
        workload={
            "absence": [{"share": 0.5, "at_s": 1.5, "duration_s": 0.5}, AWAY],
            "pause": [{"share": 0.5, "at_s": 1.2, "duration_s": 0.8}, {**AWAY, "at_s": 1.8}],
        },
        expect={"resumes": True},
        exit=0,
    ),
    "honest-echo-off": Run(server={"echo": False}, faults=(CUT,), expect={"resumes": True}, exit=0),
    "honest-empty-channels": Run(
        workload={"channels": 60, "phase": [{**LOAD, "publish_per_s": 20.0}]},
        expect={"unexercised": 0.9},
        exit=0,
    ),
    # Where no promise forbids a second place, it is told and not gated.
    "honest-forgetful": Run(server={"dedupe_s": 0.0}, faults=(SLOW, CUT), classes=frozenset({"L2x"}), exit=0),
    # Positive controls: a mechanism is off, and the same faults show it; else they were too weak.
    "no-resume": Run(mutant="no-resume", faults=(CUT,), declares=True, expect={"resumes": True}, exit=4),
    "storm-no-dedupe": Run(mutant="no-dedupe", file="reconnect_storm", workers=2),
    "storm-no-resume": Run(mutant="no-resume", file="reconnect_storm", workers=2, declares=True, exit=1),
}

# Of different parts of the server, short enough for every test run: tests/e2e/test_mutants.py.
IN_CI: Final = (
    "skip-subscriber",  # live delivery
    "no-dedupe",  # the log, under retries
    "skip-serial",  # the log
    "nack-committed",  # answers
    "resume-late",  # resuming
    "evict-early",  # retention
    "reuse-epoch",  # a restart
    "no-ack",  # liveness
)
