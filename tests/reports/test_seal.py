"""Sealing: live segments to Parquet, salvage, epochs, and what broken directories say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from loadgen.recorder import Recorder
from reports.clock import host_clocks, in_run_time
from reports.history import RECORD, Header, HistoryError, Kind, open_history
from reports.seal import seal
from tests.builders import BOOT_ID, NONCE, Story, write_segments
from tests.scenes import Scene


def a_scene(**options: int) -> Scene:
    scene = Scene(clients=3, channels=2, **options)
    for client in (1, 2, 3):
        scene.join(client, 1, 2)
    for number in range(20):
        scene.publish(1 + number % 3, 1 + number % 2)
    scene.cut(2)
    scene.new_life(1)
    scene.publish(1)
    scene.back(2)
    scene.finish()
    return scene


def files(run_dir: Path) -> set[str]:
    return {path.name for path in (run_dir / "events").iterdir()}


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def append(path: Path, worker_records: np.ndarray) -> None:
    """Put records over the unused tail of a live file."""
    raw = bytearray(path.read_bytes())
    used = 64 + RECORD.itemsize * int((np.frombuffer(raw[64:], RECORD)["kind"] != 0).sum())
    raw[used : used + worker_records.nbytes] = worker_records.tobytes()
    path.write_bytes(raw)


@pytest.mark.parametrize("segment_records", [1000, 7], ids=["one segment", "many segments"])
def test_a_sealed_run_holds_what_its_workers_wrote_in_order(tmp_path: Path, segment_records: int) -> None:
    scene = a_scene(workers=2)
    run_dir = scene.write(tmp_path / "run", segment_records=segment_records)
    history = open_history(run_dir)
    sealed = history.scan().collect()
    assert sealed.equals(scene.history().scan().collect())
    assert history.ingest.broken == frozenset()
    assert history.ingest.records == sum(len(log) for log in scene.logs.values())
    assert not any(name.endswith(".rec") for name in files(run_dir))


def test_sealing_again_changes_nothing(tmp_path: Path) -> None:
    run_dir = a_scene().write(tmp_path / "run")
    first = seal(run_dir)
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    assert seal(run_dir) == first
    assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == before


def test_integers_are_delta_encoded(tmp_path: Path) -> None:
    run_dir = a_scene().write(tmp_path / "run")
    seal(run_dir)
    group = pq.read_metadata(run_dir / "events" / "w1.parquet").row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    assert all("DELTA_BINARY_PACKED" in column.encodings for column in columns)
    assert {column.compression for column in columns} == {"ZSTD"}


def test_epochs_of_workers_get_one_number_each(tmp_path: Path) -> None:
    """Each worker numbers epochs in the order in which it meets them."""
    story = Story(clients=2, workers=2)
    story.sub(1, epoch=1)
    story.sub(1, epoch=2, asked=(1, 5), start=3)
    story.sub(2, epoch=1)
    story.epoch(2, 2, parent=1, fork=9)
    story.gap(2, 1, 2, epoch=2, from_epoch=1)
    story.sub(2, epoch=1, asked=(2, 7))
    run_dir = story.write(tmp_path / "run")
    events = run_dir / "events"
    (events / "w2.names.jsonl").write_text('{"epoch": 1, "name": "E2"}\n{"epoch": 2, "name": "E9"}\n')
    history = open_history(run_dir)
    assert history.names.epochs == (None, "E1", "E2", "E9")
    rows = history.scan().filter(pl.col("file") == 2).select("kind", "epoch", "publisher").collect().rows()
    assert rows == [
        (Kind.SUB, 2, 0),
        (Kind.EPOCH, 3, 2),
        (Kind.GAP, 3, 2),
        (Kind.SUB, 2, 3),
    ]


def test_a_publisher_is_not_taken_for_an_epoch(tmp_path: Path) -> None:
    story = Story(clients=2)
    story.send(2, 1)
    story.recv(1, 1, (2, 1))
    run_dir = story.write(tmp_path / "run")
    (run_dir / "events" / "w1.names.jsonl").write_text(
        '{"epoch": 2, "name": "E1"}\n{"epoch": 1, "name": "E2"}\n'
    )
    assert open_history(run_dir).scan().collect()["publisher"].to_list() == [2, 2]


def test_a_killed_worker_is_salvaged_and_torn(tmp_path: Path) -> None:
    scene = a_scene()
    scene.torn = {1}
    run_dir = scene.write(tmp_path / "run")
    history = open_history(run_dir)
    assert history.ingest.broken == {1}
    assert history.ingest.logs[1].records == len(scene.logs[1])
    assert history.ingest.logs[1].counted is None
    assert "left no counters" in history.ingest.reasons()[0]
    assert "w1-1.rec" in files(run_dir)
    assert "w0-1.rec" not in files(run_dir)


def test_a_half_written_record_is_left_out_and_counted(tmp_path: Path) -> None:
    scene = a_scene()
    scene.torn = {1}
    run_dir = scene.write(tmp_path / "run")
    half = np.zeros(1, RECORD)
    half["t"] = 5
    append(run_dir / "events" / "w1-1.rec", half)
    log = open_history(run_dir).ingest.logs[1]
    assert log.records == len(scene.logs[1])
    assert "1 damaged records" in log.facts[0]


def test_a_segment_cut_short_gives_its_whole_records(tmp_path: Path) -> None:
    scene = a_scene()
    scene.torn = {1}
    path = scene.write(tmp_path / "run") / "events" / "w1-1.rec"
    path.write_bytes(path.read_bytes()[: 64 + 40 * 10 + 17])
    assert open_history(tmp_path / "run").ingest.logs[1].records == 10


@pytest.mark.parametrize("content", [b"", bytes(64), bytes(4096)], ids=["empty", "header only", "all zeros"])
def test_a_segment_without_a_header_is_a_fact(tmp_path: Path, content: bytes) -> None:
    run_dir = a_scene().write(tmp_path / "run")
    (run_dir / "events" / "w1-2.rec").write_bytes(content)
    assert open_history(run_dir).ingest.logs[1].facts == (
        "w1-2.rec has no header: nothing was written to it",
    )


def test_a_log_that_is_shorter_than_its_worker_counted_stays_live(tmp_path: Path) -> None:
    run_dir = a_scene().write(tmp_path / "run")
    edit_json(run_dir / "events" / "w1.counters.json", records=9999)
    history = open_history(run_dir)
    assert history.ingest.broken == {1}
    assert "counted 9999 records" in history.ingest.reasons()[0]
    assert "w1-1.rec" in files(run_dir)


def test_counters_that_come_later_complete_the_sealing(tmp_path: Path) -> None:
    scene = a_scene()
    scene.torn = {1}
    run_dir = scene.write(tmp_path / "run")
    seal(run_dir)
    (run_dir / "events" / "w1.counters.json").write_text(json.dumps({"records": len(scene.logs[1])}))
    assert seal(run_dir).broken == frozenset()
    assert "w1-1.rec" not in files(run_dir)


def test_records_added_after_a_sealing_are_sealed_too(tmp_path: Path) -> None:
    scene = a_scene()
    scene.torn = {1}
    run_dir = scene.write(tmp_path / "run")
    seal(run_dir)
    append(run_dir / "events" / "w1-1.rec", scene.records(1)[:3])
    assert open_history(run_dir).scan().collect().height == 3 + sum(map(len, scene.logs.values()))


def test_a_damaged_sealed_file_is_written_again_while_its_segments_are_there(tmp_path: Path) -> None:
    scene = a_scene()
    scene.torn = {1}
    run_dir = scene.write(tmp_path / "run")
    seal(run_dir)
    (run_dir / "events" / "w1.parquet").write_bytes(b"PAR1 no more")
    assert open_history(run_dir).scan().collect().equals(scene.history().scan().collect())


def test_a_worker_that_left_nothing_is_missing(tmp_path: Path) -> None:
    scene = a_scene()
    run_dir = scene.write(tmp_path / "run")
    edit_json(run_dir / "run.json", workers=[1, 2])
    history = open_history(run_dir)
    assert history.ingest.missing == (2,)
    assert history.ingest.broken == {2}


def test_lost_records_break_a_log_even_if_the_count_is_right(tmp_path: Path) -> None:
    run_dir = a_scene().write(tmp_path / "run")
    edit_json(run_dir / "events" / "w1.counters.json", lost=3)
    assert open_history(run_dir).ingest.broken == {1}


def test_an_epoch_without_a_name_is_a_fact(tmp_path: Path) -> None:
    run_dir = a_scene().write(tmp_path / "run")
    (run_dir / "events" / "w1.names.jsonl").write_text('{"epoch": 1, "name": "E1"}\n{"epoch": 2, "na')
    history = open_history(run_dir)
    assert history.ingest.broken == {1}
    assert "?w1:2" in history.names.epochs


def test_records_of_another_boot_are_a_fact(tmp_path: Path) -> None:
    run_dir = a_scene().write(tmp_path / "run")
    clock = {"boot_id": "f" * 8 + BOOT_ID[8:]}
    edit_json(run_dir / "run.json", clock=clock)
    assert "another boot" in open_history(run_dir).ingest.reasons()[0]


def on_two_hosts(tmp_path: Path, *readings: list[tuple[int, int, int]]) -> tuple[Path, Scene]:
    """A run whose workers recorded on hosts of their own, with their readings in run.json; and its scene."""
    scene = a_scene(workers=2)
    run_dir = scene.write(tmp_path / "run")
    boots = [BOOT_ID[:-1] + digit for digit in "12"]
    told = {
        str(worker): {"host": f"h{worker}", "boot_id": boots[worker - 1], "readings": of_worker}
        for worker, of_worker in enumerate(readings, start=1)
    }
    edit_json(run_dir / "run.json", workers=[1, 2], clock={"boot_id": BOOT_ID, "workers": told})
    back = {k: [(0, -rows[0][1], 0)] for k, rows in enumerate(readings, start=1) if rows}
    behind = host_clocks({"clock": {"workers": {k: {"readings": rows} for k, rows in back.items()}}})
    for worker in scene.logs:
        for path in (run_dir / "events").glob(f"w{worker}-*.rec"):
            path.unlink()
        theirs = in_run_time(scene.records(worker), worker, behind, 2)
        boot = boots[worker - 1] if worker else BOOT_ID
        write_segments(run_dir / "events", worker, theirs, boot_id=boot)
    return run_dir, scene


def test_what_hosts_recorded_by_their_own_clocks_is_sealed_in_the_time_of_the_run(tmp_path: Path) -> None:
    run_dir, scene = on_two_hosts(tmp_path, [(0, 3_600 * 10**9, 50)], [(0, -(2**60) - 1, 70)])
    history = open_history(run_dir)
    assert history.scan().collect().equals(scene.history().scan().collect())
    assert history.ingest.reasons() == []


def test_a_clock_that_was_never_compared_is_a_fact(tmp_path: Path) -> None:
    run_dir, _ = on_two_hosts(tmp_path, [(0, 10**9, 50)], [])
    (reason,) = open_history(run_dir).ingest.reasons()
    assert reason == "the clock of worker 2 was never compared: its times mean nothing here"


def test_a_worker_that_is_on_another_host_than_run_json_says_is_a_fact(tmp_path: Path) -> None:
    run_dir, _ = on_two_hosts(tmp_path, [(0, 10**9, 50)], [(0, 10**9, 50)])
    run = json.loads((run_dir / "run.json").read_text())
    run["clock"]["workers"]["2"]["boot_id"] = BOOT_ID
    edit_json(run_dir / "run.json", **run)
    (reason,) = open_history(run_dir).ingest.reasons()
    assert reason == "w2-1.rec was written under another boot: its times do not compare"


def test_an_interrupted_sealing_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the Parquet file was written, before the segments were removed."""
    scene = a_scene()
    run_dir = scene.write(tmp_path / "run")

    def killed(self: Path, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        seal(run_dir)
    monkeypatch.undo()
    assert open_history(run_dir).scan().collect().equals(scene.history().scan().collect())
    assert not any(name.endswith(".rec") for name in files(run_dir))


def test_what_the_load_workers_recorder_writes_is_sealed_whole(tmp_path: Path) -> None:
    run_dir = Story().write(tmp_path / "run")
    for path in (run_dir / "events").glob("w1*"):
        path.unlink()
    edit_json(run_dir / "run.json", clock={})
    recorder = Recorder(run_dir / "events", 1, NONCE, segment_bytes=64 + 40 * 8)
    epoch = recorder.epoch("E7")
    for serial in range(1, 21):
        recorder.write(Kind.RECV, t=serial, client=1, channel=1, serial=serial, epoch=epoch)
    recorder.close()
    counters = {"records": recorder.count, "lost": 0}
    (run_dir / "events" / "w1.counters.json").write_text(json.dumps(counters))
    history = open_history(run_dir)
    assert history.ingest.broken == frozenset()
    assert history.scan().collect()["serial"].to_list() == list(range(1, 21))
    assert history.names.epochs[history.scan().collect()["epoch"][0]] == "E7"


# ── what cannot be read ───────────────────────────────────────────────────────────────────


def broken(run_dir: Path, how: str) -> None:
    events = run_dir / "events"
    match how:
        case "no run.json":
            (run_dir / "run.json").unlink()
        case "run.json is a list":
            (run_dir / "run.json").write_text("[]")
        case "run.json is torn":
            (run_dir / "run.json").write_text('{"schema_version": 1,')
        case "run.json is deep":
            (run_dir / "run.json").write_text("[" * 100_000)
        case "a future schema":
            edit_json(run_dir / "run.json", schema_version=2)
        case "no nonce":
            edit_json(run_dir / "run.json", nonce=None)
        case "a word for a nonce":
            edit_json(run_dir / "run.json", nonce="abc")
        case "workers are names":
            edit_json(run_dir / "run.json", workers=["w1"])
        case "contract is a word":
            edit_json(run_dir / "run.json", contract="best effort")
        case "another run's segment":
            write_segments(events, 3, np.zeros(0, RECORD), nonce=NONCE + 1)
        case "another run's sealed file":
            seal(run_dir)
            edit_json(run_dir / "run.json", nonce=NONCE + 1)
        case "a future segment":
            header = Header(worker=3, segment=1, boot_id=bytes(16), nonce=NONCE, schema_version=9)
            (events / "w3-1.rec").write_bytes(header.pack())
        case "not a segment":
            (events / "w3-1.rec").write_bytes(b"hello" * 100)
        case "not Parquet":
            (events / "w3.parquet").write_bytes(b"hello" * 100)
        case "someone else's Parquet":
            pl.DataFrame({"a": [1]}).write_parquet(events / "w3.parquet")
        case "names are numbers":
            edit_json(run_dir / "names.json", clients=[0, 1])
        case "subscriptions are a list":
            edit_json(run_dir / "names.json", subscriptions=[1])


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("no run.json", "run.json: not found"),
        ("run.json is a list", "must be a JSON object"),
        ("run.json is torn", "run.json: "),
        ("run.json is deep", "run.json: "),
        ("a future schema", "schema_version is 2: this build reads 1"),
        ("no nonce", "nonce is missing: the run ended before it could record anything"),
        ("a word for a nonce", "nonce is 'abc': must be an integer"),
        ("workers are names", "must be a list of worker indexes"),
        ("contract is a word", "contract is str: must be an object"),
        ("another run's segment", "records of another run"),
        ("another run's sealed file", "records of another run"),
        ("a future segment", "schema version 9"),
        ("not a segment", "a record file begins with"),
        ("not Parquet", "w3.parquet"),
        ("someone else's Parquet", "this build reads version 1"),
        ("names are numbers", "clients must be a list of names"),
        ("subscriptions are a list", "subscriptions must map"),
    ],
)
def test_a_broken_directory_says_what_is_wrong(tmp_path: Path, how: str, says: str) -> None:
    run_dir = a_scene().write(tmp_path / "run")
    broken(run_dir, how)
    with pytest.raises(HistoryError, match=says.replace(".", r"\.")):
        open_history(run_dir)


def test_what_is_no_directory_says_so(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="not a directory"):
        open_history(tmp_path / "nothing")


def test_missing_names_are_a_fact_and_ids_name_themselves(tmp_path: Path) -> None:
    run_dir = a_scene().write(tmp_path / "run")
    (run_dir / "names.json").unlink()
    history = open_history(run_dir)
    assert "names.json is missing" in history.ingest.facts[0]
    assert history.names.client(2) == "client 2"
    assert history.names.epoch(1) == "E1"


def test_a_torn_line_of_faults_is_a_fact(tmp_path: Path) -> None:
    run_dir = a_scene().write(tmp_path / "run")
    (run_dir / "faults.jsonl").write_text('{"id": "cut", "kind": "down"}\n{"id": "cu')
    history = open_history(run_dir)
    assert [line["id"] for line in history.faults] == ["cut"]
    assert "line 2" in history.ingest.facts[0]


def test_links_and_strangers_among_the_events_are_not_followed(tmp_path: Path) -> None:
    run_dir = a_scene().write(tmp_path / "run")
    secret = tmp_path / "secret"
    secret.write_bytes(b"x" * 200)
    (run_dir / "events" / "w7-1.rec").symlink_to(secret)
    (run_dir / "events" / "w8-1.rec.bak").write_bytes(b"x")
    assert set(open_history(run_dir).ingest.logs) == {0, 1}


def test_a_run_without_any_record_is_an_empty_history(tmp_path: Path) -> None:
    run_dir = Story().write(tmp_path / "run")
    assert open_history(run_dir).scan().collect().height == 0


def test_a_record_file_header_survives_a_round_trip() -> None:
    header = Header(worker=3, segment=2, boot_id=bytes(range(16)), nonce=2**64 - 1)
    assert Header.unpack(header.pack()) == header
