"""Fixtures of the tests of chatd."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import uvloop

from chatd.config import Config
from chatd.server import Server
from tests.chatd.house import House, Scenario
from tests.chatd.process import Daemon


@pytest.fixture(params=["uvloop", "asyncio"])
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., None]:
    """Runs ``scenario(house)`` against a server of its own."""

    def run(scenario: Scenario, **settings: Any) -> None:
        async def main() -> None:
            config = Config(**{"port": 0, "data": tmp_path / "data", "drain_s": 1, **settings})
            server = Server(config)
            await server.start()
            try:
                async with AsyncExitStack() as stack:
                    await scenario(House(server, stack))
            finally:
                await server.stop()
            assert not server.failed

        if request.param == "uvloop":
            uvloop.run(main())
        else:
            asyncio.run(main())

    return run


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    one = Daemon(tmp_path / "data")
    yield one
    if one.process is not None:
        one.send(signal.SIGKILL)
