"""What a server keeps and for how long, read from its own settings: logic only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from ..base import Durability
from .url import Address

OLDEST: Final = (7, 0)
RANKS: Final[tuple[Durability, ...]] = ("memory", "process", "fsync", "replicated")


class Broker(msgspec.Struct, frozen=True):
    """A server as it described itself."""

    info: Mapping[str, str]  # INFO
    settings: Mapping[str, str]  # CONFIG GET; empty where that is not allowed

    @property
    def epoch(self) -> str:
        return self.info.get("master_replid", "")[:12]

    @property
    def role(self) -> str:
        return self.info.get("role", "")

    @property
    def name(self) -> str:
        version = self.info.get("valkey_version") or self.info.get("redis_version", "")
        return f"{self.info.get('server_name', 'redis')} {version}"

    def refused(self) -> str | None:
        """Why no log can be kept there, and what to do; None: it can."""
        found = tuple(int(n) for n in self.info.get("redis_version", "0").split(".")[:2] if n.isdecimal())
        if found < OLDEST:
            return f"it is {self.name}: must be Valkey, or Redis 7.0 or newer"
        if self.info.get("cluster_enabled") == "1":
            return "it is part of a cluster: must be one primary with its replicas (cluster-enabled no)"
        if self.role != "master":
            return "it is a replica: must be the primary, to which chatd can write"
        policy = self.info.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            return (
                f"maxmemory-policy is {policy}, which drops messages when memory is short:"
                " must be noeviction (CONFIG SET maxmemory-policy noeviction)"
            )
        return None

    def durability(self, address: Address) -> Durability:
        """What a message has survived when it is acknowledged: no more than is known for certain."""
        if address.wait or address.waitaof:
            return "replicated"
        if self.info.get("aof_enabled") != "1":
            return "memory"
        always = self.settings.get("appendfsync") == "always"
        # Otherwise nothing is flushed while the file is being rewritten.
        return "fsync" if always and self.settings.get("no-appendfsync-on-rewrite") == "no" else "process"


def weaker(now: Durability, promised: Durability) -> bool:
    return RANKS.index(now) < RANKS.index(promised)


def read_info(reply: bytes) -> dict[str, str]:
    """
    >>> read_info(b"# Replication\\r\\nrole:master\\r\\n")
    {'role': 'master'}
    """
    pairs = (line.partition(":") for line in reply.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in pairs if colon}


def read_settings(reply: list[bytes]) -> dict[str, str]:
    texts = [text.decode(errors="replace") for text in reply]
    return dict(zip(texts[::2], texts[1::2], strict=True))
