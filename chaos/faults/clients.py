"""What all kinds have in common that hit clients by their ordinals: who is hit, and how that is told to
an engine.

Who is hit is fixed in the plan, from the seed, by the client's ordinal: the ``c`` in the URL that it
dials. The order in which connections are accepted, which no two runs share, plays no part.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from chaos.faults.base import AIMED, AddToxic, Fault, RemoveToxic, Script, Toxic, Where, toxic_ability


class ClientFault(Fault):
    """A kind that is toxics aimed at clients: all that dial the target, or a part of them."""

    where = Where.PROXY
    types: ClassVar[tuple[str, ...]]  # of the toxics
    counted: ClassVar[bool] = False  # what they have counted is recorded when the fault ends

    clients: int | None = Field(
        None, ge=1, description="hit so many of the target's clients, drawn by the seed"
    )
    share: float | None = Field(
        None, gt=0, le=1, description="or this share of them, more than 0, at most 1; at least one client"
    )
    ordinals: list[int] | None = Field(None, min_length=1, description="or these")

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if sum(given is not None for given in (self.clients, self.share, self.ordinals)) > 1:
            raise ValueError("write at most one of clients, share and ordinals; none of them means all")
        return self

    @classmethod
    def needs(cls) -> frozenset[str]:
        return frozenset({AIMED, *map(toxic_ability, cls.types)})

    @abstractmethod
    def toxics(self, fault_id: str) -> list[Toxic]:
        """The toxics of each target, in chain order, not yet aimed at anybody."""

    def choose(self, candidates: Sequence[int], *, seed: int, fault_id: str) -> tuple[int, ...]:
        if self.ordinals is not None:
            return tuple(sorted(set(self.ordinals) & set(candidates)))
        count = self._count(len(candidates))
        return tuple(sorted(sorted(candidates, key=lambda c: _rank(seed, fault_id, c))[:count]))

    def aim_problem(self, candidates: Sequence[int]) -> str:
        known = set(candidates)
        if strange := [c for c in self.ordinals or () if c not in known]:
            return f"ordinals has {strange[0]}: no client of that number dials the target"
        if self.clients is not None and self.clients > len(known):
            return f"clients is {self.clients}: must be at most {len(known)}, all that dial the target"
        return ""

    def link_problem(self) -> str:
        return "no client dials a link, so nobody can be chosen: hit all of it" if self._is_part else ""

    def script(self, fault_id: str, targets: tuple[str, ...]) -> Script:
        return self.planned(fault_id, targets, None)

    def planned(self, fault_id: str, targets: tuple[str, ...], ordinals: tuple[int, ...] | None) -> Script:
        aim = ordinals if self._is_part else None
        toxics = [replace(toxic, ordinals=aim) for toxic in self.toxics(fault_id)]
        return Script(
            apply=tuple(AddToxic(proxy, toxic) for proxy in targets for toxic in toxics),
            revert=tuple(
                RemoveToxic(proxy, toxic.name, counted=self.counted)
                for proxy in targets
                for toxic in reversed(toxics)
            ),
        )

    @property
    def _is_part(self) -> bool:
        """Whether somebody is left out: connections that tell no ordinal are then left out too."""
        return any(given is not None for given in (self.clients, self.share, self.ordinals))

    def _count(self, most: int) -> int:
        if self.clients is not None:
            return min(self.clients, most)
        return most if self.share is None else min(most, max(1, round(self.share * most)))


class StreamFault(ClientFault):
    """A kind that is one toxic on the bytes of one direction, or of both."""

    direction: Literal["downstream", "upstream", "both"] = Field(
        "downstream", description="downstream (server to client), upstream, or both"
    )

    def attributes(self) -> dict[str, Any]:
        """The toxic's attributes."""
        return {}

    def toxics(self, fault_id: str) -> list[Toxic]:
        streams = ("upstream", "downstream") if self.direction == "both" else (self.direction,)
        (kind,) = self.types
        return [
            Toxic(f"{fault_id}_{stream}", kind, stream, attributes=self.attributes()) for stream in streams
        ]


def _rank(seed: int, fault_id: str, ordinal: int) -> bytes:
    """Uniform over clients, and fixed for one seed, fault and client."""
    return hashlib.blake2b(f"{seed}/{fault_id}/{ordinal}".encode(), digest_size=8).digest()
