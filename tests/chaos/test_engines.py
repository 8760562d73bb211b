"""The client's timeouts and typed errors, and what engines do to a server that is not theirs alone."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chaos.engines import AUTO, ENGINES, embedded, toxiproxy
from chaos.engines.base import (
    AlreadyExists,
    BadRequest,
    EngineError,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
    NotFound,
)
from chaos.engines.client import Client, ProxyState
from chaos.engines.embedded import EmbeddedEngine
from chaos.engines.toxiproxy import BINARY, ToxiproxyEngine
from chaos.faults.base import Toxic
from chaos.journal import Journal
from chaos.process import Supervisor

BUILT = Path(__file__).parents[2] / ".tools" / "bin" / BINARY
UPSTREAM = "127.0.0.1:9"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engines")


@contextmanager
def supervising(directory: Path) -> Iterator[Supervisor]:
    journal = Journal(directory / "faults.jsonl")
    supervisor = Supervisor(journal)
    try:
        yield supervisor
    finally:
        supervisor.end_all()
        journal.close()


@pytest.fixture(scope="module", params=["embedded", "toxiproxy"])
def server(request: pytest.FixtureRequest, directory: Path) -> Iterator[Client]:
    """A server that runs: another's, for the engines of these tests."""
    path = str(BUILT) if BUILT.exists() else shutil.which(BINARY)
    if request.param == "toxiproxy" and path is None:
        pytest.skip(f"no {BINARY} in .tools/bin or on PATH: run `make toxiproxy`")
    with supervising(directory) as supervisor:
        engine = EmbeddedEngine() if request.param == "embedded" else ToxiproxyEngine(toxiproxy=str(path))
        engine.start(supervisor, log_dir=directory, run_id="other")
        yield engine.client


@pytest.fixture
def client(server: Client) -> Iterator[Client]:
    yield server
    for name in server.proxies():
        server.delete_proxy(name)


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """URL of a server that gives this answer to the first request; b"" keeps it waiting."""
    release = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            if answer:
                connection.recv(65536)
                connection.sendall(answer)
            else:
                release.wait(10)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            release.set()
            thread.join()


def http(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (
        status.encode(),
        len(body),
        body,
    )


def test_a_proxy_lives_from_create_to_delete(client):
    made = client.create_proxy("p", upstream=UPSTREAM)
    assert made == ProxyState("p", made.listen, UPSTREAM, True)
    assert made.listen.startswith("127.0.0.1:")
    assert not made.listen.endswith(":0")
    assert client.proxies() == {"p": made}
    assert client.set_enabled("p", False).enabled is False
    assert client.set_enabled("p", True) == made  # on the same port
    client.delete_proxy("p")
    assert client.proxies() == {}


def test_a_toxic_can_be_added_updated_and_removed(client):
    client.create_proxy("p", upstream=UPSTREAM)
    toxic = Toxic("slow", "latency", "upstream", 0.5, {"latency": 100, "jitter": 10})
    assert client.add_toxic("p", toxic) == toxic
    assert client.toxics("p") == [toxic]
    updated = client.update_toxic("p", "slow", attributes={"latency": 200}, toxicity=1.0)
    assert updated == Toxic("slow", "latency", "upstream", 1.0, {"latency": 200, "jitter": 10})
    client.remove_toxic("p", "slow")
    assert client.toxics("p") == []


def test_refusals_are_typed_and_carry_the_servers_words(client):
    client.create_proxy("p", upstream=UPSTREAM)
    client.add_toxic("p", Toxic("slow", "latency"))
    with pytest.raises(NotFound, match=r"proxy not found \(status 404\)"):
        client.set_enabled("q", True)
    with pytest.raises(NotFound, match="toxic not found"):
        client.remove_toxic("p", "fast")
    with pytest.raises(AlreadyExists, match="proxy already exists"):
        client.create_proxy("p", upstream=UPSTREAM)
    with pytest.raises(AlreadyExists, match="toxic already exists"):
        client.add_toxic("p", Toxic("slow", "latency"))
    with pytest.raises(BadRequest, match="invalid toxic type"):
        client.add_toxic("p", Toxic("x", "swizzle"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(EngineRefused, match="address already in use") as refused:
            client.create_proxy("q", upstream=UPSTREAM, listen=listen)
    assert refused.value.status == 500


def test_the_version_is_told(client):
    assert client.version()


def test_the_environments_http_proxy_is_not_asked(client, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{nobody.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert client.version()


def test_a_server_that_does_not_answer_is_given_up_in_time():
    with answering(b"") as url, pytest.raises(EngineTimeout, match=f"{url}/version does not answer"):
        Client(url, timeout_s=0.05).version()


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        pytest.param(
            http("500 Oops", b"out of sockets"), EngineRefused, "out of sockets .status 500", id="plain text"
        ),
        pytest.param(http("200 OK", b"<html>"), EngineError, "answers with no JSON: '<html>'", id="not JSON"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", EngineTimeout, "does not answer", id="not HTTP"),
    ],
)
def test_a_strange_answer_is_a_typed_error(answer, error, text):
    with answering(answer) as url, pytest.raises(error, match=text):
        Client(url).proxies()


def test_the_plain_version_of_an_old_server_is_read():
    with answering(http("200 OK", b"2.1.4")) as url:
        assert Client(url).version() == "2.1.4"


def test_two_clients_keep_their_own_servers(client):
    other = Client("http://127.0.0.1:1", timeout_s=0.5)
    assert client.version()
    with pytest.raises(EngineTimeout):
        other.version()
    assert client.version()


def test_a_shared_server_is_left_as_it_was_found(client, directory):
    client.create_proxy("theirs", upstream=UPSTREAM)
    client.add_toxic("theirs", Toxic("slow", "latency", attributes={"latency": 5, "jitter": 0}))
    client.set_enabled("theirs", False)
    before = client.proxies(), client.toxics("theirs")
    with supervising(directory) as supervisor:
        runs = [ToxiproxyEngine(toxiproxy=client.url) for _ in range(2)]
        for number, run in enumerate(runs):  # two at once, with proxies of the same names
            run.start(supervisor, log_dir=directory, run_id=f"r{number}")
            assert sorted(run.create(("a", "b"), upstream=UPSTREAM)) == ["a", "b"]
            run.add_toxic("a", Toxic("x_downstream", "latency"))
            run.set_enabled("b", False)
        assert supervisor.pids() == {}
        runs[0].reset()
        assert runs[0].toxics("a") == []
        assert [toxic.name for toxic in runs[1].toxics("a")] == ["x_downstream"]
        assert len(client.proxies()) == 5
        for run in runs:
            assert run.close() == []
            assert run.close() == []
    assert (client.proxies(), client.toxics("theirs")) == before


def test_a_name_may_have_several_proxies_that_are_treated_alike(client, directory):
    before = client.proxies()
    with supervising(directory) as supervisor:
        engine = ToxiproxyEngine(toxiproxy=client.url)
        engine.start(supervisor, log_dir=directory, run_id="r")
        listens = [
            engine.create(("a", "b"), upstream=upstream)["a"] for upstream in (UPSTREAM, "127.0.0.1:8")
        ]
        assert len(set(listens)) == 2
        engine.add_toxic("a", Toxic("x", "latency"))
        engine.set_enabled("b", False)
        made = {name: proxy for name, proxy in client.proxies().items() if name not in before}
        assert {name: proxy.enabled for name, proxy in made.items()} == {
            "chatproof-r-a": True, "chatproof-r-a-2": True, "chatproof-r-b": False, "chatproof-r-b-2": False,
        }  # fmt: skip
        assert made["chatproof-r-a-2"].upstream == "127.0.0.1:8"
        both = ("chatproof-r-a", "chatproof-r-a-2")
        assert [[toxic.name for toxic in client.toxics(name)] for name in both] == [["x"], ["x"]]
        assert engine.remove_toxic("a", "x") is True
        assert [client.toxics(name) for name in both] == [[], []]
        assert engine.close() == []
    assert client.proxies() == before


def test_removing_a_toxic_that_is_gone_says_so(client, directory):
    with supervising(directory) as supervisor:
        engine = ToxiproxyEngine(toxiproxy=client.url)
        engine.start(supervisor, log_dir=directory, run_id="r")
        engine.create(("a",), upstream=UPSTREAM)
        assert engine.add_toxic("a", Toxic("x", "latency", attributes={"latency": 5}))["attributes"] == {
            "latency": 5,
            "jitter": 0,
        }
        assert engine.remove_toxic("a", "x") is True
        assert engine.remove_toxic("a", "x") is False
        with pytest.raises(EngineError, match="no proxy 'c': this run made a"):
            engine.set_enabled("c", True)
        assert engine.abilities == engine.claims
        assert engine.describe() == f"toxiproxy {client.version()}"


class OldClient:
    """A server that knows no slicer and no reset_peer."""

    def __init__(self) -> None:
        self.there: list[str] = []

    def create_proxy(self, name: str, *, upstream: str, enabled: bool) -> None:
        assert not enabled
        self.there.append(name)

    def add_toxic(self, proxy: str, toxic: Toxic) -> None:
        if toxic.type in ("slicer", "reset_peer"):
            raise BadRequest(400, "invalid toxic type")

    def delete_proxy(self, name: str) -> None:
        self.there.remove(name)


def test_what_an_old_server_lacks_is_found_by_trying_and_the_trial_leaves_nothing():
    old = OldClient()
    abilities = toxiproxy._abilities(old, "trial")  # type: ignore[arg-type]
    assert ToxiproxyEngine.claims - abilities == {"toxic:slicer", "toxic:reset_peer"}
    assert old.there == []


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        pytest.param("", "no toxiproxy-server on PATH; install", id="nothing on PATH"),
        pytest.param("/no/such/binary", "no such program; install", id="no such file"),
        pytest.param("/etc/passwd", "no such program; install", id="not executable"),
        pytest.param("https://127.0.0.1:8474", 'must be like "http://127.0.0.1:8474"', id="not http"),
        pytest.param("http://127.0.0.1", 'must be like "http://127.0.0.1:8474"', id="no port"),
        pytest.param(
            "http://127.0.0.1:99999", 'must be like "http://127.0.0.1:8474"', id="port out of range"
        ),
        pytest.param("http://192.0.2.1:8474", "must be on this machine", id="another machine"),
        pytest.param("http://example.com:8474", "must be on this machine", id="another machine by name"),
    ],
)
def test_a_toxiproxy_that_cannot_be_used_is_refused_before_the_run(value, problem, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    (told,) = ToxiproxyEngine.problems(value)
    assert told.startswith(f"faults.toxiproxy is {value!r}: ")
    assert problem in told


@pytest.mark.parametrize(
    "value", ["http://127.0.0.1:8474", "http://[::1]:8474", "http://localhost:8474", "/bin/sh"]
)
def test_a_toxiproxy_that_may_be_there_is_taken(value):
    assert ToxiproxyEngine.problems(value) == []


def start(engine: EmbeddedEngine | ToxiproxyEngine, directory: Path) -> None:
    with supervising(directory) as supervisor:
        engine.start(supervisor, log_dir=directory, run_id="r")


def test_no_server_at_the_url_is_said_with_the_remedy(tmp_path):
    with pytest.raises(
        EngineUnavailable, match=r"no Toxiproxy: http://127\.0\.0\.1:1/version does not answer"
    ):
        start(ToxiproxyEngine(toxiproxy="http://127.0.0.1:1"), tmp_path)


def script(directory: Path, text: str) -> str:
    path = directory / "server"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_a_binary_that_ends_at_once_is_said_with_the_end_of_its_log(tmp_path):
    binary = script(tmp_path, "echo unknown flag: $1 >&2; exit 2")
    with pytest.raises(EngineUnavailable, match=r"(?s)server ended at once.*proxy\.log: unknown flag: -host"):
        start(ToxiproxyEngine(toxiproxy=binary), tmp_path)


def test_a_binary_that_is_gone_when_the_run_starts_is_said(tmp_path):
    with pytest.raises(EngineUnavailable, match=r"engine toxiproxy does not start: .*No such file"):
        start(ToxiproxyEngine(toxiproxy=str(tmp_path / "gone")), tmp_path)


def test_a_binary_that_never_answers_is_given_up_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(toxiproxy, "START_S", 0.05)
    with pytest.raises(EngineUnavailable, match=r"server does not answer within 0\.05 s"):
        start(ToxiproxyEngine(toxiproxy=script(tmp_path, "exec sleep 60")), tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("echo hello; exec sleep 60", "says b'hello', not where it listens", id="other words"),
        pytest.param(
            "echo bad >&2; exit 1", r"(?s)ended before it said anything.*proxy\.log: bad", id="no words"
        ),
    ],
)
def test_an_embedded_proxy_that_does_not_start_is_said(tmp_path, monkeypatch, text, problem):
    monkeypatch.setattr(embedded.sys, "executable", script(tmp_path, text))
    with pytest.raises(EngineUnavailable, match=problem):
        start(EmbeddedEngine(), tmp_path)


def test_an_engine_that_was_not_started_has_nothing_to_close():
    assert EmbeddedEngine().close() == []
    with pytest.raises(EngineError, match="embedded is not started"):
        EmbeddedEngine().create(("a",), upstream=UPSTREAM)


def test_what_cannot_be_deleted_is_told(directory):
    with supervising(directory) as supervisor:
        engine = EmbeddedEngine()
        engine.start(supervisor, log_dir=directory, run_id="r")
        engine.create(("a",), upstream=UPSTREAM)
    (problem,) = engine.close()
    assert problem.startswith("proxy 'chatproof-r-a' is left behind: ")


def test_auto_is_an_engine_of_the_table():
    assert ENGINES[AUTO] is EmbeddedEngine
    assert all(engine.name == name for name, engine in ENGINES.items())
