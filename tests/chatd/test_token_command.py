"""``chatd token``: prints a token that the daemon lets in, and nothing else."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from chatd.auth import Verifier
from chatd.cli import run_command
from chatd.rights import Right

SECRET = "correct horse battery staple, and a bit more"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    return file


def grant(printed: str, audience: str = "chatd"):
    return Verifier(SECRET.encode(), audience, time.time).grant(printed.strip())


def test_a_token_is_printed_for_a_user(secret: Path, capsys) -> None:
    assert run_command(["token", "--sub", "ann", "--auth-secret-file", str(secret), "--ttl-s", "60"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    made = grant(printed.out)
    assert made.user == "ann"
    assert 50 < made.left_s <= 61


def test_rights_and_audience_are_those_that_are_asked_for(secret: Path, capsys) -> None:
    arguments = ["token", "--sub", "ann", "--auth-secret-file", str(secret), "--aud", "elsewhere",
                 "--rights", "room:*=subscribe,publish", "--rights", "news=all"]  # fmt: skip
    assert run_command(arguments) == 0
    rights = grant(capsys.readouterr().out, "elsewhere").rights
    assert rights.may(Right.PUBLISH, "room:1")
    assert not rights.may(Right.HISTORY, "room:1")
    assert rights.may(Right.MODERATE, "news")
    assert not rights.may(Right.SUBSCRIBE, "other")


def test_the_secret_is_found_through_the_settings_of_the_daemon_too(secret: Path, capsys, tmp_path) -> None:
    config = tmp_path / "chatd.json"
    config.write_text(json.dumps({"auth_secret_file": str(secret), "auth_audience": "here"}))
    assert run_command(["token", "--sub", "ann", "--config", str(config)]) == 0
    assert grant(capsys.readouterr().out, "here").user == "ann"


def test_the_secret_may_be_in_the_environment(monkeypatch, capsys) -> None:
    monkeypatch.setenv("CHAT_SECRET", SECRET)
    assert run_command(["token", "--sub", "ann", "--auth-secret-env", "CHAT_SECRET"]) == 0
    assert grant(capsys.readouterr().out).user == "ann"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--sub", "ann"], "auth_secret_file is not given", id="no secret"),
        pytest.param(["--sub", "ann", "--auth-secret-file", "no such file"], "cannot be read", id="no file"),
        pytest.param(["--auth-secret-file", "SECRET"], "Missing option '--sub'", id="no name"),
        pytest.param(["--sub", "a\nb", "--auth-secret-file", "SECRET"], "printable", id="a bad name"),
        pytest.param(
            ["--sub", "a", "--auth-secret-file", "SECRET", "--rights", "room:*=fly"],
            "--rights is 'room:*=fly': right must be one of subscribe",
            id="a bad right",
        ),
        pytest.param(
            ["--sub", "a", "--auth-secret-file", "SECRET", "--rights", "publish"],
            "a channel pattern must be",
            id="no pattern",
        ),
        pytest.param(["--sub", "a", "--auth-secret-file", "SECRET", "--ttl-s", "0"], "ttl-s", id="no time"),
    ],
)
def test_what_cannot_be_made_is_one_line_and_exit_2(secret: Path, capsys, arguments, words) -> None:
    arguments = [str(secret) if argument == "SECRET" else argument for argument in arguments]
    assert run_command(["token", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert words in printed.err
    assert SECRET not in printed.err
