"""New connections are not answered."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from chaos.faults.base import Shows, Toxic, toxic_ability
from chaos.faults.clients import ClientFault


class ConnectBlackhole(ClientFault):
    """Nobody who dials hears anything; open connections are as they were.

    ``how``: accept, the kernel takes the connection and the server is dialled when the fault ends; queue, the
    queue of the listening socket is full, so that not even the SYN is answered. A queue is everybody's.
    """

    types = ("door",)
    shows = Shows.NO_CONNECT

    how: Literal["accept", "queue"] = Field(examples=["accept"], description="accept or queue")

    @model_validator(mode="after")
    def _a_queue_is_everybodys(self) -> Self:
        if self.how == "queue" and self._is_part:
            raise ValueError(
                "a full queue hits all clients of the target: leave out clients, share and ordinals"
            )
        return self

    def requires(self) -> frozenset[str]:
        return self.needs() | ({toxic_ability("full_queue")} if self.how == "queue" else set())

    def toxics(self, fault_id: str) -> list[Toxic]:
        if self.how == "queue":
            return [Toxic(f"{fault_id}_queue", "full_queue", "upstream")]
        return [Toxic(f"{fault_id}_door", "door", "upstream", attributes={"how": "hold"})]
