"""A process joins that was not there."""

from __future__ import annotations

from chaos.faults.base import ProcessFault, Script, Shows, Start


class NodeStart(ProcessFault):
    """The process is not started with the others, but now; it stays when the fault ends."""

    shows = Shows.ARRIVAL

    def script(self, fault_id: str, targets: tuple[str, ...]) -> Script:
        return Script(apply=tuple(Start(process) for process in targets), revert=())
