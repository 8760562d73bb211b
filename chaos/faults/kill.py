"""A process is killed."""

from __future__ import annotations

import signal

from chaos.faults.base import ProcessFault, Script, Shows, Signal, Start


class Kill(ProcessFault):
    """SIGKILL; the process is started again when the fault ends."""

    shows = Shows.DEATH

    def script(self, fault_id: str, targets: tuple[str, ...]) -> Script:
        return Script(
            apply=tuple(Signal(process, signal.SIGKILL) for process in targets),
            revert=tuple(Start(process) for process in targets),
        )
