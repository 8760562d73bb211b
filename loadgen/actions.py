"""What clients do besides publishing, and what a server must offer for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Final

from .drivers.base import Capability
from .personas import Persona, Rates


class Action(IntEnum):
    """What a client does. PUBLISH and REACTION place messages in the log; the others leave nothing there."""

    PUBLISH = 0
    REACTION = 1
    TYPING = 2
    RECEIPT = 3
    PRESENCE = 4
    HISTORY = 5
    CHURN = 6


NEEDS: Final[Mapping[Action, Capability]] = {
    Action.REACTION: Capability.REACTION,
    Action.TYPING: Capability.TYPING,
    Action.RECEIPT: Capability.RECEIPT,
    Action.PRESENCE: Capability.PRESENCE,
    Action.HISTORY: Capability.HISTORY,
    Action.CHURN: Capability.CHANNELS,
}
EPHEMERAL: Final = tuple(action for action in NEEDS if action is not Action.REACTION)


def rate_of(rates: Rates, action: Action) -> float:
    """How often one client does it, per second."""
    value: float = getattr(rates, f"{action.name.lower()}_per_s")
    return value


def needs(personas: Sequence[Persona], offered: frozenset[Capability], driver: str) -> Iterator[str]:
    """What personas do and the driver's server does not offer, a line each with the remedy."""
    for persona in personas:
        for action, capability in NEEDS.items():
            if capability not in offered and rate_of(persona.rates, action):
                yield (
                    f"persona {persona.name!r}: rates.{action.name.lower()}_per_s needs a server with "
                    f"{capability.value!r}, which driver {driver!r} does not offer: leave it out"
                )
        if persona.watch_presence and Capability.PRESENCE not in offered:
            yield (
                f"persona {persona.name!r}: watch_presence needs a server with 'presence', which driver "
                f"{driver!r} does not offer: leave it out"
            )
        if persona.recover == "history" and Capability.HISTORY not in offered:
            yield (
                f"persona {persona.name!r}: recover = 'history' needs a server with 'history', which driver "
                f"{driver!r} does not offer: write 'fresh'"
            )
