"""Settings: every fault at once, one line each, naming field, value and rule."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chatd.cli import run_command
from chatd.config import Config, ConfigError, load
from chatd.logs import line
from chatd.mutants import ForgetfulDedupe, Mutant, make_dedupe, parse
from chatd.store.base import Dedupe


def faults(**settings: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(None, settings)
    return caught.value.faults


def test_the_defaults_are_valid_and_keep_promises() -> None:
    config = load(None, {})
    assert (config.host, config.store, config.mutant, config.test_hooks) == ("127.0.0.1", "sqlite", "", False)


def test_flags_go_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "chatd.json"
    file.write_text(json.dumps({"port": 1, "retain_n": 5, "retry_ms": [250, 4000]}))
    config = load(file, {"port": "2"})
    assert (config.port, config.retain_n, config.retry_ms) == (2, 5, (250, 4000))


def test_every_fault_is_reported_at_once() -> None:
    found = faults(port="x", retain_n=0, colour="red", store="stone", retry_ms="9,3", host="0.0.0.0")
    assert len(found) == 6
    assert all("\n" not in fault for fault in found)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param(
            {"host": "0.0.0.0"}, "host is '0.0.0.0': must be a loopback address", id="all interfaces"
        ),
        pytest.param({"host": "example.org"}, "must be a loopback address", id="a name"),
        pytest.param({"host": "0.0.0.0"}, "give auth_secret_file, and make tokens with", id="the remedy"),
        pytest.param(
            {"host": "0.0.0.0", "auth_secret_file": "s", "test_hooks": True},
            "test_hooks is True: needs a loopback host",
            id="test hooks for everybody",
        ),
        pytest.param({"tls_key": "k"}, "tls_key is 'k': needs tls_cert", id="key without certificate"),
        pytest.param({"admin_port": 65536}, "admin_port is 65536", id="admin port out of range"),
        pytest.param({"publish_burst": 0}, "publish_burst is 0", id="no burst"),
        pytest.param({"port": 65536}, "port is 65536", id="port out of range"),
        pytest.param({"prot": 1}, "prot is no setting of chatd: known are auth_", id="unknown key"),
        pytest.param({"store": "stone"}, "must be one of memory, sqlite", id="unknown store"),
        pytest.param({"mutant": "no-dedupe"}, "needs test_hooks", id="mutant without permission"),
        pytest.param({"test_hooks": True, "mutant": "x"}, "must name one of", id="unknown mutant"),
        pytest.param({"test_hooks": True, "mutant": "no-dedupe:2"}, "from 0 to 1", id="mutant's probability"),
        pytest.param({"test_hooks": True, "mutant": "no-dedupe:a"}, "must be a number", id="not a number"),
        pytest.param({"retry_ms": "4000,250"}, "not above the second", id="falling retry"),
        pytest.param({"node": "a b"}, "node is 'a b'", id="node with a space"),
    ],
)
def test_a_fault_names_the_field_the_value_and_the_rule(settings, words) -> None:
    (fault,) = faults(**settings)
    assert words in fault


@pytest.mark.parametrize("secret", [{"auth_secret_file": "s"}, {"auth_secret_env": "S"}])
def test_any_address_is_taken_where_clients_must_log_in(secret) -> None:
    config = Config(host="0.0.0.0", **secret)
    assert (config.authenticated, config.loopback) == (True, False)


def test_origins_are_read_from_a_flag() -> None:
    assert load(None, {"origins": "https://a.example,https://b.example"}).origins == (
        "https://a.example",
        "https://b.example",
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_addresses_are_taken(host) -> None:
    assert Config(host=host).host == host


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(None, "cannot be read", id="missing"),
        pytest.param("{", "is not JSON", id="broken"),
        pytest.param("[]", "holds no JSON object", id="a list"),
    ],
)
def test_a_config_file_that_cannot_be_used_is_one_line(tmp_path: Path, text, words) -> None:
    file = tmp_path / "c.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load(file, {})


def test_the_command_prints_one_line_per_fault_and_exits_with_2(capsys) -> None:
    assert run_command(["--port", "x", "--host", "0.0.0.0"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(text.startswith("chatd: ") for text in lines)
    assert run_command(["--no-such-flag"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_help_shows_every_setting(capsys) -> None:
    assert run_command(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all("--" + name.replace("_", "-") in shown for name in Config.model_fields)


# Mutants ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mutant"),
    [
        ("no-dedupe", Mutant("no-dedupe", 1.0, 0)),
        ("skip-subscriber:0.01", Mutant("skip-subscriber", 0.01, 0)),
        ("skip-subscriber:1:42", Mutant("skip-subscriber", 1.0, 42)),
    ],
)
def test_a_mutant_is_read_from_its_text(text, mutant) -> None:
    assert parse(text) == mutant


def test_without_a_mutant_the_real_parts_are_used() -> None:
    assert type(make_dedupe(300, None)) is Dedupe
    assert type(make_dedupe(300, parse("skip-subscriber"))) is Dedupe
    assert type(make_dedupe(300, parse("no-dedupe"))) is ForgetfulDedupe


def test_a_forgetful_dedupe_overlooks_committed_and_staged_entries_alike() -> None:
    dedupe = make_dedupe(300, parse("no-dedupe:0.5:1"))
    dedupe.stage(b"staged", 1, b"")
    staged = [dedupe.find(b"staged") is None for _ in range(100)]
    dedupe.commit(0)
    committed = [dedupe.find(b"staged") is None for _ in range(100)]
    assert 30 < sum(staged) < 70
    assert 30 < sum(committed) < 70


# Log lines --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("ws://[::1]:1/ws", "ws://[::1]:1/ws"),
        (5, "5"),
        ("a b", '"a b"'),
        ("two\nlines", '"two\\nlines"'),
        ('a"b', '"a\\"b"'),
        ("", '""'),
    ],
)
def test_a_log_line_is_one_line_whatever_a_value_holds(value, shown) -> None:
    now = datetime(2030, 1, 2, 3, 4, 5, 678_900, tzinfo=UTC)
    assert line(now, "info", "event", {"key": value}) == f"2030-01-02T03:04:05.678Z info event key={shown}"
