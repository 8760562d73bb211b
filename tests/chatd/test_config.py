"""Settings: every fault at once, one line each, naming field, value and rule."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chatd.cli import run_command
from chatd.config import Config, ConfigError, load
from chatd.logs import line
from chatd.metrics import Metrics
from chatd.mutants import CRASHES, MUTANTS, Chosen, Trigger, parse
from chatd.mutants.parts import Parts, parts_of
from chatd.mutants.store import ForgetfulDedupe
from chatd.store import STORES
from chatd.transports import cannot_listen


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
        pytest.param({"store": "valkey"}, "must be one of memory, sqlite, valkey://HOST", id="no address"),
        pytest.param({"store": "valkey://:70"}, "names no host", id="store without a host"),
        pytest.param({"store": "valkey://h:x"}, "must be valkey://HOST:PORT/DB", id="port of the store"),
        pytest.param({"store": "redis://h/zero"}, "must be the number of a database", id="database"),
        pytest.param({"store": "redis://h?wait=-1"}, "a number of replicas, 0 to 100", id="replicas"),
        pytest.param({"store": "redis://h?timeout_s=x"}, "seconds, 0.05 to 600", id="timeout"),
        pytest.param({"store": "redis://h?sync=1"}, "?sync is unknown: known are wait", id="unknown wish"),
        pytest.param({"store": "redis://u:p@h"}, "put it into an environment variable", id="password"),
        pytest.param({"mutant": "no-dedupe"}, "needs test_hooks", id="mutant without permission"),
        pytest.param({"test_hooks": True, "mutant": "x"}, "must name one of", id="unknown mutant"),
        pytest.param({"test_hooks": True, "mutant": "no-dedupe:2"}, "from 0 to 1", id="mutant's probability"),
        pytest.param({"test_hooks": True, "mutant": "no-dedupe:a"}, "must be a number", id="not a number"),
        pytest.param({"test_hooks": True, "mutant": "no-dedupe:1:2:3"}, "must be name", id="too many parts"),
        pytest.param({"test_hooks": True, "mutant": "no-dedupe:once:1:0"}, "1 or more", id="within nothing"),
        pytest.param(
            {"test_hooks": True, "mutant": "skip-serial", "store": "memory"},
            "only be planted in store sqlite",
            id="a mutant of another store",
        ),
        pytest.param(
            {"test_hooks": True, "mutant": "race-serial", "store": "valkey://h"},
            "only be planted in store memory or sqlite",
            id="a mutant of a log of one's own",
        ),
        pytest.param(
            {"test_hooks": True, "mutant": "skip-repair"},
            "only be planted in store valkey",
            id="a mutant of a shared log",
        ),
        pytest.param({"retry_ms": "4000,250"}, "not above the second", id="falling retry"),
        pytest.param({"retry_ms": "4000"}, "must be two numbers of ms", id="one retry"),
        pytest.param({"node": "a b"}, "node is 'a b': must match pattern", id="node with a space"),
        pytest.param({"port": "x"}, "port is 'x': must be a whole number", id="a word for a port"),
        pytest.param({"port": 70000}, "must be less than or equal to 65535", id="port out of range"),
        pytest.param({"http_port": "x"}, "must be auto, free, 0 for none, or a port", id="an HTTP port"),
        pytest.param({"http_port": "70000"}, "http_port is '70000': must be auto", id="too high for HTTP"),
        pytest.param({"http_port": -1}, "must be auto, free", id="too low for HTTP"),
        pytest.param({"echo": 5}, "echo is 5: must be true or false", id="no boolean"),
        pytest.param({"retain_s": "inf"}, "retain_s is 'inf': must be a number that is not", id="for ever"),
        pytest.param({"retain_n": 2**60}, "retain_n is", id="more than a log can count"),
        pytest.param({"data": 3}, "data is 3: must be the path", id="a number for a path"),
        pytest.param({"data": "a\0b"}, "data is 'a\\x00b': must be the path", id="a zero byte"),
        pytest.param({"tls_cert": ""}, "tls_cert is '': must be the path", id="no path"),
        pytest.param({"auth_secret_file": "\0"}, "must be the path", id="a secret at a zero byte"),
        pytest.param({"namespaces": "[]"}, "must be a JSON object", id="a list of namespaces"),
        pytest.param(
            {"advertise": "example.org"}, "must be a URL that clients", id="advertise without scheme"
        ),
        pytest.param({"origins": "*"}, "'*' is no origin", id="all origins"),
        pytest.param({"origins": "https://a.example/"}, "without a path", id="an origin with a path"),
        pytest.param(
            {"host": "a..b", "auth_secret_env": "S"}, "cannot be the name of a host", id="an empty label"
        ),
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
        pytest.param("[" * 100_000, "nested too deep", id="deep"),
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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["serve"], ["'serve' is no command", "token, chat", "`chatd --help`"], id="no command"),
        pytest.param(["--port"], ["--port", "`chatd --help`"], id="no value"),
        pytest.param(["--prot", "1"], ["--prot", "--port", "`chatd --help`"], id="misspelt"),
        pytest.param(["token"], ["--sub", "`chatd token --help`"], id="token for nobody"),
        pytest.param(["chat"], ["CHANNEL", "`chatd chat --help`"], id="chat nowhere"),
        pytest.param(["chat", "c", "--last", "-1"], ["--last", "-1"], id="a negative number"),
    ],
)
def test_what_is_typed_wrong_is_one_line_with_where_to_look(capsys, arguments, words) -> None:
    assert run_command(arguments) == 2
    (line_,) = capsys.readouterr().err.splitlines()
    assert all(word in line_ for word in words)


def test_who_has_no_name_here_is_asked_for_one(capsys, monkeypatch) -> None:
    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", unknown)
    assert run_command(["chat", "room"]) == 2
    assert "--name is not given" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(["--store", "valkey://a..b"], "'a..b' cannot be the name of a host", id="no host"),
        pytest.param(
            ["--data", "{tmp}/file/x"], "must be a directory that chatd can write", id="below a file"
        ),
        pytest.param(["--data", "{tmp}/other"], "file is not a database; choose another", id="not a log"),
        pytest.param(["--tls-cert", "{tmp}/none"], "name a file in PEM format", id="no certificate"),
    ],
)
def test_what_it_cannot_start_with_is_one_line_with_a_remedy(capsys, tmp_path: Path, flags, words) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/chatd.db").write_text("no database at all" * 100)
    given = [flag.format(tmp=tmp_path) for flag in flags]
    assert run_command(["--port", "0", "--http-port", "0", *given]) == 2
    (line_,) = capsys.readouterr().err.splitlines()
    assert words in line_


def test_an_address_of_another_machine_is_blamed_on_the_host(capsys, monkeypatch) -> None:
    monkeypatch.setenv("SECRET", "s" * 32)
    flags = ["--host", "192.0.2.1", "--auth-secret-env", "SECRET", "--port", "0", "--store", "memory"]
    assert run_command(flags) == 2
    (line_,) = capsys.readouterr().err.splitlines()
    assert line_.startswith("chatd: host is '192.0.2.1': it cannot be listened on: ")
    assert line_.endswith("give an address of this machine with --host")
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    text = cannot_listen(Config(host="nowhere", auth_secret_env="S"), "http", unknown)
    assert text.startswith("host is 'nowhere': it cannot be listened on: Name or service not known; give")


def test_help_shows_every_setting(capsys) -> None:
    assert run_command(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all("--" + name.replace("_", "-") in shown for name in Config.model_fields)


# Mutants ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("no-dedupe", Chosen("no-dedupe", 1.0, 0)),
        ("skip-subscriber:0.01", Chosen("skip-subscriber", 0.01, 0)),
        ("skip-subscriber:1:42", Chosen("skip-subscriber", 1.0, 42)),
        ("flip-byte:once", Chosen("flip-byte", within=1000)),
        ("flip-byte:once:3", Chosen("flip-byte", seed=3, within=1000)),
        ("flip-byte:once:3:80000", Chosen("flip-byte", seed=3, within=80_000)),
        ("die-mid-fanout:0.5", Chosen("die-mid-fanout", 0.5)),
    ],
)
def test_a_mutant_is_read_from_its_text(text, chosen) -> None:
    assert parse(text) == chosen


def test_without_a_mutant_the_real_parts_are_used() -> None:
    assert parts_of(None, Metrics()) == Parts()
    parts = parts_of(parse("no-dedupe"), Metrics())
    assert type(parts.dedupe(300)) is ForgetfulDedupe
    assert (parts.hub, parts.joins, parts.ingest) == (Parts().hub, Parts().joins, Parts().ingest)


@pytest.mark.parametrize("name", [*MUTANTS, *CRASHES])
def test_every_mutant_stands_in_for_something(name) -> None:
    parts, real = parts_of(parse(name), Metrics()), Parts()
    different = [part for part in Parts.__struct_fields__ if getattr(parts, part) != getattr(real, part)]
    assert different
    if "stores" in different and name in MUTANTS:
        broken = {kind for kind in STORES if parts.stores[kind] is not STORES[kind]}
        assert broken <= MUTANTS[name].stores


def test_a_mutant_fires_as_often_as_its_probability_says_and_counts_it() -> None:
    metrics = Metrics()
    trigger = Trigger(parse("no-dedupe:0.25:7"), metrics)
    fired = sum(trigger.fires() for _ in range(1000))
    assert 200 < fired < 300
    assert (metrics.mutant_chances, metrics.mutant_fired) == (1000, fired)


def test_a_mutant_that_fires_once_does_so_at_a_chance_drawn_from_its_seed() -> None:
    def fired(seed: int) -> list[int]:
        trigger = Trigger(parse(f"no-dedupe:once:{seed}:100"), Metrics())
        return [chance for chance in range(1, 500) if trigger.fires()]

    assert all(len(fired(seed)) == 1 for seed in range(50))
    assert fired(3) == fired(3)
    assert len({fired(seed)[0] for seed in range(50)}) > 30
    assert all(1 <= fired(seed)[0] <= 100 for seed in range(50))


def test_a_forgetful_dedupe_overlooks_committed_and_staged_entries_alike() -> None:
    dedupe = parts_of(parse("no-dedupe:0.5:1"), Metrics()).dedupe(300)
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


def test_a_password_in_a_url_is_not_said_again() -> None:
    for store in ("valkey://me:hid@den@h/0", "valkey://:hid@den@h:99999/0", "postgres://me:hid@den@h"):
        (line,) = faults(store=store)
        assert "den" not in line, line
        assert "…@h" in line
