"""A process of the load stands still."""

from __future__ import annotations

import signal

from chaos.faults.base import Script, Shows, Signal, WorkerFault

MOST_S = 2.0  # the load's master takes a worker that is silent for 3 s for lost


class ClientPause(WorkerFault):
    """SIGSTOP, then SIGCONT, of a load worker: a self-test of the harness, whose lag shows it."""

    shows = Shows.FROZEN_LOAD

    def misfit(self, duration_s: float) -> str | None:
        if duration_s > MOST_S:
            return f"must be at most {MOST_S:g}: a worker that is silent for 3 s is taken for lost"
        return None

    def script(self, fault_id: str, targets: tuple[str, ...]) -> Script:
        return Script(
            apply=tuple(Signal(worker, signal.SIGSTOP) for worker in targets),
            revert=tuple(Signal(worker, signal.SIGCONT) for worker in targets),
        )
