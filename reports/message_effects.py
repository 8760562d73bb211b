"""Effects of faults on single messages: what the proxy counted, and what the clients' records show of it.

Of a fault that a network can have, both are asked: a message that was touched, and the trace that it must
leave (ended connections, refused publishes, a shift of latency). Fragments leave none, so there the count
must do. Of a fault that only tests the checker the count is the effect: its trace in the records is what the
checks are to find, and judging it here as well would ask the same question twice. The figures from the
records stand beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from reports.history import Flag, Kind

if TYPE_CHECKING:
    from reports.effects import Scene

LASTING: Final = frozenset(  # kinds that mean to end no connection
    f"frame_{action}" for action in "delay fragment drop duplicate swap corrupt rewrite move inject".split()
)
Found = tuple[dict[str, Any], str]  # figures; why there is no effect, or ""


def counted(scene: Scene, name: str) -> int | None:
    """A figure of the fault's toxics, over all proxies; None when none was recorded."""
    own = [line for line in scene.history.faults if line.get("id") == scene.window.id]
    steps = [step for line in own for step in line.get("effect") or () if isinstance(step, Mapping)]
    counts = [step["counts"] for step in steps if isinstance(step.get("counts"), Mapping)]
    return sum(int(each.get(name, 0)) for each in counts) if counts else None


def touched(scene: Scene) -> Found:
    """How many messages the proxy took."""
    taken = counted(scene, "acted")
    if taken is None:
        return {}, "the proxy did not tell how many messages it took"
    seen = counted(scene, "messages") or 0
    figures = {"messages_taken": taken, "messages_seen": seen}
    return figures, "" if taken else f"the proxy took none of the {seen} messages that it saw"


def refused_or_closed(scene: Scene) -> Found:
    """Publishes that were refused, and connections that ended, of its clients."""
    refused = _rows(scene, Kind.NACK).height
    closes = scene.closes.filter(
        scene.affected() & ~pl.col("on_purpose") & pl.col("t").is_between(scene.begin_ns, scene.grace_ns())
    ).height
    figures = {"refused": refused, "closes": closes}
    return figures, "" if refused or closes else "nothing was refused, and no connection of its clients ended"


def holes(scene: Scene) -> dict[str, Any]:
    """Serials that did not arrive between others that did; publishes that were sent again."""
    retries = _rows(scene, Kind.SEND).filter((pl.col("flags") & int(Flag.RETRY)) != 0).height
    spans = (
        _rows(scene, Kind.RECV)
        .group_by("client", "channel", "epoch")
        .agg(
            (pl.col("serial").max() - pl.col("serial").min() + 1 - pl.col("serial").n_unique()).alias("holes")
        )
    )
    return {"holes": int(spans["holes"].sum()), "retries": retries}


def repeats(scene: Scene) -> dict[str, Any]:
    """Deliveries of a serial that its client had had on this channel."""
    keys = ("client", "channel", "epoch", "serial")
    got = _rows(scene, Kind.RECV)
    return {"repeats": got.height - got.n_unique(subset=keys) if got.height else 0}


def overtaken(scene: Scene) -> dict[str, Any]:
    """Deliveries with a lower serial than the one before on the same channel."""
    step = pl.col("serial").cast(pl.Int64).diff().over("client", "channel", "epoch")
    return {"overtaken": _rows(scene, Kind.RECV).filter(step < 0).height}


def damaged(scene: Scene) -> dict[str, Any]:
    """Deliveries with a wrong digest or without an identity, and frames that could not be read."""
    bad = (pl.col("flags") & int(Flag.BAD_DIGEST | Flag.FOREIGN)) != 0
    figures = {"damaged": _rows(scene, Kind.RECV).filter(bad).height}
    return figures | {"unreadable": _rows(scene, Kind.BAD).height}


def _rows(scene: Scene, kind: Kind) -> pl.DataFrame:
    """Records of a kind, of its clients, while it lasted."""
    during = pl.col("t").is_between(scene.begin_ns, scene.grace_ns())
    return scene.history.scan().filter((pl.col("kind") == int(kind)) & scene.affected() & during).collect()


def honest(trace: Callable[[Scene], Found]) -> Callable[[Scene], Found]:
    """A kind that must have touched a message and left ``trace``."""

    def measured(scene: Scene) -> Found:
        figures, untouched = touched(scene)
        more, traceless = trace(scene)
        return figures | more, untouched or traceless

    return measured


def self_test(trace: Callable[[Scene], dict[str, Any]]) -> Callable[[Scene], Found]:
    """A kind that must have touched a message; what shows of it is for the checks."""

    def measured(scene: Scene) -> Found:
        figures, untouched = touched(scene)
        return figures | trace(scene), untouched

    return measured


MESSAGE_EFFECTS: Final[dict[str, Callable[[Scene], Found]]] = {
    "frame_fragment": touched,
    "frame_oversize": honest(refused_or_closed),
    "frame_bad_mask": honest(refused_or_closed),
    "frame_bad_utf8": honest(refused_or_closed),
    "frame_close": honest(refused_or_closed),
    "frame_suppress_ping": honest(refused_or_closed),
    "frame_drop": self_test(holes),
    "frame_duplicate": self_test(repeats),
    "frame_swap": self_test(overtaken),
    "frame_corrupt": self_test(damaged),
    "frame_rewrite": self_test(damaged),
    "frame_move": self_test(damaged),
    "frame_inject": self_test(damaged),
}
