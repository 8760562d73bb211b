"""What every store must do, whatever is behind it. Contract: chatd/store/base.py.

Subclass ``StoreSuite`` in a test module and give it a factory; every ``test_`` method here then runs
against that store. ``tests/conformance/test_stores.py`` shows how.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from chatd.store.base import (
    Append,
    Conflict,
    Dedupe,
    Duplicate,
    Outcome,
    Placed,
    Refused,
    Retention,
    Store,
)

T = TypeVar("T")

KEEP_ALL = Retention(n=1_000_000, s=1e9, bytes=1 << 40)
NOW = 1_790_000_000_000  # ms since 1970, some day
ROOM = 1 << 30  # bytes: more than any test reads


def publish(message: str, data: bytes = b'"hi"', channel: str = "room", user: str = "ann") -> Append:
    return Append(channel, user, message, data)


def edit(message: str, to: int, data: bytes = b'"new"', user: str = "ann", own: bool = True) -> Append:
    return Append("room", user, message, data, "edit", to, own)


async def place(store: Store, batch: Sequence[Append], now_ms: int) -> list[Outcome]:
    """Append, and check that what names an epoch names the store's; the outcomes without it."""
    outcomes: list[Outcome] = []
    for outcome in await store.append(batch, now_ms):
        if isinstance(outcome, Placed | Duplicate):
            assert outcome.epoch in ("", store.epoch)
            outcome = msgspec.structs.replace(outcome, epoch="")
        outcomes.append(outcome)
    return outcomes


class StoreSuite:
    """Give ``make``: a store that keeps its data, if it keeps any, in ``directory``."""

    survives_reopen: bool

    def pass_time(self, ms: int) -> None:
        """So much time goes by. For a store that looks at a clock of its own, besides ``now_ms``."""

    def make(self, directory: Path, retention: Retention, dedupe: Dedupe) -> Store:
        raise NotImplementedError

    @pytest.fixture
    def with_store(self, tmp_path: Path) -> Callable[..., None]:
        """Runs ``scenario(store)`` on an open store, and closes it."""

        def run(
            scenario: Callable[[Store], Awaitable[None]],
            retention: Retention = KEEP_ALL,
            dedupe: Dedupe | None = None,
        ) -> None:
            async def main() -> None:
                store = self.make(tmp_path, retention, Dedupe(300) if dedupe is None else dedupe)
                await store.open()
                try:
                    await scenario(store)
                finally:
                    await store.close()

            asyncio.run(main())

        return run

    def test_serials_are_one_two_three_per_channel_in_batch_order(self, with_store) -> None:
        async def scenario(store: Store) -> None:
            batch = [publish("a"), publish("b", channel="other"), publish("c"), publish("d")]
            outcomes = await place(store, batch, NOW)
            assert outcomes == [Placed(1, NOW), Placed(1, NOW), Placed(2, NOW), Placed(3, NOW)]
            assert await place(store, [publish("e")], NOW + 5) == [Placed(4, NOW + 5)]

        with_store(scenario)

    def test_a_message_reads_back_as_it_was_appended(self, with_store) -> None:
        data = '{"text":"żółw 🐢", "n":1e3}'.encode()

        async def scenario(store: Store) -> None:
            await place(store, [publish("a", data)], NOW)
            page = await store.read("room", 0, 10, ROOM)
            (entry,) = page.entries
            assert (page.epoch, page.top, page.floor) == (store.epoch, 1, 1)
            assert (entry.serial, entry.time, entry.user, entry.message) == (1, NOW, "ann", "a")
            assert (entry.data, entry.kind) == (data, "text")

        with_store(scenario)

    def test_a_retry_is_a_duplicate_at_the_same_place(self, with_store) -> None:
        async def scenario(store: Store) -> None:
            await place(store, [publish("a"), publish("b")], NOW)
            outcomes = await place(store, [publish("b"), publish("c"), publish("a")], NOW)
            assert outcomes == [Duplicate(2), Placed(3, NOW), Duplicate(1)]
            assert (await store.read("room", 0, 10, ROOM)).top == 3

        with_store(scenario)

    def test_a_retry_within_the_same_batch_is_a_duplicate(self, with_store) -> None:
        async def scenario(store: Store) -> None:
            outcomes = await place(store, [publish("a"), publish("a"), publish("b"), publish("a")], NOW)
            assert outcomes == [Placed(1, NOW), Duplicate(1), Placed(2, NOW), Duplicate(1)]

        with_store(scenario)

    @pytest.mark.parametrize(
        "first_and_second",
        [
            pytest.param([publish("a", b"1"), publish("a", b"2")], id="other data"),
            pytest.param([publish("a", b"1"), publish("a", b"1 ")], id="other bytes of equal JSON"),
            pytest.param([publish("a", b"1"), edit("a", 1, b"1")], id="other kind"),
        ],
    )
    def test_an_id_with_other_content_is_a_conflict(self, with_store, first_and_second) -> None:
        first, second = first_and_second

        async def scenario(store: Store) -> None:
            await place(store, [first], NOW)
            assert await place(store, [second], NOW) == [Conflict(1)]
            assert (await store.read("room", 0, 10, ROOM)).top == 1

        with_store(scenario)

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param(publish("a", user="bob"), id="another user"),
            pytest.param(publish("a", channel="other"), id="another channel"),
            pytest.param(Append("rooma", "nn", "a", b'"hi"'), id="the same letters, split elsewhere"),
        ],
    )
    def test_the_same_id_of_somebody_else_is_another_message(self, with_store, other) -> None:
        async def scenario(store: Store) -> None:
            outcomes = await place(store, [publish("a"), other], NOW)
            assert all(isinstance(outcome, Placed) for outcome in outcomes)

        with_store(scenario)

    def test_an_id_is_forgotten_some_time_after_the_ttl_and_never_before(self, with_store) -> None:
        async def scenario(store: Store) -> None:
            await place(store, [publish("a")], NOW)
            for tenth in range(1, 11):
                self.pass_time(27_000)  # a little passes by itself, on a busy machine some seconds in all
                (outcome,) = await place(store, [publish("a")], NOW + tenth * 30_000)
                assert outcome == Duplicate(1)
            self.pass_time(120_000)
            await place(store, [publish("b")], NOW + 420_000)
            assert await place(store, [publish("a")], NOW + 420_000) == [Placed(3, NOW + 420_000)]

        with_store(scenario, dedupe=Dedupe(300))

    def test_a_message_about_another_is_placed_if_that_one_is_held_and_is_a_text(self, with_store) -> None:
        async def scenario(store: Store) -> None:
            await place(store, [publish("a"), publish("b", user="bob")], NOW)
            asked = {
                "mine": (edit("1", 1), Placed(3, NOW)),
                "another's": (edit("2", 2), Refused("author")),
                "another's, by a moderator": (edit("3", 2, own=False), Placed(4, NOW)),
                "above the top": (edit("4", 9), Refused("target")),
                "an edit": (edit("5", 3), Refused("target")),
                "in no channel": (Append("none", "ann", "6", b"1", "edit", 1, True), Refused("target")),
                "of this batch": (publish("7"), Placed(5, NOW)),
                "and about it": (edit("8", 5), Placed(6, NOW)),
                "an edit of this batch": (edit("9", 6), Refused("target")),
            }
            outcomes = await place(store, [append for append, _ in asked.values()], NOW)
            got = dict(zip(asked, outcomes, strict=True))
            assert got == {name: outcome for name, (_, outcome) in asked.items()}
            entries = (await store.read("room", 2, 10, ROOM)).entries
            assert [(e.serial, e.kind, e.to) for e in entries] == [
                (3, "edit", 1), (4, "edit", 2), (5, "text", 0), (6, "edit", 5)
            ]  # fmt: skip
            (head,) = await store.tops(["none"])
            assert head.top == 0

        with_store(scenario)

    def test_a_retry_is_a_duplicate_even_when_what_it_is_about_is_gone(self, with_store) -> None:
        async def scenario(store: Store) -> None:
            await place(store, [publish("a"), edit("e", 1)], NOW)
            await place(store, [publish("b")], NOW)
            await store.trim(NOW)
            outcomes = await place(store, [edit("e", 1), edit("f", 1), edit("e", 3)], NOW)
            assert outcomes == [Duplicate(2), Refused("target"), Conflict(2)]

        with_store(scenario, retention=Retention(n=1, s=1e9, bytes=1 << 40))

    def test_time_in_the_log_never_runs_backwards(self, with_store) -> None:
        async def scenario(store: Store) -> None:
            await place(store, [publish("a")], NOW)
            assert await place(store, [publish("b")], NOW - 60_000) == [Placed(2, NOW)]
            assert [entry.time for entry in (await store.read("room", 0, 10, ROOM)).entries] == [NOW, NOW]

        with_store(scenario)

    def test_a_channel_nobody_published_to_is_empty(self, with_store) -> None:
        async def scenario(store: Store) -> None:
            page = await store.read("nowhere", 0, 10, ROOM)
            assert (page.epoch, page.top, page.floor, page.entries) == (store.epoch, 0, 1, [])
            (head,) = await store.tops(["nowhere"])
            assert (head.top, head.floor) == (0, 1)

        with_store(scenario)

    @pytest.mark.parametrize(
        ("after", "limit", "max_bytes", "serials"),
        [
            pytest.param(0, 10, ROOM, [1, 2, 3, 4, 5], id="everything"),
            pytest.param(3, 10, ROOM, [4, 5], id="from the middle"),
            pytest.param(1, 2, ROOM, [2, 3], id="limited by count"),
            pytest.param(0, 10, 20, [1, 2], id="limited by bytes"),
            pytest.param(0, 10, 1, [1], id="never before the first"),
            pytest.param(5, 10, ROOM, [], id="at the top"),
            pytest.param(9, 10, ROOM, [], id="beyond the top"),
            pytest.param(0, 0, ROOM, [], id="nothing wanted"),
        ],
    )
    def test_read_gives_a_run_without_holes(self, with_store, after, limit, max_bytes, serials) -> None:
        async def scenario(store: Store) -> None:
            await place(store, [publish(f"m{n}", b'"12345678"') for n in range(5)], NOW)
            page = await store.read("room", after, limit, max_bytes)
            assert ([entry.serial for entry in page.entries], page.top) == (serials, 5)

        with_store(scenario)

    @pytest.mark.parametrize(
        ("retention", "floor"),
        [
            pytest.param(Retention(n=3, s=1e9, bytes=1 << 40), 8, id="by count"),
            pytest.param(Retention(n=100, s=1e9, bytes=45), 7, id="by bytes"),
            pytest.param(Retention(n=100, s=5, bytes=1 << 40), 6, id="by age"),
            pytest.param(Retention(n=3, s=5, bytes=45), 8, id="by whichever is tightest"),
            pytest.param(Retention(n=100, s=1e9, bytes=1 << 40), 1, id="nothing yet"),
        ],
    )
    def test_trim_forgets_what_retention_does_not_promise_and_nothing_else(
        self, with_store, retention, floor
    ) -> None:
        async def scenario(store: Store) -> None:
            for n in range(1, 11):
                await place(store, [publish(f"m{n}", b'"12345678"')], NOW + n * 1000)
            moved = await store.trim(NOW + 11_000)
            assert moved == ({"room": floor} if floor > 1 else {})
            page = await store.read("room", 0, 100, ROOM)
            assert [entry.serial for entry in page.entries] == list(range(floor, 11))
            assert (page.floor, page.top) == (floor, 10)
            assert await store.trim(NOW + 11_000) == {}

        with_store(scenario, retention=retention)

    def test_serials_go_on_after_everything_was_trimmed(self, with_store) -> None:
        async def scenario(store: Store) -> None:
            await place(store, [publish("a"), publish("b")], NOW)
            assert await store.trim(NOW + 60_000) == {"room": 3}
            page = await store.read("room", 0, 10, ROOM)
            assert (page.top, page.floor, page.entries) == (2, 3, [])
            assert await place(store, [publish("c")], NOW + 60_000) == [Placed(3, NOW + 60_000)]

        with_store(scenario, retention=Retention(n=10, s=5, bytes=1 << 40))

    def test_a_trimmed_message_is_still_a_duplicate_within_the_ttl(self, with_store) -> None:
        async def scenario(store: Store) -> None:
            await place(store, [publish("a"), publish("b"), publish("c")], NOW)
            await store.trim(NOW)
            assert await place(store, [publish("a")], NOW + 1000) == [Duplicate(1)]

        with_store(scenario, retention=Retention(n=1, s=1e9, bytes=1 << 40))

    def test_tops_are_those_of_each_channel_asked_in_order(self, with_store) -> None:
        async def scenario(store: Store) -> None:
            await place(store, [publish("a"), publish("b"), publish("c", channel="other")], NOW)
            heads = await store.tops(["other", "none", "room"])
            assert [(head.top, head.floor) for head in heads] == [(1, 1), (0, 1), (2, 1)]

        with_store(scenario)

    def test_an_epoch_fits_its_field(self, with_store) -> None:
        async def scenario(store: Store) -> None:
            assert 1 <= len(store.epoch) <= 16

        with_store(scenario)

    def test_a_reopened_store_keeps_epoch_serials_and_duplicates_or_has_a_new_epoch(self, tmp_path) -> None:
        async def life(message: str) -> tuple[str, list[object]]:
            store = self.make(tmp_path, KEEP_ALL, Dedupe(1e9))
            await store.open()
            outcomes = await place(store, [publish("first"), publish(message)], NOW)
            await store.close()
            return store.epoch, list(outcomes)

        epoch, outcomes = asyncio.run(life("a"))
        assert outcomes == [Placed(1, NOW), Placed(2, NOW)]
        again, outcomes = asyncio.run(life("b"))
        if self.survives_reopen:
            assert (again, outcomes) == (epoch, [Duplicate(1), Placed(3, NOW)])
        else:
            assert again != epoch
            assert outcomes == [Placed(1, NOW), Placed(2, NOW)]
