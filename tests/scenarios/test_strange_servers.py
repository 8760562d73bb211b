"""Servers that somebody else set up: what they do not allow is told before the load, and in their words."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from loadgen.trust import Auth, AuthFailed, Tls, Tokens
from scenarios.control import Control, ControlFailed
from scenarios.http_trip import ask_over_http
from scenarios.steady import ProbeFailed, RoundTrip
from tests.chatd.certificates import Certificate, make_certificate
from tests.chatd.in_thread import chatd, in_a_thread

Answers = Callable[[dict[str, Any]], dict[str, Any] | None]


@contextmanager
def speaking(answer: Answers) -> Iterator[str]:
    """A server that answers each command of Centrifugo's protocol so, or closes with 3500; its address."""

    def talk(socket: ServerConnection) -> None:
        try:
            for frame in socket:
                for line in str(frame).split("\n"):
                    command = json.loads(line)
                    reply = answer(command)
                    if reply is None:
                        socket.close(3500, "invalid token")
                    else:
                        socket.send(json.dumps({"id": command["id"], **reply}))
        except ConnectionClosed:
            return

    with serve(talk, "127.0.0.1", 0, compression=None) as server, ExitStack() as stack:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"


class Keeping:
    """Answers of a server that keeps what is published; ``rest`` overrides some."""

    def __init__(self, **rest: dict[str, Any]) -> None:
        self.kept: list[Any] = []
        self.tokens: list[str | None] = []
        self._rest = rest

    def __call__(self, command: dict[str, Any]) -> dict[str, Any]:
        (name,) = (key for key in command if key != "id")
        if name == "connect":
            self.tokens.append(command["connect"].get("token"))
        if name in self._rest:
            return self._rest[name]
        if name == "publish":
            self.kept.append(command["publish"]["data"])
        pubs = [{"data": data, "offset": offset} for offset, data in enumerate(self.kept, 1)]
        found = {"positioned": True, "epoch": "E", "recovered": True, "publications": pubs}
        return {name: found if name == "subscribe" else {}}


def trip(answer: Answers) -> None:
    with speaking(answer) as url:
        RoundTrip([url], "centrifugo", "r", token="of c0", channel="room:0-x", patience_s=30.0)()


def test_a_message_that_is_acked_without_a_place_is_read_back_with_all_of_its_channel() -> None:
    keeping = Keeping()
    keeping.kept.append("somebody else's")
    trip(keeping)
    assert keeping.tokens == ["of c0"]


@pytest.mark.parametrize(
    ("rest", "why"),
    [
        pytest.param(
            {"publish": {"error": {"code": 103, "message": "permission denied"}}},
            "not acked: publish was refused with 103",
            id="no right to publish",
        ),
        pytest.param(
            {"subscribe": {"error": {"code": 102, "message": "unknown channel"}}},
            "not read back: refused with 102: unknown channel",
            id="no such channel",
        ),
        pytest.param(
            {"subscribe": {"subscribe": {}}}, "must have history_size, history_ttl", id="not recoverable"
        ),
        pytest.param(
            {"subscribe": {"subscribe": {"positioned": True, "epoch": "E", "recovered": True}}},
            "though it was acked: the server keeps no history",
            id="recoverable, and nothing kept",
        ),
    ],
)
def test_what_a_server_does_not_allow_is_told_before_the_load(rest: dict[str, Any], why: str) -> None:
    with pytest.raises(ProbeFailed, match=why):
        trip(Keeping(**rest))


def test_who_is_not_let_in_is_told_why(tmp_path: Path) -> None:
    with speaking(lambda command: None) as url:
        control = Control(
            tmp_path, urls=[url], driver="centrifugo", nonce=1, names=["", "room:1"], body_bytes=10
        )
        with pytest.raises(ControlFailed, match=r"does not let client 0 in: .*3500 .*invalid token"):
            control.contract(time.monotonic() + 30)
        control.close()


# Over TLS, and over HTTP -----------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path)


def poll(url: str, tls: Tls, token: str | None = None) -> None:
    ask_over_http(url, "chatd", tls=tls, token=token, channel="room:0-x", patience_s=30.0)


def control(tmp_path: Path, url: str, tls: Tls) -> Control:
    return Control(
        tmp_path, urls=[url], driver="chatd", nonce=1, names=["", "room:1"], body_bytes=10, tls=tls
    )


def test_a_server_that_lets_client_0_in_over_tls_is_asked_in_all_ways(
    tmp_path: Path, certificate: Certificate
) -> None:
    tls = Tls(ca=certificate.cert, server_name="127.0.0.1")
    there = {"host": "127.0.0.2", "tls_cert": certificate.cert, "tls_key": certificate.key}
    with in_a_thread(lambda: chatd(**there)) as server:
        url = server.url.removesuffix("/ws")
        assert url.startswith("wss://127.0.0.2:"), "the certificate is for 127.0.0.1"
        first = control(tmp_path, url, tls)
        assert first.contract(time.monotonic() + 30).node
        first.close()
        RoundTrip([url], "chatd", "r", tls=tls, channel="room:0-x", patience_s=30.0)()
        poll(server.http_url, tls)


def test_a_stranger_is_told_at_once_in_every_way(tmp_path: Path, certificate: Certificate) -> None:
    tls = Tls(ca=make_certificate(tmp_path, "another").cert)
    with in_a_thread(lambda: chatd(tls_cert=certificate.cert, tls_key=certificate.key)) as server:
        first = control(tmp_path, server.url.removesuffix("/ws"), tls)
        with pytest.raises(ControlFailed, match=r"server\.tls\.ca is .*: it does not vouch for .*wss://"):
            first.contract(time.monotonic() + 60)
        first.close()
        with pytest.raises(AuthFailed, match=r"server\.tls\.ca is .*: it does not vouch for .*https://"):
            poll(server.http_url, tls)


def test_a_poll_that_is_refused_is_told_in_the_words_of_the_server(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("forty characters of secret, at the least")
    with in_a_thread(lambda: chatd(auth_secret_file=secret)) as server:
        with pytest.raises(ProbeFailed, match="answered with 401: "):
            poll(server.http_url, Tls())
        poll(server.http_url, Tls(), Tokens(Auth(secret_file=secret)).of("c0", time.time()))


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "b'hi': it must have", id="a page"),
        pytest.param(
            b"HTTP/1.1 404 x\r\nContent-Length: 2\r\n\r\nno", "answered with 404$", id="nothing there"
        ),
        pytest.param(b"SSH-2.0-x\r\n\r\n", "not answered in HTTP: status line", id="no HTTP"),
        pytest.param(b"", "the connection was closed", id="no word"),
    ],
)
def test_who_does_not_speak_the_protocol_over_http_is_told(answer: bytes, why: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def once() -> None:
            guest, _ = listener.accept()
            with guest:
                guest.recv(65_536)
                guest.sendall(answer)

        thread = threading.Thread(target=once)
        thread.start()
        with pytest.raises(ProbeFailed, match=why):
            poll(f"http://127.0.0.1:{listener.getsockname()[1]}", Tls())
        thread.join()
