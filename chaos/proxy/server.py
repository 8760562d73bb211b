"""The process: API and proxies on one uvloop, until SIGTERM or SIGINT."""

import asyncio
import json
import resource
import signal
from dataclasses import dataclass
from importlib.metadata import version

from aiohttp import web

from chaos.proxy.address import Address, Policy, bind
from chaos.proxy.api import Api
from chaos.proxy.frame_view import FrameView
from chaos.proxy.registry import Registry


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line says."""

    host: str = "127.0.0.1"
    port: int = 8474
    seed: int = 0
    allow_listen: tuple[str, ...] = ()
    allow_target: tuple[str, ...] = ()
    view: FrameView | None = None


async def serve(settings: Settings) -> None:
    """Print one JSON line with the address, serve, and close everything when told to end.

    Raises:
        AddressError: the API's address is not allowed or cannot be bound.
    """
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    _raise_file_limit()
    policy = Policy(settings.allow_listen, settings.allow_target)
    address = Address(settings.host, settings.port)
    policy.check_listen(address)
    registry = Registry(seed=settings.seed, policy=policy, view=settings.view)
    api = Api(registry, version=version("chatproof"), hosts=settings.allow_listen)
    runner = web.AppRunner(api.application(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        listener = bind(address)
        await web.SockSite(runner, listener).start()
        host, port = listener.getsockname()[:2]
        print(json.dumps({"listening": str(Address(host, port)), "version": api.version}), flush=True)
        await ended.wait()
    finally:
        registry.close()
        await runner.cleanup()


def _raise_file_limit() -> None:
    """Each connection takes two descriptors."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
