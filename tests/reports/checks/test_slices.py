"""Large channels: the records that stand for all of a channel's deliveries, and parts on disk."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.checks import run_checks
from reports.checks.continuity import strange
from reports.checks.facts import read_facts
from reports.checks.messages import Entries, entries
from reports.checks.part import Part, split
from reports.checks.result import Found
from reports.checks.rows import Rows, joined, pack
from reports.checks.shards import Shard, Shards
from reports.checks.slices import Heads, Whole
from reports.checks.survey import parted, survey
from reports.checks.table import CHECKS, Check
from reports.history import Flag, HistoryError, Kind, open_history
from tests.scenes import Scene
from tests.strategies import finished, stages

ARRIVALS = st.lists(
    st.tuples(
        st.integers(0, 5),  # time
        st.integers(1, 3),  # client
        st.integers(1, 4) | st.just(4_000_000_000),  # serial
        st.integers(1, 2),  # epoch
        st.integers(1, 2),  # publisher
        st.sampled_from([0, 0, 0, int(Flag.BAD_DIGEST), int(Flag.FOREIGN)]),
    ),
    max_size=60,
)


def rows_of(told: list[tuple[int, ...]]) -> Rows:
    table = np.array(told, np.int64).reshape(-1, 6)
    t, client, serial, epoch, publisher, flags = table.T
    zero = np.zeros(len(table), np.int64)
    return Rows(
        t=t,
        t2=zero,
        client=client,
        channel=zero + 1,
        publisher=publisher,
        pub_seq=zero + 1,
        serial=serial,
        epoch=epoch,
        flags=flags.astype(np.uint8),
        file=client % 2,
        row=np.arange(len(table)),
    )


def entries_of(rows: Rows, weight: np.ndarray | None = None) -> Entries:
    intact = ~strange(rows)
    place = pack(rows.epoch, rows.serial)
    return entries(
        place[intact], rows.message[intact], rows.t[intact], None if weight is None else weight[intact]
    )


@settings(max_examples=200, deadline=None)
@given(ARRIVALS, st.integers(1, 3))
def test_heads_show_the_same_entries_and_their_first_records(
    told: list[tuple[int, ...]], pieces: int
) -> None:
    rows, heads = rows_of(told), Heads()
    for piece in range(pieces):
        heads.add(rows.where(np.flatnonzero(rows.client % pieces == piece)))
    few, weight = heads.joined()
    whole, again = entries_of(rows), entries_of(few, weight)
    for name in Entries.__slots__:
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
    assert weight.sum() == len(rows)
    assert strange(few).sum() == strange(rows).sum()
    earliest = {tuple(row) for row in _firsts(rows)}
    assert earliest <= {tuple(row) for row in zip(few.file.tolist(), few.row.tolist(), strict=True)}


def _firsts(rows: Rows) -> list[tuple[int, int]]:
    """Of each place and message the record that is told: the first by time, worker and row."""
    frame = pl.DataFrame(
        {name: getattr(rows, name) for name in ("t", "file", "row", "epoch", "serial", "publisher")}
    )
    frame = frame.filter(pl.Series(~strange(rows))).sort("t", "file", "row")
    return frame.unique(["epoch", "serial", "publisher"], keep="first").select("file", "row").rows()


def test_many_deliveries_of_few_messages_leave_few_heads() -> None:
    rows = rows_of(
        [(client, client % 1000, serial, 1, 1, 0) for client in range(2000) for serial in (1, 2, 3)]
    )
    heads = Heads()
    heads.add(rows)
    assert len(heads.joined()[0]) == 6


@pytest.fixture
def crowd() -> Scene:
    """Twenty clients in channel 1, and one of them alone in each of two more."""
    scene = Scene(clients=20, channels=3)
    for client in range(1, 20):
        scene.join(client)
    scene.join(20, 1, 2, 3)
    for _ in range(4):
        for channel in (1, 2, 3):
            scene.publish(1, channel)
    scene.finish()
    return scene


def test_a_large_channel_is_split_by_clients_and_every_client_is_in_one_range(crowd: Scene) -> None:
    history = crowd.history()
    counts = survey(history).channels
    shards = parted(history, counts, counts[2] + counts[3])
    assert counts[1] > counts[2] + counts[3]
    assert [shard.channels for shard in shards] == [(1, 1), (2, 3)]
    assert [shard.rows for shard in shards] == [counts[1], counts[2] + counts[3]]
    ranges = shards[0].clients
    assert ranges[0][0] == 1
    assert ranges[-1][1] >= 1 << 30
    assert all(one[1] + 1 == other[0] for one, other in pairwise(ranges))
    assert shards[1].clients == ()


def test_a_channel_of_one_client_is_never_split() -> None:
    scene = Scene(clients=2)
    scene.join(2)
    for _ in range(20):
        scene.publish(1)
    scene.finish()
    history = scene.history()
    assert [shard.clients for shard in parted(history, survey(history).channels, 5)] == [()]


@settings(max_examples=30, deadline=None)
@given(st.data(), st.integers(1, 30))
def test_every_record_of_a_channel_is_in_exactly_one_piece_in_its_order(
    data: st.DataObject, part_rows: int
) -> None:
    history = finished(data.draw(stages())).history()
    facts = read_facts(history)
    shards = parted(history, survey(history).channels, part_rows)
    found: list[tuple[int, int]] = []
    with Shards(history, facts.sends, shards) as records:
        for number, shard in enumerate(shards):
            for piece in range(shard.pieces):
                rows = records.read(number, piece).rows
                places = list(zip(rows.file.tolist(), rows.row.tolist(), strict=True))
                assert places == sorted(places)
                found += places
    wanted = (
        history.scan().filter(pl.col("channel") != 0, ~pl.col("kind").is_in([Kind.MARK, Kind.BAD])).collect()
    )
    assert sorted(found) == sorted(wanted.select("file", "row").rows())


def test_the_parts_leave_no_file_in_the_run_directory(crowd: Scene, tmp_path: Path) -> None:
    crowd.write(tmp_path / "run")
    history = open_history(tmp_path / "run")
    before = sorted(tmp_path.rglob("*"))
    run_checks(history, part_rows=10)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_log_is_told_of_and_leaves_no_open_file(crowd: Scene, tmp_path: Path) -> None:
    crowd.write(tmp_path / "run")
    history = open_history(tmp_path / "run")
    shards = parted(history, survey(history).channels, 10)
    facts = read_facts(history)
    log = tmp_path / "run" / "events" / "w1.parquet"
    raw = log.read_bytes()
    log.write_bytes(raw[:4] + bytes(len(raw) // 2) + raw[4 + len(raw) // 2 :])
    with pytest.raises(HistoryError, match="cannot be read"):
        run_checks(history, part_rows=10)
    with pytest.raises(pl.exceptions.PolarsError), Shards(history, facts.sends, shards):
        pass


def test_what_the_log_of_a_large_channel_cannot_tell_is_refused(crowd: Scene) -> None:
    history = crowd.history()
    facts = read_facts(history)
    shards = [Shard(channels=(1, 3), rows=1, clients=((1, 3), (4, 9)))]
    with Shards(history, facts.sends, shards) as records:
        heads = Heads()
        heads.add(joined(records.read(0, 1).rows, records.read(0, 2).rows))
        whole = Whole(facts, split(records.read(0)), heads)
        some = whole.slice((1, 3), records.read(0, 1).rows)
    for name in ("missing", "stalled", "continuity"):
        with pytest.raises(TypeError, match="by_client"):
            getattr(whole, name)
    with pytest.raises(TypeError, match="by_client"):
        _ = some.fate


def test_a_class_that_asks_the_whole_for_one_clients_stream_is_unknown_where_a_channel_is_split(
    crowd: Scene,
) -> None:
    def asks(part: Part) -> Found:
        return Found(len(part.continuity.late))

    wrong = Check(title="asks", unit="things", part=asks)
    judged = run_checks(crowd.history(), checks={**CHECKS, "X1": wrong}, part_rows=40)
    assert judged.classes["X1"].unknown
    assert not judged.classes["D1"].unknown


def test_echo_off_keeps_own_messages_out_of_what_is_owed_in_every_range() -> None:
    scene = Scene(clients=4, echo=False)
    for client in range(1, 5):
        scene.join(client)
    for client in (1, 2, 1, 3, 4, 4, 2):
        scene.publish(client)
    lost = scene.publish(1, skip=[3])
    scene.publish(2)
    scene.finish()
    history = scene.history()
    whole = run_checks(history)
    assert whole.classes["D1"].count == 1
    assert whole.classes["D1"].findings[0].message == f"c{lost[0]}:{lost[1]}"
    assert run_checks(history, part_rows=15) == whole
