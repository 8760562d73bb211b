"""Records that come from another host: whole and as announced, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loadgen.collect import PIECE_BYTES, Collection, Missing, NotCollected, parcels, piece


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    events = tmp_path / "there"
    events.mkdir()
    (events / "w2-1.rec").write_bytes(bytes(range(256)) * (PIECE_BYTES // 128))  # two pieces
    (events / "w2.names.jsonl").write_bytes(b"")
    (events / "w2.counters.json").write_bytes(b'{"records": 3}\n')
    return events


def collection(tmp_path: Path, announced: Any) -> Collection:
    return Collection(tmp_path / "here", 2, announced)


def test_all_files_arrive_in_pieces(tmp_path: Path, sent: Path) -> None:
    coming = collection(tmp_path, [list(parcel) for parcel in parcels(sent)])
    asked = []
    while (wanted := coming.next()) is not None:
        assert not coming.complete
        asked.append(wanted)
        coming.take(*wanted, piece(sent, *wanted))
        coming.take(*wanted, piece(sent, *wanted))  # twice on the wire: passed over
    rec = "w2-1.rec"
    assert asked == [Missing(rec, 0), Missing(rec, PIECE_BYTES), Missing("w2.counters.json", 0)]
    assert coming.complete
    assert coming.got_bytes == coming.total_bytes == 2 * PIECE_BYTES + 15
    here = tmp_path / "here"
    assert {path.name: path.read_bytes() for path in here.iterdir()} == {
        path.name: path.read_bytes() for path in sent.iterdir()
    }


def test_a_file_that_is_not_the_announced_one_is_not_kept(tmp_path: Path, sent: Path) -> None:
    announced = [list(parcel) for parcel in parcels(sent) if parcel.name == "w2.counters.json"]
    coming = collection(tmp_path, announced)
    assert coming.next() == Missing("w2.counters.json", 0)
    coming.take("w2.counters.json", 0, b'{"records": 4}\n')
    with pytest.raises(NotCollected, match=r"w2\.counters\.json: what came has not the SHA-256"):
        coming.next()
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize("data", [pytest.param(b"", id="ends early"), pytest.param(b"123456", id="too much")])
def test_a_piece_of_the_wrong_size_ends_it(tmp_path: Path, data: bytes) -> None:
    coming = collection(tmp_path, [["w2-1.rec", 5, "0" * 64]])
    with pytest.raises(NotCollected, match=r"w2-1\.rec: \d bytes came for offset 0: 5 bytes in all"):
        coming.take("w2-1.rec", 0, data)


@pytest.mark.parametrize(
    "name", ["../run.json", "/etc/passwd", "w1-1.rec", "w2-1.rec/x", "w2.parquet", "w22-1.rec", "w2-1.rec\n"]
)
def test_only_files_of_its_own_log_are_taken_from_a_worker(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotCollected, match="no file of its log"):
        collection(tmp_path, [[name, 5, "0" * 64]])


@pytest.mark.parametrize("announced", [None, [["w2-1.rec"]], [["w2-1.rec", "many", "x"]]])
def test_what_is_no_list_of_files_is_refused(tmp_path: Path, announced: Any) -> None:
    with pytest.raises(NotCollected, match="worker 2 announced"):
        collection(tmp_path, announced)


def test_what_is_given_up_asks_for_nothing_more(tmp_path: Path, sent: Path) -> None:
    coming = collection(tmp_path, [list(parcel) for parcel in parcels(sent)])
    wanted = coming.next()
    assert wanted is not None
    coming.take(*wanted, piece(sent, *wanted))
    coming.abandon()
    assert (coming.next(), coming.under_way, coming.complete) == (None, False, False)


def test_a_worker_sends_nothing_from_elsewhere(sent: Path) -> None:
    (sent.parent / "secret").write_text("s")
    with pytest.raises(ValueError, match="is a path"):
        piece(sent, "../secret", 0)
