"""A process has no room left for its data."""

from __future__ import annotations

from chaos.faults.base import LimitFiles, ProcessFault, Script, Shows


class DiskFull(ProcessFault):
    """No file of the process takes another byte: each write fails, with EFBIG where a full disk says ENOSPC.

    By RLIMIT_FSIZE of the running process, which needs no root (DECISIONS.md § 21). Sockets go on.
    """

    shows = Shows.NO_WRITES

    def script(self, fault_id: str, targets: tuple[str, ...]) -> Script:
        return Script(
            apply=tuple(LimitFiles(process, 0) for process in targets),
            revert=tuple(LimitFiles(process, None) for process in targets),
        )
