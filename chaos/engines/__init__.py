"""The engines of wire faults. To add one: a file beside these, and a line in ``ENGINES``."""

from __future__ import annotations

from typing import Final

from chaos.engines.base import Engine
from chaos.engines.embedded import EmbeddedEngine
from chaos.engines.toxiproxy import ToxiproxyEngine

ENGINES: Final[dict[str, type[Engine]]] = {
    "embedded": EmbeddedEngine,
    "toxiproxy": ToxiproxyEngine,
}
AUTO: Final = "embedded"  # what engine = "auto" takes: it is there on every machine
