"""A process stands still."""

from __future__ import annotations

import signal

from chaos.faults.base import ProcessFault, Script, Shows, Signal


class Pause(ProcessFault):
    """SIGSTOP, then SIGCONT: its sockets stay open and its peers get no answer."""

    shows = Shows.FREEZE

    def script(self, fault_id: str, targets: tuple[str, ...]) -> Script:
        return Script(
            apply=tuple(Signal(process, signal.SIGSTOP) for process in targets),
            revert=tuple(Signal(process, signal.SIGCONT) for process in targets),
        )
