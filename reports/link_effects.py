"""Effects of faults that end a node's connections to its broker. No client's connection goes through a link,
so their records need not show any: the node's clients stay where they are, and what it did not hear it reads
from the log. What is asked is the node itself, which counts each channel that it holds in doubt for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from reports.connection_effects import closes_in
from reports.counters import growth
from reports.loop_lag import SAMPLED_NS
from reports.message_effects import Found
from reports.periods import LINK, start_ns

if TYPE_CHECKING:
    from reports.effects import Scene

COLUMN: Final = "chatd_bus_doubts_total"
MIN_RISE: Final = 2.0  # of the doubts that come about in as long a time without it


def doubted(scene: Scene) -> Found:
    """Channels that its nodes came to doubt while it lasted or shortly after, by their own count."""
    nodes = "chatd-" + scene.window.target.removeprefix(LINK)
    during = scene.begin_ns, scene.grace_ns() + SAMPLED_NS
    before = max(2 * during[0] - during[1], start_ns(scene.history.run)), during[0]
    found, then = (growth(scene.daemon, COLUMN, each, process=nodes) for each in (during, before))
    figures: dict[str, Any] = closes_in(scene)
    if found is None:
        return figures, f"{nodes} did not tell {COLUMN}, by which a broken link is known"
    figures |= {"doubts": int(found), "doubts_before": int(then or 0)}
    usual = (then or 0.0) * (during[1] - during[0]) / max(1, before[1] - before[0])
    if found > MIN_RISE * usual:
        return figures, ""
    return figures, f"{nodes} doubted what it heard from the broker no more often than before"


LINK_EFFECTS: Final[Mapping[str, Callable[[Scene], Found]]] = dict.fromkeys(
    (
        "down",
        "reset_peer",
        "limit_data",
        "limit_time",
        "disconnect",
        "half_open",
        "half_close",
        "flap",
        "storm",
        "timeout",
    ),
    doubted,
)
