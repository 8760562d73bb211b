"""A process is told to leave, and stays away."""

from __future__ import annotations

import signal

from pydantic import Field

from chaos.faults.base import ProcessFault, Script, Seconds, Shows, Signal, Start, Step


class Term(ProcessFault):
    """SIGTERM, and SIGKILL if it still runs after ``deadline_s``; it is started again when the fault ends."""

    shows = Shows.LEAVE

    deadline_s: Seconds = Field(10.0, examples=[10.0], description="time to drain, before SIGKILL")

    def misfit(self, duration_s: float) -> str | None:
        if duration_s < self.deadline_s:
            return f"must be at least {self.deadline_s:g}, deadline_s, or the drain could not be waited for"
        return None

    def script(self, fault_id: str, targets: tuple[str, ...]) -> Script:
        return Script(
            apply=tuple(Signal(process, signal.SIGTERM) for process in targets),
            revert=tuple(Start(process) for process in targets),
            steps=tuple(Step(self.deadline_s, (Signal(process, signal.SIGKILL),)) for process in targets),
        )
