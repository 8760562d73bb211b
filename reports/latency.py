"""Latency: six classes, each a set of samples with a beginning and an end.

=========  ==========================================================================
class      a sample, from → to
=========  ==========================================================================
delivery   scheduled time of a message → live arrival at one subscriber. The primary one:
           it counts from when the message was due, so a stalled publisher hides nothing
replayed   the same for arrivals before the LIVE of their subscription (catching up)
service    first SEND of a message → live arrival: what the server and the wire took
ack        scheduled time → the ack that answered it
connect    start of the dial → successful answer to the upgrade
resume     request to resume a subscription → end of its replay
=========  ==========================================================================

Messages scheduled in a warm-up phase are left out of the first four; connections and
resumptions have no scheduled time and all count. Client 0 (the run itself: sentinels, final
reads) is never load. A message that never arrived has no latency: the report counts it
beside the percentiles and puts no value in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from reports.histogram import SIZE, UPPER_US, Histogram, bucket_index
from reports.history import CONN_OK, Flag, Kind, Transport
from reports.periods import NS, FaultWindow, Phase, fault_windows, phases, start_ns

if TYPE_CHECKING:
    from reports.history import History
    from reports.rundir import Names

QUANTILES: Final = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "max_ms": 1.0}
_NO_LOAD: Final = 0  # client and publisher ordinal of `chatproof run` itself
_UNREAD: Final = Flag.BAD_DIGEST | Flag.FOREIGN  # the scheduled time inside such a body is worth nothing


class SelectionError(ValueError):
    """A selection names a phase, fault, channel or persona that the run does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which samples of a class count.

    ``phase``: scheduled inside that phase; None: in every phase but warm-ups.
    ``fault``: an id: in flight at some time while that fault was in force; ``"none"``: at no time
    while any fault was; None: no matter. A caller may stretch the faults' windows.
    ``channel``: name of the only channel that counts.
    ``persona``: name of the one whose clients count: as subscribers of deliveries, as publishers of acks.
    ``transport``: by what the client was connected when the sample ended, as in ``TRANSPORTS``.
    """

    phase: str | None = None
    fault: str | None = None
    channel: str | None = None
    persona: str | None = None
    transport: str | None = None


TRANSPORTS: Final = {transport.name.lower(): int(transport) for transport in Transport}
EVERYTHING: Final = Selection()


def _arrivals(history: History, replayed: int) -> pl.LazyFrame:
    """RECV rows of load that could be read, live (0) or replayed (1)."""
    return history.scan().filter(
        (pl.col("kind") == Kind.RECV)
        & (pl.col("client") != _NO_LOAD)
        & (pl.col("publisher") != _NO_LOAD)
        & (pl.col("flags") & int(Flag.REPLAYED | _UNREAD) == replayed * int(Flag.REPLAYED))
    )


def _sample(frame: pl.LazyFrame, *, due: str = "t2", begin: str = "t2", end: str = "t") -> pl.LazyFrame:
    return frame.select(
        "client",
        "channel",
        "publisher",
        "pub_seq",
        due_ns=pl.col(due),
        end_ns=pl.col(end),
        took_ns=pl.col(end) - pl.col(begin),
    )


def _service(history: History) -> pl.LazyFrame:
    sent = (
        history.scan()
        .filter(pl.col("kind") == Kind.SEND)
        .group_by("publisher", "pub_seq")
        .agg(sent_ns=pl.col("t").min())
    )
    return _sample(_arrivals(history, 0).join(sent, on=["publisher", "pub_seq"]), begin="sent_ns")


def _acks(history: History) -> pl.LazyFrame:
    return _sample(
        history.scan().filter(
            (pl.col("kind") == Kind.ACK)
            & (pl.col("publisher") != _NO_LOAD)
            & (pl.col("flags") & int(Flag.NOT_OPEN) == 0)
        )
    )


def _connects(history: History) -> pl.LazyFrame:
    upgraded = (pl.col("kind") == Kind.CONN) & (pl.col("serial") == 101) & (pl.col("client") != _NO_LOAD)
    return _sample(history.scan().filter(upgraded))


def _resumes(history: History) -> pl.LazyFrame:
    """A resumed SUB and the LIVE that carries its request time: together they are one resumption."""
    rows = history.scan().filter(pl.col("client") != _NO_LOAD)
    asked = rows.filter((pl.col("kind") == Kind.SUB) & (pl.col("flags") & int(Flag.RESUMED) != 0)).select(
        "file", "client", "channel", "t2"
    )
    live = rows.filter(pl.col("kind") == Kind.LIVE)
    return _sample(live.join(asked, on=["file", "client", "channel", "t2"], how="semi"))


CLASSES: Final[dict[str, Callable[[History], pl.LazyFrame]]] = {
    "delivery": lambda history: _sample(_arrivals(history, 0)),
    "replayed": lambda history: _sample(_arrivals(history, 1)),
    "service": _service,
    "ack": _acks,
    "connect": _connects,
    "resume": _resumes,
}
SCHEDULED: Final = frozenset({"delivery", "replayed", "service", "ack"})  # classes that leave warm-ups out


def samples(
    history: History,
    name: str,
    selection: Selection = EVERYTHING,
    *,
    windows: Sequence[FaultWindow] | None = None,
) -> pl.LazyFrame:
    """Samples of one class: client, channel, publisher, pub_seq u32; due_ns, end_ns, took_ns i64.

    Args:
        windows: when each fault counts as in force, for ``selection.fault``; None: start to revert.
    Raises:
        SelectionError: the run has no such phase, fault, channel or persona.
    """
    return narrowed(CLASSES[name](history), history, selection, windows=windows, scheduled=name in SCHEDULED)


def narrowed(
    frame: pl.LazyFrame,
    history: History,
    selection: Selection,
    *,
    windows: Sequence[FaultWindow] | None = None,
    scheduled: bool = True,
) -> pl.LazyFrame:
    """Those rows of a frame with the columns of ``samples`` that a selection means.

    Args:
        scheduled: leave out what was due in a warm-up, where no phase is named.
    Raises:
        SelectionError: as of ``samples``.
    """
    known = phases(history.run)
    if selection.phase is not None:
        frame = frame.filter(_inside(_named(known, selection.phase)))
    elif scheduled:
        frame = frame.filter(~in_warmup(known))
    if selection.fault is not None:
        known_faults = fault_windows(history.faults) if windows is None else windows
        frame = frame.filter(_exposed(known_faults, selection.fault))
    if selection.channel is not None:
        frame = frame.filter(pl.col("channel") == _channel_id(history.names, selection.channel))
    if selection.persona is not None:
        frame = frame.filter(pl.col("client").is_in(clients_of(history.names, selection.persona)))
    if selection.transport is not None:
        frame = _connected_by(frame, history, TRANSPORTS[selection.transport])
    return frame


def transports(history: History) -> list[str]:
    """By what clients were connected in this run, as in ``TRANSPORTS``, in its order."""
    made = (pl.col("kind") == Kind.CONN) & (pl.col("serial") == CONN_OK) & (pl.col("client") != _NO_LOAD)
    used = set(history.scan().filter(made).select(pl.col("flags").unique()).collect()["flags"])
    return [name for name, number in TRANSPORTS.items() if number in used]


def _connected_by(frame: pl.LazyFrame, history: History, transport: int) -> pl.LazyFrame:
    """Those samples whose client's last connection before their end was made by a transport."""
    made = history.scan().filter((pl.col("kind") == Kind.CONN) & (pl.col("serial") == CONN_OK))
    by = made.select("client", end_ns=pl.col("t"), by="flags").sort("end_ns")
    joined = frame.sort("end_ns").join_asof(
        by, on="end_ns", by="client", strategy="backward", check_sortedness=False
    )
    return joined.filter(pl.col("by") == transport).drop("by")


def measure(
    history: History,
    name: str,
    selection: Selection = EVERYTHING,
    *,
    windows: Sequence[FaultWindow] | None = None,
) -> Histogram:
    """Histogram of one latency class; arguments as of ``samples``."""
    kept = samples(history, name, selection, windows=windows)
    counted = kept.select(bucket()).group_by("bucket").len().collect()
    return Histogram.of_buckets(counted["bucket"].to_numpy(), counted["len"].to_numpy())


def bucket() -> pl.Expr:
    """Column ``bucket``: HDR bucket of ``took_ns``."""
    return (
        (pl.col("took_ns") // 1000)
        .map_batches(
            lambda us: pl.Series(bucket_index(us.to_numpy()), dtype=pl.Int64),
            return_dtype=pl.Int64,
            is_elementwise=True,
        )
        .alias("bucket")
    )


def in_warmup(known: Sequence[Phase]) -> pl.Expr:
    """Whether ``due_ns`` lies in a warm-up phase."""
    return pl.any_horizontal(pl.lit(False), *(_inside(phase) for phase in known if phase.warmup))


def by_second(history: History) -> pl.DataFrame:
    """Delivery latency per second of scheduled time, warm-ups included: second i32, bucket i16, n u32."""
    second = (pl.col("due_ns") - start_ns(history.run)) // NS
    # One number a place, and narrow columns: an hour has millions of places.
    place = CLASSES["delivery"](history).select(place=second * SIZE + bucket())
    counted = place.group_by("place").agg(n=pl.len()).sort("place")
    due, within = pl.col("place") // SIZE, pl.col("place") - pl.col("place") // SIZE * SIZE
    narrow = counted.select(second=due.cast(pl.Int32), bucket=within.cast(pl.Int16), n="n")
    return narrow.collect(engine="streaming")


def by_phase(history: History) -> dict[str, Histogram]:
    """Delivery latency by the phase in which a message was due, warm-ups too; phases of one name are one."""
    known = phases(history.run)
    if not known:
        return {}
    which = pl.coalesce(*(pl.when(_inside(phase)).then(pl.lit(n)) for n, phase in enumerate(known)))
    counted = CLASSES["delivery"](history).select(phase=which, bucket=bucket()).drop_nulls("phase")
    table = counted.group_by("phase", "bucket").agg(n=pl.len()).collect(engine="streaming")
    found = {phase.name: Histogram.empty() for phase in known}
    for number, phase in enumerate(known):
        own = table.filter(pl.col("phase") == number)
        found[phase.name] += Histogram.of_buckets(own["bucket"].to_numpy(), own["n"].to_numpy())
    return found


def by_channel(history: History) -> pl.DataFrame:
    """Delivery latency per channel, warm-ups excluded: channel u32, count, p50_ms … max_ms."""
    counted = samples(history, "delivery").select("channel", bucket()).group_by("channel", "bucket")
    return quantiles_by(counted.agg(n=pl.len()).collect(), "channel")


def quantiles_by(counted: pl.DataFrame, key: str) -> pl.DataFrame:
    """Quantiles of each group of a (key, bucket, n) table.

    Returns:
        One row a group, by ``key``: key, count, and the columns of QUANTILES in milliseconds.
    """
    ranked = counted.sort(key, "bucket").with_columns(
        upto=pl.col("n").cast(pl.Int64).cum_sum().over(key), total=pl.col("n").sum().over(key)
    )
    place = {
        column: (pl.col("total") * q).round(9).ceil().clip(lower_bound=1) for column, q in QUANTILES.items()
    }
    table = ranked.group_by(key).agg(
        pl.col("total").first().cast(pl.Int64).alias("count"),
        *(pl.col("bucket").filter(pl.col("upto") >= at).min().alias(c) for c, at in place.items()),
    )
    edges = pl.Series(UPPER_US / 1000, dtype=pl.Float64)
    return table.sort(key).with_columns(
        **{column: edges.gather(table.sort(key)[column]) for column in QUANTILES}
    )


def histograms_by_second(counted: pl.DataFrame, seconds_each: int) -> Iterator[tuple[int, Histogram]]:
    """(first second, histogram) of each stretch of ``seconds_each`` seconds that has a delivery.

    Args:
        counted: of ``by_second``, in its order.
    """
    stretch = counted["second"].to_numpy() // seconds_each
    found, begins = np.unique(stretch, return_index=True)
    parts = (np.split(counted[name].to_numpy(), begins[1:]) for name in ("bucket", "n"))
    for one, buckets, n in zip(found, *parts, strict=False):  # of nothing, there is one empty part
        yield int(one) * seconds_each, Histogram.of_buckets(buckets, n)


def _inside(phase: Phase) -> pl.Expr:
    return (pl.col("due_ns") >= phase.start_ns) & (pl.col("due_ns") < phase.end_ns)


def _named(known: Sequence[Phase], name: str) -> Phase:
    for phase in known:
        if phase.name == name:
            return phase
    has = ", ".join(phase.name for phase in known) or "none"
    raise SelectionError(f"phase is {name!r}: the run's phases are {has}")


def _exposed(windows: Sequence[FaultWindow], fault: str) -> pl.Expr:
    def touches(window: FaultWindow) -> pl.Expr:
        begun = pl.col("end_ns") >= window.applied_ns
        return begun if window.reverted_ns is None else begun & (pl.col("due_ns") < window.reverted_ns)

    applied = [window for window in windows if window.applied_ns is not None]
    if fault == "none":
        return ~pl.any_horizontal(pl.lit(False), *(touches(window) for window in applied))
    chosen = [window for window in applied if window.id == fault]
    if not chosen:
        has = ", ".join(window.id for window in applied) or "none"
        raise SelectionError(f"where.fault is {fault!r}: the faults that the run applied are {has}")
    return touches(chosen[0])


def clients_of(names: Names, persona: str) -> list[int]:
    """Ordinals of a persona's clients.

    Raises:
        SelectionError: the run has no such persona.
    """
    if persona not in names.personas:
        has = ", ".join(names.personas) or "none"
        raise SelectionError(f"where.persona is {persona!r}: the run's personas are {has}")
    return list(names.personas[persona])


def _channel_id(names: Names, channel: str) -> int:
    if channel not in names.channels:
        raise SelectionError(f"where.channel is {channel!r}: the run has no channel of that name")
    return names.channels.index(channel)
