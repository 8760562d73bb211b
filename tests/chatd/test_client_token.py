"""The client's token: one for each connection, and a fresh one before it expires."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from pathlib import Path

import pytest

from chatd.auth import issue
from chatd.client import Client, ClientEnded, Message
from chatd.client_actions import Done, Failed, Hangup, Over, Renew, State
from chatd.client_token import TokenClock, fetch
from chatd.protocol import messages as m
from chatd.protocol.errors import ERRORS, Forbidden, TokenExpired, Unauthorized
from tests.chatd.driven_client import CONTRACT, Driven, error
from tests.chatd.house import House

SECRET = b"correct horse battery staple, and a bit more"


def connected(client: Driven, token_s: float | None) -> None:
    """Dial, and let the server say how long the token lasts."""
    wake_s = client.core.wake_s
    assert wake_s is not None
    client.tick(max(client.now_s, wake_s))
    client.note(client.core.opened(client.now_s))
    (request,) = client.take()
    assert isinstance(request, m.Connect)
    limits = m.Limits(frame_bytes=9999, channels=9)
    client.feed(
        m.Connected(
            id=request.id, node="n", user="alice", contract=CONTRACT, limits=limits,
            ping_s=1e6, pong_s=8.0, retry_ms=(500, 30_000), token_s=token_s,
        )
    )  # fmt: skip


# The core ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token_s", "due_s"),
    [pytest.param(100.0, 80.0, id="a short one"), pytest.param(86_400.0, 86_340.0, id="a long one")],
)
def test_a_fresh_token_is_asked_for_before_the_end(token_s: float, due_s: float) -> None:
    client = Driven(renews=True)
    connected(client, token_s)
    assert client.core.wake_s == client.now_s + due_s
    assert client.tick(client.now_s + due_s - 0.1) == []
    assert client.tick(client.now_s + 0.2) == [Renew()]
    assert client.tick(client.now_s + 0.2) == [], "once"
    client.note(client.core.renewed("fresh", client.now_s))
    (auth,) = client.take()
    assert isinstance(auth, m.Auth)
    assert auth.token == "fresh"
    client.feed(m.Authorized(id=auth.id, user="alice", token_s=100.0))
    assert client.core.wake_s == client.now_s + 80.0


def test_a_client_that_cannot_get_another_asks_for_none() -> None:
    client = Driven(token="only one")
    connected(client, 100.0)
    assert client.core.wake_s is not None
    assert client.core.wake_s > 1e5
    assert client.feed(error(None, 402)) == []


def test_when_the_server_says_that_it_has_expired_another_is_asked_for_at_once() -> None:
    client = Driven(renews=True)
    connected(client, None)
    assert client.feed(error(None, 402)) == [Renew()]


def test_a_fresh_token_that_comes_too_late_is_for_the_next_connection() -> None:
    client = Driven(renews=True)
    connected(client, 100.0)
    client.close(4005)
    assert client.core.renewed("fresh", client.now_s) == []
    wake_s = client.core.wake_s
    assert wake_s is not None
    client.tick(wake_s)
    client.note(client.core.opened(wake_s))
    (request,) = client.take()
    assert isinstance(request, m.Connect)
    assert request.token == "fresh"


def test_a_fresh_token_that_is_refused_leaves_the_connection_as_it_is() -> None:
    client = Driven(renews=True)
    connected(client, 100.0)
    client.note(client.core.renewed("bad", client.now_s))
    (auth,) = client.take()
    assert client.feed(error(auth, 401)) == []
    assert client.core.state is State.CONNECTED


@pytest.mark.parametrize("renews", [True, False], ids=["with a fresh one", "for good"])
def test_an_expired_token_at_connect_ends_a_client_only_when_it_cannot_get_another(renews: bool) -> None:
    client = Driven(renews=renews)
    client.tick(0.0)
    client.note(client.core.opened(0.0))
    actions = client.feed(error(client.take()[0], 402))
    if renews:
        assert [type(action) for action in actions] == [Hangup]
        client.close()
        assert client.core.state is State.WAITING
    else:
        (over,) = actions
        assert isinstance(over, Over)
        assert isinstance(over.error, TokenExpired)


def test_the_clock_is_set_again_by_every_answer() -> None:
    clock = TokenClock(renews=True)
    clock.started(10.0, 0.0)
    clock.started(None, 1.0)
    assert not clock.due(1e9)


def test_a_token_is_a_text_or_what_a_function_gives() -> None:
    async def later() -> str:
        return "c"

    async def main() -> list[str | None]:
        return [await fetch(None), await fetch("a"), await fetch(lambda: "b"), await fetch(later)]

    assert asyncio.run(main()) == [None, "a", "b", "c"]


def test_every_refusal_of_a_request_by_its_rights_is_final() -> None:
    client = Driven()
    connected(client, None)
    client.note(client.core.subscribe("room:1", "new", "ticket", client.now_s))
    (request,) = client.take()
    actions = client.feed(error(request, 403))
    assert [type(action) for action in actions] == [Failed]
    assert not [action for action in actions if isinstance(action, Done)]
    assert ERRORS[403] is Forbidden


# On a socket ------------------------------------------------------------------------------------------


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_bytes(SECRET)
    return file


def token(ttl_s: float = 600) -> str:
    return issue(SECRET, user="ann", audience="chatd", now_s=time.time(), ttl_s=ttl_s)


def test_a_client_with_tokens_that_last_a_second_goes_on_for_longer_without_a_break(serve, secret) -> None:
    async def scenario(house: House) -> None:
        asked = 0

        async def fresh() -> str:
            nonlocal asked
            asked += 1
            return token(ttl_s=1)

        async with Client(house.server.url, token=fresh) as ann:
            assert ann.server.user == "ann"
            room = await ann.subscribe("room")
            numbers = itertools.count()
            while asked < 4:
                sent = next(numbers)
                await ann.publish("room", sent)
                item = await anext(room)
                assert isinstance(item, Message)
                assert (item.user, item.data) == ("ann", sent)
            assert house.server.metrics.accepted == 1, "one connection"

    serve(scenario, auth_secret_file=secret, store="memory")


def test_a_client_whose_token_expires_comes_back_with_another_and_resumes(serve, secret) -> None:
    async def scenario(house: House) -> None:
        shown = iter([token(ttl_s=1), "no token", "nor this", token()])  # connect, auth, auth, connect

        async with Client(house.server.url, token=lambda: next(shown), retry_s=(0.01, 0.01)) as ann:
            room = await ann.subscribe("room")
            await ann.publish("room", 1)
            other = Client(house.server.url, token=token())
            async with other:
                while house.server.metrics.closed.get(4005) is None:
                    await house.get("/healthz")  # time passes
                await other.publish("room", 2)
            got = [await anext(room) for _ in range(2)]
            assert [item.data for item in got if isinstance(item, Message)] == [1, 2]

    serve(scenario, auth_secret_file=secret, auth_grace_s=0.1, store="memory")


@pytest.mark.parametrize("shown", [None, "nonsense"])
def test_a_client_without_a_good_token_is_told_and_ends(serve, secret, shown) -> None:
    async def scenario(house: House) -> None:
        with pytest.raises(Unauthorized):
            async with Client(house.server.url, token=shown):
                pass

    serve(scenario, auth_secret_file=secret, store="memory")


def test_an_application_that_gives_no_token_is_asked_again_and_its_error_is_not_logged(
    serve, secret, caplog
) -> None:
    async def scenario(house: House) -> None:
        def failing() -> str:
            raise RuntimeError("password was hunter2")

        with caplog.at_level(logging.DEBUG), pytest.raises(ClientEnded, match="gave no token: RuntimeError"):
            async with Client(house.server.url, token=failing, retry_s=(0.01, 0.01), connect_s=0.3):
                pass
        assert sum("gave no token" in record.getMessage() for record in caplog.records) > 1
        assert "hunter2" not in caplog.text

    serve(scenario, auth_secret_file=secret, store="memory")
