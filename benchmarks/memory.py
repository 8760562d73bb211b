"""What an idle connection weighs: growth of the server's resident memory over thousands of them."""

from __future__ import annotations

import time

from . import servers
from .report import Bench, Row
from .swarm import Swarm

CONNECTIONS = 8000
CHANNELS = 3
ROOMS = 1000
FIRST = 200  # connections before the first look, so that what is needed once is not counted
SETTLE_S = 1.0

MAKERS = (
    lambda: servers.chatd(name="chatd"),
    servers.centrifuge,
    servers.centrifugo,
    servers.nats,
    servers.websockets,
    servers.node_ws,
)


def rows(bench: Bench) -> list[Row]:
    """One server after the other, because files are limited."""
    count = CONNECTIONS // 8 if bench.quick else CONNECTIONS
    row = Row("memory", f"resident memory of an idle connection with {CHANNELS} channels, at {count:,}")
    for make in MAKERS:
        with servers.running([make], row.skipped.append) as running:
            for server in running:
                bench.say(f"{count:,} idle connections to {server.name}")
                swarm = Swarm()
                scripts = [
                    server.join([f"room:{(n * 7 + k) % ROOMS}" for k in range(CHANNELS)], f"u{n}")
                    for n in range(count + FIRST)
                ]
                swarm.join(server.port, scripts[:FIRST])
                time.sleep(SETTLE_S / 2)
                before = server.rss_bytes()
                swarm.join(server.port, scripts[FIRST:], timeout_s=60)
                time.sleep(SETTLE_S)
                growth = server.rss_bytes() - before
                row.figures[server.name] = {
                    "KiB/connection": growth / count / 1024,
                    "RSS MiB": server.rss_bytes() / 2**20,
                }
                swarm.close()
    row.at_most("≤ 20 KiB", row.figures["chatd"]["KiB/connection"], 20.0)
    return [row]
