"""What each mutant does on the wire; and that one that never fires does nothing.

Whether a checker finds them is for tests/mutants and ``make mutants``.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from chatd.effects import Close, Ping
from chatd.metrics import Metrics
from chatd.mutants import MUTANTS, parse
from chatd.mutants.parts import parts_of
from tests.chatd.house import Guest, House, serials
from tests.chatd.reader import masked
from tests.chatd.test_node_mutants import ACROSS
from tests.chatd.test_session import TERMS, say

Frames = list[dict[str, Any]]
Sight = Callable[[House], Awaitable[Any]]


async def rest(guest: Guest) -> Frames:
    """All that a guest was sent until now: the refusal of a second `connect` comes last."""
    frames: Frames = []
    await guest.ask("connect")
    while (frame := await guest.read()).get("code") != 400:
        frames.append(frame)
    return frames


async def say_all(house: House, *messages: str, at_once: bool = False, name: str = "ann") -> Frames:
    """Publish, one after the other or in one write; the answers."""
    guest = await house.guest(name)
    answers: Frames = []
    for group in [messages] if at_once else [(message,) for message in messages]:
        guest.ws.transport.write(b"".join(publish(guest, message) for message in group))
        answers += await rest(guest)  # what was written before is with the server
        await house.server._ingest._idle.wait()
    return answers + await rest(guest)


def publish(guest: Guest, message: str) -> bytes:
    guest.id += 1
    request = {"type": "publish", "id": guest.id, "channel": "room", "message": message, "data": "text"}
    return masked(json.dumps(request).encode())


def told(answers: Frames) -> list[object]:
    """Serials of acks, codes of errors."""
    return [frame["position"][1] if frame["type"] == "ack" else frame["code"] for frame in answers]


async def log(house: House, channel: str = "room") -> list[tuple[int, str]]:
    page = await house.server.store.read(channel, 0, 100, 1 << 20)
    return [(entry.serial, entry.message) for entry in page.entries]


# What can be seen: each with one subscriber, three messages, and somebody who looks ----------------------


async def live(house: House) -> list[int]:
    bob = await house.listener()
    await say_all(house, "m1", "m2", "m3")
    return serials(await rest(bob))


async def texts(house: House) -> set[str]:
    bob = await house.listener()
    await say_all(house, "m1", "m2", "m3")
    return {frame["data"] for frame in await rest(bob)}


async def own(house: House) -> list[int]:
    ann = await house.listener("ann")
    await say_all(house, "m1", "m2", "m3")
    return serials(await rest(ann))


async def answers(house: House) -> tuple[list[object], int]:
    """Answers, and how many messages the log has."""
    await house.listener()
    return told(await say_all(house, "m1", "m2", "m3")), len(await log(house))


async def again(house: House) -> tuple[list[object], int]:
    return told(await say_all(house, "m1", "m1")), len(await log(house))


async def order(house: House) -> list[str]:
    await say_all(house, "m1", "m2", at_once=True)
    return [message for _, message in await log(house)]


async def acked_and_logged(house: House) -> tuple[list[object], list[tuple[int, str]]]:
    await house.listener()
    return told(await say_all(house, "m1", "m2")), await log(house)


async def first_seen(house: House) -> tuple[set[str], list[object]]:
    """What listeners saw at serial 1 when two messages came at once, and the answers."""
    listeners = [await house.listener(f"l{number}") for number in range(4)]
    acked = told(await say_all(house, "m1", "m2", at_once=True))
    seen = [frame for listener in listeners for frame in await rest(listener)]
    return {frame["message"] for frame in seen if frame["serial"] == 1}, acked


async def logged(house: House) -> list[int]:
    await say_all(house, "m1", "m2", "m3")
    return [serial for serial, _ in await log(house)]


async def elsewhere(house: House) -> int:
    other, _ = await house.listener("carol", channel="other"), await house.listener()
    await say_all(house, "m1")
    return len(await rest(other))


async def strangers(house: House) -> set[str]:
    bob = await house.listener()
    await say_all(house, "m1")
    return {frame["user"] for frame in await rest(bob)}


async def resumed(house: House) -> tuple[bool, list[object]]:
    """Whether it is called resumed, and what else comes, when one who has the first of three comes back."""
    await house.listener("zoe")  # somebody is always there, as when one client is cut
    first, *_ = await say_all(house, "m1", "m2", "m3")
    back = await house.guest("bob", channels=[{"channel": "room", "from": first["position"]}])
    frames = await rest(back)
    (answer,) = [frame for frame in frames if frame["type"] == "subscribed"]
    return answer["resumed"], [frame.get("serial", frame["type"]) for frame in frames]


async def anew(house: House) -> list[int]:
    await house.listener("zoe")
    await say_all(house, "m1", "m2")
    return serials(await rest(await house.guest("bob", channels=[{"channel": "room", "from": "new"}])))


async def after_leaving(house: House) -> list[str]:
    await house.listener("zoe")
    bob = await house.listener()
    await bob.ask("unsubscribe", channel="room")
    await bob.until("unsubscribed")
    await say_all(house, "m1", "m2")
    return [frame["message"] for frame in await rest(bob)]


async def truncated(house: House) -> tuple[bool, list[int]]:
    position = (await say_all(house, "m1", *(f"n{number}" for number in range(9))))[0]["position"]
    await house.server.store.trim(0)
    back = await house.guest("bob", channels=[{"channel": "room", "from": position}])
    frames = await back.until("live") + await rest(back)
    return frames[0]["resumed"], serials(frames)


HONEST = ["subscribed", 2, 3, "live"]
SIGHTS: dict[str, tuple[Sight, dict[str, Any], Any, Any]] = {  # settings, what is right, what is seen
    "skip-subscriber": (live, {}, [1, 2, 3], []),
    "swap-frames": (live, {}, [1, 2, 3], [2, 1]),
    "drop-subscriber": (live, {}, [1, 2, 3], []),
    "flip-byte": (texts, {}, {"text"}, {"uext"}),
    "echo-leak": (own, {"echo": False}, [], [1, 2, 3]),
    "no-dedupe": (again, {}, ([1, 1], 1), ([1, 2], 2)),
    "dedupe-by-user": (answers, {}, ([1, 2, 3], 3), ([1, 1, 1], 1)),
    "nack-committed": (answers, {}, ([1, 2, 3], 3), ([403, 403, 403], 3)),
    "ack-twice": (answers, {}, ([1, 2, 3], 3), ([1, 1, 2, 2, 3, 3], 3)),
    "ack-wrong-serial": (answers, {}, ([1, 2, 3], 3), ([1, 1, 2], 3)),
    "no-ack": (answers, {}, ([1, 2, 3], 3), ([], 3)),
    "race-publishes": (order, {}, ["m1", "m2"], ["m2", "m1"]),
    "late-serial": (
        acked_and_logged, {}, ([1, 2], [(1, "m1"), (2, "m2")]), ([2, 1], [(1, "m2"), (2, "m1")]),
    ),
    "race-serial": (first_seen, {}, ({"m1"}, [1, 2]), ({"m1", "m2"}, [1, 1])),
    "skip-serial": (logged, {}, [1, 2, 3], [1, 3, 5]),
    "forget-acked": (logged, {}, [1, 2, 3], [1, 3]),
    "cross-post": (elsewhere, {}, 0, 1),
    "left-over": (strangers, {}, {"ann"}, {"ann", "nobody"}),
    "resume-late": (resumed, {}, (True, HONEST), (True, ["subscribed", 3, "live"])),
    "resume-early": (resumed, {}, (True, HONEST), (True, ["subscribed", 1, 2, 3, "live"])),
    "overtake-replay": (resumed, {}, (True, HONEST), (True, ["subscribed", 3, 2, "live"])),
    "replay-and-live": (resumed, {}, (True, HONEST), (True, [*HONEST, 3])),
    "before-subscribed": (resumed, {}, (True, HONEST), (True, [3, *HONEST])),
    "no-resume": (resumed, {}, (True, HONEST), (False, ["subscribed", "live"])),
    "new-with-head": (anew, {}, [], [2]),
    "after-unsubscribe": (after_leaving, {}, [], ["m1"]),
    "resume-truncated": (truncated, {"retain_n": 4}, (False, [7, 8, 9, 10]), (True, [7, 8, 9, 10])),
    "evict-early": (truncated, {"retain_n": 4}, (False, [7, 8, 9, 10]), (False, [9, 10])),
    "trim-off-by-one": (truncated, {"retain_n": 4}, (False, [7, 8, 9, 10]), (False, [8, 9, 10])),
}  # fmt: skip


@pytest.mark.parametrize("name", SIGHTS)
def test_a_mutant_breaks_what_it_says_and_counts_it(serve, name) -> None:
    sight, settings, _, broken = SIGHTS[name]

    async def scenario(house: House) -> None:
        assert await sight(house) == broken
        assert house.server.metrics.mutant_fired > 0
        _, metrics = await house.get("/metrics")
        assert f"chatd_mutant_fired_total {house.server.metrics.mutant_fired}\n" in metrics

    serve(scenario, test_hooks=True, mutant=name, **settings)


@pytest.mark.parametrize("name", SIGHTS)
def test_a_mutant_that_never_fires_breaks_nothing(serve, name) -> None:
    sight, settings, honest, _ = SIGHTS[name]

    async def scenario(house: House) -> None:
        assert await sight(house) == honest
        assert house.server.metrics.mutant_fired == 0 < house.server.metrics.mutant_chances

    serve(scenario, test_hooks=True, mutant=f"{name}:0", **settings)


# A restart ----------------------------------------------------------------------------------------------

RESTARTS: dict[str, tuple[list[object], list[int]]] = {  # the answer to a publish, and what the log has
    "": ([9], list(range(1, 10))),
    "reuse-epoch": ([1], [1]),
    "forget-tail": ([4], [1, 2, 3, 4]),
    "closed-after-restart": ([503], list(range(1, 9))),
}


@pytest.mark.parametrize("name", RESTARTS)
def test_a_mutant_of_restarts_breaks_the_second_life(serve, name) -> None:
    epochs = []

    async def before(house: House) -> None:
        epochs.append(house.server.store.epoch)
        assert told(await say_all(house, *(f"m{number}" for number in range(8)))) == list(range(1, 9))

    async def after(house: House) -> None:
        epochs.append(house.server.store.epoch)
        found = told(await say_all(house, "n1"))
        assert (found, [serial for serial, _ in await log(house)]) == RESTARTS[name]

    for scenario in (before, after):
        serve(scenario, test_hooks=bool(name), mutant=name)
    assert epochs[0] == epochs[1]


# Silence ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mutant", "closes"), [("deaf-to-silence", False), ("deaf-to-silence:0", True)])
def test_a_mutant_takes_silence_for_a_pong(mutant, closes) -> None:
    session = parts_of(parse(mutant), Metrics()).session(TERMS, 0.0, user="ann", first_ping_s=10.0)
    say(session, {"type": "connect", "id": 1})
    assert [type(effect) for effect in session.tick(session.due)] == [Ping]
    assert bool([effect for effect in session.tick(session.due) if isinstance(effect, Close)]) == closes
    if not closes:
        assert [type(effect) for effect in session.tick(session.due)] == [Ping], "it goes on asking"


def test_every_mutant_is_shown_here() -> None:
    elsewhere = {"gap-off-by-one"}  # tests/chatd/test_server.py
    of_nodes = {name for name, mutant in MUTANTS.items() if mutant.stores == {"valkey"}}
    assert of_nodes == {*ACROSS}  # tests/chatd/test_node_mutants.py
    assert {*SIGHTS, *RESTARTS, "deaf-to-silence"} - {""} | elsewhere == set(MUTANTS) - of_nodes
