"""The workers of a run, as the master knows them: which is which, and what each said last."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from .meters import Histogram
from .schedule import owned
from .workload import LoadSpec

USER_CLASS: Final = "ChatClient"  # the one kind of user that Locust knows of
RECENT_S: Final = 1.0  # what the quantiles of a stats event are taken over
_SUMMED: Final = (
    "clients", "connected", "live", "scheduled", "scheduled_left", "sent", "acked", "received", "unacked",
    "behind",
)  # fmt: skip


class Roster:
    """Who the workers are, and what each said last."""

    def __init__(self, spec: LoadSpec, workers: int) -> None:
        self.spec, self.workers = spec, workers
        self.nodes: dict[int, str] = {}  # index -> Locust's node id
        self.prepared: set[int] = set()
        self.lost: set[int] = set()
        self.counters: dict[int, dict[str, Any]] = {}
        self.reports: dict[int, dict[str, Any]] = {}
        self.cpu: dict[int, float] = {}  # share of one core, since the last report
        self._arrived: dict[int, float] = {}
        self._recent: deque[tuple[float, dict[str, Any]]] = deque()

    def shares(self, count: int) -> dict[str, dict[str, int]]:
        """Of the first ``count`` sessions, how many each worker owns, by node id."""
        return {
            node: {USER_CLASS: sum(c <= count for c in self._owned(index))}
            for index, node in sorted(self.nodes.items())
        }

    def _owned(self, index: int) -> range:
        return owned(self.spec.workload, index, self.workers)

    def report(self, data: dict[str, Any], now_s: float) -> None:
        index = data["index"]
        before = self.reports.get(index)
        if before is not None and now_s > self._arrived[index]:
            self.cpu[index] = (data["cpu_s"] - before["cpu_s"]) / (now_s - self._arrived[index])
        self.reports[index], self._arrived[index] = data, now_s
        self._recent.append((now_s, data))

    def stats(self, now_s: float) -> dict[str, Any]:
        """The fields of a stats event: sums over the workers, and quantiles of the last second.

        p50_ms, p99_ms: of live deliveries; None: there was none.
        """
        while self._recent and self._recent[0][0] < now_s - RECENT_S:
            self._recent.popleft()
        delivery, lag = Histogram(), Histogram()
        for _, data in self._recent:
            delivery.merge(data["delivery"])
            lag.merge(data["lag"])
        there = [report for index, report in self.reports.items() if index not in self.lost]
        sums = {field: sum(report[field] for report in there) for field in _SUMMED}
        return {
            **sums,
            "p50_ms": delivery.quantile_ms(0.5) if delivery.count else None,
            "p99_ms": delivery.quantile_ms(0.99) if delivery.count else None,
            "lag_p99_ms": lag.quantile_ms(0.99),
            "workers": [
                {"index": index, "cpu": self.cpu.get(index, 0.0), "rss_bytes": report["rss_bytes"]}
                for index, report in sorted(self.reports.items())
            ],
        }
