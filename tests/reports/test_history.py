"""The record schema, its documentation, and what importing it costs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reports.checks import run_checks
from reports.history import (
    HEADER_BYTES,
    PACKER,
    RECORD,
    SCHEMA_VERSION,
    BadReason,
    GapReason,
    Header,
    HistoryError,
    Kind,
    Mark,
    open_history,
)
from tests.scenes import Scene

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "reports" / "HISTORY.md").read_text()


def test_the_page_has_every_field_at_its_offset() -> None:
    types = {"<i8": "i64", "<u4": "u32", "<u2": "u16", "|u1": "u8"}
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (\w+) \|", PAGE, re.MULTILINE)
    fields = RECORD.fields
    assert fields is not None
    assert rows == [(str(at), name, types[kind.str]) for name, (kind, at) in fields.items()]
    assert f"{RECORD.itemsize} bytes, little endian" in PAGE


def test_the_page_has_every_kind() -> None:
    rows = re.findall(r"^\| ([A-Z_]+) \| (\d+) \|", PAGE, re.MULTILINE)
    assert rows == [(kind.name, str(int(kind))) for kind in Kind if kind is not Kind.NONE]


WORDS: list[tuple[Mark | GapReason | BadReason, str]] = [  # members of different enums are equal
    (Mark.PHASE, "1 phase"),
    (Mark.HEAL, "2 heal"),
    (Mark.DRAIN, "3 drain"),
    (Mark.SENTINEL, "4 sentinel"),
    (Mark.FORCED_RECONNECT, "5 forced reconnect"),
    (Mark.FINAL_READS, "6 final reads"),
    (Mark.END, "7 end"),
    (Mark.SILENT, "8 silent"),
    (Mark.DEAF, "9 deaf"),
    (Mark.HEARS, "10 hears"),
    (GapReason.TRIMMED, "0 trimmed"),
    (GapReason.EPOCH, "1 epoch"),
    (GapReason.FORK, "2 fork"),
    (GapReason.AHEAD, "3 ahead"),
    (GapReason.LAG, "4 lag"),
    (BadReason.UNDECODABLE, "1 undecodable"),
    (BadReason.SERIAL_RANGE, "2 a serial"),
    (BadReason.UNEXPECTED, "3 not legal here"),
]


@pytest.mark.parametrize("number", [*Mark, *GapReason, *BadReason], ids=repr)
def test_the_page_has_every_mark_and_reason(number: Mark | GapReason | BadReason) -> None:
    assert [text for known, text in WORDS if known is number and text in PAGE]


def test_the_packed_record_is_the_arrays() -> None:
    packed = PACKER.pack(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
    assert tuple(int(value) for value in np.frombuffer(packed, RECORD)[0]) == tuple(range(1, 11))


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"short", "has 5 bytes"),
        (b"x" * HEADER_BYTES, "begins with"),
        (
            Header(worker=1, segment=1, boot_id=bytes(16), nonce=1, schema_version=SCHEMA_VERSION + 1).pack(),
            "schema version 2",
        ),
    ],
    ids=["too short", "no magic", "a later schema"],
)
def test_a_header_that_cannot_be_read_says_why(raw: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Header.unpack(raw)


def test_importing_the_schema_loads_no_polars() -> None:
    code = "import sys, reports.history; print('polars' in sys.modules or 'pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_written_run_is_judged_as_the_same_story_in_memory(tmp_path: Path) -> None:
    scene = Scene(clients=3, workers=2)
    for client in (1, 2, 3):
        scene.join(client)
    scene.publish(1)
    scene.publish(1, skip=[2])
    scene.publish(1)
    scene.finish()
    assert run_checks(open_history(scene.write(tmp_path / "run"))) == run_checks(scene.history())


def test_a_sealed_file_that_is_damaged_inside_says_so(tmp_path: Path) -> None:
    scene = Scene(clients=2)
    scene.join(1), scene.join(2)
    for _ in range(50):
        scene.publish(1)
    scene.finish()
    run_dir = scene.write(tmp_path / "run")
    open_history(run_dir)
    path = run_dir / "events" / "w1.parquet"
    raw = bytearray(path.read_bytes())
    raw[4:400] = bytes(396)
    path.write_bytes(raw)
    with pytest.raises(HistoryError, match="cannot be read"):
        run_checks(open_history(run_dir))
