"""Which class stands where in a daemon: the real ones, or those of the mutant that was chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from ..crashes import DyingHub, dice
from ..crashes import make_store as make_dying_store
from ..hub import Hub
from ..ingest import Ingest
from ..joins import Joins
from ..metrics import Metrics
from ..relay import Relay
from ..session import Session
from ..store import STORES, StoreFactory
from ..store.base import Dedupe, Retain, Store
from .chosen import Chosen, Trigger
from .hub import HUBS
from .ingest import INGESTS
from .joins import JOINS
from .relay import RELAYS
from .session import SESSIONS
from .store import DEDUPES, RETAINS, SQLITE, VALKEY
from .table import CRASHES

TABLES: Final[Mapping[str, Mapping[str, Callable[..., Any]]]] = {
    "dedupe": DEDUPES,
    "retain": RETAINS,
    "hub": HUBS,
    "joins": JOINS,
    "ingest": INGESTS,
    "session": SESSIONS,
    "relay": RELAYS,
}


def _as_it_is(retain: Retain) -> Retain:
    return retain


class Parts(msgspec.Struct, frozen=True):
    """Constructors of the parts that a mutant may stand in for."""

    dedupe: Callable[[float], Dedupe] = Dedupe
    retain: Callable[[Retain], Retain] = _as_it_is
    stores: Mapping[str, StoreFactory] = msgspec.field(default_factory=lambda: STORES)
    hub: Callable[..., Hub] = Hub
    joins: Callable[..., Joins] = Joins
    ingest: Callable[..., Ingest] = Ingest
    session: Callable[..., Session] = Session
    relay: Callable[..., Relay] = Relay


def parts_of(chosen: Chosen | None, metrics: Metrics) -> Parts:
    """The parts of a daemon. Without a mutant they are the real classes themselves."""
    if chosen is None:
        return Parts()
    if chosen.name in CRASHES:
        return _dying(chosen)
    trigger, name = Trigger(chosen, metrics), chosen.name
    stand_ins: dict[str, Any] = {
        part: partial(table[name], trigger=trigger) for part, table in TABLES.items() if name in table
    }
    logs: Mapping[str, Mapping[str, Callable[..., Any]]] = {"sqlite": SQLITE, "valkey": VALKEY}
    broken = {kind: partial(table[name], trigger=trigger) for kind, table in logs.items() if name in table}
    if broken:
        stand_ins["stores"] = {**STORES, **broken}
    return Parts(**stand_ins)


def _dying(chosen: Chosen) -> Parts:
    falls = dice(chosen.probability, chosen.seed)
    if chosen.name.endswith("-fanout"):
        return Parts(hub=lambda flusher: DyingHub(flusher, chosen.name, falls))
    return Parts(stores={kind: partial(_dying_store, kind, chosen.name, falls) for kind in STORES})


def _dying_store(
    kind: str, name: str, falls: Callable[[], bool], where: Path | str, retain: Retain, dedupe: Dedupe
) -> Store:
    return make_dying_store(STORES[kind](where, retain, dedupe), name, falls)
