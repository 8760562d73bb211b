"""How long a dead connection was kept by the side that nobody told: by clients, and by the server.

A fault of kind ``half_open`` ends a connection for one side only. When the client is the one that is not
told, its CLOSE says when it noticed. When it is the server, no client has a record of that connection any
more; what tells is the proxy's own socket, on which the server ends it, and the toxic counts that.

A connection that was still open when the fault was undone counts with the fault's whole length: at least
so long was it kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from reports.history import CONN_OK, Kind
from reports.periods import FaultWindow, fault_windows

if TYPE_CHECKING:
    from reports.history import History

KINDS: Final = frozenset({"half_open"})


@dataclass(frozen=True, slots=True)
class Noticings:
    """``client_ms``: one a client; ``server_ms``: the slowest of each fault, as the proxy tells no other."""

    client_ms: tuple[float, ...] = ()
    server_ms: tuple[float, ...] = ()


def noticings(history: History, closes: pl.DataFrame) -> Noticings:
    """Of all faults that were applied and reverted.

    Args:
        closes: of ``sessions.closes``.
    """
    windows = [w for w in fault_windows(history.faults) if w.kind in KINDS]
    client: list[float] = []
    server: list[float] = []
    for window in windows:
        if window.applied_ns is None or window.reverted_ns is None:
            continue
        length_ms = (window.reverted_ns - window.applied_ns) / 1e6
        steps = _steps(history.faults, window.id)
        if _side(steps) == "client":
            client += _by_clients(history, window, closes, length_ms)
        else:
            server += _by_server(steps, length_ms)
    return Noticings(tuple(client), tuple(server))


def _steps(faults: Iterable[Mapping[str, Any]], fault: str) -> list[Mapping[str, Any]]:
    """What was confirmed of a fault's actions."""
    own = [line for line in faults if line.get("id") == fault]
    return [step for line in own for step in line.get("effect") or () if isinstance(step, Mapping)]


def _side(steps: Iterable[Mapping[str, Any]]) -> str:
    """Who was not told."""
    toxics = [step["toxic"] for step in steps if isinstance(step.get("toxic"), Mapping)]
    sides = [str((toxic.get("attributes") or {}).get("side", "")) for toxic in toxics]
    return next((side for side in sides if side), "client")


def _by_clients(history: History, window: FaultWindow, closes: pl.DataFrame, length_ms: float) -> list[float]:
    """Of the clients that it hit and that were connected when it began."""
    assert window.applied_ns is not None
    begin, ordinals = window.applied_ns, sorted(window.ordinals or ())
    mine = pl.col("client").is_in(ordinals)
    ok = (pl.col("kind") == int(Kind.CONN)) & (pl.col("serial") == CONN_OK)
    last = (
        history.scan()
        .filter(mine & (ok | (pl.col("kind") == int(Kind.CLOSE))) & (pl.col("t") < begin))
        .sort("t")
        .group_by("client")
        .agg(connected=pl.col("kind").last() == int(Kind.CONN))
        .filter("connected")
        .select("client")
        .collect()
    )
    first = closes.filter(mine & (pl.col("t") >= begin)).group_by("client").agg(pl.col("t").min())
    kept_ms = last.join(first, on="client", how="left").select(
        pl.min_horizontal(((pl.col("t") - begin) / 1e6).fill_null(length_ms), pl.lit(length_ms))
    )
    return [float(ms) for ms in kept_ms.to_series().sort()]


def _by_server(steps: Iterable[Mapping[str, Any]], length_ms: float) -> list[float]:
    counts = [step["counts"] for step in steps if isinstance(step.get("counts"), Mapping)]
    found = []
    for each in counts:
        if left := int(each.get("left", 0)):
            kept = left - int(each.get("gave_up", 0))
            found.append(length_ms if kept else float(each.get("gave_up_max_ms", 0)))
    return [max(found)] if found else []
