"""The locustfile's options, and the load that they amount to; without Locust."""

from __future__ import annotations

from argparse import Action, ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import pytest

from loadgen.options import add_options, in_options, load_spec, three, unwritable
from loadgen.workload import SpecError


class Group:
    """As one of Locust's, whose options have variables too."""

    def __init__(self, parser: ArgumentParser) -> None:
        self._parser = parser

    def add_argument(self, name: str, *, env_var: str, **more: Any) -> Action:
        assert env_var.startswith("CHATPROOF_")
        return self._parser.add_argument(name, **more)


def parsed(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> Namespace:
    parser = ArgumentParser()
    monkeypatch.setattr(parser, "add_argument_group", lambda _: Group(parser))
    add_options(parser)
    options = parser.parse_args(arguments)
    options.run_time, options.chat_nonce, options.chat_sessions = 5, 7, options.chat_clients or 10
    return options


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        pytest.param("--chat-rate", "abc", "invalid float value: 'abc'", id="no-number"),
        pytest.param("--chat-rate", "-5", "is -5: must be 0 or more", id="a-negative-rate"),
        pytest.param("--chat-rate", "inf", "is inf: must be 0 or more", id="no-end-of-a-rate"),
        pytest.param("--chat-channels", "0", "is 0: must be 1 or more", id="no-channel"),
        pytest.param("--chat-clients", "-1", "is -1: must be 0 or more", id="fewer-than-none"),
    ],
)
def test_a_wrong_value_is_refused_at_once_by_the_name_of_its_option(
    option: str, value: str, why: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(f"{option}={value}", monkeypatch=monkeypatch)
    assert ended.value.code == 2
    assert f"argument {option}: {why}" in capsys.readouterr().err


def test_what_says_whom_to_load_and_what_to_write_is_not_the_pages_to_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Action] = []
    add = Group.add_argument

    def noted(self: Group, name: str, **more: Any) -> Action:
        made.append(add(self, name, **more))
        return made[-1]

    monkeypatch.setattr(Group, "add_argument", noted)
    parsed(monkeypatch=monkeypatch)
    hidden = {option.dest for option in made if not vars(option)["include_in_web_ui"]}
    assert hidden == {"chat_allow_target", "chat_records", "chat_summary", "chat_workers"}


def test_sessions_are_dealt_evenly_to_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = parsed("--chat-clients=10", monkeypatch=monkeypatch)
    spec = load_spec(options, "ws://127.0.0.1:1", (), tmp_path, 4)
    assert spec.workload.clients == 12
    assert spec.workload.phase[0].publish_per_s == 10.0


@pytest.mark.parametrize(
    ("arguments", "host", "why"),
    [
        pytest.param((), "", "--host is ['']: '' must be ws://HOST:PORT", id="no-host"),
        pytest.param(
            (), "ws://192.0.2.1:9",
            "--host is 'ws://192.0.2.1:9': only loopback may be loaded unless the host is allowed "
            "(--chat-allow-target 192.0.2.1)", id="of-others",
        ),
        pytest.param(
            ("--chat-channels-per-client=99",), "ws://127.0.0.1:1",
            "--chat-channels-per-client is 99: must be at most --chat-channels, 10", id="more-than-there-are",
        ),
        pytest.param(
            ("--chat-body-bytes=99999999",), "ws://127.0.0.1:1", "--chat-body-bytes is 99999999: ",
            id="too-long",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_told_by_the_names_of_options(
    arguments: tuple[str, ...], host: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SpecError) as wrong:
        load_spec(parsed(*arguments, monkeypatch=monkeypatch), host, (), tmp_path, 1)
    assert in_options(wrong.value).startswith(why)


def test_figures_have_three_digits_that_matter() -> None:
    assert [three(value) for value in (0.0, 1.23456, 132.351, 26361.9)] == ["0", "1.23", "132", "26,400"]


def test_a_file_that_cannot_be_made_is_known_before_the_test(tmp_path: Path) -> None:
    assert unwritable("") is unwritable(str(tmp_path / "summary.json")) is None
    assert unwritable(str(tmp_path / "no/summary.json")) == f"there is no directory {tmp_path / 'no'}"
