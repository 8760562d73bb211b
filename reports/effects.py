"""What each fault did, measured from the clients' records and the processes' exits.

The engine's word is not enough: a fault that was applied and changed nothing proves
nothing about the server, so a planned fault with no measured effect makes a run's
verdict unknown. A kind is measured by one of the functions in EFFECTS; to add a kind, add a line there.

Clients are affected by parity: proxy ``a`` carries the even ordinals, ``b`` the odd ones; a
fault on a process affects all, and a fault that named its ordinals affects those. Of several nodes, a fault
on one, or on its wires, affects who was connected to it when it began (``reports.nodes``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from reports.connection_effects import CONNECTION_EFFECTS, PATIENT, behind, closes_in
from reports.history import Flag, Kind
from reports.latency import samples
from reports.link_effects import LINK_EFFECTS
from reports.loop_lag import SAMPLED_NS, lag_rise_s
from reports.message_effects import LASTING, MESSAGE_EFFECTS, touched
from reports.nodes import REPLICA_LINK
from reports.nodes import windows as windows_of
from reports.periods import NS, FaultWindow, seconds, start_ns
from reports.process_effects import MIN_STALL_SHARE, PROCESS_EFFECTS, own

if TYPE_CHECKING:
    from reports.history import History

SLOWING: Final = frozenset(
    {"latency", "bandwidth", "slicer", "loop_block", "disk_full", *LASTING, *PATIENT}
)  # kinds that mean to end no connection
GRACE_NS: Final = 2 * NS  # after a revert: undoing `timeout` closes, and a peer notices an end late
MIN_SHIFT_MS: Final = 1.0  # a smaller shift of a median is the host's noise, not an effect
MIN_SHIFT_SHARE: Final = 0.2  # and so is one below this share of the median before
MIN_TAIL_SHIFT_MS: Final = 5.0  # of p90, which shifts alone when only some connections are hit
COMMITTED_NS: Final = NS // 20  # from a fault's begin until its limit is surely in force
_BASELINE_NS: Final = (2 * NS, 30 * NS)  # shortest and longest stretch before a fault to compare with
_MIN_SAMPLES: Final = 5  # a median of fewer says nothing


@dataclass(frozen=True, slots=True)
class Measured:
    """What a measuring function found: figures by name, and why they show no effect, if they do not."""

    figures: dict[str, Any]
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultEffect:
    """One planned fault and its measured effect. Times are seconds since the start of the schedule.

    ``effects``: figures by name, with their unit in the name (``closes``, ``shift_ms``, ``stall_s``).
    ``why_not``: one clause, empty when it had an effect.
    """

    id: str
    kind: str
    target: str
    planned_s: float | None
    applied_s: float | None
    reverted_s: float | None
    effects: dict[str, Any] = field(default_factory=dict)
    had_effect: bool = False
    why_not: str = ""
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All that a measuring function sees: the history, the fault's window and those of the others."""

    history: History
    window: FaultWindow
    begin_ns: int
    end_ns: int  # of the window; the last record where no revert was recorded
    closes: pl.DataFrame  # of `sessions.closes`
    others: Sequence[FaultWindow]
    daemon: pl.DataFrame | None = None  # samples of chatd's own figures

    def affected(self) -> pl.Expr:
        return affected(self.window)

    def quiet(self, span_ns: int) -> tuple[int, int]:
        """The stretch before the window, at most so long, in which no other fault showed any more."""
        mine = [w for w in self.others if w.applied_ns is not None and w.applied_ns <= self.begin_ns]
        open_ = [w.applied_ns for w in mine if w.until(self.end_ns) > self.begin_ns]
        over = [w.until(self.end_ns) + GRACE_NS for w in mine if w.until(self.end_ns) <= self.begin_ns]
        hi = min([self.begin_ns, *(t for t in open_ if t is not None)])
        return max([self.begin_ns - span_ns, *over]), hi

    def grace_ns(self) -> int:
        """Until when an ending connection is still this fault's doing: not past the next fault's start."""
        return grace_end(self.end_ns, self.others)


def affected(window: FaultWindow) -> pl.Expr:
    """Whether ``client`` is one that the fault was aimed at."""
    if window.ordinals is not None:
        return pl.col("client").is_in(sorted(window.ordinals))
    parity = window.parity()
    return pl.lit(True) if parity is None else pl.col("client") % 2 == parity


def grace_end(end_ns: int, others: Sequence[FaultWindow]) -> int:
    """End of a window, plus GRACE_NS, cut where a later fault begins."""
    later = [w.applied_ns for w in others if w.applied_ns is not None and w.applied_ns >= end_ns]
    return min([end_ns + GRACE_NS, *later])


def effects(history: History, closes: pl.DataFrame, daemon: pl.DataFrame | None = None) -> list[FaultEffect]:
    """The measured effect of every planned fault, in the order of planning.

    Args:
        closes: every CLOSE, of ``sessions.closes``.
        daemon: metrics/chatd.parquet, where the run has it.
    """
    zero, windows = start_ns(history.run), windows_of(history)
    last = history.scan().select(pl.col("t").max()).collect().item()
    return [
        _effect(history, window, [w for w in windows if w is not window], closes, daemon, zero, last or zero)
        for window in windows
    ]


def _effect(
    history: History,
    window: FaultWindow,
    others: list[FaultWindow],
    closes: pl.DataFrame,
    daemon: pl.DataFrame | None,
    zero: int,
    last_ns: int,
) -> FaultEffect:
    found = Measured({}, "it was planned and never applied")
    if window.applied_ns is not None:
        scene = Scene(
            history=history,
            window=window,
            begin_ns=window.applied_ns,
            end_ns=max(window.until(last_ns), window.applied_ns),
            closes=closes,
            others=others,
            daemon=daemon,
        )
        found = _measure(window)(scene)
    return FaultEffect(
        id=window.id,
        kind=window.kind,
        target=window.target,
        planned_s=seconds(window.planned_ns, zero),
        applied_s=seconds(window.applied_ns, zero),
        reverted_s=seconds(window.reverted_ns, zero),
        effects=found.figures,
        had_effect=not found.why_not,
        why_not=found.why_not,
        errors=window.errors,
    )


# ── cut connections ───────────────────────────────────────────────────────────────────────


def _cut(scene: Scene) -> Measured:
    figures = closes_in(scene)
    return Measured(figures, "" if figures["closes"] else "no connection of its clients ended in its window")


def _slow_close(scene: Scene) -> Measured:
    found = _cut(scene)
    if found.why_not:
        return Measured(
            found.figures, "it holds back only the end of a connection, and none ended in its window"
        )
    return found


def _timeout(scene: Scene) -> Measured:
    """Drops data, then closes: either is its trace. So it is of one node of several that stands still: its
    clients give it up and go on elsewhere."""
    closes, stall = closes_in(scene), _stall(scene)
    figures = closes | stall.figures
    if closes["closes"] or not stall.why_not:
        return Measured(figures)
    return Measured(figures, "no connection of its clients ended and their deliveries went on")


# ── slow the wire ─────────────────────────────────────────────────────────────────────────


def _shift(scene: Scene) -> Measured:
    """Shift of latency, during against before, of affected clients, less that of the others."""
    figures: dict[str, Any] = {}
    shifted = compared = False
    for name in ("delivery", "ack"):
        hit, control = _before_and_during(scene, name, hit=True), _before_and_during(scene, name, hit=False)
        if hit is None:
            continue
        compared = True
        drift = {q: max(0.0, control[f"shift_{q}_ms"]) if control else 0.0 for q in ("p50", "p90")}
        shifted |= hit["shift_p50_ms"] - drift["p50"] >= max(
            MIN_SHIFT_MS, MIN_SHIFT_SHARE * hit["before_p50_ms"]
        )
        shifted |= hit["shift_p90_ms"] - drift["p90"] >= max(
            MIN_TAIL_SHIFT_MS, MIN_SHIFT_SHARE * hit["before_p90_ms"]
        )
        figures |= {f"{name}_{key}": value for key, value in hit.items()}
        if control:
            figures[f"{name}_control_shift_p50_ms"] = control["shift_p50_ms"]
    if not compared:
        return Measured(figures, "too few messages before or during it to compare their latency")
    return Measured(figures, "" if shifted else "the latency of its clients did not shift")


def _before_and_during(scene: Scene, name: str, *, hit: bool) -> dict[str, float] | None:
    """p50 and p90 of a class before and during the window, ms; None with too few samples.

    Before: without the time in which clients come back from another fault, if that leaves enough.
    """
    return _compared(scene, name, hit=hit, grace_ns=GRACE_NS) or _compared(scene, name, hit=hit, grace_ns=0)


def _compared(scene: Scene, name: str, *, hit: bool, grace_ns: int) -> dict[str, float] | None:
    span = min(max(scene.end_ns - scene.begin_ns, _BASELINE_NS[0]), _BASELINE_NS[1])
    due = pl.col("due_ns")
    during = (due >= scene.begin_ns) & (due < scene.end_ns)
    before = (due >= scene.begin_ns - span) & (pl.col("end_ns") < scene.begin_ns)
    for other in scene.others:
        mended_ns = other.until(scene.end_ns) + grace_ns
        if other.applied_ns is not None and mended_ns > scene.begin_ns - span:
            before &= (pl.col("end_ns") < other.applied_ns) | (due >= mended_ns)
    who = scene.affected() if hit else ~scene.affected()
    took = pl.col("took_ns")
    table = (
        samples(scene.history, name)
        .filter(who & (during | before))
        .group_by(during=during)
        .agg(n=pl.len(), p50=took.quantile(0.5) / 1e6, p90=took.quantile(0.9) / 1e6)
        .collect()
    )
    rows = {row["during"]: row for row in table.to_dicts()}
    if any(rows.get(side, {"n": 0})["n"] < _MIN_SAMPLES for side in (False, True)):
        return None
    then, now = rows[False], rows[True]
    figures = {f"before_{q}_ms": round(then[q], 3) for q in ("p50", "p90")}
    return figures | {f"shift_{q}_ms": round(now[q] - then[q], 3) for q in ("p50", "p90")}


def _slicer(scene: Scene) -> Measured:
    found = _shift(scene)
    if found.why_not:
        return Measured(
            found.figures, found.why_not + "; slices without a delay leave no trace in the records"
        )
    return found


# ── stop and kill processes ───────────────────────────────────────────────────────────────


def _stall(scene: Scene, *, before_ns: int = 10 * NS) -> Measured:
    """Longest silence of the server towards the affected clients that begins inside the window.

    Args:
        before_ns: how long before it there must have been none as long, other faults' windows left out.
    """
    heard = (
        scene.history.scan()
        .filter(
            pl.col("kind").is_in([int(Kind.RECV), int(Kind.ACK), int(Kind.LIVE)])
            & (pl.col("client") != 0)
            & scene.affected()
        )
        .select(pl.col("t").alias("t"))
        .filter(pl.col("t").is_between(scene.begin_ns - before_ns, scene.end_ns + 10 * NS))
        .collect()["t"]
        .sort()
    )
    window_s = (scene.end_ns - scene.begin_ns) / NS
    if not len(heard) or window_s <= 0:
        return Measured({}, "nothing was delivered around it, so a silence cannot be seen")
    points = [scene.begin_ns, *heard.filter(heard.is_between(scene.begin_ns, scene.end_ns)), scene.end_ns]
    longest = max(b - a for a, b in pairwise(points))
    lo, hi = scene.quiet(before_ns)
    quiet = heard.filter(heard.is_between(lo, hi, closed="left")).diff().max() if hi > lo else None
    before = None if quiet is None else int(quiet)  # type: ignore[arg-type]
    figures = {
        "stall_s": round(longest / NS, 3),
        "longest_silence_before_s": None if before is None else round(before / NS, 3),
    }
    if longest / NS < MIN_STALL_SHARE * window_s:
        return Measured(figures, f"deliveries went on: the longest silence was {longest / NS:.3f} s")
    if before is not None and before >= longest:
        return Measured(figures, "the silence inside it is no longer than the silences before it")
    return Measured(figures)


def _blocks(scene: Scene) -> Measured:
    """A silence of the server about as long as a block was asked to be; or, where another fault on the wire
    smears what it sent before over it, as much lag of the loop as chatd itself counted."""
    asked_ms = [
        int(step["ms"])
        for line in own(scene)
        if line.get("phase") == "engine_effect"
        for step in line.get("effect") or ()
        if step.get("hook") == "block"
    ]
    if not asked_ms:
        return Measured({}, "its process was never asked to block")
    found = _stall(scene, before_ns=2 * NS)
    figures = {"blocks": len(asked_ms), "block_ms": max(asked_ms)} | found.figures
    during = scene.begin_ns, scene.end_ns + SAMPLED_NS
    if (
        lag_s := lag_rise_s(scene.daemon, during, scene.quiet(10 * NS), process=scene.window.target)
    ) is not None:
        figures["loop_lag_s"] = round(lag_s, 3)
        if lag_s * 1000 >= MIN_STALL_SHARE * max(asked_ms):
            return Measured(figures)
    if "stall_s" not in figures:
        return Measured(figures, found.why_not)
    stall_s, before_s = figures["stall_s"], figures["longest_silence_before_s"] or 0.0
    if stall_s * 1000 < MIN_STALL_SHARE * max(asked_ms):
        return Measured(figures, f"deliveries went on: the longest silence was {stall_s:.3f} s")
    if stall_s <= before_s:
        return Measured(figures, "the silence inside it is no longer than the silences before it")
    return Measured(figures)


def _no_room(scene: Scene) -> Measured:
    """No publish that was first sent while it lasted was acked, though some were."""
    kinds = [int(kind) for kind in (Kind.SEND, Kind.ACK, Kind.NACK)]
    rows = (
        scene.history.scan()
        .filter(pl.col("kind").is_in(kinds) & (pl.col("client") != 0))
        .filter(pl.col("t").is_between(scene.begin_ns, scene.end_ns))
        .select("kind", "t", "publisher", "pub_seq", again=pl.col("flags") & int(Flag.RETRY | Flag.DUPLICATE))
        .collect()
    )
    late = pl.col("t") >= scene.begin_ns + COMMITTED_NS  # the limit is in force by then
    sent = rows.filter((pl.col("kind") == int(Kind.SEND)) & (pl.col("again") == 0) & late)
    answers = rows.join(sent.select("publisher", "pub_seq"), on=["publisher", "pub_seq"], how="semi")
    acks = answers.filter((pl.col("kind") == int(Kind.ACK)) & (pl.col("again") == 0)).height
    nacks = answers.filter(pl.col("kind") == int(Kind.NACK)).height
    figures = {"sent": sent.height, "nacks": nacks, "acks": acks}
    if acks:
        return Measured(figures, f"{acks} publishes were acked while no write could succeed")
    return Measured(figures, "" if sent.height else "nothing was sent while it lasted")


# ── change single messages, connections, streams ────────────────────────────────────────────


def _by(measured: Callable[[Scene], tuple[dict[str, Any], str]]) -> Callable[[Scene], Measured]:
    return lambda scene: Measured(*measured(scene))


def _held(scene: Scene) -> Measured:
    figures, untouched = touched(scene)
    shift = _shift(scene)
    return Measured(figures | shift.figures, untouched or shift.why_not)


def _slower(scene: Scene) -> Measured:
    """All messages come later, or a few much later."""
    shift, (tail, none_late) = _shift(scene), CONNECTION_EFFECTS[scene.window.kind](scene)
    return Measured(shift.figures | tail, none_late if shift.why_not else "")


def _any_trace(scene: Scene) -> Measured:
    """For a kind without a line in EFFECTS: closes, or a shift of latency."""
    closes, shift = closes_in(scene), _shift(scene)
    figures = closes | shift.figures
    if closes["closes"] or not shift.why_not:
        return Measured(figures)
    return Measured(figures, "no connection of its clients ended and " + shift.why_not)


def _measure(window: FaultWindow) -> Callable[[Scene], Measured]:
    """How the effect of a fault is measured: by its kind, or by what it was aimed at."""
    if window.target == REPLICA_LINK:
        return _by(behind)  # whatever holds the replica up
    if window.on_link and window.kind in LINK_EFFECTS:
        return _by(LINK_EFFECTS[window.kind])
    return EFFECTS.get(window.kind, _any_trace)


EFFECTS: Final[dict[str, Callable[[Scene], Measured]]] = {
    "down": _cut,
    "reset_peer": _cut,
    "limit_data": _cut,
    "slow_close": _slow_close,
    "timeout": _timeout,
    "latency": _shift,
    "bandwidth": _shift,
    "slicer": _slicer,
    "pause": lambda scene: _stall(scene) if scene.window.ordinals is None else _timeout(scene),
    "loop_block": _blocks,
    "disk_full": _no_room,
    "frame_delay": _held,
    **{
        kind: _by(measured)
        for kind, measured in {**MESSAGE_EFFECTS, **CONNECTION_EFFECTS, **PROCESS_EFFECTS}.items()
    },
    "loss": _slower,
    "delay": _slower,
}
