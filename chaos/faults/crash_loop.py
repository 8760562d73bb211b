"""A process crashes again and again."""

from __future__ import annotations

import signal

from pydantic import Field

from chaos.faults.base import Action, ProcessFault, Script, Seconds, Shows, Signal, Start, Step


class CrashLoop(ProcessFault):
    """SIGKILL every ``every_s``; each time the process is started again at once."""

    shows = Shows.CRASHES

    every_s: Seconds = Field(examples=[20.0], description="from one SIGKILL to the next")

    def misfit(self, duration_s: float) -> str | None:
        if duration_s <= self.every_s:
            return f"must be more than {self.every_s:g}, every_s, or it is one crash and no loop"
        return None

    def script(self, fault_id: str, targets: tuple[str, ...]) -> Script:
        crash: tuple[Action, ...] = tuple(
            action for process in targets for action in (Signal(process, signal.SIGKILL), Start(process))
        )
        revert = tuple(Start(process) for process in targets)
        again = Step(self.every_s, crash, undo=revert, every_s=self.every_s)
        return Script(apply=crash, revert=revert, steps=(again,))
