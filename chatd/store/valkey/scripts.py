"""The scripts in ``lua/``: each runs as one step of the server, so no other node sees half of it."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Final

from .resp import Command

_LUA: Final = files(__package__) / "lua"


class Script:
    """A script by the digest that the server knows it by."""

    def __init__(self, *parts: str) -> None:
        self.text = "".join((_LUA / f"{part}.lua").read_text() for part in parts)
        self.digest = sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    @property
    def load(self) -> Command:
        return ("SCRIPT", "LOAD", self.text)

    def run(self, keys: Sequence[str | bytes], *arguments: str | bytes | int) -> Command:
        return ("EVALSHA", self.digest, len(keys), *keys, *arguments)


APPEND: Final = Script("channel", "append")
READ: Final = Script("channel", "read")
TOPS: Final = Script("channel", "tops")
TRIM: Final = Script("channel", "trim")
NODES: Final = Script("nodes")
ALL: Final = (APPEND, READ, TOPS, TRIM, NODES)

CHANNELS: Final = "chatd:channels"  # set of all that were ever published to
REGISTRY: Final = "chatd:nodes"
PROBE: Final = "chatd:probe"


def log_keys(channel: str) -> tuple[str, str]:
    """State and stream of a channel (lua/channel.lua)."""
    return f"chatd:log:{channel}:at", f"chatd:log:{channel}"
