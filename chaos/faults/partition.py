"""Some clients are cut off from the server, and nobody is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from chaos.faults.base import Shows, Toxic
from chaos.faults.clients import ClientFault


class Partition(ClientFault):
    """Nothing passes between the server and the clients cut off, in either direction, nor do they get in
    anew.

    Clients are cut off by ``groups``, those of the groups in ``cut_off``: client c is in group c mod
    ``groups``; or by the keys of every kind that hits clients. ``mode``: hold, what was sent arrives
    when the network has healed, as TCP sends it again; drop, the connections are dead.
    """

    types = ("door", "blackhole")
    shows = Shows.SEVERED

    mode: Literal["hold", "drop"] = Field("hold", description="hold or drop")
    groups: int | None = Field(None, ge=2, le=1_000_000, description="in how many groups clients are")
    cut_off: list[int] | None = Field(
        None, min_length=1, description="numbers of the groups, from 0, that are cut off"
    )

    @model_validator(mode="after")
    def _groups_that_are_there(self) -> Self:
        if (self.groups is None) != (self.cut_off is None):
            raise ValueError("write groups and cut_off together")
        if strange := [group for group in self.cut_off or () if not 0 <= group < (self.groups or 0)]:
            raise ValueError(
                f"cut_off has {strange[0]}: groups are numbered from 0 to {(self.groups or 0) - 1}"
            )
        if self.groups and super()._is_part:
            raise ValueError("write groups and cut_off, or one of clients, share and ordinals")
        return self

    def choose(self, candidates: Sequence[int], *, seed: int, fault_id: str) -> tuple[int, ...]:
        if self.groups is None or self.cut_off is None:
            return super().choose(candidates, seed=seed, fault_id=fault_id)
        return tuple(c for c in sorted(candidates) if c % self.groups in self.cut_off)

    def aim_problem(self, candidates: Sequence[int]) -> str:
        if self.groups and not self.choose(candidates, seed=0, fault_id=""):
            return f"cut_off is {self.cut_off}: no client that dials the target is in such a group"
        return super().aim_problem(candidates)

    @property
    def _is_part(self) -> bool:
        return self.groups is not None or super()._is_part

    def toxics(self, fault_id: str) -> list[Toxic]:
        return [
            Toxic(f"{fault_id}_door", "door", "upstream", attributes={"how": "hold"}),
            *(
                Toxic(f"{fault_id}_{stream}", "blackhole", stream, attributes={"mode": self.mode})
                for stream in ("upstream", "downstream")
            ),
        ]
