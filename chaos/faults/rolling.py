"""Processes are restarted in order, one after the other."""

from __future__ import annotations

import signal

from pydantic import Field

from chaos.faults.base import ProcessFault, Script, Seconds, Shows, Signal, Start, Step


class Rolling(ProcessFault):
    """Each process in turn: SIGTERM, and started again as soon as it has ended.

    The next one's turn comes ``deadline_s + pause_s`` after; who still runs after ``deadline_s`` is killed,
    and that is recorded. Aimed at all nodes by ``target = "chatd-*"``.
    """

    shows = Shows.RESTART

    deadline_s: Seconds = Field(10.0, examples=[10.0], description="time to drain, before SIGKILL")
    pause_s: Seconds = Field(
        2.0, examples=[2.0], description="between one's deadline and the next one's turn"
    )

    def misfit(self, duration_s: float) -> str | None:
        if duration_s < self.deadline_s:
            return f"must be at least {self.deadline_s:g}, deadline_s, for each process, and pause_s between"
        return None

    def script(self, fault_id: str, targets: tuple[str, ...]) -> Script:
        first, *others = targets
        turn_s = self.deadline_s + self.pause_s
        steps = [Step(self.deadline_s, (Start(first),), when_gone=first)]
        for number, process in enumerate(others, 1):
            steps += [
                Step(number * turn_s, (Signal(process, signal.SIGTERM),), undo=(Start(process),)),
                Step(number * turn_s + self.deadline_s, (Start(process),), when_gone=process),
            ]
        return Script(
            apply=(Signal(first, signal.SIGTERM),),
            revert=(Start(first),),
            steps=tuple(steps),
        )
