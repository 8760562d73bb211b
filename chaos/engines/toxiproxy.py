"""A real Toxiproxy: one that runs already (a URL), or a ``toxiproxy-server`` binary that the run starts."""

from __future__ import annotations

import os
import shutil
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

from chaos.engines.base import (
    TOXIPROXY_ABILITIES,
    TOXIPROXY_TOXICS,
    BadRequest,
    EngineTimeout,
    EngineUnavailable,
)
from chaos.engines.client import ApiEngine, Client
from chaos.faults.base import ENABLED, REROUTED, Toxic, toxic_ability
from chaos.process import ProcessSpec, Supervisor, log_tail
from chaos.proxy.address import is_loopback

BINARY = "toxiproxy-server"
START_S = 10.0
ASK_AGAIN_S = 0.02
_VALID = {"average_size": 1}  # makes the defaults of every toxic values that no server refuses
REMEDY = "install toxiproxy-server, or give faults.toxiproxy its path or the URL of one that runs"


class ToxiproxyEngine(ApiEngine):
    name = "toxiproxy"
    claims = TOXIPROXY_ABILITIES

    @staticmethod
    def problems(toxiproxy: str) -> list[str]:
        value = f"faults.toxiproxy is {toxiproxy!r}"
        if not toxiproxy:
            return [] if shutil.which(BINARY) else [f"{value}: no {BINARY} on PATH; {REMEDY}"]
        if "://" not in toxiproxy:
            usable = Path(toxiproxy).is_file() and os.access(toxiproxy, os.X_OK)
            return [] if usable else [f"{value}: no such program; {REMEDY}"]
        try:
            url = urlsplit(toxiproxy)
            whole = url.scheme == "http" and url.hostname and url.port and url.path in ("", "/")
        except ValueError:  # a port out of range
            whole = False
        if not whole:
            return [f'{value}: must be like "http://127.0.0.1:8474"']
        if not is_loopback(str(url.hostname)):
            return [
                f"{value}: must be on this machine, because the server under test listens on loopback only"
            ]
        return []

    def _reach(self, supervisor: Supervisor, log_dir: Path, seed: int) -> Client:
        if "://" in self._toxiproxy:
            client = Client(self._toxiproxy)
            try:
                client.version()
            except EngineTimeout as error:
                raise EngineUnavailable(f"no Toxiproxy: {error}; {REMEDY}") from error
        else:
            client = _launch(self._toxiproxy or BINARY, supervisor, log_dir)
        return client

    def start(
        self,
        supervisor: Supervisor,
        *,
        log_dir: Path,
        run_id: str,
        seed: int = 0,
        frame_view: str = "",
        allow_targets: tuple[str, ...] = (),
        listen_host: str = "127.0.0.1",
    ) -> None:
        super().start(supervisor, log_dir=log_dir, run_id=run_id, seed=seed, listen_host=listen_host)
        self.abilities = _abilities(self.client, self._prefix + "trial")


def _launch(binary: str, supervisor: Supervisor, log_dir: Path) -> Client:
    """Start a server on a free port and wait until it answers."""
    with socket.create_server(("127.0.0.1", 0)) as probe:  # the binary cannot say which port 0 became
        port = probe.getsockname()[1]
    argv = (binary, "-host", "127.0.0.1", "-port", str(port))
    process = supervisor.start(
        ProcessSpec(name="proxy", argv=argv, log=log_dir / "proxy.log", role="harness")
    )
    client = Client(f"http://127.0.0.1:{port}")
    deadline = time.monotonic() + START_S
    while supervisor.wait("proxy", timeout_s=ASK_AGAIN_S) is None:
        try:
            client.version()
            return client
        except EngineTimeout:
            if time.monotonic() > deadline:
                raise EngineUnavailable(
                    f"{binary} does not answer within {START_S:g} s{log_tail(process)}"
                ) from None
    raise EngineUnavailable(f"{binary} ended at once{log_tail(process)}")


def _abilities(client: Client, trial: str) -> frozenset[str]:
    """What this server can do, found by trying on a proxy that is off: old versions lack some toxics."""
    client.create_proxy(trial, upstream="127.0.0.1:1", enabled=False)
    able = {ENABLED, REROUTED}  # every version can do both
    try:
        for toxic_type in TOXIPROXY_TOXICS:
            try:
                client.add_toxic(trial, Toxic(toxic_type, toxic_type, attributes=_VALID))
                able.add(toxic_ability(toxic_type))
            except BadRequest:
                pass  # it does not know the type
    finally:
        client.delete_proxy(trial)
    return frozenset(able)
