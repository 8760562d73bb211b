"""The ``chatd`` command.

Exit status: 0 stopped when asked; 1 stopped by a bug; 2 cannot start, with one line per reason.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from .config import Config, ConfigError, load
from .server import StartError, run


def _flags(command: click.Command) -> click.Command:
    """One option per setting, so that flags and files cannot drift apart."""
    for name, field in Config.model_fields.items():
        flag = "--" + name.replace("_", "-")
        shown = f"{field.description} [{_shown(field.default)}]"
        declarations = [f"{flag}/--no-{flag[2:]}"] if field.annotation is bool else [flag]
        kind = bool if field.annotation is bool else str
        metavar = None if field.annotation is bool else "VALUE"
        command.params.append(
            click.Option(declarations, type=kind, default=None, help=shown, metavar=metavar)
        )
    return command


def _shown(default: object) -> str:
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


@_flags
@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config", "file", type=click.Path(path_type=Path), help="JSON file of settings; flags go over it."
)
def serve(file: Path | None, **flags: Any) -> bool:
    """Serve chat on a loopback address until SIGTERM or SIGINT.

    \b
    WebSocket: ws://HOST:PORT/ws, subprotocol chatd.v1
    HTTP:      /healthz  /readyz  /metrics
    """
    given = {name: value for name, value in flags.items() if value is not None}
    return run(load(file, given))


def main() -> None:
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    try:
        # False: stopped by a bug, which the log has. Anything else click returns, as for --help, is fine.
        return 1 if serve.main(arguments, prog_name="chatd", standalone_mode=False) is False else 0
    except click.ClickException as bad:
        faults = [bad.format_message()]
    except ConfigError as bad:
        faults = bad.faults
    except StartError as bad:
        faults = [str(bad)]
    for fault in faults:
        print(f"chatd: {' '.join(fault.split())}", file=sys.stderr)
    return 2
