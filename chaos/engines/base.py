"""What an engine of wire faults is: proxies between clients and a server, and toxics on them.

::

    EngineError
      EngineUnavailable     it cannot be started or found
      EngineTimeout         no answer in time: the request may or may not have been carried out
      EngineRefused         it answered, and said no: certainly not carried out
        NotFound            404  no such proxy or toxic
        AlreadyExists       409
        BadRequest          400  it does not know the toxic, or not with these values
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from chaos.faults.base import AIMED, ENABLED, REROUTED, SILENT, Toxic, toxic_ability
from chaos.process import Supervisor

TOXIPROXY_TOXICS = ("latency", "bandwidth", "slow_close", "timeout", "reset_peer", "slicer", "limit_data")
EMBEDDED_TOXICS = (  # of the embedded proxy alone
    "frame", "cut", "half_open", "half_close", "blackhole", "door", "full_queue", "flap", "loss",
    "delay", "stall", "corrupt", "buffer",
)  # fmt: skip
TOXIPROXY_ABILITIES = frozenset({ENABLED, REROUTED, *map(toxic_ability, TOXIPROXY_TOXICS)})
EMBEDDED_ABILITIES = TOXIPROXY_ABILITIES | {AIMED, SILENT, *map(toxic_ability, EMBEDDED_TOXICS)}


class EngineError(Exception):
    """Base class."""


class EngineUnavailable(EngineError):
    """The engine cannot be started or found."""


class EngineTimeout(EngineError):
    """No answer in time: what was asked may or may not have happened."""


class EngineRefused(EngineError):
    """The engine answered with an error: what was asked did not happen."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{reason} (status {status})")
        self.status, self.reason = status, reason


class NotFound(EngineRefused):
    """No such proxy or toxic."""


class AlreadyExists(EngineRefused):
    """A proxy or toxic of that name is there."""


class BadRequest(EngineRefused):
    """The engine does not know this toxic, or does not take these values."""


class Engine(Protocol):
    """One engine, for one run. Every call ends within its timeout or raises an EngineError.

    Proxies are known by the names that the run gives them ("a", "b"); what they are called
    inside the engine is its own business, so that a server shared with others is left as found.
    """

    name: ClassVar[str]
    claims: ClassVar[frozenset[str]]  # what this kind of engine can do, known before it runs

    def __init__(self, *, toxiproxy: str = "") -> None:
        """``toxiproxy`` is the key of that name in a scenario's [faults]."""

    @staticmethod
    def problems(toxiproxy: str) -> list[str]:
        """Why this engine cannot be used on this machine; each names field, value, rule and remedy."""
        ...

    @staticmethod
    def cannot(ability: str) -> str:
        """Why an ability that the engine claims is not there on this machine, with the remedy; "" when
        it is.
        """
        ...

    @property
    def abilities(self) -> frozenset[str]:
        """What the engine that runs can do; at most ``claims``."""
        ...

    @property
    def version(self) -> str: ...

    def start(
        self,
        supervisor: Supervisor,
        *,
        log_dir: Path,
        run_id: str,
        seed: int = 0,
        frame_view: str = "",
        allow_targets: tuple[str, ...] = (),
        listen_host: str = "127.0.0.1",
    ) -> None:
        """Start the engine, or find the one that runs already.

        Args:
            run_id: makes the names of this run's proxies unique.
            seed: of random draws while the run lasts; a real Toxiproxy cannot take one.
            allow_targets: hosts besides loopback that its proxies may dial.
            listen_host: address of this machine on which they listen.
            frame_view: "module:attribute" of what reads the server's messages, for faults on them.
        Raises:
            EngineError: it cannot be started or found, or does not answer.
        """

    def create(self, names: tuple[str, ...], *, upstream: str) -> dict[str, str]:
        """Make a proxy for each name, all to ``upstream`` ("host:port"); where each listens ("host:port").

        A further call with the same names gives each another proxy, to another port of the server: what is
        done to a name is done to all of its proxies.
        """
        ...

    def add_toxic(self, proxy: str, toxic: Toxic) -> Mapping[str, Any]:
        """Add a toxic; the engine's own account of it, as the confirmation."""
        ...

    def remove_toxic(self, proxy: str, name: str) -> bool:
        """Remove a toxic; False when it was not there."""
        ...

    def counts(self, proxy: str, name: str) -> dict[str, int]:
        """What a toxic has counted so far; empty where the engine or the toxic counts nothing."""
        ...

    def set_enabled(self, proxy: str, enabled: bool) -> None: ...

    def reroute(self, proxy: str, upstream: str) -> None:
        """Let a proxy lead to another "host:port"; its connections end."""
        ...

    def toxics(self, proxy: str) -> list[Toxic]:
        """What is on the proxy now."""
        ...

    def reset(self) -> None:
        """All proxies of this run on, with no toxics; those of others are not touched."""

    def describe(self) -> str:
        """Name and version, for reports: "embedded 0.1.0"."""
        ...

    def close(self) -> list[str]:
        """Delete what this run made; a line for each thing that could not be deleted.

        Safe to call twice, or before ``start``. To be called before the engine's process ends.
        """
        ...
