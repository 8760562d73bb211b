"""Effects of faults on connections and streams, from the records of the clients that they were aimed at.

Attempts to connect are told by CONN, which has both ends of an attempt: when it was dialled and when it was
answered or failed. A fault that acts on new connections has no effect while nobody dials.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from reports.history import CONN_OK, Flag, Kind, Transport
from reports.latency import samples
from reports.message_effects import Found, counted
from reports.node_figures import forked_away
from reports.nodes import node_of
from reports.periods import NS

if TYPE_CHECKING:
    from reports.effects import Scene

PATIENT: Final = frozenset(  # kinds that mean to end no open connection
    {
        "refuse",
        "accept_close",
        "refuse_upgrade",
        "buffer_stream",
        "fail_first_n",
        "connect_delay",
        "connect_blackhole",
        "loss",
        "delay",
        "stall",
    }
)
BEFORE_NS: Final = 10 * NS  # in which a client must have been heard of, for its silence to mean something
IN_FLIGHT_NS: Final = NS // 4  # what was past the proxy when a fault began arrives within this
MIN_SILENT_SHARE: Final = 0.5  # of the clients that were heard of before
MIN_LATE_MS: Final = 5.0  # by which a connection, or the tail of a latency, must come later than before
TAIL: Final = 0.99
MIN_TAIL: Final = 3  # messages: one or two slow ones are the host's


def ended(scene: Scene) -> Found:
    """Connections of its clients that ended, not on purpose."""
    figures = closes_in(scene)
    return figures, "" if figures["closes"] else "no connection of its clients ended in its window"


def noticed(scene: Scene) -> Found:
    """How long the clients took to notice, and what the server's side of a half-open connection did."""
    mine = _ends(scene)
    figures: dict[str, Any] = {"closes": mine.height, "clients": mine["client"].n_unique()}
    if mine.height:
        figures["noticed_max_s"] = round((_last(mine) - scene.begin_ns) / NS, 3)
    for name in ("left", "gave_up"):
        if (told := counted(scene, name)) is not None:
            figures[name] = told
    return figures, "" if mine.height else "no connection of its clients ended in its window"


def turned_away(scene: Scene) -> Found:
    """Attempts to connect that failed."""
    tried = _attempts(scene, or_failed=True)
    failed = tried.filter(~pl.col("ok")).height
    figures = {"attempts": tried.height, "failed": failed}
    if not tried.height:
        return figures, "none of its clients dialled while it lasted"
    return figures, "" if failed else f"all {tried.height} attempts of its clients to connect went well"


def refused_over(transport: Transport) -> Callable[[Scene], Found]:
    """Attempts to connect by one transport that failed."""

    def found(scene: Scene) -> Found:
        tried = _attempts(scene, or_failed=True).filter(pl.col("over") == int(transport))
        failed = tried.filter(~pl.col("ok")).height
        figures = {"attempts": tried.height, "failed": failed}
        by = transport.name.lower()
        return figures, "" if failed else f"of {tried.height} attempts of its clients by {by} none failed"

    return found


def unanswered(scene: Scene) -> Found:
    """Attempts to connect that failed, or were answered only after its end, or while it was being undone: of
    several proxies one lets its callers in before the last is told to.
    """
    figures, why_not = turned_away(scene)
    late = _attempts(scene).filter(pl.col("ok") & (pl.col("t") >= _stopped_ns(scene))).height
    return figures | {"late": late}, "" if late else why_not


def connected_late(scene: Scene) -> Found:
    """How much longer an attempt took than those at times without any fault, of whichever client."""
    during = _attempts(scene)
    everybody = _conns(scene, pl.col("client") != 0)
    spans = [(scene.begin_ns, scene.end_ns)]
    spans += [(w.applied_ns, w.until(scene.end_ns)) for w in scene.others if w.applied_ns is not None]
    inside = pl.any_horizontal(pl.col("dialled").is_between(*span) for span in spans)
    outside = everybody.filter(pl.col("ok") & ~inside)
    if not during.height:
        return {"attempts": 0}, "none of its clients dialled while it lasted"
    took = (pl.col("t") - pl.col("dialled")) / 1e6
    now, then = (float(each.select(took.median()).item() or 0.0) for each in (during, outside))
    figures = {"attempts": during.height, "connect_p50_ms": round(now, 3), "others_p50_ms": round(then, 3)}
    return figures, "" if now - then >= MIN_LATE_MS else "its clients connected as fast as at other times"


def flapped(scene: Scene) -> Found:
    """Connections that ended, and attempts that failed."""
    figures, why_not = ended(scene)
    return figures | {"failed": turned_away(scene)[0]["failed"]}, why_not


def stormed(scene: Scene) -> Found:
    """Connections that ended, nobody let in until the end, and how close together all came in then."""
    figures, why_not = ended(scene)
    if why_not:
        return figures, why_not
    answered = _attempts(scene).filter(pl.col("ok"))
    early = answered.filter(pl.col("t") < scene.end_ns - IN_FLIGHT_NS).height
    waited = answered.filter(pl.col("t") >= scene.end_ns - IN_FLIGHT_NS)
    figures |= {"let_in_early": early, "let_in_at_its_end": waited.height}
    if waited.height:
        figures["all_in_s"] = round((_last(waited) - scene.end_ns) / NS, 3)
    return figures, f"{early} connections were let in while it lasted" if early else ""


def silenced(scene: Scene) -> Found:
    """Clients of which something was heard before, and nothing while it lasted; or whose publishes
    nothing answered.
    """
    mine = scene.history.scan().filter((pl.col("client") != 0) & scene.affected())
    heard = pl.col("kind").is_in([int(Kind.RECV), int(Kind.ACK), int(Kind.LIVE)])
    # What was held flows on while the fault is being undone.
    begin_ns, end_ns = scene.begin_ns + IN_FLIGHT_NS, _stopped_ns(scene)
    during = pl.col("t").is_between(begin_ns, end_ns, closed="left")
    before = pl.col("t").is_between(scene.begin_ns - BEFORE_NS, scene.begin_ns, closed="left")
    clients = (
        mine.filter(before | during)
        .group_by("client")
        .agg(
            before=(before & heard).sum(),
            during=(during & heard).sum(),
            sent=(during & (pl.col("kind") == int(Kind.SEND))).sum(),
            answered=(during & (pl.col("kind") == int(Kind.ACK))).sum(),
        )
        .collect()
    )
    known = clients.filter(pl.col("before") > 0)
    silent = known.filter((pl.col("during") == 0) | ((pl.col("sent") > 0) & (pl.col("answered") == 0)))
    figures: dict[str, Any] = {"clients_heard_before": known.height, "clients_silenced": silent.height}
    figures |= {"closes": closes_in(scene)["closes"]}
    if end_ns <= begin_ns:
        return figures, "it was in force for less than what is on its way takes to arrive"
    if not known.height:
        return figures, "nothing was delivered to its clients before it, so a silence cannot be seen"
    if silent.height < MIN_SILENT_SHARE * known.height:
        return figures, f"{known.height - silent.height} of its {known.height} clients still got something"
    return figures, ""


def late_tail(scene: Scene) -> Found:
    """Messages later than nearly all before the fault; of a few late chunks a median tells nothing."""
    figures: dict[str, Any] = {}
    seen = compared = False
    for name in ("delivery", "ack"):
        took = pl.col("took_ns") / 1e6
        due = pl.col("due_ns")
        mine = samples(scene.history, name).filter(scene.affected())
        before = mine.filter(
            due.is_between(scene.begin_ns - 3 * BEFORE_NS, scene.begin_ns) & (pl.col("end_ns") <
            scene.begin_ns)
        ).select(took.quantile(TAIL).alias("p99"), pl.len().alias("n")).collect()  # fmt: skip
        during = mine.filter(due.is_between(scene.begin_ns, scene.end_ns)).select(took=took).collect()["took"]
        then = before["p99"][0]
        if then is None or before["n"][0] < 1 / (1 - TAIL) / 2 or not len(during):
            continue
        compared = True
        late = int((during > then + MIN_LATE_MS).sum())
        figures |= {f"{name}_before_p99_ms": round(then, 3), f"{name}_later": late}
        # As many as that are expected above p99 anyhow.
        seen |= late >= max(MIN_TAIL, 3 * (1 - TAIL) * len(during))
    if not compared:
        return figures, "too few messages before or during it to compare their latency"
    return figures, "" if seen else "no more of its clients' messages came late than before it"


def arrived(scene: Scene) -> Found:
    """Processes that were started by it, and clients that came to their nodes while it lasted."""
    own = [line for line in scene.history.faults if line.get("id") == scene.window.id]
    started = {str(line["process"]): int(line["t"]) for line in own if line.get("kind") == "start"}
    numbers = [node for process in started if (node := node_of(process)) is not None]
    there = (pl.col("kind") == int(Kind.CONN)) & pl.col("publisher").is_in(numbers) & (pl.col("client") != 0)
    during = pl.col("t").is_between(scene.begin_ns, scene.end_ns)
    came = scene.history.scan().filter(there & during).select("client").collect()["client"].n_unique()
    figures = {"starts": len(started), "clients": came}
    return figures, "" if started else "no process was started for it"


def promoted(scene: Scene) -> Found:
    """Streams that went on under another epoch after it, and whether the replica obeyed."""
    own = [line for line in scene.history.faults if line.get("id") == scene.window.id]
    links = [link for line in own for step in line.get("effect") or () for link in step.get("links") or ()]
    forks = (pl.col("kind") == int(Kind.EPOCH)) & (pl.col("t") >= scene.begin_ns) & (pl.col("publisher") != 0)
    found = scene.history.scan().filter(forks).select("channel").collect()["channel"].n_unique()
    figures = {"links": len(links), "forks": found}
    return figures, "" if links else "no node was led to another broker"


def behind(scene: Scene) -> Found:
    """Acked messages that the replica had not got."""
    gone = forked_away(scene.history)
    return {"acked_and_gone": gone}, "" if gone else "the replica lacked nothing when it was promoted"


def garbled(scene: Scene) -> Found:
    """Frames that could not be read, deliveries with a wrong digest, and ended connections, of its
    clients.
    """
    during = pl.col("t").is_between(scene.begin_ns, scene.grace_ns())
    mine = scene.history.scan().filter(during & (pl.col("client") != 0) & scene.affected())
    wrong = (pl.col("flags") & int(Flag.BAD_DIGEST | Flag.FOREIGN)) != 0
    counts = mine.select(
        unreadable=(pl.col("kind") == int(Kind.BAD)).sum(),
        damaged=((pl.col("kind") == int(Kind.RECV)) & wrong).sum(),
    ).collect()
    figures: dict[str, Any] = {name: int(counts[name][0]) for name in counts.columns} | closes_in(scene)
    found = figures["unreadable"] + figures["damaged"] + figures["closes"]
    return figures, "" if found else "everything that its clients got could be read, and no connection ended"


def _last(rows: pl.DataFrame) -> int:
    return int(rows["t"].to_numpy().max())


def _ends(scene: Scene) -> pl.DataFrame:
    return scene.closes.filter(
        scene.affected() & ~pl.col("on_purpose") & pl.col("t").is_between(scene.begin_ns, scene.grace_ns())
    )


def closes_in(scene: Scene) -> dict[str, int]:
    """Connections of its clients that ended, not on purpose: closes, clients."""
    mine = _ends(scene)
    return {"closes": mine.height, "clients": mine["client"].n_unique()}


def _conns(scene: Scene, who: pl.Expr) -> pl.DataFrame:
    """Attempts to connect: client; dialled, t (answered or failed), ns; ok."""
    return (
        scene.history.scan()
        .filter((pl.col("kind") == int(Kind.CONN)) & who)
        .select("client", "t", over="flags", dialled=pl.col("t2"), ok=pl.col("serial") == CONN_OK)
        .collect()
    )


def _attempts(scene: Scene, *, or_failed: bool = False) -> pl.DataFrame:
    """Those of its clients that were dialled while it lasted; or, with ``or_failed``, failed then."""
    mine = _conns(scene, (pl.col("client") != 0) & scene.affected())
    then = pl.col("dialled").is_between(scene.begin_ns, scene.end_ns)
    if or_failed:  # another fault may have kept them waiting since before
        then |= ~pl.col("ok") & pl.col("t").is_between(scene.begin_ns, scene.end_ns)
    return mine.filter(then)


def _stopped_ns(scene: Scene) -> int:
    """When the nemesis began to undo it."""
    own = [line for line in scene.history.faults if line.get("id") == scene.window.id]
    stops = [int(line["t"]) for line in own if line.get("phase") == "stop" and line.get("t") is not None]
    return min([scene.end_ns, *stops])


CONNECTION_EFFECTS: Final[Mapping[str, Callable[[Scene], Found]]] = {
    "disconnect": ended,
    "half_open": noticed,
    "half_close": ended,
    "blackhole": silenced,
    "limit_time": ended,
    "refuse": turned_away,
    "accept_close": turned_away,
    "refuse_upgrade": refused_over(Transport.WEBSOCKET),
    "buffer_stream": refused_over(Transport.SSE),
    "fail_first_n": turned_away,
    "connect_delay": connected_late,
    "connect_blackhole": unanswered,
    "flap": flapped,
    "storm": stormed,
    "partition": silenced,
    "loss": late_tail,
    "delay": late_tail,
    "stall": silenced,
    "corrupt": garbled,
    "node_start": arrived,
    "promote": promoted,
}
