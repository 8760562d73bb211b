"""The clocks of a run on several hosts: from a worker's time to the run's, and how sure that is.

Records hold CLOCK_MONOTONIC of the host that they were made on. run.json keeps, for every worker on
another host, readings of (its clock, how far the run's was ahead, ± bound). Between two readings the
offset is taken on the straight line, before the first and after the last as it was there.

A reading of a busy moment, when an answer took long, is left out where there are others around it.

How wrong can that be? At each reading the true offset is within its bound. As long as between two
readings it does not leave the values that it has at their ends, it is off the line by at most the larger
bound and the distance of the two offsets; that is the uncertainty of a worker. Times of two workers are
apart by at most the sum of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .history import RECORD, Flag, HistoryError, Kind

OWN_TIME: Final = (
    Kind.CONN,
    Kind.SUB,
    Kind.LIVE,
    Kind.UNSUB,
    Kind.SEND,
    Kind.ACK,
)  # `t2` is of the same clock
BODY_TIME: Final = (Kind.RECV, Kind.READ)  # `t2` was written into the message by its publisher
ACROSS: Final = frozenset({"delivery", "replayed", "service"})  # latencies from one client to another

Times = npt.NDArray[np.int64]
Records = npt.NDArray[np.void]


BUSY: Final = 2  # times the median: a larger bound tells of a busy moment and not of the clock


@dataclass(frozen=True)
class HostClock:
    """Readings of one worker's clock: three columns, in the order of the first."""

    worker_ns: Times
    offset_ns: Times
    bound_ns: Times
    host: str = ""
    boot_id: str = ""

    def __len__(self) -> int:
        return len(self.worker_ns)

    def to_run(self, t_ns: Times) -> Times:
        """Times of the run's clock from those of the worker's; as they are where nothing is known."""
        if not len(self):
            return t_ns
        # Offsets may be of months: what is drawn through floating point is only how they change.
        base_t, base = self.worker_ns[0], self.offset_ns[0]
        change = np.interp(t_ns - base_t, self.worker_ns - base_t, self.offset_ns - base)
        moved: Times = t_ns + base + np.rint(change).astype(np.int64)
        return moved

    @cached_property
    def uncertainty_ns(self) -> int:
        """How wrong ``to_run`` can be; 0 without a reading."""
        if not len(self):
            return 0
        moved = np.abs(np.diff(self.offset_ns)) + np.maximum(self.bound_ns[1:], self.bound_ns[:-1])
        return int(max(self.bound_ns.max(), moved.max(initial=0)))


def host_clocks(run: Mapping[str, Any]) -> dict[int, HostClock]:
    """The clocks that run.json speaks of, by worker; {}: all of the run happened on one host.

    Raises:
        HistoryError: they are not readings, or not in the order of time.
    """
    told = (run.get("clock") or {}).get("workers") or {}
    found: dict[int, HostClock] = {}
    try:
        for worker, one in told.items():
            readings = np.array(one["readings"], np.int64).reshape(-1, 3)
            if (np.diff(readings[:, 0]) <= 0).any() or (readings[:, 2] < 0).any():
                raise ValueError("they must be in the order of time, with no bound below 0")
            worker_ns, offset_ns, bound_ns = _of_quiet_moments(readings).T.copy()
            found[int(worker)] = HostClock(
                worker_ns, offset_ns, bound_ns, str(one.get("host", "")), str(one.get("boot_id", ""))
            )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise HistoryError(
            f"run.json: clock.workers must map workers to readings [worker_ns, offset_ns, bound_ns]: {error}"
        ) from None
    return found


def _of_quiet_moments(readings: Times) -> Times:
    """The readings without those of busy moments, but for the first and the last."""
    if len(readings) < 3:
        return readings
    kept = readings[:, 2] <= BUSY * np.median(readings[:, 2])
    kept[[0, -1]] = True
    return readings[kept]


def uncertainty_ns(clocks: Mapping[int, HostClock]) -> int:
    """How far the times of two workers may be apart; 0: there is one clock only."""
    return sum(sorted(clock.uncertainty_ns for clock in clocks.values())[-2:])


def in_run_time(records: Records, worker: int, clocks: Mapping[int, HostClock], workers: int) -> Records:
    """The same records with all times on the run's clock; those of one host are returned as they are.

    Args:
        workers: of the run: client c belongs to worker k where c ≡ k (mod ``workers``).
    """
    if not clocks or not len(records):
        return records
    moved = records.astype(RECORD, copy=True)
    if (own := clocks.get(worker)) is not None:
        moved["t"] = own.to_run(records["t"])
        mine = np.isin(records["kind"], OWN_TIME) & (records["t2"] != 0)
        moved["t2"][mine] = own.to_run(records["t2"][mine])
    of_body = np.isin(records["kind"], BODY_TIME) & (records["flags"] & int(Flag.FOREIGN) == 0)
    stripe = np.where(records["publisher"] == 0, -1, records["publisher"] % workers)
    for publisher, clock in clocks.items():
        theirs = of_body & (stripe == publisher % workers)
        moved["t2"][theirs] = clock.to_run(records["t2"][theirs])
    return moved
