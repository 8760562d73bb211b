"""What chatd costs, beside other servers in the same run.

    python -m benchmarks.chatd [--only ROW] [--quick]

Servers are pinned to one core, clients to the other. Rounds go through all servers in turn, so that a
slow minute of the machine hurts all alike; figures are medians of the rounds. What is compared with
and not installed is left out, with a line that says so. A whole run writes benchmarks/chatd.json.
A target that is missed is shown and is no failure: shared machines are noisy.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from . import connect, durable, fanout, memory, report, servers, slow, swarm
from .report import Bench, Row

OUT = Path(__file__).with_suffix(".json")

ROWS: dict[str, Callable[[Bench], list[Row]]] = {
    "fanout": fanout.rows,
    "fanout_load": lambda bench: fanout.rows(bench, rest=False),
    "fanout_rest": lambda bench: fanout.rows(bench, load=False),
    "durable": durable.rows,
    "connect": connect.rows,
    "comeback": connect.comeback,
    "memory": memory.rows,
    "slow": slow.rows,
}
ALL = ("fanout", "durable", "connect", "comeback", "memory", "slow")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--quick", action="store_true", help="one short round; the figures mean little")
    parser.add_argument("--out", type=Path, help=f"where the JSON goes; a whole run's goes to {OUT.name}")
    arguments = parser.parse_args()
    if len(servers.CPUS) < 2:
        print("one core only: clients and servers share it, so only ratios mean anything", file=sys.stderr)
    swarm.raise_file_limit()
    os.sched_setaffinity(0, {servers.CLIENT_CPU})
    gc.disable()  # a collection among thousands of sockets would be part of what is measured
    began = time.monotonic()
    rows: list[Row] = []
    bench = Bench(arguments.quick, lambda text: print(f"… {text}", file=sys.stderr, flush=True))
    failed = False
    for name in arguments.only or ALL:
        try:
            found = ROWS[name](bench)
        except swarm.Stalled as stalled:
            print(f"\n{name} failed: {stalled}", flush=True)
            failed = True
            continue
        rows += found
        print("\n".join(report.show(row) for row in found), flush=True)
    missed = sum(not target.met for row in rows for target in row.targets)
    print(f"\n{missed} targets missed; {time.monotonic() - began:.0f} s")
    out = arguments.out or (None if arguments.only or arguments.quick or failed else OUT)
    if out is not None:
        report.write(out, rows, quick=arguments.quick, versions=_versions())
        print(f"written to {out}")
    return int(failed)


def _versions() -> dict[str, str]:
    modules = servers.TOOLS / "node/node_modules"
    socketio = "import importlib.metadata as m; print(m.version('python-socketio'))"
    return report.versions(
        {
            "nats-server": [
                shutil.which("nats-server") or str(servers.TOOLS / "bench/bin/nats-server"),
                "--version",
            ],
            "node": ["node", "--version"],
            "node ws": ["node", "-p", f"require('{modules}/ws/package.json').version"],
            "python-socketio": [str(servers.TOOLS / "bench/bin/python"), "-c", socketio],
            **servers.CENTRIFUGES,
        }
    )


if __name__ == "__main__":
    sys.exit(main())
