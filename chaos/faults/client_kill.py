"""A process of the load is killed."""

from __future__ import annotations

import signal

from chaos.faults.base import Script, Shows, Signal, WorkerFault


class ClientKill(WorkerFault):
    """SIGKILL to a load worker. Nobody takes over its clients: a self-test of the harness, whose run is void.

    What its clients had recorded by then is read; nothing is owed to them afterwards.
    """

    shows = Shows.DEAD_LOAD

    def script(self, fault_id: str, targets: tuple[str, ...]) -> Script:
        return Script(apply=tuple(Signal(worker, signal.SIGKILL) for worker in targets), revert=())
