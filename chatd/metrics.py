"""What the daemon counts, and its Prometheus text (GET /metrics).

The counters are plain attributes, added to where the thing happens; nothing here takes
a lock, because everything but the store's threads runs on one event loop.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

COMMIT_BUCKETS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
LAG_BUCKETS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


class Histogram:
    """Counts of values, by upper bound; the last count is for all that are greater."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self, name: str) -> Iterator[str]:
        total = 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self.sum:.9g}"
        yield f"{name}_count {total}"


class Metrics:
    """All figures of one daemon. ``render`` is the only reader."""

    def __init__(self) -> None:
        self.connections = 0  # open now, after the upgrade
        self.accepted = 0
        self.refused = 0  # connections, before the upgrade
        self.publishes = 0  # placed in the log
        self.duplicates = 0
        self.conflicts = 0
        self.nacks = 0  # publishes refused or of unknown outcome, conflicts apart
        self.deliveries = 0  # messages queued to a subscriber, live or replayed
        self.replayed = 0  # of these, in a replay
        self.resumes = 0
        self.gaps = 0
        self.lag_gaps = 0  # of these, to slow consumers that retention overtook
        self.channels = 0  # with a subscriber on this node
        self.subscriptions = 0
        self.slow = 0  # connections in cursor mode now
        self.slow_entered = 0
        self.slow_left = 0
        self.stuck = 0
        self.overload = 0  # the rung of chatd/overload.py
        self.writes = 0
        self.sent_bytes = 0
        self.received_bytes = 0
        self.dropped = 0  # pushes of presence, typing and receipts that a connection was too slow for
        self.held_bytes = 0  # answers held for full sockets
        self.queue_bytes = 0  # in user space for full sockets, transports included: set before `render`
        self.bad_frames = 0
        self.closed: dict[int, int] = {}  # by this server, per close code
        self.http: dict[int, int] = {}  # answers of the HTTP port, per status
        self.commit_s = Histogram(COMMIT_BUCKETS_S)
        self.loop_lag_s = Histogram(LAG_BUCKETS_S)
        self.heard = 0  # messages that came over the bus
        self.doubts = 0  # channels whose log was read because something may have gone unheard
        self.resets = 0
        self.tail_found = 0  # messages that only the look at the tops found
        self.tail_found_s = Histogram(LAG_BUCKETS_S)  # from their placing to their delivery
        self.bus_bytes = 0  # heard, and waiting for this node: set before `render`
        self.hearing = True
        self.mutant_chances = 0  # when the fault of chatd/mutants could have happened
        self.mutant_fired = 0
        self.ready = False

    def count_close(self, code: int) -> None:
        self.closed[code] = self.closed.get(code, 0) + 1

    def count_http(self, status: int) -> None:
        self.http[status] = self.http.get(status, 0) + 1

    def render(self) -> str:
        """Prometheus text format 0.0.4."""
        lines: list[str] = []
        for name, kind, text, attribute in FIGURES:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
            value = getattr(self, attribute)
            if isinstance(value, Histogram):
                lines += value.lines(name)
            elif isinstance(value, dict):
                lines += [f'{name}{{code="{code}"}} {count}' for code, count in sorted(value.items())]
            else:
                lines.append(f"{name} {int(value)}")
        return "\n".join(lines) + "\n"


FIGURES: Final = (
    ("chatd_ready", "gauge", "1 when this node takes new clients and publishes.", "ready"),
    ("chatd_connections", "gauge", "Open connections, HTTP requests among them.", "connections"),
    ("chatd_accepted_total", "counter", "Connections accepted, HTTP requests among them.", "accepted"),
    ("chatd_refused_total", "counter", "Connections and HTTP requests refused for want of room.", "refused"),
    ("chatd_channels", "gauge", "Channels with a subscriber on this node.", "channels"),
    ("chatd_subscriptions", "gauge", "Open subscriptions, live or not.", "subscriptions"),
    ("chatd_publishes_total", "counter", "Messages placed in the log.", "publishes"),
    ("chatd_duplicates_total", "counter", "Publishes answered with an earlier position.", "duplicates"),
    ("chatd_conflicts_total", "counter", "Publishes refused: id used with other content.", "conflicts"),
    ("chatd_nacks_total", "counter", "Publishes that failed for any other reason.", "nacks"),
    ("chatd_deliveries_total", "counter", "Messages queued to subscribers, live and replayed.", "deliveries"),
    ("chatd_replayed_total", "counter", "Messages queued to subscribers in a replay.", "replayed"),
    ("chatd_resumes_total", "counter", "Subscriptions that went on after a position.", "resumes"),
    ("chatd_gaps_total", "counter", "Holes declared to subscribers.", "gaps"),
    ("chatd_lag_gaps_total", "counter", "Holes declared to slow consumers.", "lag_gaps"),
    ("chatd_slow_consumers", "gauge", "Connections in cursor mode.", "slow"),
    ("chatd_slow_entered_total", "counter", "Connections that went into cursor mode.", "slow_entered"),
    ("chatd_slow_left_total", "counter", "Connections that left it, caught up or closed.", "slow_left"),
    ("chatd_stuck_total", "counter", "Connections given up because they took nothing.", "stuck"),
    ("chatd_writes_total", "counter", "Writes to connections.", "writes"),
    ("chatd_sent_bytes_total", "counter", "Bytes of frames queued to connections.", "sent_bytes"),
    ("chatd_received_bytes_total", "counter", "Bytes of payload received.", "received_bytes"),
    ("chatd_queue_bytes", "gauge", "Bytes in user space for full sockets.", "queue_bytes"),
    ("chatd_dropped_total", "counter", "Ephemeral pushes left out for slow connections.", "dropped"),
    ("chatd_bad_frames_total", "counter", "Frames that broke the protocol.", "bad_frames"),
    ("chatd_closed_total", "counter", "Connections closed by this server, by close code.", "closed"),
    ("chatd_http_answers_total", "counter", "Answers of the HTTP port, by status.", "http"),
    ("chatd_commit_seconds", "histogram", "From handing a batch to the store to its commit.", "commit_s"),
    ("chatd_bus_up", "gauge", "1 when this node hears of what others place, or is alone.", "hearing"),
    ("chatd_bus_messages_total", "counter", "Messages heard from the nodes, this one included.", "heard"),
    ("chatd_bus_queue_bytes", "gauge", "Bytes heard from the nodes and not yet taken.", "bus_bytes"),
    (
        "chatd_bus_doubts_total",
        "counter",
        "Times that a channel's log was read for what went unheard.",
        "doubts",
    ),
    (
        "chatd_resets_total",
        "counter",
        "Changes of a channel's epoch that subscribers were told of.",
        "resets",
    ),
    ("chatd_tail_found_total", "counter", "Messages that only the look at the tops found.", "tail_found"),
    ("chatd_tail_found_seconds", "histogram", "From the placing of such a message to here.", "tail_found_s"),
    ("chatd_overload_level", "gauge", "Rung of the overload ladder, 0 to 4.", "overload"),
    ("chatd_mutant_chances_total", "counter", "Times that a planted fault could happen.", "mutant_chances"),
    ("chatd_mutant_fired_total", "counter", "Times that a planted fault happened.", "mutant_fired"),
    ("chatd_loop_lag_seconds", "histogram", "How late the event loop's timer fired.", "loop_lag_s"),
)
