"""PROTOCOL.md is exact: its examples are frames, its tables are the code's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from chatd import client_core
from chatd.config import Config
from chatd.connection import ANSWERS_BYTES
from chatd.drain import HANDSHAKES_PER_S
from chatd.flush import MAX_CORK_S, SLOW_BYTES
from chatd.metrics import FIGURES, Metrics
from chatd.overload import LONG_CORK_S, Rung
from chatd.protocol import messages
from chatd.protocol.cursor import Backoff
from chatd.protocol.errors import ERRORS, CloseCode, may_return

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "chatd/protocol/PROTOCOL.md").read_text(encoding="utf-8")


def section(title: str, *, level: int = 2, within: str = TEXT) -> str:
    """The text under a heading, up to the next one of its level or above."""
    found = re.search(
        rf"^{'#' * level} {re.escape(title)}\n(.*?)(?=^#{{2,{level}}} |\Z)", within, re.M | re.S
    )
    assert found, title
    return found[1]


def rows(table_head: str, within: str) -> list[list[str]]:
    """The cells of the table that begins with this line."""
    lines = within.split(table_head + "\n", 1)[1].splitlines()[1:]
    table = []
    for line in lines:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


REQUESTS = {cls.__struct_config__.tag: cls for cls in get_args(messages.Request)}
REPLIES = {cls.__struct_config__.tag: cls for cls in get_args(messages.Reply)}
DIRECTIONS = {"Client to server": REQUESTS, "Server to client": REPLIES}
FRAMES = [
    pytest.param(direction, tag, cls, id=f"{direction}: {tag}")
    for direction, frames in DIRECTIONS.items()
    for tag, cls in frames.items()
]


def frame_section(direction: str, tag: str) -> str:
    return section(tag, level=4, within=section(direction, level=3))


def flat_fields(cls: type, prefix: str = "") -> dict[str, bool]:
    """Wire names of a frame's fields, nested ones dotted, and whether they are needed."""
    fields = {}
    for field in msgspec.structs.fields(cls):
        fields[prefix + field.encode_name] = field.required
        for part in (field.type, *get_args(field.type)):
            if isinstance(part, type) and issubclass(part, msgspec.Struct) and part is not messages.Last:
                fields |= flat_fields(part, f"{prefix}{field.encode_name}.")
    return fields


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_frame_has_its_section_and_no_other_has(direction: str) -> None:
    titles = re.findall(r"^#### (.+)$", section(direction, level=3), re.M)
    assert sorted(titles) == sorted([*DIRECTIONS[direction], "{}"])


@pytest.mark.parametrize(("direction", "tag", "cls"), FRAMES)
def test_each_example_is_decoded_and_encoded_to_the_same_frame(
    direction: str, tag: str, cls: type[msgspec.Struct]
) -> None:
    blocks = re.findall(r"```json\n(.*?)```", frame_section(direction, tag), re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    assert lines
    decode: Any = messages.decode_request if cls in REQUESTS.values() else messages.decode_reply
    for line in lines:
        frame = decode(line.encode())
        assert type(frame) is cls
        assert json.loads(messages.encode(frame)) == json.loads(line)


@pytest.mark.parametrize(("direction", "tag", "cls"), FRAMES)
def test_each_table_names_the_fields_of_the_frame(direction: str, tag: str, cls: type) -> None:
    table = rows("| field | needed | type | meaning |", frame_section(direction, tag))
    documented = {name.strip("`"): {"yes": True, "no": False}[needed] for name, needed, _, _ in table}
    assert documented == flat_fields(cls)


def test_history_page_example_holds_message_frames() -> None:
    example = re.findall(r"```json\n(.*?)```", frame_section("Server to client", "history"), re.S)[0]
    page = messages.decode_reply(example.encode())
    assert isinstance(page, messages.HistoryPage)
    assert all(isinstance(messages.decode_reply(raw), messages.Message) for raw in page.messages)


def test_gap_of_subscribed_ends_where_delivery_starts() -> None:
    examples = re.findall(r"```json\n(.*?)```", frame_section("Server to client", "subscribed"), re.S)[0]
    gaps = 0
    for line in examples.splitlines():
        frame = messages.decode_reply(line.encode())
        assert isinstance(frame, messages.Subscribed)
        assert frame.count == frame.position[1] - frame.start
        if frame.gap is not None:
            gaps += 1
            assert frame.gap.to == (frame.position[0], frame.start)
            assert not frame.resumed
    assert gaps == 2


def test_worked_example_is_what_the_tables_say() -> None:
    text = section("Resume").replace("\n       ", "")
    frames = [json.loads(line) for line in re.findall(r"^    [→←] (\{.*\})$", text, re.M)]
    ask, answer, live = frames
    assert messages.decode_request(json.dumps(ask).encode())
    subscribed = messages.decode_reply(json.dumps(answer).encode())
    assert isinstance(subscribed, messages.Subscribed)
    assert subscribed.gap is not None
    assert list(subscribed.gap.from_) == ask["from"]
    missing = range(subscribed.gap.from_[1] + 1, subscribed.gap.to[1] + 1)
    assert f"Missing are {missing[0]} … {missing[-1]}, both inclusive" in text
    assert subscribed.floor == missing[-1] + 1
    assert messages.decode_reply(json.dumps(live).encode())


def test_errors_table_is_the_code() -> None:
    yes_no = {True: "yes", False: "no"}
    table = rows("| code | class | temporary | definite | when |", section("Errors"))
    assert [row[:4] for row in table] == [
        [str(code), cls.__name__, yes_no[cls.temporary], yes_no[cls.definite]] for code, cls in ERRORS.items()
    ]


def test_close_codes_table_is_the_code() -> None:
    table = rows("| code | name | when |", section("Close codes"))
    constants = {name: value for name, value in vars(CloseCode).items() if name.isupper()}
    assert {name: int(code) for code, name, _ in table} == constants


def test_close_code_ranges_are_those_of_the_code() -> None:
    table = rows("| range | what the client does |", section("Close codes"))
    ranges = {tuple(map(int, cell.split("–"))): text for cell, text in table if "–" in cell}
    assert len(ranges) == 3
    for (low, high), text in ranges.items():
        assert may_return(low) == may_return(high) == (text != "does not come back")
    assert may_return(1006)
    assert all(any(low <= code <= high for low, high in ranges) for code in codes())


def codes() -> list[int]:
    return [value for name, value in vars(CloseCode).items() if name.isupper()]


def test_reasons_for_a_gap_are_all_explained() -> None:
    for why in get_args(messages.GapWhy):
        assert f"`{why}`" in section("Resume")


def test_contract_fields_are_all_among_the_guarantees() -> None:
    for field in msgspec.structs.fields(messages.Contract):
        assert f"`{field.name}`" in section("Guarantees")


def test_numbers_of_the_text_are_those_of_the_client() -> None:
    rules = section("Client rules")
    backoff = Backoff()
    assert f"({backoff.base_s:g} s and {backoff.cap_s:g} s before the first `connected`)" in rules
    assert f"after a connection that lasted {backoff.stable_s:g} s" in rules
    assert f"(chatd.client: {client_core.ANSWER_S:g} s)" in rules


def test_every_section_that_the_code_cites_exists() -> None:
    titles = set(re.findall(r"^#+ (.+)$", TEXT, re.M))
    cited = {
        citation
        for path in (ROOT / "chatd").rglob("*.py")
        for place in re.findall(r"PROTOCOL\.md (§[^.)\n]*)", path.read_text(encoding="utf-8"))
        for citation in re.findall(r"§ ([A-Z][a-z]+(?: [a-z]+)?)", place)
    }
    cited |= set(re.findall(r"§ ([A-Z][a-z]+(?: [a-z]+)?)", TEXT))
    assert {"Resume", "Close codes"} <= cited
    assert not {name for name in cited if name not in titles and name.split()[0] not in titles}


def test_subprotocol_and_largest_serial_are_named() -> None:
    assert TEXT.startswith(f"# {messages.SUBPROTOCOL}:")


def test_metrics_table_is_the_code() -> None:
    table = rows("| metric | type | meaning |", section("Operations"))
    assert table == [[f"`{name}`", kind, text] for name, kind, text, _ in FIGURES]
    shown = re.findall(r"^# TYPE (\S+) (\S+)$", Metrics().render(), re.M)
    assert [(name.strip("`"), kind) for name, kind, _ in table] == shown


def test_rungs_of_the_ladder_and_defaults_of_the_text_are_the_code() -> None:
    operations = section("Operations")
    assert [int(rung) for rung, _ in rows("| rung | what gives way |", operations)] == list(Rung)[1:]
    assert f"`drain_s` ({Config().drain_s:g} s)" in operations
    assert Config().drain_per_s == 0.25
    assert Config().overload_lag_s == 0
    assert f"`slow_s` ({Config().slow_s:g} s)" in section("Slow consumers")
    assert f"at most {SLOW_BYTES // 1024} KiB" in section("Slow consumers")
    assert f"more than {ANSWERS_BYTES // 1024} KiB" in section("Slow consumers")
    assert f"up to {LONG_CORK_S * 1000:g} ms instead of {MAX_CORK_S * 1000:g}" in operations
    assert f"of 1 s for each {HANDSHAKES_PER_S:,}" in operations
