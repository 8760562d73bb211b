"""The recorder: nothing written is lost, and nothing that cannot be written stops the load."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadgen.recorder import Recorder, RecorderError
from reports.history import HEADER_BYTES, RECORD, Header, Kind

ROOT = Path(__file__).parents[2]
SLOTS = 5
SMALL = HEADER_BYTES + SLOTS * RECORD.itemsize  # four records and the slot for lost ones


def salvage(path: Path) -> Any:
    """The records of a live file, as a reader finds them: up to the first unused slot."""
    raw = path.read_bytes()
    whole = (len(raw) - HEADER_BYTES) // RECORD.itemsize
    records = np.frombuffer(raw, RECORD, whole, HEADER_BYTES)
    unused = np.nonzero(records["kind"] == Kind.NONE)[0]
    return records[: unused[0]] if len(unused) else records


def write_some(recorder: Recorder, count: int, *, first: int = 0, t: int = 1) -> None:
    for n in range(first, first + count):
        recorder.write(Kind.RECV, t=t, t2=n, client=1, channel=2, publisher=3, pub_seq=n, serial=n, epoch=1)


def test_records_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, 3, 77)
    recorder.write(
        Kind.RECV,
        t=10,
        t2=-9,
        client=8,
        channel=7,
        publisher=6,
        pub_seq=5,
        serial=2**32 - 1,
        epoch=3,
        flags=129,
    )
    recorder.close()
    (record,) = salvage(tmp_path / "w3-1.rec")
    assert tuple(record) == (10, -9, 8, 7, 6, 5, 2**32 - 1, 3, Kind.RECV, 129)
    header = Header.unpack((tmp_path / "w3-1.rec").read_bytes())
    assert (header.worker, header.segment, header.nonce) == (3, 1, 77)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert header.boot_id.hex() == boot.replace("-", "")


def test_a_full_segment_is_followed_by_the_next_and_closing_cuts_the_rest(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, 1, 0, segment_bytes=SMALL)
    write_some(recorder, 10)
    assert recorder.count == 10
    recorder.close()
    assert recorder.count == 10
    segments = [salvage(tmp_path / f"w1-{n}.rec")["serial"].tolist() for n in (1, 2, 3)]
    assert segments == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert (tmp_path / "w1-3.rec").stat().st_size == HEADER_BYTES + 2 * RECORD.itemsize
    assert not (tmp_path / "w1-4.rec").exists()


def test_a_segment_made_ahead_is_used_next_and_removed_when_it_was_not_needed(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, 1, 0, segment_bytes=SMALL)
    recorder.prepare()
    assert not (tmp_path / "w1-2.rec").exists()
    write_some(recorder, 3)
    assert recorder.wants_segment
    recorder.prepare()
    assert (tmp_path / "w1-2.rec").exists()
    write_some(recorder, 4, first=3)
    recorder.prepare()
    recorder.close()
    assert salvage(tmp_path / "w1-2.rec")["serial"].tolist() == [4, 5, 6]
    assert not (tmp_path / "w1-3.rec").exists()


def test_fresh_gives_every_record_once_across_segments(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, 1, 0, segment_bytes=SMALL)
    seen: list[int] = []
    for first in range(0, 22, 11):
        write_some(recorder, 11, first=first)
        seen += recorder.fresh()["serial"].tolist()
        assert len(recorder.fresh()) == 0
    recorder.close()
    assert seen == list(range(22))
    assert len(recorder.fresh()) == 0


def test_a_name_is_on_disk_before_its_number_is_known(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, 1, 0)
    assert [recorder.epoch(name) for name in ("E1", "E2", "E1")] == [1, 2, 1]
    lines = [json.loads(line) for line in (tmp_path / "w1.names.jsonl").read_text().splitlines()]
    assert lines == [{"epoch": 1, "name": "E1"}, {"epoch": 2, "name": "E2"}]
    recorder.close()


def test_a_log_that_exists_is_never_written_over(tmp_path: Path) -> None:
    Recorder(tmp_path, 1, 0).close()
    with pytest.raises(RecorderError, match="must not exist yet"):
        Recorder(tmp_path, 1, 0)


def test_too_small_a_segment_is_refused_with_the_smallest_that_would_do(tmp_path: Path) -> None:
    with pytest.raises(RecorderError, match="segment_bytes is 100: must be at least 144"):
        Recorder(tmp_path, 1, 0, segment_bytes=100)


def test_writing_after_close_does_nothing(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, 1, 0)
    recorder.close()
    write_some(recorder, 3)
    recorder.close()
    assert recorder.count == 0


class Full:
    """Takes the disk away from a recorder and gives it back, by its one way to ask for space."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full, self.asked = False, 0
        real = os.posix_fallocate

        def fallocate(descriptor: int, offset: int, length: int) -> None:
            self.asked += 1
            if self.full:
                raise OSError(28, "No space left on device")
            real(descriptor, offset, length)

        monkeypatch.setattr(os, "posix_fallocate", fallocate)


def test_what_a_full_disk_loses_is_counted_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Full(monkeypatch)
    recorder = Recorder(tmp_path, 1, 0, segment_bytes=SMALL)
    disk.full = True
    write_some(recorder, 10)
    assert (recorder.count, recorder.lost) == (4, 6)
    recorder.close()
    records = salvage(tmp_path / "w1-1.rec")
    assert records["kind"].tolist() == [Kind.RECV] * 4 + [Kind.LOST_LOG]
    assert records["serial"][-1] == 6
    assert not (tmp_path / "w1-2.rec").exists()


def test_a_full_disk_is_asked_again_once_a_second_and_used_when_it_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Full(monkeypatch)
    recorder = Recorder(tmp_path, 1, 0, segment_bytes=SMALL)
    disk.full = True
    write_some(recorder, 100, t=1)
    assert disk.asked == 2  # the first segment, and one refusal
    disk.full = False
    write_some(recorder, 1, t=500_000_000)
    write_some(recorder, 2, first=7, t=1_500_000_000)
    recorder.close()
    assert recorder.lost == 97
    assert salvage(tmp_path / "w1-1.rec")["serial"][-1] == 97
    assert salvage(tmp_path / "w1-2.rec")["serial"].tolist() == [7, 8]


def test_a_disk_without_room_for_the_first_segment_is_an_error_before_the_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Full(monkeypatch).full = True
    with pytest.raises(RecorderError, match="No space left on device"):
        Recorder(tmp_path, 1, 0)
    assert not list(tmp_path.iterdir())


def test_an_epoch_whose_name_cannot_be_written_makes_the_log_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(tmp_path, 1, 0)

    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        assert recorder.epoch("E1") == 0
    assert recorder.epoch("E1") == 1
    recorder.close()
    assert salvage(tmp_path / "w1-1.rec")["kind"].tolist() == [Kind.LOST_LOG]


def test_a_real_limit_on_file_size_is_survived(tmp_path: Path) -> None:
    code = f"""
import resource, signal, sys
from pathlib import Path
from loadgen.recorder import Recorder
from reports.history import Kind
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
recorder = Recorder(Path(sys.argv[1]), 1, 0, segment_bytes={SMALL})
resource.setrlimit(resource.RLIMIT_FSIZE, ({SMALL - 1}, {SMALL - 1}))
for n in range(10):
    recorder.write(Kind.RECV, t=n)
recorder.close()
print(recorder.count, recorder.lost)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=80,
        check=True,
    )
    assert done.stdout.split() == ["4", "6"]


def test_kill_9_in_the_middle_of_writing_loses_nothing(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from loadgen.recorder import Recorder
from reports.history import Kind
recorder = Recorder(Path(sys.argv[1]), 1, 0, segment_bytes=1 << 20)
for n in range(1, 1 << 30):
    recorder.write(Kind.RECV, t=n, serial=n)
    if n % 1000 == 0:
        os.write(1, b"%d\\n" % n)
"""
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    assert child.stdout is not None
    told = [int(child.stdout.readline()) for _ in range(60)]
    child.send_signal(signal.SIGKILL)
    told += [int(line) for line in child.stdout.read().split()]
    child.stdout.close()
    child.wait(30)
    files = sorted(tmp_path.glob("w1-*.rec"), key=lambda path: int(path.stem.split("-")[1]))
    serials = np.concatenate([salvage(path)["serial"] for path in files])
    assert len(files) > 1
    assert len(serials) >= max(told)
    assert (serials == np.arange(1, len(serials) + 1)).all()
