"""Runs as pandas DataFrames, for notebooks.

    from reports.frames import load
    run = load("runs/latest")
    run.deliveries().query("replayed == False").latency_ms.quantile(0.99)

Times are seconds since the start of the schedule (``*_s``); lengths are milliseconds
(``*_ms``). Nothing is left out: warm-ups, damaged and foreign arrivals and client 0 are all there, with a
column that says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl

from reports.history import Flag, History, Kind, open_history
from reports.latency import by_second
from reports.periods import NS, phases, start_ns
from reports.sessions import presence, stays
from reports.timeline import timeline


@dataclass(frozen=True, slots=True)
class Run:
    """One run. Each method reads anew and returns a frame that is yours to change."""

    history: History

    def deliveries(self) -> pd.DataFrame:
        """Every arrival at a subscriber, in (worker, row) order.

        Columns: client, channel, publisher (str, names); pub_seq, serial (int); epoch (str);
        scheduled_s, received_s (float); latency_ms (float, received - scheduled); replayed, warmup,
        damaged, foreign, own_echo (bool); worker, row (int: place of the record).
        """
        rows = self._rows(Kind.RECV).select(
            *self._names("client", "channel", "publisher", "epoch"),
            "pub_seq",
            "serial",
            scheduled_s=self._s("t2"),
            received_s=self._s("t"),
            latency_ms=(pl.col("t") - pl.col("t2")) / 1e6,
            replayed=_has(Flag.REPLAYED),
            warmup=self._warmup(),
            damaged=_has(Flag.BAD_DIGEST),
            foreign=_has(Flag.FOREIGN),
            own_echo=_has(Flag.OWN_ECHO),
            worker="file",
            row="row",
        )
        return _frame(rows)

    def sends(self) -> pd.DataFrame:
        """Every write of a publish, retries too, in (worker, row) order.

        Columns: publisher, channel (str); pub_seq (int); scheduled_s, sent_s (float); lag_ms (float, sent -
        scheduled); retry, warmup (bool); body_bytes (int); acked_s (float, first ack of the message,
        NaN: none); worker, row (int).
        """
        acks = (
            self._rows(Kind.ACK)
            .filter(pl.col("flags") & int(Flag.NOT_OPEN) == 0)
            .group_by("publisher", "pub_seq")
            .agg(acked_s=self._s("t").min())
        )
        rows = (
            self._rows(Kind.SEND)
            .join(acks, on=["publisher", "pub_seq"], how="left", maintain_order="left")
            .select(
                *self._names("publisher", "channel"),
                "pub_seq",
                scheduled_s=self._s("t2"),
                sent_s=self._s("t"),
                lag_ms=(pl.col("t") - pl.col("t2")) / 1e6,
                retry=_has(Flag.RETRY),
                warmup=self._warmup(),
                body_bytes="serial",
                acked_s="acked_s",
                worker="file",
                row="row",
            )
        )
        return _frame(rows)

    def intervals(self) -> pd.DataFrame:
        """One row a second of the schedule; columns and units: ``reports.timeline.COLUMNS``."""
        present = presence(self.history, stays(self.history))
        return _frame(timeline(self.history, by_second(self.history), present).lazy())

    def findings(self) -> pd.DataFrame:
        """Examples of every anomaly, at most 20 a class; the checks run for it.

        Columns: cls, sentence, channel, epoch, serials (str, "3, 7-9"), clients (str, by comma), message
        ("c7:12"), first_s, last_s (float), faults (str, by comma), records (str, "w1:17").
        """
        from reports.checks import run_checks  # they cost more than opening a run

        zero = start_ns(self.history.run)
        rows: list[dict[str, Any]] = [
            {
                "cls": f.cls,
                "sentence": f.sentence,
                "channel": f.channel,
                "epoch": f.epoch,
                "serials": ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in f.serials),
                "clients": ",".join(f.clients),
                "message": f.message,
                "first_s": (f.first_t - zero) / NS,
                "last_s": (f.last_t - zero) / NS,
                "faults": ",".join(f.faults),
                "records": ",".join(f"w{worker}:{row}" for worker, row in f.records),
            }
            for result in run_checks(self.history).classes.values()
            for f in result.findings
        ]
        return pd.DataFrame(rows, columns=list(FINDING_COLUMNS))

    def _rows(self, kind: Kind) -> pl.LazyFrame:
        return self.history.scan().filter(pl.col("kind") == kind)

    def _s(self, column: str) -> pl.Expr:
        return (pl.col(column) - start_ns(self.history.run)) / NS

    def _warmup(self) -> pl.Expr:
        warm = [
            (pl.col("t2") >= p.start_ns) & (pl.col("t2") < p.end_ns)
            for p in phases(self.history.run)
            if p.warmup
        ]
        return pl.any_horizontal(pl.lit(False), *warm)

    def _names(self, *columns: str) -> list[pl.Expr]:
        names = self.history.names
        named = {
            "client": names.client,
            "publisher": names.client,
            "channel": names.channel,
            "epoch": names.epoch,
        }

        def look_up(column: str) -> pl.Expr:
            name = named[column]

            def mapped(ids: pl.Series) -> pl.Series:
                known = {i: name(i) for i in ids.unique().to_list()}
                return pl.Series([known[i] for i in ids], dtype=pl.String)

            return pl.col(column).map_batches(mapped, return_dtype=pl.String, is_elementwise=True)

        return [look_up(column).alias(column) for column in columns]


FINDING_COLUMNS = (
    "cls",
    "sentence",
    "channel",
    "epoch",
    "serials",
    "clients",
    "message",
    "first_s",
    "last_s",
    "faults",
    "records",
)


def load(run: Path | str) -> Run:
    """Open a run directory.

    Raises:
        HistoryError: it cannot be read; the text says why.
    """
    return Run(open_history(run))


def _has(flag: Flag) -> pl.Expr:
    return pl.col("flags") & int(flag) != 0


def _frame(rows: pl.LazyFrame) -> pd.DataFrame:
    table = rows.collect()
    return pd.DataFrame({name: table[name].to_numpy() for name in table.columns})
