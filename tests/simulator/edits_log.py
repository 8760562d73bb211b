"""Edits of what the log holds: L1 to L12, L2x. Each function edits a draft and says what follows, or None."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from reports.history import Flag, Kind
from tests.builders import NONCE, Message

from .draft import CHANNEL, CLIENT, EPOCH, FLAGS, KIND, PUB_SEQ, PUBLISHER, SERIAL, T2, Draft, Ref, T, changed
from .expect import Place
from .params import HEAL_NS, Retention, S


def _shown(draft: Draft, place: Place) -> list[Ref]:
    """The records that showed what a place holds."""
    shown = draft.places[place]
    return [*shown[Kind.RECV], *shown[Kind.READ]]


def _pretend(draft: Draft, ref: Ref, message: Message) -> None:
    """A delivery or a read showed another message."""
    row = draft.row(ref)
    own = Flag.OWN_ECHO if message[0] == row[CLIENT] and row[KIND] == Kind.RECV else 0
    draft.change(ref, publisher=message[0], pub_seq=message[1], flags=(row[FLAGS] & ~Flag.OWN_ECHO) | own)


def replaced(draft: Draft) -> set[str] | None:
    """One subscriber sees another message than the others: one that nobody heard of again."""
    closes = [
        ref
        for ref in draft.refs[Kind.CLOSE]
        if draft.row(ref)[T] < HEAL_NS and draft.connected_at(draft.row(ref)[CLIENT], draft.row(ref)[T] - 1)
    ]
    closes = [ref for ref in closes if not draft.params.shared.detect and ref[1] > 0]
    found = [
        (ref, close)
        for close in closes
        for place, shown in draft.places.items()
        for ref in shown[Kind.RECV]
        if len(_shown(draft, place)) > 1
        and len(draft.stands[draft.holds(place)]) == 1
        and draft.row(ref)[CHANNEL] in _published(draft)
        and draft.row(ref)[T] > draft.row(close)[T]
        and (draft.params.shared.echo or draft.row(ref)[CLIENT] != draft.row(close)[CLIENT])
    ]
    if not found:
        return None
    ref, close = draft.rng.choice(found)
    publisher, t = draft.row(close)[CLIENT], draft.row(close)[T]
    count = 1 + max((seq for client, seq in draft.sends if client == publisher), default=0)
    send = changed(draft.row(draft.refs[Kind.SEND][0]), client=publisher, publisher=publisher, pub_seq=count)
    before = max(r for r in draft.of_client[publisher] if r < close)
    draft.add(before, changed(send, channel=draft.row(ref)[CHANNEL], t2=t, flags=0))
    _pretend(draft, ref, (publisher, count))
    return {"L1"}


def _published(draft: Draft) -> set[int]:
    return {draft.row(ref)[CHANNEL] for ref in draft.refs[Kind.SEND]}


def _unacked_places(draft: Draft) -> list[Place]:
    """Places that no ack told of, whose message stands nowhere else and was seen in a final read."""
    return [
        place
        for place, shown in draft.places.items()
        if not shown[Kind.ACK]
        and len(shown[Kind.READ]) == 2
        and (message := draft.holds(place)) not in draft.acks
        and len(draft.stands[message]) == 1
    ]


def placed_twice(draft: Draft) -> set[str] | None:
    """In the place of a message that was never acked stands another one, which has a place already."""
    return _twice(draft, late=False)


def placed_twice_late(draft: Draft) -> set[str] | None:
    """The same, of a message that was sent again later than de-duplication was promised for."""
    return _twice(draft, late=True)


def _twice(draft: Draft, *, late: bool) -> set[str] | None:
    if not draft.params.shared.echo:
        return None
    found = []
    for place in _unacked_places(draft):
        for other, shown in draft.places.items():
            beside = other[:2] == place[:2] and other != place and shown[Kind.ACK] and shown[Kind.READ]
            if beside and len(draft.stands[draft.holds(other)]) == 1 and draft.holds(other)[0]:
                retried_ns = _retried_ns(draft, draft.holds(other), (place, other))
                if retried_ns or not late:
                    found.append((place, draft.holds(other), retried_ns))
    if not found:
        return None
    place, message, retried_ns = draft.rng.choice(found)
    for ref in _shown(draft, place):
        _pretend(draft, ref, message)
    if late:
        draft.story.contract["dedupe_s"] = retried_ns * draft.rng.uniform(0.1, 0.9) / S
        return {"L2x"}
    return {"L2x"} if retried_ns > draft.params.shared.dedupe_s * S else {"L2"}


def _retried_ns(draft: Draft, message: Message, places: tuple[Place, Place]) -> int:
    """How long after the first attempt the last one was sent that can have caused the second place."""
    seen_t = max(min(draft.row(ref)[T] for ref in _shown(draft, place)) for place in places)
    sent = sorted(draft.row(ref)[T] for ref in draft.sends[message])
    return max((t - sent[0] for t in sent if t <= seen_t), default=0)


def forgotten(draft: Draft) -> set[str] | None:
    """The final reads do not show a message that was acked."""
    found = [
        shown[Kind.READ]
        for place, shown in draft.places.items()
        if shown[Kind.ACK] and shown[Kind.READ] and len(draft.stands[draft.holds(place)]) == 1
        if draft.params.shared.echo or draft.holds(place)[0]  # reads may lack client 0's own
    ]
    if not found:
        return None
    draft.drop(*draft.rng.choice(found))
    return {"L3"}


def hole(draft: Draft) -> set[str] | None:
    """Nothing shows what stands at a place."""
    if not (found := _unacked_places(draft)):
        return None
    draft.drop(*_shown(draft, draft.rng.choice(found)))
    return {"L4"}


def foreign(draft: Draft) -> set[str] | None:
    """A delivery is another run's message."""
    if not (ref := _any_delivery(draft)):
        return None
    flags = draft.row(ref)[FLAGS] & ~Flag.OWN_ECHO | Flag.FOREIGN
    draft.change(ref, publisher=draft.rng.randint(1, 9), pub_seq=NONCE, flags=flags)
    return {"L5"}


def never_sent(draft: Draft) -> set[str] | None:
    """In the place of a message that was never acked stands one that was never sent."""
    if not draft.params.shared.echo or not (found := _unacked_places(draft)):
        return None
    place = draft.rng.choice(found)
    publisher = draft.rng.randint(1, draft.params.clients)
    for ref in _shown(draft, place):
        _pretend(draft, ref, (publisher, 1000))
    return {"L5"}


def misrouted(draft: Draft) -> set[str] | None:
    """A delivery is a message that was sent to another channel."""
    found = []
    for ref in draft.refs[Kind.RECV]:
        row = draft.row(ref)
        for message, sends in draft.sends.items():
            send = draft.row(sends[0])
            elsewhere = send[CHANNEL] != row[CHANNEL] and send[T] < row[T] and message[0]
            own = not draft.params.shared.echo and message[0] == row[CLIENT]
            if elsewhere and not own and _known_besides(draft, ref):
                found.append((ref, message))
    if not found:
        return None
    _pretend(draft, *draft.rng.choice(found))
    return {"L6"}


def damaged(draft: Draft) -> set[str] | None:
    if not (ref := _any_delivery(draft)):
        return None
    draft.change(ref, flags=draft.row(ref)[FLAGS] & ~Flag.OWN_ECHO | Flag.BAD_DIGEST)
    return {"L7"}


def _any_delivery(draft: Draft) -> Ref | None:
    kind = draft.rng.choice([Kind.RECV, Kind.RECV, Kind.RECV, Kind.READ])
    refs = [ref for ref in draft.refs[kind] if _known_besides(draft, ref)]
    return draft.rng.choice(refs) if refs else None


def _known_besides(draft: Draft, ref: Ref) -> bool:
    """Whether anything else tells whose message stands there: without echo, its publisher is not owed it."""
    shown = draft.places[draft.place(ref)]
    return draft.params.shared.echo or sum(map(len, shown.values())) > 1


def refused_yet_there(draft: Draft) -> set[str] | None:
    """Every attempt of a message that stands somewhere was refused for certain."""
    found = [
        message
        for message, sends in draft.sends.items()
        if message not in draft.acks
        and message in draft.stands
        and len(draft.nacks.get(message, [])) <= len(sends)
    ]
    if not found:
        return None
    message = draft.rng.choice(found)
    sends, nacks = draft.sends[message], draft.nacks.get(message, [])
    for ref in nacks:
        draft.change(ref, flags=draft.row(ref)[FLAGS] | Flag.DEFINITE)
    nack = changed(draft.row(sends[-1]), kind=Kind.NACK, t2=429, serial=0, flags=Flag.DEFINITE)
    for _ in range(len(sends) - len(nacks)):
        draft.add(sends[-1], nack)
    return {"L8"}


def acked_elsewhere(draft: Draft) -> set[str] | None:
    """An ack names the place of another message."""
    found = [
        (ref, other)
        for message, acks in draft.acks.items()
        if len(draft.stands[message]) == 1
        for ref in acks
        if message[0] and _shown(draft, draft.place(ref))
        for other in draft.places
        if other[:2] == draft.place(ref)[:2] and other != draft.place(ref) and _shown(draft, other)
        if draft.row(ref)[EPOCH] == other[1] and len(draft.stands[draft.holds(other)]) == 1
        if all(len(draft.places[place][Kind.READ]) in (0, 2) for place in (other, draft.place(ref)))
        if draft.params.shared.echo or draft.holds(other)[0]  # reads may lack client 0's own
    ]
    if not found:
        return None
    ref, other = draft.rng.choice(found)
    draft.change(ref, serial=other[2])
    # Of a message that no read shows, a read that covers the place of its ack proves that it is not there.
    read = {draft.message(shown) for shown in draft.refs[Kind.READ]}
    lost = (
        draft.places[other][Kind.READ]
        and draft.message(ref) not in read
        and ref == draft.acks[draft.message(ref)][0]
    )
    return {"L9", "L3"} if lost else {"L9"}


def _pairs(draft: Draft) -> Iterator[tuple[Place, Place]]:
    """Neighbouring places, in channels of one life, whose messages can change places without anybody
    having been told a head between them."""
    if draft.params.promised and draft.params.retention != Retention():
        return  # who stands where may tell how much was retained
    for place in draft.places:
        channel, epoch, serial = place
        after = (channel, epoch, serial + 1)
        if after not in draft.places or len(draft.epochs(channel)) > 1:
            continue
        one, other = draft.holds(place), draft.holds(after)
        if len(draft.stands[one]) > 1 or len(draft.stands[other]) > 1 or not one[0] or not other[0]:
            continue
        heads = [
            draft.row(ref)[SERIAL] for ref in draft.refs[Kind.LIVE] if draft.row(ref)[CHANNEL] == channel
        ]
        if serial not in heads:
            yield place, after


def _swap(draft: Draft, place: Place, after: Place) -> set[str]:
    """Two messages change places in all records; L11 if the one that is later now was acked before."""
    one, other = draft.holds(place), draft.holds(after)
    for at, message in ((place, other), (after, one)):
        for ref in _shown(draft, at):
            _pretend(draft, ref, message)
    for message, at in ((one, after), (other, place)):
        for ref in draft.acks.get(message, []):
            draft.change(ref, serial=at[2])
    acked = min((draft.row(ref)[T] for ref in draft.acks.get(one, [])), default=None)
    sent = min(draft.row(ref)[T] for ref in draft.sends[other])
    return {"L11"} if acked is not None and acked + 999 < sent else set()


def publisher_reordered(draft: Draft) -> set[str] | None:
    """Two messages of one publisher change places; the first was sent for the last time before the second."""
    found = [
        (place, after)
        for place, after in _pairs(draft)
        if draft.holds(place)[0] == draft.holds(after)[0]
        and max(draft.sends[draft.holds(place)]) < min(draft.sends[draft.holds(after)])
    ]
    return {"L10"} | _swap(draft, *draft.rng.choice(found)) if found else None


def inverted(draft: Draft) -> set[str] | None:
    """Messages of two publishers change places; the first was acked before the second was sent."""
    if not draft.params.shared.echo:
        return None
    found = [(a, b) for a, b in _pairs(draft) if draft.holds(a)[0] != draft.holds(b)[0]]
    draft.rng.shuffle(found)
    for place, after in found:
        acks, sends = draft.acks.get(draft.holds(place), []), draft.sends[draft.holds(after)]
        if acks and min(draft.row(r)[T] for r in acks) + 999 < min(draft.row(r)[T] for r in sends):
            return _swap(draft, place, after)
    return None


def exit_forgotten(draft: Draft) -> set[str] | None:
    """Lives change, and no exit of the server was seen."""
    lines = draft.story.faults
    draft.story.faults = [line for line in lines if line["kind"] != "exit"]
    channels = {draft.row(ref)[CHANNEL] for ref in draft.refs[Kind.SUB]}
    return {"L12"} if any(_changes(draft, channel) for channel in channels) else None


def _changes(draft: Draft, channel: int) -> bool:
    """Whether another life was certainly there before one was first told of."""
    told = {epoch: _told(draft, channel, epoch) for epoch in draft.epochs(channel)}
    for epoch, spans in told.items():
        if spans:
            begin = min(spans, key=lambda span: span[1])[0]
            others = (span for other, more in told.items() if other != epoch for span in more)
            if any(end <= begin for _, end in others):
                return True
    return False


def _told(draft: Draft, channel: int, epoch: int) -> list[tuple[int, int]]:
    """Spans of time in which a life was there at some moment: asked and answered, sent and shown."""
    spans = []
    for kind in (Kind.SUB, Kind.ACK, Kind.RECV, Kind.READ):
        for ref in draft.refs[kind]:
            row = draft.row(ref)
            if (row[CHANNEL], row[EPOCH]) == (channel, epoch):
                begin = row[T2]
                if kind != Kind.SUB:
                    begin = min(draft.row(send)[T] for send in draft.sends[row[PUBLISHER], row[PUB_SEQ]])
                spans.append((begin, row[T]))
    return spans


LOG: dict[str, tuple[str, Callable[[Draft], set[str] | None]]] = {
    "a delivery is replaced": ("L1", replaced),
    "a message is placed twice": ("L2", placed_twice),
    "a message is placed twice, late": ("L2x", placed_twice_late),
    "an acked message is forgotten": ("L3", forgotten),
    "a place is empty": ("L4", hole),
    "a delivery is another run's": ("L5", foreign),
    "a message that nobody sent is there": ("L5", never_sent),
    "a delivery is another channel's": ("L6", misrouted),
    "a delivery is damaged": ("L7", damaged),
    "a refused message is there": ("L8", refused_yet_there),
    "an ack names another's place": ("L9", acked_elsewhere),
    "a publisher's messages change places": ("L10", publisher_reordered),
    "two publishers' messages change places": ("L11", inverted),
    "an exit is forgotten": ("L12", exit_forgotten),
}
