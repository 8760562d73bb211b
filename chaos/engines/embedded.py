"""The embedded proxy (chaos/proxy), started by the run itself: nothing to install."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from chaos.engines.base import EMBEDDED_ABILITIES, EngineUnavailable
from chaos.engines.client import ApiEngine, Client
from chaos.faults.base import SILENT
from chaos.process import ProcessSpec, Supervisor, read_line
from chaos.proxy.address import is_loopback
from chaos.proxy.silence import RULE, can_be_silent

START_S = 15.0  # a cold interpreter on a loaded machine


class EmbeddedEngine(ApiEngine):
    name = "embedded"
    claims = EMBEDDED_ABILITIES

    @staticmethod
    def problems(toxiproxy: str) -> list[str]:
        if toxiproxy:
            value = f"faults.toxiproxy is {toxiproxy!r}"
            return [f"{value}: only engine toxiproxy uses it; set faults.engine to toxiproxy"]
        return []

    @staticmethod
    def cannot(ability: str) -> str:
        return RULE if ability == SILENT and not can_be_silent() else ""

    def _reach(self, supervisor: Supervisor, log_dir: Path, seed: int) -> Client:
        argv = [sys.executable, "-m", "chaos.proxy", "--port", "0", "--seed", str(seed)]
        if self.frame_view:
            argv += ["--frame-view", self.frame_view]
        for host in self.allow_targets:
            argv += ["--allow-target", host]
        if not is_loopback(self.listen_host):
            argv += ["--allow-listen", self.listen_host]
        spec = ProcessSpec(
            name="proxy",
            argv=tuple(argv),
            log=log_dir / "proxy.log",
            role="harness",
            stdout=True,
        )
        line = read_line(supervisor.start(spec), timeout_s=START_S)
        try:
            return Client(f"http://{json.loads(line)['listening']}")
        except (ValueError, TypeError, KeyError) as error:
            raise EngineUnavailable(f"the embedded proxy says {line!r}, not where it listens") from error
