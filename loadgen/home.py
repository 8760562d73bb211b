"""What a worker allows a master on another host to have it do.

The channel between the two knows no passwords. So a plan that comes over it is not believed: which
hosts may be loaded and which program may be run for tokens is said on the worker's own host, and its
records go to a directory of its own choice.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from .workload import SpecError


class Home:
    """A worker's own settings, and the directory that it records into.

    Args:
        allow_targets: hosts besides loopback that may be loaded from here.
        allow_commands: programs that a plan may name as ``workload.auth.command``.
        scratch: where the directory for the records is made; None: the system's for temporary files.
        wait_s: how long a master is waited for.
    """

    def __init__(
        self,
        *,
        allow_targets: tuple[str, ...] = (),
        allow_commands: tuple[str, ...] = (),
        scratch: Path | None = None,
        wait_s: float = 300.0,
    ) -> None:
        self._allow_targets, self._allow_commands = allow_targets, allow_commands
        self._scratch, self.wait_s = scratch, wait_s
        self._directory: Path | None = None

    def adapted(self, spec: str) -> str:
        """A load.json as it came, with what is this host's business in the place of the master's.

        Raises:
            SpecError: it is not JSON, wants a program to be run that was not allowed here, or its records
                can be put nowhere.
        """
        try:
            told = json.loads(spec)
            auth = told["workload"].get("auth") or {}
            program = str((auth.get("command") or [""])[0])
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            raise SpecError("plan", [f"cannot be read: {error}"]) from None
        if program and program not in self._allow_commands:
            raise SpecError("plan", [
                f"workload.auth.command is {program!r}: a program is run at a master's word only if it is "
                f"allowed on the worker's host (--allow-command {program})"
            ])  # fmt: skip
        try:
            self._directory = Path(tempfile.mkdtemp(prefix="chatproof-", dir=self._scratch))
        except OSError as error:
            raise SpecError("plan", [f"--records is {str(self._scratch)!r}: {error.strerror}"]) from None
        nodes = [
            {**node, "pages": ""} for node in told.get("nodes") or []
        ]  # they are on the master's loopback
        told |= {"nodes": nodes, "run_dir": str(self._directory), "allow_targets": list(self._allow_targets)}
        return json.dumps(told)

    def clear(self) -> None:
        """The records are elsewhere: remove the directory."""
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None
