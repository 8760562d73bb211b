"""Edits of what subscribers got: D1 to D10. Each function edits a draft and says what follows, or None."""

from __future__ import annotations

from collections.abc import Callable

from reports.history import Flag, GapReason, Kind

from .draft import CHANNEL, EPOCH, FLAGS, KIND, PUB_SEQ, PUBLISHER, SERIAL, T2, Draft, Ref, T, Window, changed
from .params import READS_NS, Retention


def _inner(draft: Draft, window: Window) -> list[tuple[Ref, Ref]]:
    """Deliveries of a window with the next one, of those whose absence a later one shows.

    A window with a gap in its stream is left out: what is missing before a gap makes the notice wrong too.
    """
    streaming = [gap for gap in window.gaps if draft.row(gap)[PUB_SEQ] > window.asked[1] + 1]
    if streaming or len(window.gaps) > 1:
        return []
    pairs = zip(window.recvs, window.recvs[1:], strict=False)
    return [(one, next_) for one, next_ in pairs if draft.row(one)[SERIAL] < draft.row(next_)[SERIAL]]


def _late(draft: Draft, one: Ref, next_: Ref) -> set[str]:
    """V1 where a subscriber has the sentinel only when the next delivery comes, after the deadline."""
    is_sentinel = draft.message(one) == (0, draft.row(one)[CHANNEL])
    return {"V1"} if is_sentinel and draft.row(next_)[T] > READS_NS else set()


def _missing(draft: Draft, ref: Ref, cls: str) -> set[str] | None:
    """What a dropped delivery shows, where its place stays known."""
    shown = draft.places[draft.place(ref)]
    others = [r for kind in (Kind.RECV, Kind.READ) for r in shown[kind] if r != ref]
    if not others and not shown[Kind.ACK]:
        return None  # nobody knows any more that there was anything: L4's
    draft.drop(ref)
    return {cls} if others else {cls, "L3"}


def delivery_dropped(draft: Draft) -> set[str] | None:
    found = [
        pair
        for window in draft.windows
        for pair in _inner(draft, window)
        if not _by_resume(draft, window, pair[0])
    ]
    if not found:
        return None
    one, next_ = draft.rng.choice(found)
    missing = _missing(draft, one, "D1")
    return missing and missing | _late(draft, one, next_)


def replay_dropped(draft: Draft) -> set[str] | None:
    found = [
        one for window in draft.windows for one, _ in _inner(draft, window) if _by_resume(draft, window, one)
    ]
    return _missing(draft, draft.rng.choice(found), "D2") if found else None


def _by_resume(draft: Draft, window: Window, ref: Ref) -> bool:
    """Whether ``resumed`` promised a delivery: it lies before the end of the replay."""
    if not window.resumed:
        return False
    return window.live is None or draft.row(ref)[SERIAL] <= draft.row(window.live)[SERIAL]


def resumed_into_another_life(draft: Draft) -> set[str] | None:
    """The position of another life is accepted (M34)."""
    found = [
        w
        for w in draft.windows
        if w.gaps and draft.row(w.gaps[0])[T2] in (GapReason.EPOCH, GapReason.FORK) and not w.derived
    ]
    if not found:
        return None
    window = draft.rng.choice(found)
    draft.drop(window.gaps[0])
    draft.change(window.sub, flags=draft.row(window.sub)[FLAGS] | Flag.RESUMED)
    return {"D2"}


def _openings(draft: Draft) -> list[tuple[Window, Ref]]:
    """Gaps that answer a position, of subscriptions that were followed by more."""
    return [
        (window, window.gaps[0])
        for window in draft.windows
        if window.gaps
        and window.live is not None
        and not window.derived
        and draft.row(window.gaps[0])[PUB_SEQ] == window.asked[1] + 1
        and draft.row(window.gaps[0])[SERIAL] == window.start != window.asked[1]
        and draft.row(window.gaps[0])[T2] != GapReason.AHEAD
        and not window.resumed
        and window.asked[0]
    ]


def gap_left_out(draft: Draft) -> set[str] | None:
    if not (found := _openings(draft)):
        return None
    draft.drop(draft.rng.choice(found)[1])
    return {"D3"}


def gap_off_by_one(draft: Draft) -> set[str] | None:
    """It begins one later, or ends one sooner."""
    if not (found := _openings(draft)):
        return None
    _, gap = draft.rng.choice(found)
    row = draft.row(gap)
    if row[SERIAL] and draft.rng.random() < 0.5:
        draft.change(gap, serial=row[SERIAL] - 1)
    else:
        draft.change(gap, pub_seq=row[PUB_SEQ] + 1)
    return {"D3"}


def evicted_early(draft: Draft) -> set[str] | None:
    """A resume is refused for its first message, which retention held."""
    if not draft.params.promised or draft.params.retention != Retention():
        return None
    found = [
        window
        for window in draft.windows
        if window.resumed
        and window.recvs
        and window.asked[0] == window.epoch
        and draft.row(window.recvs[0])[SERIAL] == window.start + 1
        and any(draft.places[draft.place(window.recvs[0])][kind] for kind in (Kind.ACK, Kind.READ))
    ]
    if not found:
        return None
    window = draft.rng.choice(found)
    first = draft.row(window.recvs[0])
    sub = draft.row(window.sub)
    draft.change(window.sub, serial=first[SERIAL], flags=sub[FLAGS] & ~Flag.RESUMED)
    gap = changed(
        sub,
        kind=Kind.GAP,
        t2=GapReason.TRIMMED,
        publisher=window.epoch,
        pub_seq=first[SERIAL],
        serial=first[SERIAL],
        flags=0,
    )
    draft.add(window.sub, gap)
    draft.drop(window.recvs[0])
    return {"D4"}


def delivered_again(draft: Draft) -> set[str] | None:
    """A delivery comes once more, at once or after others of its subscription."""
    found = [window for window in draft.windows if window.recvs]
    if not found:
        return None
    window = draft.rng.choice(found)
    at = draft.rng.randrange(len(window.recvs))
    draft.add(draft.rng.choice(window.recvs[at:]), draft.row(window.recvs[at]))
    return {"D5"}


def overtaken(draft: Draft) -> set[str] | None:
    """A delivery comes after the one that should follow it."""
    found = [
        (one, next_)
        for window in draft.windows
        for one, next_ in zip(window.recvs, window.recvs[1:], strict=False)
        if not any(one < ref < next_ for ref in (*window.gaps, *([window.live] if window.live else ())))
    ]
    if not found:
        return None
    one, next_ = draft.rng.choice(found)
    draft.add(next_, draft.row(one))
    draft.drop(one)
    return {"D6"} | _late(draft, one, next_)


def after_the_end(draft: Draft) -> set[str] | None:
    """What came last comes again when nothing is subscribed any more."""
    found = [
        window
        for window in draft.windows
        if window.recvs and window.end is not None and draft.row(window.end)[KIND] in (Kind.UNSUB, Kind.CLOSE)
    ]
    if not found:
        return None
    window = draft.rng.choice(found)
    assert window.end is not None
    draft.add(window.end, draft.row(window.recvs[-1]))
    return {"D7"}


def own_echo(draft: Draft) -> set[str] | None:
    """Where echo is off, a message comes back to its publisher after its ack."""
    if draft.params.shared.echo:
        return None
    found = []
    for window in draft.windows:
        for ref in draft.of_client[window.client]:
            row = draft.row(ref)
            inside = ref > window.sub and (window.end is None or ref < window.end)
            if (
                inside
                and row[KIND] == Kind.ACK
                and (row[CHANNEL], row[EPOCH]) == (window.channel, window.epoch)
                and row[SERIAL] > window.start
            ):
                found.append(ref)
    if not found:
        return None
    ref = draft.rng.choice(found)
    row = draft.row(ref)
    draft.add(ref, changed(row, kind=Kind.RECV, t2=row[T], flags=Flag.OWN_ECHO))
    return {"D8"}


def before_the_start(draft: Draft) -> set[str] | None:
    """A subscription from some point on gets a message from before it."""
    found = []
    for window in draft.windows:
        if window.resumed or window.derived or window.gaps:
            continue
        for place, shown in draft.places.items():
            known = [*shown[Kind.RECV], *shown[Kind.READ]]
            if place[:2] == (window.channel, window.epoch) and place[2] <= window.start and known:
                if draft.row(known[0])[PUBLISHER] != window.client:
                    found.append((window, known[0]))
    if not found:
        return None
    window, ref = draft.rng.choice(found)
    flags = draft.row(ref)[FLAGS] & ~Flag.OWN_ECHO
    draft.add(
        window.live or window.sub,
        changed(draft.row(ref), client=window.client, kind=Kind.RECV, flags=flags),
    )
    return {"D9"}


def answered_twice(draft: Draft) -> set[str] | None:
    """The last answer to a message comes again, when all attempts of it are answered."""
    found = []
    for message, acks in draft.acks.items():
        answers = [*acks, *draft.nacks.get(message, [])]
        if len(answers) >= len(draft.sends[message]) and max(answers) in acks:
            found.append(max(answers))
    if not found:
        return None
    ref = draft.rng.choice(found)
    flags = draft.row(ref)[FLAGS] | draft.rng.choice([0, Flag.NOT_OPEN])
    draft.add(ref, changed(draft.row(ref), flags=flags))
    return {"D10"}


DELIVERY: dict[str, tuple[str, Callable[[Draft], set[str] | None]]] = {
    "a delivery is dropped": ("D1", delivery_dropped),
    "a replayed delivery is dropped": ("D2", replay_dropped),
    "a position of another life is resumed": ("D2", resumed_into_another_life),
    "a gap is left out": ("D3", gap_left_out),
    "a gap is off by one": ("D3", gap_off_by_one),
    "a resume is refused early": ("D4", evicted_early),
    "a delivery comes again": ("D5", delivered_again),
    "a delivery is overtaken": ("D6", overtaken),
    "a delivery comes after the end": ("D7", after_the_end),
    "an own message comes back": ("D8", own_echo),
    "a message from before the start comes": ("D9", before_the_start),
    "an answer comes twice": ("D10", answered_twice),
}
