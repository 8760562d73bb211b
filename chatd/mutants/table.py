"""MUTANTS: every planted fault, what it breaks, and which anomaly classes a checker owes for it.

Classes are those of reports/checks (README § What is checked). Where a fault breaks one promise in
such a way that another one breaks with it, that one is in ``may``: nothing else may be reported.

In which stores it can be planted is said for each. Not in Valkey: what a script of the broker decides,
what the broker's own restart would have to do, and what a node can foretell only alone. Only in Valkey: what
a node does with a log that others write too. ``make node-mutants`` plants each in one node of two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from ..crashes import CRASHES as CRASHES  # they break no promise: what is not lost is to be proven

OWN: Final = frozenset({"memory", "sqlite"})  # the log is one node's own
SQLITE: Final = frozenset({"sqlite"})
SHARED: Final = frozenset({"valkey"})  # several nodes write it
ANY: Final = OWN | SHARED


class Mutant(msgspec.Struct, frozen=True):
    """One planted fault.

    ``number``: M01 … of the list of server mutants; "" for a control, that only switches a mechanism off.
    ``classes``: a checker must report each of them. ``may``: it may report these as well.
    ``stores``: kinds of store (chatd.store.STORES) that it can be planted in.
    """

    number: str
    what: str
    classes: frozenset[str]
    may: frozenset[str] = frozenset()
    stores: frozenset[str] = ANY

    @property
    def allowed(self) -> frozenset[str]:
        """What may be reported when it has fired."""
        return self.classes | self.may


def _mutant(number: str, what: str, classes: str, may: str = "", *, stores: frozenset[str] = ANY) -> Mutant:
    return Mutant(number, what, frozenset(classes.split()), frozenset(may.split()), stores)


MUTANTS: Final[Mapping[str, Mutant]] = {
    # The log: who is placed where.
    "forget-acked": _mutant(
        "M01", "a message is acked and delivered, and gone from the log", "L3", "D1 D2", stores=SQLITE
    ),
    "no-dedupe": _mutant("M05", "a retry is not recognised and is placed again", "L2", "L2x L9"),
    "dedupe-by-user": _mutant(
        "M06", "a new message is taken for the one that its publisher sent before", "L3 L9"
    ),
    "race-serial": _mutant(
        "M10",
        "two messages of a batch get one serial; half of the subscribers see the second",
        "L1 L3",
        stores=OWN,
    ),
    "skip-serial": _mutant("M11", "a serial is given to nobody", "L4", stores=SQLITE),
    "cross-post": _mutant("M12", "a message is placed in another channel as well", "L6"),
    "late-serial": _mutant(
        "M17", "a message is acked, and placed behind one that comes later", "L11", "L10", stores=OWN
    ),
    "reuse-epoch": _mutant(
        "M18",
        "a restart forgets every message and keeps the epoch",
        "L1 L12",
        "L2 L3 L9",
        stores=SQLITE,
    ),
    "forget-tail": _mutant(
        "M19",
        "a restart forgets the newest messages of a channel",
        "L12",
        "L1 L2 L3 L9",
        stores=SQLITE,
    ),
    "left-over": _mutant("M29", "a channel holds a message that nobody of this run sent", "L5"),
    "closed-after-restart": _mutant(
        "M33", "a restarted server refuses every publish, for ever", "V5", stores=SQLITE
    ),
    # Answers to publishes.
    "nack-committed": _mutant("M14", "a publish is refused for certain, and is placed", "L8"),
    "ack-wrong-serial": _mutant("M15", "an ack names the serial before the message's", "L9"),
    "race-publishes": _mutant("M16", "a publish is overtaken by the next of its connection", "L10"),
    "ack-twice": _mutant("M28", "a publish is acked twice", "D10"),
    "no-ack": _mutant("M31", "a publish is placed and never answered", "V3"),
    # Live delivery.
    "skip-subscriber": _mutant("M02", "a live message is not delivered to one subscriber", "D1", "V1"),
    "swap-frames": _mutant("M07", "a live message is delivered to one subscriber after the next", "D6", "V1"),
    "flip-byte": _mutant("M13", "a byte of a live message is changed for one subscriber", "L7"),
    "echo-leak": _mutant("M26", "a publisher gets its own message, though echo is off", "D8"),
    "drop-subscriber": _mutant(
        "M30", "a subscriber is taken off the live list, its connection stays open", "V1"
    ),
    # Beginning, resuming and ending a subscription.
    "resume-late": _mutant("M03", "a resume leaves out the first message that was missed", "D2"),
    "resume-early": _mutant("M04", "a resume delivers the last message again", "D5", "D9"),
    "overtake-replay": _mutant("M08", "the newest message overtakes the replay that it ends", "D6", "D1 D2"),
    "replay-and-live": _mutant("M09", "the last message of a replay comes again as a live one", "D5"),
    "resume-truncated": _mutant("M20", "a resume from below the floor is called resumed", "D2"),
    "gap-off-by-one": _mutant("M21", "the notice of a gap ends one message too early", "D3"),
    "after-unsubscribe": _mutant("M24", "a message is delivered after `unsubscribed`", "D7"),
    "before-subscribed": _mutant("M25", "a message is delivered before `subscribed`", "D7"),
    "new-with-head": _mutant("M27", "a subscription from `new` begins with the newest message", "D9"),
    # Retention.
    "evict-early": _mutant("M22", "half of the messages that were promised are kept", "D4"),
    "trim-off-by-one": _mutant("M23", "one message less than was promised is kept", "D4"),
    # Liveness.
    "deaf-to-silence": _mutant("M32", "a client that answers no ping is kept", "V4"),
    # A log that several nodes write.
    "skip-repair": _mutant(
        "M36",
        "what went unheard while the bus was broken is not read from the log",
        "D1",
        "V1",
        stores=SHARED,
    ),
    "no-reset": _mutant(
        "M37", "nobody is told that the log fell back", "L1", "D1 D5 D6 L2 L2x L12", stores=SHARED
    ),
    "double-fanout": _mutant(
        "M38", "a node delivers what it places at once, and again when it hears it", "D5", "D6", stores=SHARED
    ),
    # Controls.
    "no-resume": _mutant("", "no position is resumed from; what is left out is declared", ""),
}
