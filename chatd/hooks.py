"""Test hooks that are asked for while the daemon runs: GET /hooks/NAME on the admin port.

Only with ``--test-hooks``, hence on loopback only, and only with the header below, which a page of another
site cannot send unasked. They break no promise; they make moments that a load seldom makes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qs

from .logs import log
from .transports.base import Page

HEADER: Final = "Chatd-Test-Hook"
MOST_MS: Final = 10_000


def block(ms: int) -> None:
    """Nothing runs on the loop for so long, once the answer to this is out."""
    if ms:
        log("test_hook", level="warning", hook="block", ms=ms)
        asyncio.get_running_loop().call_later(0.01, time.sleep, ms / 1000)


HOOKS: Final[dict[str, Callable[[int], None]]] = {"block": block}


def answer(path: str, query: str) -> Page | None:
    """Carry out ``/hooks/NAME?ms=N``; None: it is no path of a hook."""
    prefix, _, name = path.rpartition("/")
    if prefix != "/hooks":
        return None
    hook = HOOKS.get(name)
    if hook is None:
        return Page(404, f"hook is {name!r}: must be one of {', '.join(HOOKS)}\n")
    (text,) = parse_qs(query).get("ms", [""])[:1]
    if not text.isdecimal() or int(text) > MOST_MS:
        return Page(400, f"ms is {text!r}: must be from 0 to {MOST_MS}\n")
    hook(int(text))
    return Page(200, "ok\n")
