"""1-second samples of the target, the host and our own processes, while a run goes on.

A thread of its own: a paused or dead server delays a sample, never the nemesis.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl
import psutil

from .ready import Address, ask, ask_json

PERIOD_S = 1.0
LATELY_NS = 3_000_000_000  # a node whose last sample is older says nothing of now
ANSWER_S = 0.5  # for a page: a node that stands still must not hold up the samples of the others for long
Row = dict[str, float | int | str]


class Sampler:
    """Collects rows until stopped, then writes ``metrics/*.parquet``.

    Args:
        pids: gives the processes of the run by name, whenever asked.
        pages: where each node answers ``/metrics`` and ``/nodes``, by process.
    """

    def __init__(self, pids: Callable[[], Mapping[str, int]], pages: Mapping[str, Address]) -> None:
        self._pids, self._pages = pids, dict(pages)
        self._stop = threading.Event()
        self._rows: dict[str, list[Row]] = {"chatd": [], "host": [], "nodes": [], "processes": []}
        self._known: dict[int, psutil.Process] = {}
        self._newest: dict[str, tuple[Row, Row]] = {}  # of each node: the sample before, and the last one
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self, folder: Path) -> None:
        """Take a last sample and write a Parquet file per table that has rows. Safe to call twice."""
        self._stop.set()
        self._thread.join(timeout=5)
        for name, rows in self._rows.items():
            if rows:
                frame = pl.DataFrame(rows, infer_schema_length=None)
                frame.write_parquet(folder / f"{name}.parquet", compression="zstd")

    def gauge(self, name: str, now_ns: int) -> dict[str, float]:
        """What each node that was sampled lately said last of itself."""
        return {process: float(last.get(name, 0.0)) for process, (_, last) in self._lately(now_ns).items()}

    def rate_per_s(self, name: str, now_ns: int) -> dict[str, float]:
        """By how much a count of each such node rises per second; 0 after its first sample or a restart."""
        found: dict[str, float] = {}
        for process, (before, last) in self._lately(now_ns).items():
            span_s = (float(last["t"]) - float(before["t"])) / 1e9
            risen = float(last.get(name, 0.0)) - float(before.get(name, 0.0))
            found[process] = max(0.0, risen) / span_s if span_s else 0.0
        return found

    def _lately(self, now_ns: int) -> dict[str, tuple[Row, Row]]:
        newest = self._newest.copy()  # the thread goes on meanwhile
        return {name: rows for name, rows in newest.items() if now_ns - int(rows[1]["t"]) < LATELY_NS}

    def _run(self) -> None:
        psutil.cpu_percent()
        over = False
        while not over:
            over = self._stop.wait(PERIOD_S)
            now_ns = time.monotonic_ns()
            self._rows["host"].append(self._host(now_ns))
            self._rows["processes"] += self._processes(now_ns)
            for process in [name for name in self._pids() if name in self._pages]:
                address = self._pages[process]
                if found := scrape(*address):
                    row: Row = {"t": now_ns, "process": process, **found}
                    self._rows["chatd"].append(row)
                    self._newest[process] = self._newest.get(process, (row, row))[1], row
                if len(self._pages) > 1:
                    self._rows["nodes"] += registered(now_ns, process, address)

    def _host(self, now_ns: int) -> Row:
        memory, net = psutil.virtual_memory(), psutil.net_io_counters(pernic=True).get("lo")
        return {
            "t": now_ns,
            "cpu": psutil.cpu_percent() / 100,
            "memory_used_bytes": memory.total - memory.available,
            "loopback_bytes": net.bytes_sent if net else 0,
        }

    def _processes(self, now_ns: int) -> list[Row]:
        rows: list[Row] = []
        for name, pid in self._pids().items():
            try:
                process = self._known.setdefault(pid, psutil.Process(pid))
                with process.oneshot():
                    cpu, rss = process.cpu_percent() / 100, process.memory_info().rss
                    spent = process.cpu_times()
                    rows.append(
                        {"t": now_ns, "process": name, "pid": pid, "cpu": cpu, "rss_bytes": rss,
                         "cpu_s": spent.user + spent.system}
                    )  # fmt: skip
            except psutil.Error:
                self._known.pop(pid, None)
        return rows


def registered(now_ns: int, process: str, address: Address) -> list[Row]:
    """What one node says of all that it knows of: a row for each, flat values only."""
    rows: list[Row] = []
    nodes = ask_json(*address, "/nodes", timeout_s=ANSWER_S)
    for node in nodes if isinstance(nodes, list) else ():
        told = node.items() if isinstance(node, dict) else ()
        flat: Row = {key: value for key, value in told if isinstance(value, int | float | str)}
        rows.append({"t": now_ns, "process": process, **flat})
    return rows


def scrape(host: str, port: int) -> Row:
    """Read a Prometheus text page: unlabelled samples by name; empty when nobody answers."""
    body = ask(host, port, "/metrics", timeout_s=ANSWER_S)
    return parse_metrics((body or b"").decode(errors="replace"))


def parse_metrics(text: str) -> Row:
    """Unlabelled samples of a Prometheus text page as {name: value}."""
    row: Row = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name and not name.startswith("#") and "{" not in name:
            try:
                row[name] = float(value.split()[0])
            except (ValueError, IndexError):
                continue
    return row
