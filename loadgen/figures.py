"""Live figures of a worker, read back from its own log.

The records are in memory anyway, so nothing is counted on the hot path: a few times a second the new
ones are folded with numpy. What is shown therefore is what was recorded.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from reports.history import CONN_ERRNO, CONN_OK, Flag, Kind

from .meters import Histogram, Sparse
from .recorder import Recorder, Records

_REPLAYED = "replayed"
_DIAL, _PUBLISH = "connect", "publish"  # rows of Locust's table that are there when one of them has failed


class Totals(TypedDict):
    """Counts since the start."""

    sent: int  # first attempts
    retries: int
    acked: int
    received: int
    connects: int


class Figures:
    """Folds a recorder's new records; ``totals`` since the start, ``take`` since the last take."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._ahead_ns = np.zeros(2, np.int64)  # by publisher % workers, then of the run itself
        self.totals = Totals(sent=0, retries=0, acked=0, received=0, connects=0)
        self.lag = Histogram()
        self.hiccup = Histogram()
        self.hiccups_ns: list[int] = []
        self._recent_delivery = Histogram()
        self._recent_lag = Histogram()
        self._recent_hiccup = Histogram()
        self._entries = {
            name: LocustEntry(name, method, failed=failed)
            for name, method, failed in (
                ("delivery", "RECV", False),
                (_REPLAYED, "RECV", False),
                ("ack", "SEND", False),
                (_DIAL, "CONN", True),
                (_PUBLISH, "SEND", True),
            )
        }
        self._errors: Counter[tuple[str, str]] = Counter()

    def fold(self, lags_ns: list[int]) -> None:
        """Take in everything recorded since the last call, and these lags of the pacer."""
        lags = np.array(lags_ns, np.int64)
        self.lag.add(lags)
        self._recent_lag.add(lags)
        hiccups = np.array(self.hiccups_ns, np.int64)
        self.hiccup.add(hiccups)
        self._recent_hiccup.add(hiccups)
        self.hiccups_ns.clear()
        records = self._recorder.fresh()
        kind = records["kind"]
        self._fold_deliveries(records[kind == Kind.RECV])
        self._fold_acks(records[kind == Kind.ACK])
        sends = records[kind == Kind.SEND]
        retries = int(np.count_nonzero(sends["flags"] & Flag.RETRY))
        self.totals["sent"] += len(sends) - retries
        self.totals["retries"] += retries
        self._fold_errors(records[kind == Kind.CONN], records[kind == Kind.NACK])

    def clocks_apart(self, index: int, ahead_ns: Sequence[int]) -> None:
        """Deliveries are from now on timed across hosts.

        Args:
            index: of the worker whose log this is.
            ahead_ns: by how much the master's clock is ahead of that of worker 1, 2, …; all of them.
        """
        by_stripe = [ahead_ns[-1], *ahead_ns[:-1]]  # worker W has the publishers ≡ 0
        self._ahead_ns = np.array([*by_stripe, 0], np.int64) - ahead_ns[index - 1]

    def take_recent(self) -> tuple[Sparse, Sparse]:
        """Latency of live deliveries, and lag, since the last call."""
        taken = self._recent_delivery.sparse(), self._recent_lag.sparse()
        self._recent_delivery.clear()
        self._recent_lag.clear()
        return taken

    def take_hiccups(self) -> Sparse:
        """How late the loop called back, since the last call."""
        taken = self._recent_hiccup.sparse()
        self._recent_hiccup.clear()
        return taken

    def take_locust(self) -> dict[str, Any]:
        """The same since the last call, as Locust's worker report has it."""
        entries = [entry.take() for entry in self._entries.values() if entry.count]
        errors = {
            f"{method}.{name}.{text}": {
                "name": name,
                "method": method,
                "error": text,
                "occurrences": count,
                "first_seen": time.time(),
                "last_seen": time.time(),
            }
            for (method, text), count in self._errors.items()
            for name in [_DIAL if method == "CONN" else _PUBLISH]
        }
        self._errors.clear()
        # Locust's charts show what is aggregated: a minute away would hide every live delivery.
        whole = total([entry for entry in entries if entry["name"] != _REPLAYED])
        return {"stats": entries, "stats_total": whole, "errors": errors}

    def _fold_deliveries(self, received: Records) -> None:
        self.totals["received"] += len(received)
        # The scheduled time of a foreign or damaged body says nothing.
        odd = Flag.FOREIGN | Flag.BAD_DIGEST
        clean = received[(received["flags"] & odd) == 0]
        stripe, itself = clean["publisher"] % (len(self._ahead_ns) - 1), len(self._ahead_ns) - 1
        apart_ns = self._ahead_ns[np.where(clean["publisher"] == 0, itself, stripe)]
        took_ns = clean["t"] - clean["t2"] - apart_ns
        # What is caught up on shows for how long its reader was away; the report keeps it apart too.
        replayed = (clean["flags"] & Flag.REPLAYED) != 0
        self._recent_delivery.add(took_ns[~replayed])
        self._entries["delivery"].add(took_ns[~replayed])
        self._entries[_REPLAYED].add(took_ns[replayed])

    def _fold_acks(self, acks: Records) -> None:
        own = acks[(acks["flags"] & Flag.NOT_OPEN) == 0]
        self.totals["acked"] += len(own)
        self._entries["ack"].add(own["t"] - own["t2"])

    def _fold_errors(self, dials: Records, nacks: Records) -> None:
        failed = dials[dials["serial"] != CONN_OK]
        self.totals["connects"] += len(dials) - len(failed)
        self._entries[_DIAL].add(failed["t"] - failed["t2"])
        for status, count in zip(*np.unique(failed["serial"], return_counts=True), strict=True):
            self._errors["CONN", refusal(int(status))] += int(count)
        self._entries[_PUBLISH].add_untimed(len(nacks))
        for code, count in zip(*np.unique(nacks["t2"], return_counts=True), strict=True):
            self._errors["SEND", f"error {code}" if code else "not written"] += int(count)


def refusal(status: int) -> str:
    """Why a dial came to nothing, from the ``serial`` of its CONN record."""
    if status < CONN_ERRNO:
        return f"HTTP {status}"
    number = status - CONN_ERRNO
    return f"{os.strerror(number)} (errno {number})"


class LocustEntry:
    """One row of Locust's statistics table, gathered without an event per message.

    Args:
        failed: everything that it counts has failed.
    """

    def __init__(self, name: str, method: str, *, failed: bool = False) -> None:
        self._name, self._method, self._failed = name, method, failed
        self._values: list[npt.NDArray[np.int64]] = []
        self._untimed = 0
        self.count = 0

    def add(self, took_ns: npt.NDArray[np.int64]) -> None:
        if len(took_ns):
            self._values.append(np.asarray(took_ns))
            self.count += len(took_ns)

    def add_untimed(self, count: int) -> None:
        """Something of which nobody knows how long it took."""
        self._untimed += count
        self.count += count

    def take(self) -> dict[str, Any]:
        """What Locust calls a stripped report, and start afresh; there must be something."""
        took_ms = np.concatenate(self._values) / 1e6 if self._values else np.zeros(0)
        count, untimed = self.count, self._untimed
        self._values.clear()
        self.count = self._untimed = 0
        now = time.time()
        # Locust's table wants round numbers: 0.1 ms below 100 ms, 1 ms above. Ours are the histograms.
        rounded = np.where(took_ms < 100, np.round(took_ms, 1), np.round(took_ms))
        buckets, counts = np.unique(rounded, return_counts=True)
        return {
            "name": self._name,
            "method": self._method,
            "last_request_timestamp": now,
            "start_time": now,
            "num_requests": count,
            "num_none_requests": untimed,
            "num_failures": count if self._failed else 0,
            "total_response_time": float(took_ms.sum()),
            "max_response_time": float(took_ms.max(initial=0.0)),
            "min_response_time": float(took_ms.min()) if len(took_ms) else None,
            "total_content_length": 0,
            "response_times": dict(zip(buckets.tolist(), counts.tolist(), strict=True)),
            "num_reqs_per_sec": {int(now): count},
            "num_fail_per_sec": {int(now): count} if self._failed else {},
        }


def total(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Locust's "Aggregated" row of a report."""
    now = time.time()
    times: Counter[float] = Counter()
    for entry in entries:
        times.update(entry["response_times"])
    smallest = [least for entry in entries if (least := entry["min_response_time"]) is not None]
    summed = ("num_requests", "num_none_requests", "num_failures", "total_response_time")
    sums = {name: sum(entry[name] for entry in entries) for name in summed}
    return {
        "name": "Aggregated",
        "method": "",
        "last_request_timestamp": now if entries else None,
        "start_time": now,
        **sums,
        "max_response_time": max((entry["max_response_time"] for entry in entries), default=0),
        "min_response_time": min(smallest, default=None),
        "total_content_length": 0,
        "response_times": dict(times),
        "num_reqs_per_sec": {int(now): sums["num_requests"]} if sums["num_requests"] else {},
        "num_fail_per_sec": {int(now): sums["num_failures"]} if sums["num_failures"] else {},
    }
