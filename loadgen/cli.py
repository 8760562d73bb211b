"""Text for people, what a workload amounts to before anything is sent; and `chatproof load --worker`."""

from __future__ import annotations

import logging
import resource
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from textwrap import fill
from typing import Final

import click

from .personas import members
from .prediction import SERVER_BYTES, WORKER_BYTES, Prediction
from .topology import Topology
from .workload import Workload, predict

COLUMNS: Final = 80  # of a terminal


def prediction_text(workload: Workload, seed: int, *, retain_n: int | None = None) -> str:
    """A table of predicted connections, publishes, deliveries, rates, files, memory and log size.

    Exact for a run in which nothing goes wrong, because the schedule is drawn before the run. Every
    retry, reconnect and repeated delivery adds to the records.

    Args:
        retain_n: messages that the server keeps of a channel; None: all.
    """
    prediction = predict(workload, seed, retain_n=retain_n)
    rows = [
        ("duration", f"{workload.duration_s:g} s in {len(workload.phase)} phase(s)"),
        ("connections", f"{prediction.connections:,} on {prediction.channels:,} channel(s)"),
        *_topology(workload, prediction),
        *_personas(workload, seed),
        *_moves(prediction),
        *_messages(workload, prediction),
        ("records", f"{prediction.records:,} at least"),
        ("log", f"{_size(prediction.log_bytes)} at least, before sealing"),
        ("files", f"{prediction.files:,} sockets at each end, and both in a proxy between them"),
        (
            "memory",
            f"load {_size(prediction.worker_bytes)} and {_size(WORKER_BYTES)} a worker, "
            f"{_server(workload)} {_size(SERVER_BYTES + prediction.server_bytes)} and what it retains",
        ),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(_row(name, value, width) for name, value in rows)


def _row(name: str, value: str, width: int) -> str:
    """A row of the table, folded where a terminal of 80 columns ends."""
    aside = " " * (width + 2)
    return fill(
        value, COLUMNS, initial_indent=f"{name:<{width}}  ", subsequent_indent=aside,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _server(workload: Workload) -> str:
    """Whose memory is told: another server is taken to need what chatd does."""
    return "chatd" if workload.driver == "chatd" else "server, if as chatd:"


def _topology(workload: Workload, prediction: Prediction) -> Iterator[tuple[str, str]]:
    if workload.topology != Topology():
        quiet = f"; on {prediction.quiet_channels:,} nobody publishes" if prediction.quiet_channels else ""
        largest = f"{prediction.largest_channel:,} to the largest"
        yield "channels", f"{prediction.subscriptions:,} subscriptions, {largest}{quiet}"


def _personas(workload: Workload, seed: int) -> Iterator[tuple[str, str]]:
    if workload.persona:
        counts = [
            f"{persona.name} {len(members(workload, seed, index)):,}"
            for index, persona in enumerate(workload.persona)
        ]
        yield "personas", ", ".join(counts)
    if workload.over_http:
        by: Counter[str] = Counter()
        for index, persona in enumerate(workload.persona):
            by[persona.transport] += len(members(workload, seed, index))
        yield "transports", ", ".join(f"{way} {count:,}" for way, count in by.items())


def _moves(prediction: Prediction) -> Iterator[tuple[str, str]]:
    if prediction.absences:
        yield "absences", f"{prediction.absences:,}, {prediction.left_out:,} publishes left out of them"
    if prediction.replayed or prediction.trimmed:
        gone = f"; {prediction.trimmed:,} deliveries retained no longer" if prediction.trimmed else ""
        yield "replayed", f"{prediction.replayed:,} deliveries after them{gone}"
    if prediction.drops or prediction.deaf:
        yield "drops", f"{prediction.drops:,} connections lost, {prediction.deaf:,} times deaf, by persona"


def _messages(workload: Workload, prediction: Prediction) -> Iterator[tuple[str, str]]:
    spread = prediction.deliveries / prediction.publishes if prediction.publishes else 0.0
    reactions = f", {prediction.reactions:,} of them reactions" if prediction.reactions else ""
    yield (
        "publishes",
        f"{prediction.publishes:,}, at most {prediction.publishes_per_s_peak:,.0f}/s{reactions}",
    )
    yield "deliveries", f"{prediction.deliveries:,}, at most {prediction.deliveries_per_s_peak:,.0f}/s"
    yield "fan-out", f"{spread:.1f} deliveries a publish"
    acts = {
        "typing": prediction.typing,
        "receipts": prediction.receipts,
        "presence": prediction.presences,
        "history": prediction.histories,
        "churn": prediction.churns,
    }
    if any(acts.values()):
        yield "besides", ", ".join(f"{name} {count:,}" for name, count in acts.items() if count)


def _size(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"


@click.command(
    epilog="""\b
Exit status: 0 the master has all records; 2 it does not answer, has another version, or its plan is not
allowed here; 5 the records stayed here; 70 internal error."""
)
@click.option("--worker", is_flag=True, help="Say it: the load itself is started by `chatproof run`.")
@click.option("--master-host", required=True, help="Address that the run listens on: its --bind-host.")
@click.option(
    "--master-port", type=click.IntRange(1, 65535), default=5557, show_default=True, help="Its --bind-port."
)
@click.option(
    "--allow-target", "allow_targets", multiple=True, metavar="HOST",
    help="A host besides loopback that may be loaded from here. Repeatable.",
)  # fmt: skip
@click.option(
    "--allow-command", "allow_commands", multiple=True, metavar="PROGRAM",
    help="A program that the scenario may run here for tokens. Repeatable.",
)  # fmt: skip
@click.option(
    "--records", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where they are kept until the master has fetched them; the system's directory for temporary files.",
)  # fmt: skip
@click.option(
    "--wait-s", type=click.FloatRange(min=1), default=300.0, show_default=True,
    help="How long the master is waited for, seconds.",
)  # fmt: skip
def load(
    worker: bool, master_host: str, master_port: int, allow_targets: tuple[str, ...],
    allow_commands: tuple[str, ...], records: Path | None, wait_s: float,
) -> None:  # fmt: skip
    """Send load from this host, as one worker of a `chatproof run --expect-workers N` on another.

    Start one for each core. The plan comes from there, and the records go back there at the end. Secrets
    are read on this host, by the scenario's names: workload.auth.secret_file or secret_env.
    """
    from .home import Home
    from .worker import work_for

    if not worker:
        raise click.UsageError(
            "say --worker; the load itself is started by `chatproof run SCENARIO --expect-workers N`"
        )
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    home = Home(allow_targets=allow_targets, allow_commands=allow_commands, scratch=records, wait_s=wait_s)
    sys.exit(work_for(master_host, master_port, home))
