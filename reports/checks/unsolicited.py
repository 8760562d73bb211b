"""D7 unsolicited, D8 echo, D9 start-edge: what arrived and had no business to.

- D7: a message of a channel to which the client has no open subscription: before the answer to its
  first one, or after the answer to its unsubscribe.
- D8: where echo is off, a client's own message. (Where it is on, an own message that does not come is
  missing as any other is: D1.)
- D9: a message at or before the position after which delivery starts, in a subscription that begins a
  segment. In one that goes on, such a message was delivered before: D5.

A damaged message is L7's alone. All are positive evidence; but a torn log may have lost the subscription, so
its clients are left out of D7.
"""

from __future__ import annotations

import numpy as np

from reports.history import Flag

from .part import Part
from .result import Finding, Found
from .rows import Index, Int
from .telling import earliest_of, finding, place_text


def unsolicited(part: Part) -> Found:
    """Counts deliveries."""
    outside = np.flatnonzero(part.windows.window < 0)
    arrivals = part.records.arrivals.where(outside)
    outside = outside[~part.facts.owners.broken(arrivals.client) & ~arrivals.flag(Flag.BAD_DIGEST)]
    return _found(part, "D7", outside)


def echo(part: Part) -> Found:
    """Counts deliveries."""
    if part.facts.contract.echo:
        return Found()
    arrivals = part.records.arrivals
    own = (arrivals.client == arrivals.publisher) & ~part.strange
    return _found(part, "D8", np.flatnonzero(own))


def start_edge(part: Part) -> Found:
    """Counts deliveries."""
    guilty, windows = part.continuity.before_start, part.windows
    opened = windows.t[windows.first_of(windows.segment[windows.window[guilty]])]
    return _found(part, "D9", guilty, np.minimum(opened, part.records.arrivals.t[guilty]))


def _found(part: Part, cls: str, guilty: Index, since: Int | None = None) -> Found:
    """``since``: from when a fault may have had to do with each; None: only when it arrived."""
    mine = part.records.arrivals.where(guilty)
    told = earliest_of(mine.t, mine).tolist()
    return Found(
        len(guilty),
        tuple(_tell(part, cls, int(guilty[i])) for i in told),
        spread=part.facts.spread(mine.t if since is None else since, mine.t),
    )


def _tell(part: Part, cls: str, at: int) -> Finding:
    arrivals, facts, windows = part.records.arrivals, part.facts, part.windows
    channel, client, epoch = (int(c[at]) for c in (arrivals.channel, arrivals.client, arrivals.epoch))
    serial, message, t = int(arrivals.serial[at]), int(arrivals.message[at]), int(arrivals.t[at])
    records, first_t = [arrivals.reference(at)], t
    if cls == "D7":
        why = "without an open subscription"
    elif cls == "D8":
        why = "its own, though echo is off"
    else:
        w = int(windows.first_of(windows.segment[windows.window[at : at + 1]])[0])
        first_t = int(windows.t[w])
        why = (
            f"though its subscription, opened at {facts.at(first_t)}, starts after "
            f"{facts.names.epoch(int(windows.epoch[w]))} {int(windows.start[w])}"
        )
        records.append(windows.reference(w))
    damaged = bool(arrivals.flags[at] & (Flag.BAD_DIGEST | Flag.FOREIGN))
    what = "unreadable" if damaged else facts.message(message)
    return finding(
        part,
        cls,
        f"{facts.names.client(client)} received {place_text(part, channel, epoch, [(serial, serial)])} "
        f"({what}) at {facts.at(t)}, {why}",
        channel=channel,
        epoch=epoch,
        ranges=[(serial, serial)],
        first_t=min(first_t, t),
        last_t=t,
        records=records,
        clients=[client],
        message=None if damaged else message,
    )
