"""Workers on other hosts, as the master knows them: who they are, what their clocks show, what they send.

No sockets: ``master`` passes in what they say and sends what is to be said. That the versions match is
asked of everyone, because each worker draws the schedule itself: another numpy may draw another one.
"""

from __future__ import annotations

import platform
from collections.abc import Collection as Sized
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from .clock import Reading, Watch, read
from .collect import Collection, Missing

SAME: Final = ("chatproof", "numpy")  # distributions of which a worker must have the master's version
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def versions() -> dict[str, str]:
    """Of this process, what must be the same on all hosts of a run."""
    return {name: version(name) for name in SAME}


def introduction() -> dict[str, Any]:
    """What a worker says of itself when it comes to a master on another host."""
    boot_id = _BOOT_ID.read_text().strip()
    return {"index": 0, "host": platform.node(), "boot_id": boot_id, "versions": versions()}


@dataclass(slots=True)
class Host:
    """Where a worker is, and what has come of it."""

    name: str
    boot_id: str
    records: str = ""  # the directory that it records into
    watch: Watch = field(default_factory=Watch)
    collection: Collection | None = None
    heard_s: float = 0.0  # when a piece came last


class Guests:
    """The workers of a run that are all on other hosts; ``workers`` of them are waited for."""

    def __init__(self, events: Path, workers: int) -> None:
        self._events, self._workers = events, workers
        self.hosts: dict[int, Host] = {}

    # Who comes ----------------------------------------------------------------------------------------

    def number(self, said: Mapping[str, Any], *, taken: Sized[int]) -> int:
        """The number of a worker that comes now: the lowest that is free; 0: there is none left."""
        return next((index for index in range(1, self._workers + 1) if index not in taken), 0)

    def why_not(self, said: Mapping[str, Any], index: int) -> str:
        """Why a worker cannot take part; empty: it can."""
        theirs, ours = said.get("versions"), versions()
        if not isinstance(theirs, Mapping):
            return "it does not say its versions: start it with chatproof load --worker"
        if theirs != ours:
            return (
                f"the worker has {_told(theirs)}, and the master has {_told(ours)}: install the same on both"
            )
        return "" if index else f"all {self._workers} workers are there already"

    def host_in(self, said: Mapping[str, Any]) -> str:
        """The name of the host that a worker says it is on."""
        return str(said.get("host", "?"))[:100]

    def welcome(self, index: int, said: Mapping[str, Any]) -> None:
        """Take a worker in."""
        self.hosts[index] = Host(self.host_in(said), str(said.get("boot_id", ""))[:100])

    def whereabouts(self, index: int) -> str:
        """For the end of a sentence about a worker: where it is and has its records."""
        host = self.hosts[index]
        kept = f", which keeps its records in {host.records}" if host.records else ""
        return f" (on {host.name}{kept})"

    # Their clocks -------------------------------------------------------------------------------------

    @property
    def compared(self) -> bool:
        """Whether all workers are there and their clocks are known."""
        return len(self.hosts) == self._workers and all(host.watch.readings for host in self.hosts.values())

    def heard(self, said: Mapping[str, Any], now_ns: int) -> Reading | None:
        """Take in the answer to a question for the time; a reading, when one is to be kept."""
        told = read(asked_ns=said["asked_ns"], worker_ns=said["worker_ns"], answered_ns=now_ns)
        return self.hosts[said["index"]].watch.add(told)

    def close(self) -> list[tuple[int, Reading]]:
        """The last readings, of what was compared since those before."""
        last = [(index, host.watch.close()) for index, host in sorted(self.hosts.items())]
        return [(index, reading) for index, reading in last if reading is not None]

    def ahead_ns(self) -> list[int]:
        """By how much the master's clock is ahead now, of worker 1, 2, …"""
        return [self.hosts[index].watch.readings[-1].offset_ns for index in range(1, self._workers + 1)]

    # Their records ------------------------------------------------------------------------------------

    def announce(self, index: int, files: Any, now_s: float) -> None:
        """A worker has closed its files and says which they are.

        Raises:
            NotCollected: they are no files of its log.
        """
        self.hosts[index].collection, self.hosts[index].heard_s = (
            Collection(self._events, index, files),
            now_s,
        )

    def take(self, index: int, name: str, offset: int, data: bytes, now_s: float) -> None:
        """A piece has come. Raises ``NotCollected`` where it cannot be used; nothing more is asked for."""
        host = self.hosts[index]
        if host.collection is not None:
            host.heard_s = now_s
            try:
                host.collection.take(name, offset, data)
            except Exception:
                host.collection.abandon()
                raise

    def wanted(self, index: int) -> Missing | None:
        """What to ask a worker for; None: nothing. Raises ``NotCollected``, as ``take``."""
        collection = self.hosts[index].collection
        if collection is None:
            return None
        try:
            return collection.next()
        except Exception:
            collection.abandon()
            raise

    def is_complete(self, index: int) -> bool:
        """Whether all files of a worker are there."""
        collection = self.hosts[index].collection
        return collection is not None and collection.complete

    def under_way(self) -> list[int]:
        """Workers whose files are still coming."""
        return [i for i, h in self.hosts.items() if h.collection is not None and h.collection.under_way]

    def give_up(self, index: int, since_s: float) -> bool:
        """Give up on a worker from which nothing has come since then; whether that was so."""
        host = self.hosts[index]
        if host.collection is None or host.heard_s >= since_s:
            return False
        host.collection.abandon()
        return True

    @property
    def got_bytes(self) -> int:
        """Of all that was announced, what is here."""
        return sum(host.collection.got_bytes for host in self.hosts.values() if host.collection)

    @property
    def of_bytes(self) -> int:
        """All that was announced."""
        return sum(host.collection.total_bytes for host in self.hosts.values() if host.collection)


def _told(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {found.get(name, 'of no version')}" for name in SAME)
