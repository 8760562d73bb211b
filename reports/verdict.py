"""The verdict: on a history (valid, invalid, unknown), on the run itself (ok or void), and the exit.

A history is judged by the checks and by what the faults did: a planned fault without a
measured effect proves nothing, so the verdict is then unknown. A run is void when the harness,
not the server, is why it cannot be believed. Which classes gate is the contract's profile; the
checks say it with each class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from reports import wording
from reports.clock import host_clocks, uncertainty_ns
from reports.effects import FaultEffect
from reports.evaluate import GateResult, GateVerdict
from reports.gates import Gate, tightest_ms

LAG_LIMIT_MS: Final = 5.0  # p99 of the load's own lateness that is always allowed
LAG_SHARE: Final = 0.1  # of the tightest latency gate: lateness below it does not change its answer


class Exit(IntEnum):
    """Exit statuses of ``chatproof``."""

    PASS = 0  # every gate holds and the history is valid
    GATE = 1  # a threshold gate failed
    USAGE = 2  # bad arguments, or a scenario, gates file or run directory that cannot be used
    INTEGRITY = 3  # a message was lost, repeated, reordered …: a gated class is not empty
    UNKNOWN = 4  # nothing wrong was seen, but not enough was exercised or checked to say valid
    VOID = 5  # the harness was the limit: the run accuses and acquits nobody
    INTERNAL = 70  # a defect of chatproof
    INTERRUPTED = 130  # by Ctrl-C


PRECEDENCE: Final = (
    Exit.INTERNAL,
    Exit.USAGE,
    Exit.INTEGRITY,
    Exit.VOID,
    Exit.GATE,
    Exit.UNKNOWN,
    Exit.PASS,
)


def worst(exits: Iterable[Exit]) -> Exit:
    """The exit that counts when several apply; PASS when none does."""
    return min({*exits, Exit.PASS}, key=PRECEDENCE.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassVerdict:
    """One anomaly class as far as the verdict needs it."""

    name: str
    title: str
    count: int
    gated: bool
    unknown: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """``void`` and ``reasons``: a sentence each; ``reasons`` say why a verdict is unknown."""

    verdict: str  # of the history: "valid", "invalid" or "unknown"
    void: tuple[str, ...]
    reasons: tuple[str, ...]
    exit: Exit
    sentence: str

    @property
    def word(self) -> str:
        """The outcome in one word or two, as the report's headline."""
        return {
            Exit.PASS: "pass",
            Exit.GATE: "gate failed",
            Exit.INTEGRITY: "invalid" if self.verdict == "invalid" else "integrity gate failed",
            Exit.UNKNOWN: "unknown",
            Exit.VOID: "void",
        }[self.exit]


def void_reasons(
    run: Mapping[str, Any],
    *,
    log_faults: Sequence[str],
    lost_records: int,
    workers: Iterable[Mapping[str, Any]],
    faults: Iterable[Mapping[str, Any]],
    gates: Sequence[Gate],
    missed: Sequence[str] = (),
) -> list[str]:
    """Why the run cannot be believed, a sentence each; [] when it can.

    Args:
        run: run.json.
        log_faults: torn, missing or miscounted worker logs, of ``Ingest.reasons``.
        lost_records: that workers could not write, by their LOST_LOG records.
        workers: counters of each load worker.
        faults: lines of faults.jsonl.
        missed: figures that were not as predicted, of ``prediction.held``.
    """
    reasons = _told_by_the_run(run)
    status = run.get("status")
    if status == "aborted":
        reasons.append("the run was aborted: what it shows is partial")
    elif status != "complete":
        reasons.append(f"the run has status {status!r}: it never came to its end")
    reasons += log_faults
    if lost_records:
        reasons.append(f"{wording.plural(lost_records, 'record')} could not be written by the load workers")
    for worker in workers:
        lag = worker.get("lag_p99_ms")
        limit = lag_limit_ms(gates)
        if isinstance(lag, int | float) and lag > limit:
            reasons.append(
                f"worker {worker.get('worker')} ran late: p99 of its lag is {wording.ms(lag)}, "
                f"more than {wording.ms(limit)}; the load was not what the scenario says"
            )
    clock_ms, limit = clock_uncertainty_ms(run), lag_limit_ms(gates)
    if clock_ms is not None and clock_ms > limit:
        reasons.append(
            f"the clocks of the load's hosts are known to ± {wording.ms(clock_ms)} only, of "
            f"{wording.ms(limit)} that are allowed: latency from one host to another cannot be told"
        )
    for line in faults:
        if line.get("kind") == "exit" and line.get("role") == "harness" and not line.get("planned"):
            how = line.get("signal") or f"code {line.get('code')}"
            reasons.append(f"{line.get('process')}, a process of the harness, ended by itself ({how})")
    return list(dict.fromkeys([*reasons, *missed]))


def _told_by_the_run(run: Mapping[str, Any]) -> list[str]:
    told = run.get("void") or []
    problems = run.get("problems") or []
    if told is True:
        return [str(problem) for problem in problems] or ["run.json says void and gives no reason"]
    return [str(reason) for reason in told]


def clock_uncertainty_ms(run: Mapping[str, Any]) -> float | None:
    """How far the times of two load workers may be apart; None: all of them are on this host."""
    clocks = host_clocks(run)
    return uncertainty_ns(clocks) / 1e6 if clocks else None


def lag_limit_ms(gates: Iterable[Gate]) -> float:
    """p99 of the load's lateness above which a run is void: max(5 ms, 10 % of the tightest latency gate).

    The uncertainty of clocks may be as large.
    """
    return max(LAG_LIMIT_MS, LAG_SHARE * (tightest_ms(gates) or 0.0))


def idle_faults(found: Iterable[FaultEffect], *, aborted: bool) -> list[str]:
    """A reason for each planned fault without an effect; after an abort, only for those applied."""
    return [
        f"fault {effect.id} ({effect.kind}) had no measured effect: {effect.why_not}"
        for effect in found
        if not effect.had_effect and not (aborted and effect.applied_s is None)
    ]


def judge(
    *,
    checked: str,
    check_reasons: Sequence[str],
    classes: Sequence[ClassVerdict],
    idle: Sequence[str],
    results: Sequence[GateResult],
    void: Sequence[str],
    deliveries: int,
    acked: int,
    unjudged: Sequence[str] = (),
    forked_away: int = 0,
    by_hand: bool = False,
) -> Judgement:
    """Weigh everything.

    Args:
        checked: the checks' own verdict on the history.
        check_reasons: why it is unknown, of the checks.
        idle: of ``idle_faults``.
        void: of ``void_reasons``; failed validity gates are added here.
        deliveries, acked: how much the verdict stands on.
        unjudged: of "lost", "duplicated", "reordered" what the server does not wholly promise to prevent.
        forked_away: acked messages that went with a fork which was declared.
        by_hand: the load was steered by hand, so there are no gates.
    """
    failed = [r for r in results if r.verdict is GateVerdict.FAIL]
    undecided = [r for r in results if r.verdict is GateVerdict.UNKNOWN]
    void = [
        *void,
        *(f"validity gate {r.id} failed: {failure(r)}" for r in failed if r.kind == "validity"),
    ]
    bad = [c for c in classes if c.gated and c.count]
    reasons = [*check_reasons, *idle]
    verdict = "invalid" if bad or checked == "invalid" else "valid"
    if verdict == "valid" and (reasons or checked == "unknown"):
        verdict = "unknown"
    integrity = [r for r in failed if r.kind == "integrity"]
    threshold = [r for r in failed if r.kind == "threshold"]
    exit_ = worst(
        [
            *([Exit.INTEGRITY] if verdict == "invalid" or integrity else []),
            *([Exit.VOID] if void else []),
            *([Exit.GATE] if threshold else []),
            *([Exit.UNKNOWN] if verdict == "unknown" or undecided else []),
        ]
    )
    sentence = {
        Exit.INTEGRITY: lambda: _broken(bad, integrity),
        Exit.VOID: lambda: _first_of(void),
        Exit.GATE: lambda: _gates_failed(threshold, len(results)),
        Exit.UNKNOWN: lambda: _first_of(reasons or [f"gate {r.id}: {r.why}" for r in undecided]),
        Exit.PASS: lambda: _passed(results, deliveries, acked, unjudged, forked_away, by_hand),
    }[exit_]()
    return Judgement(verdict=verdict, void=tuple(void), reasons=tuple(reasons), exit=exit_, sentence=sentence)


_OPERATOR: Final = re.compile(r"\s*(<=|>=|==|!=|<|>)\s*")


def failure(result: GateResult) -> str:
    """What a failed gate asked for and what was there, without its name."""
    if result.actual is None:
        return f"{result.metric} {result.condition}: {result.why}"
    stat, op, _ = _OPERATOR.split(result.condition, maxsplit=1)
    actual, limit = (wording.figure(x, result.unit) for x in (result.actual, result.threshold))
    told = f"{result.metric} {stat} is {actual}, must be {op} {limit}"
    return told + (f" ({result.why})" if result.why else "")


def _broken(bad: Sequence[ClassVerdict], integrity: Sequence[GateResult]) -> str:
    if bad:
        told = ", ".join(f"{c.name} {c.title} × {wording.count(c.count)}" for c in bad[:4])
        more = f" and {wording.plural(len(bad) - 4, 'class', 'classes')} more" if len(bad) > 4 else ""
        return f"The contract was broken: {told}{more}."
    told = "; ".join(f"{r.id}: {failure(r)}" for r in integrity)
    return f"{_headline(len(integrity), 'integrity gate')}: {told or 'the checks found the history invalid'}."


def _first_of(reasons: Sequence[str]) -> str:
    if not reasons:
        return "The checks could not decide."
    first = reasons[0].rstrip(".")
    if "://" not in first.split(maxsplit=1)[0]:  # an address stays as it is
        first = first[:1].upper() + first[1:]
    return first + (f"; and {wording.plural(len(reasons) - 1, 'more reason')}." if len(reasons) > 1 else ".")


def _gates_failed(failed: Sequence[GateResult], total: int) -> str:
    told = "; ".join(f"{r.id}: {failure(r)}" for r in failed[:3])
    more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
    return f"{len(failed)} of {wording.plural(total, 'gate')} failed: {told}{more}."


def _headline(n: int, what: str) -> str:
    return f"{wording.plural(n, what)} failed"


def _passed(
    results: Sequence[GateResult],
    deliveries: int,
    acked: int,
    unjudged: Sequence[str],
    forked_away: int,
    by_hand: bool,
) -> str:
    held = "its one gate holds" if len(results) == 1 else f"all {len(results)} gates hold"
    none = "the load was steered by hand, so no gate was judged" if by_hand else "no gate was set"
    gates = f"; {held if results else none}"
    judged = [name for name in ("lost", "duplicated", "reordered") if name not in unjudged]
    found = f"none {wording.either(judged)}" if judged else "nothing that was promised is missing"
    less = f"; this server does not promise that none is {wording.either(unjudged)}" if unjudged else ""
    gone = (
        f"; {wording.plural(forked_away, 'acknowledged message')} went with a fork that the server declared"
        if forked_away
        else ""
    )
    return (
        f"All {wording.plural(acked, 'acknowledged message')} and {wording.count(deliveries)} deliveries are "
        f"accounted for: {found}{gone}{less}{gates}."
    )
