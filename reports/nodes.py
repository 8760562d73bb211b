"""Of several nodes: who was on which, and which clients a fault on one of them could reach.

A CONN tells the node that accepted it, by the number in which its name ends: ``n2`` is the process
``chatd-2``, and ``link-2`` its wire to the broker. A *stint* is one connection: from that CONN to the next
CLOSE of the client.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from reports.history import CONN_OK, Kind
from reports.periods import FaultWindow, fault_windows

if TYPE_CHECKING:
    from reports.history import History

_OF_ONE: Final = re.compile(r"(?:chatd-|node-|link-|[ab])(\d+)")  # targets that are one node's (chaos.wires)
REPLICA_LINK: Final = "link-replica"  # the target whose clients are none
_PROCESS: Final = re.compile(r"chatd-(\d{1,6})")
_LATEST_NS: Final = 1 << 62
_MOST_TEXT: Final = 60  # characters of a name in faults.jsonl


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One process of a node. ``end_ns`` None: it ran until the end of the run.

    ``ended``: by what, and by which fault, in words. ``planned``: somebody meant it to end.
    """

    begin_ns: int
    end_ns: int | None = None
    ended: str = ""
    planned: bool = True


def node_of(target: str) -> int | None:
    """The node that a fault's target belongs to; None: to all, or to none."""
    found = _OF_ONE.fullmatch(target)
    return int(found[1]) if found else None


def several(history: History) -> bool:
    """Whether the run had more than one node."""
    return len(history.names.nodes) > 2  # the first is no node


def windows(history: History) -> list[FaultWindow]:
    """``fault_windows``, each aimed at who it could reach: of several nodes those clients that were on the
    node of its target when it began."""
    found = fault_windows(history.faults)
    if not several(history) or not any(node_of(window.target) for window in found):
        return found
    served = stints(history)
    return [_narrowed(window, served) for window in found]


def stints(history: History) -> pl.DataFrame:
    """Connections that a node accepted: client, node u32; from_ns, until_ns i64, null while it is open."""
    mine = history.scan().filter(pl.col("client") != 0)
    accepted = (pl.col("kind") == int(Kind.CONN)) & (pl.col("serial") == CONN_OK) & (pl.col("publisher") != 0)
    began = mine.filter(accepted).select("client", node="publisher", from_ns="t").sort("from_ns", "client")
    ended = mine.filter(pl.col("kind") == int(Kind.CLOSE)).select("client", until_ns="t").sort("until_ns")
    return began.collect().join_asof(
        ended.collect(),
        left_on="from_ns",
        right_on="until_ns",
        by="client",
        strategy="forward",
        coalesce=False,
        check_sortedness=False,  # both sides are sorted above; polars cannot see it within groups
    )


def on(served: pl.DataFrame, at_ns: int) -> dict[int, frozenset[int]]:
    """Clients connected at a moment, by node. ``served``: of ``stints``."""
    there = served.filter(_there(at_ns)).group_by("node").agg("client")
    return {int(node): frozenset(clients) for node, clients in there.iter_rows()}


def lifetimes(faults: Sequence[Mapping[str, Any]]) -> dict[int, list[tuple[int, int | None]]]:
    """When each node's process ran, by node: (start, exit) in ns; None: until the end of the run."""
    return {node: [(life.begin_ns, life.end_ns) for life in own] for node, own in lives(faults).items()}


def lives(faults: Sequence[Mapping[str, Any]]) -> dict[int, list[Life]]:
    """Every process of each node, by node, in order of time. A line without a time, or out of order, is left
    out; a process that another follows has ended by then, although nothing says so."""
    found: dict[int, list[Life]] = {}
    for line in faults:
        process = _PROCESS.fullmatch(str(line.get("process") or ""))
        kind, t = line.get("kind"), line.get("t")
        if process is None or kind not in ("start", "exit"):
            continue
        own = found.setdefault(int(process[1]), [])
        since = (own[-1].end_ns or own[-1].begin_ns) if own else 0
        if type(t) is not int or not since <= t < _LATEST_NS:
            continue
        if kind == "start":
            if own and own[-1].end_ns is None:
                own[-1] = replace(own[-1], end_ns=t, ended="exit not recorded")
            own.append(Life(begin_ns=t))
        elif own:
            planned = line.get("planned") is not False
            own[-1] = replace(own[-1], end_ns=t, ended=_ended(line), planned=planned)
    return dict(sorted(found.items()))


def _ended(line: Mapping[str, Any]) -> str:
    """SIGKILL, kill-one; exit 1, not planned."""
    how = str(line.get("signal") or f"exit {line.get('code')}")
    by = str(line.get("id") or "")
    told = [how, by, "not planned" if line.get("planned") is False else ""]
    return ", ".join(part[:_MOST_TEXT] for part in told if part)


def _narrowed(window: FaultWindow, served: pl.DataFrame) -> FaultWindow:
    node = node_of(window.target)
    if node is None or window.applied_ns is None:
        return window
    there = on(served, window.applied_ns).get(node, frozenset())
    return replace(window, ordinals=there if window.ordinals is None else window.ordinals & there)


def _there(at_ns: int) -> pl.Expr:
    return (pl.col("from_ns") <= at_ns) & (pl.col("until_ns").is_null() | (pl.col("until_ns") > at_ns))
