"""A process is restarted in order. (Several, one after the other: ``rolling``.)"""

from __future__ import annotations

import signal

from chaos.faults.base import ProcessFault, Script, Shows, Signal, Start


class Restart(ProcessFault):
    """SIGTERM; the process is started again as soon as it has ended.

    ``duration_s`` bounds the wait: a process that still runs then is killed, and that is recorded.
    """

    shows = Shows.RESTART
    several = False

    def script(self, fault_id: str, targets: tuple[str, ...]) -> Script:
        (process,) = targets
        return Script(
            apply=(Signal(process, signal.SIGTERM),),
            revert=(Start(process),),
            ends_with=process,
        )
