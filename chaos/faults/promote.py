"""A replica takes the broker's place."""

from __future__ import annotations

from chaos.faults.base import REROUTED, ProcessFault, Promote, Script, Shows


class PromoteReplica(ProcessFault):
    """The replica follows nobody any more, and every node's link leads to it; that stays when the fault ends.

    What the broker had confirmed and the replica did not have yet is gone with it. The broker itself is
    not touched: kill it, and hold its link to the replica (``link-replica``) so that that falls behind.
    """

    shows = Shows.PROMOTION
    several = False

    @classmethod
    def needs(cls) -> frozenset[str]:
        return frozenset({REROUTED})

    def script(self, fault_id: str, targets: tuple[str, ...]) -> Script:
        (process,) = targets
        return Script(apply=(Promote(process),), revert=())
