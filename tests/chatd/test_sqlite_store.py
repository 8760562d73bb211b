"""What only the SQLite store promises: disk, restarts, failures."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from chatd.store import sqlite as module
from chatd.store.base import (
    Append,
    Conflict,
    Dedupe,
    Duplicate,
    Outcome,
    Placed,
    Retention,
    StoreUnavailable,
    StoreUncertain,
    StoreUnusable,
    identity,
)
from chatd.store.remember import CHUNK, remember
from chatd.store.sqlite import SqliteStore

KEEP_ALL = Retention(n=1_000_000, s=1e9, bytes=1 << 40)


def now_ms() -> int:
    return int(time.time() * 1000)


def publish(message: str, data: bytes = b'"hi"', channel: str = "room") -> Append:
    return Append(channel, "ann", message, data)


async def opened(directory: Path, retention: Retention = KEEP_ALL, dedupe_s: float = 300) -> SqliteStore:
    store = SqliteStore(directory, retention, Dedupe(dedupe_s))
    await store.open()
    return store


def test_duplicates_are_found_after_a_restart_even_when_their_first_was_trimmed(tmp_path: Path) -> None:
    async def main() -> None:
        store = await opened(tmp_path, Retention(n=1, s=1e9, bytes=1 << 40))
        at = now_ms()
        await store.append([publish("a"), publish("b"), publish("c", channel="other")], at)
        await store.trim(at)
        await store.close()
        store = await opened(tmp_path, Retention(n=1, s=1e9, bytes=1 << 40))
        outcomes = await store.append(
            [publish("a"), publish("b"), publish("c", channel="other"), publish("d")], at
        )
        assert outcomes == [Duplicate(1), Duplicate(2), Duplicate(1), Placed(3, at)]
        page = await store.read("room", 0, 10, 1 << 30)
        assert (page.floor, [entry.message for entry in page.entries]) == (2, ["b", "d"])
        await store.close()

    asyncio.run(main())


def test_only_the_tail_of_the_log_is_remembered_at_start(tmp_path: Path) -> None:
    async def main() -> None:
        store = await opened(tmp_path, dedupe_s=60)
        await store.append([publish("old")], now_ms() - 120_000)
        await store.append([publish("young")], now_ms())
        await store.close()
        store = await opened(tmp_path, dedupe_s=60)
        old, young = await store.append([publish("old"), publish("young")], now_ms())
        assert isinstance(old, Placed)
        assert young == Duplicate(2)
        await store.close()

    asyncio.run(main())


def test_trimmed_messages_leave_the_file_once_dedupe_is_done_with_them(tmp_path: Path) -> None:
    async def main() -> None:
        store = await opened(tmp_path, Retention(n=10, s=1e9, bytes=1 << 40), dedupe_s=60)
        start = now_ms()
        for n in range(50):
            await store.append([publish(f"m{n}")], start + n * 1000)

        def rows() -> int:
            with sqlite3.connect(tmp_path / module.FILE) as db:
                count: int = db.execute("SELECT count(*) FROM log").fetchone()[0]
            db.close()
            return count

        await store.trim(start + 50_000)
        assert rows() == 50, "all are younger than dedupe_s"
        await store.trim(start + 120_000)
        assert rows() == 10
        page = await store.read("room", 0, 100, 1 << 30)
        assert [entry.serial for entry in page.entries] == list(range(41, 51))
        await store.close()

    asyncio.run(main())


def test_serials_go_on_when_the_file_holds_nothing_of_the_channel_any_more(tmp_path: Path) -> None:
    async def main() -> None:
        store = await opened(tmp_path, Retention(n=10, s=1, bytes=1 << 40), dedupe_s=1)
        await store.append([publish("a"), publish("b")], now_ms() - 60_000)
        await store.trim(now_ms())
        await store.close()
        store = await opened(tmp_path, dedupe_s=1)
        (head,) = await store.tops(["room"])
        assert (head.top, head.floor) == (2, 3)
        (outcome,) = await store.append([publish("c")], now_ms())
        assert outcome.serial == 3
        await store.close()

    asyncio.run(main())


def test_a_log_of_the_older_format_is_read_on(tmp_path: Path) -> None:
    async def main() -> None:
        store = await opened(tmp_path)
        await store.append([publish("a")], now_ms())
        await store.close()
        with sqlite3.connect(tmp_path / module.FILE) as db:
            db.execute("ALTER TABLE log DROP COLUMN about")
            db.execute("UPDATE meta SET value = '1' WHERE key = 'format'")
        db.close()
        store = await opened(tmp_path)
        batch = [publish("a"), Append("room", "ann", "b", b"1", "edit", 1, True)]
        first, second = await store.append(batch, now_ms())
        assert (first, second.serial) == (Duplicate(1), 2)
        await store.close()
        await (await opened(tmp_path)).close()

    asyncio.run(main())


def test_two_daemons_cannot_share_a_log(tmp_path: Path) -> None:
    async def main() -> None:
        first = await opened(tmp_path)
        second = SqliteStore(tmp_path, KEEP_ALL, Dedupe(300))
        with pytest.raises(StoreUnusable, match="another chatd uses it"):
            await second.open()
        await second.close()
        await first.close()
        await (await opened(tmp_path)).close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        pytest.param(lambda d: d.write_text("a file"), "data is", id="a file in the directory's place"),
        pytest.param(
            lambda d: (d.mkdir(), (d / module.FILE).write_bytes(b"not a database " * 100)),
            "cannot be opened: file is not a database",
            id="not a database",
        ),
        pytest.param(
            lambda d: (d.mkdir(), _with_format(d / module.FILE, "99")), "has format 99", id="another format"
        ),
    ],
)
def test_a_log_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path, prepare, words) -> None:
    directory = tmp_path / "data"
    prepare(directory)

    async def main() -> None:
        store = SqliteStore(directory, KEEP_ALL, Dedupe(300))
        with pytest.raises(StoreUnusable, match=words) as caught:
            await store.open()
        assert "\n" not in str(caught.value)
        await store.close()

    asyncio.run(main())


def _with_format(path: Path, value: str) -> None:
    db = sqlite3.connect(path)
    db.executescript(module.SCHEMA)
    db.execute("INSERT INTO meta VALUES ('format', ?)", (value,))
    db.commit()
    db.close()


# Failures ---------------------------------------------------------------------------------------------


def test_a_full_store_refuses_definitely_goes_on_reading_and_recovers(tmp_path: Path) -> None:
    async def main() -> None:
        store = await opened(tmp_path)
        await store.append([publish("a")], now_ms())
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreUnavailable, match="full"):
            await store.append([publish("b", b'"' + b"x" * 100_000 + b'"')], now_ms())
        assert not store.healthy
        with pytest.raises(StoreUnavailable, match="less than a second ago"):
            await store.append([publish("c")], now_ms())
        page = await store.read("room", 0, 10, 1 << 30)
        assert [entry.message for entry in page.entries] == ["a"]
        store._db.execute("PRAGMA max_page_count = 1000000")
        await store.trim(now_ms())
        assert store.healthy
        outcomes = await store.append([publish("b"), publish("c")], now_ms())
        assert [outcome.serial for outcome in outcomes] == [2, 3], "the failed ones took no serial"
        await store.close()

    asyncio.run(main())


class FailingCommit:
    """A connection whose next COMMIT fails."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def execute(self, statement: str, *more: object) -> sqlite3.Cursor:
        if statement == "COMMIT":
            raise sqlite3.OperationalError("disk I/O error")
        return self._db.execute(statement, *more)

    def __getattr__(self, name: str) -> object:
        return getattr(self._db, name)


def test_a_commit_that_fails_leaves_the_outcome_open_and_a_retry_is_safe(tmp_path: Path) -> None:
    async def main() -> None:
        store = await opened(tmp_path)
        real = store._db
        store._db = FailingCommit(real)  # type: ignore[assignment]
        with pytest.raises(StoreUncertain, match="disk I/O error"):
            await store.append([publish("a")], now_ms())
        store._db = real
        await store.trim(now_ms())
        (outcome,) = await store.append([publish("a")], now_ms())
        assert isinstance(outcome, Placed)
        assert outcome.serial == 1
        await store.close()

    asyncio.run(main())


def test_an_ack_waits_for_the_flush_of_the_write_ahead_log(tmp_path: Path) -> None:
    async def main() -> None:
        store = await opened(tmp_path)
        for db in (store._db, store._reads, store._checkpoints):
            assert db.execute("PRAGMA synchronous").fetchone() == (2,), "FULL"
            assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert db.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
        assert store._reads.execute("PRAGMA query_only").fetchone() == (1,)
        await store.close()

    asyncio.run(main())


def test_the_write_ahead_log_starts_over_under_a_writer_that_never_rests(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "CHECKPOINT_BYTES", 64 * 1024)
    monkeypatch.setattr(module, "WAL_BYTES", 512 * 1024)

    async def main() -> None:
        store = await opened(tmp_path)
        largest = 0
        for batch in range(60):
            rows = [publish(f"{batch}:{n}", b'"' + b"x" * 1000 + b'"') for n in range(50)]
            await store.append(rows, now_ms())
            await store.trim(now_ms())
            largest = max(largest, os.stat(f"{tmp_path / module.FILE}-wal").st_size)
        assert largest < 2 * 1024 * 1024, "of 3 MB written"
        await store.close()

    asyncio.run(main())


def test_reads_beside_appends_see_whole_batches_only(tmp_path: Path) -> None:
    async def main() -> None:
        store = await opened(tmp_path)

        async def write() -> None:
            for batch in range(30):
                await store.append([publish(f"{batch}:{n}") for n in range(10)], now_ms())

        async def read() -> Sequence[Outcome]:
            while True:
                page = await store.read("room", 0, 1000, 1 << 30)
                assert len(page.entries) == page.top
                assert page.top % 10 == 0
                if page.top == 300:
                    return []

        await asyncio.gather(write(), read())
        await store.close()

    asyncio.run(main())


# Starting after a busy time ---------------------------------------------------------------------------


def test_after_a_restart_a_message_is_known_by_its_content_though_only_its_place_was_read(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        messages = [Append("room", "ann", f"ann:{n}", b'"%d"' % n) for n in range(2 * CHUNK + 10)]
        first = await opened(tmp_path, dedupe_s=1e12)
        await first.append(messages, 1_000)
        await first.close()
        again = await opened(tmp_path, dedupe_s=1e12)
        other = Append("room", "ann", messages[7].message, b'"other"')
        *known, conflict, placed = await again.append([*messages, other, publish("new")], now_ms())
        assert known == [Duplicate(n + 1) for n in range(len(messages))]
        assert conflict == Conflict(8)
        assert isinstance(placed, Placed)
        assert placed.serial == len(messages) + 1
        await again.close()

    asyncio.run(main())


@pytest.mark.parametrize("holes", [False, True], ids=["all rows", "with holes"])
def test_only_the_young_rows_are_remembered_and_none_is_missed(holes: bool) -> None:
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE log (channel, user, message, serial, time)")
    for n in range(1, 5001):
        db.execute("INSERT INTO log VALUES (1, 'ann', ?, ?, ?)", (f"m{n}", n, n // 10))
    if holes:
        db.execute("DELETE FROM log WHERE rowid % 7 < 5 AND rowid > 5")
    young = {serial for (serial,) in db.execute("SELECT serial FROM log WHERE time >= 300")}
    dedupe = Dedupe(1e9)
    assert remember(db, dedupe, {1: "room"}, 300) == len(young)
    found = {dedupe.find(identity("room", "ann", f"m{n}")) for n in range(1, 5001)} - {None}
    assert {one.serial for one in found if one} == young
    assert remember(db, Dedupe(1e9), {1: "room"}, 10_000) == 0
