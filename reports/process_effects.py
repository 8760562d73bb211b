"""Effects of faults on processes, from their exits and starts as faults.jsonl tells them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from reports.connection_effects import closes_in
from reports.message_effects import Found
from reports.periods import NS

if TYPE_CHECKING:
    from reports.effects import Scene

MIN_STALL_SHARE: Final = 0.5  # of its window in which a stopped process must have been silent


def ended(scene: Scene, *, killed: bool) -> Found:
    """Exits of its process, by SIGKILL if it was ``killed``, and that it was started again."""
    mine = own(scene)
    exits = [line for line in mine if line.get("kind") == "exit"]
    starts = [line for line in mine if line.get("kind") == "start"]
    right = [line for line in exits if not killed or line.get("signal") == "SIGKILL"]
    gone = min((int(line["t"]) for line in right), default=None)
    again = [int(s["t"]) for s in starts if gone is not None and int(s["t"]) > gone]
    figures: dict[str, Any] = {"exits": len(exits), "starts": len(again)} | closes_in(scene)
    if again and gone is not None:
        figures["down_s"] = round((min(again) - gone) / NS, 3)
    if not exits:
        return figures, "no process exit was recorded for it"
    if not right:
        ends = ", ".join(str(e.get("signal") or f"code {e.get('code')}") for e in exits)
        return figures, f"its process ended with {ends}, not with SIGKILL"
    handed_on = any("left_to" in step for line in mine for step in line.get("effect") or ())
    if not again and not handed_on:  # of two overlapping kills, the last to end starts the process
        return figures, "its process was never started again"
    return figures, ""


def left(scene: Scene) -> Found:
    """A process that was told to leave: how it went, and that it came back."""
    figures, why_not = ended(scene, killed=False)
    exits = [line for line in own(scene) if line.get("kind") == "exit"]
    if not exits:
        return figures, why_not
    drain = {"drain_s": round((int(exits[0]["t"]) - scene.begin_ns) / NS, 3)}
    forced = {"forced": sum(line.get("signal") == "SIGKILL" or bool(line.get("error")) for line in exits)}
    return figures | drain | forced, why_not


def own(scene: Scene) -> list[dict[str, Any]]:
    """Lines of faults.jsonl that this fault wrote."""
    return [line for line in scene.history.faults if line.get("id") == scene.window.id]


def rolled(scene: Scene) -> Found:
    """Every process that the target means ended, and each was started after that."""
    figures, why_not = left(scene)
    if why_not:
        return figures, why_not
    targets = {str(line.get("process")) for line in scene.history.faults if line.get("role") == "target"}
    last = {line["process"]: int(line["t"]) for line in own(scene) if line.get("kind") == "exit"}
    again = {line["process"]: int(line["t"]) for line in own(scene) if line.get("kind") == "start"}
    missed = [p for p in sorted(targets) if fnmatch(p, scene.window.target) and p not in last]
    if missed:
        return figures, f"the turn of {', '.join(missed)} never came"
    away = [process for process, t in last.items() if again.get(process, 0) < t]
    return figures, f"{', '.join(away)} was never started again" if away else ""


def crashed(scene: Scene) -> Found:
    """A process that was killed more than once, and started again each time."""
    figures, why_not = ended(scene, killed=True)
    if not why_not and figures["exits"] < 2:
        return figures, "its process ended only once"
    return figures, why_not


def load_killed(scene: Scene) -> Found:
    """A load worker that ended with SIGKILL for it."""
    exits = [line for line in own(scene) if line.get("kind") == "exit" and line.get("role") == "harness"]
    killed = sum(line.get("signal") == "SIGKILL" for line in exits)
    return {"exits": len(exits)}, "" if killed else "no load worker ended with SIGKILL for it"


def load_frozen(scene: Scene) -> Found:
    """Longest silence in the records of the worker's own clients."""
    workers = [w for w in scene.history.run.get("workers") or [] if w]
    number = scene.window.target.removeprefix("worker-")
    if not number.isdecimal() or not workers:
        return {}, "the run does not say which clients are its worker's"
    its_own = pl.col("client") % len(workers) == int(number) % len(workers)
    told = (
        scene.history.scan()
        .filter(its_own & (pl.col("client") != 0) & pl.col("t").is_between(scene.begin_ns, scene.end_ns))
        .select("t")
        .collect()["t"]
        .sort()
    )
    longest = max(b - a for a, b in pairwise([scene.begin_ns, *told, scene.end_ns])) / NS
    figures = {"stall_s": round(longest, 3)}
    if longest < MIN_STALL_SHARE * (scene.end_ns - scene.begin_ns) / NS:
        return figures, f"its clients went on: their longest silence was {longest:.3f} s"
    return figures, ""


PROCESS_EFFECTS: Final[Mapping[str, Callable[[Scene], Found]]] = {
    "kill": lambda scene: ended(scene, killed=True),
    "restart": lambda scene: ended(scene, killed=False),
    "term": left,
    "rolling": rolled,
    "crash_loop": crashed,
    "client_kill": load_killed,
    "client_pause": load_frozen,
}
