"""The ``chatd`` command.

Exit status: 0 stopped when asked; 1 stopped by a bug; 2 cannot start, with one line per reason.
"""

from __future__ import annotations

import getpass
import os
import sys
import time
from pathlib import Path
from typing import Any

import click

from .auth import MAKE_SECRET, SecretUnusable, issue, read_secret
from .config import Config, ConfigError, load
from .protocol.errors import ChatdError
from .rights import combine
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
    """Serve chat until SIGTERM or SIGINT. See also `chatd token --help` and `chatd chat --help`.

    \b
    WebSocket: ws://HOST:PORT/ws, subprotocol chatd.v1
    HTTP:      /healthz  /readyz  /metrics
    HTTP port: the chat page, /sse  /poll  /publish
    """
    given = {name: value for name, value in flags.items() if value is not None}
    return run(load(file, given))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--sub", required=True, metavar="NAME", help="The user that the token is for.")
@click.option("--ttl-s", type=click.FloatRange(min=1), default=3600.0, help="Seconds it is valid. [3600]")
@click.option("--aud", metavar="NAME", help="The audience; by default the daemon's auth_audience.")
@click.option(
    "--rights",
    multiple=True,
    metavar="PATTERN=WORD,WORD",
    help="Rights on the channels of a pattern (room:* or a name): subscribe, publish, history, presence,"
    " moderate or all. Repeatable. By default everything but moderate, everywhere.",
)
@click.option("--auth-secret-file", type=click.Path(path_type=Path), help="As for the daemon.")
@click.option("--auth-secret-env", metavar="VARIABLE", help="As for the daemon.")
@click.option("--config", "file", type=click.Path(path_type=Path), help="The daemon's settings, for these.")
def token(
    sub: str, ttl_s: float, aud: str | None, rights: tuple[str, ...], file: Path | None, **secret: Any
) -> None:
    """Print a token that lets NAME in. It is a password: do not put it into a URL or a log."""
    config = load(file, {name: value for name, value in secret.items() if value is not None})
    key = read_secret(config.auth_secret_file, config.auth_secret_env, os.environ)
    if key is None:
        raise SecretUnusable(f"auth_secret_file is not given: must be the daemon's secret; {MAKE_SECRET}")
    audience = aud or config.auth_audience
    rules = dict(map(_rule, rights)) if rights else None
    try:
        signed = issue(key, user=sub, audience=audience, now_s=time.time(), ttl_s=ttl_s, rights=rules)
    except ValueError as bad:
        raise click.UsageError(str(bad)) from None
    click.echo(signed)


def _rule(text: str) -> tuple[str, list[str]]:
    pattern, _, words = text.rpartition("=")
    try:
        combine(words.split(","))
    except ValueError as bad:
        raise click.UsageError(f"--rights is {text!r}: {bad}") from None
    return pattern, words.split(",")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("channel")
@click.option("--url", default="ws://127.0.0.1:8765/ws", show_default=True, help="The daemon's WebSocket.")
@click.option("--name", help="Your name; by default this computer's name for you.")
@click.option("--token-env", metavar="VARIABLE", help="Environment variable that holds your token.")
@click.option("--last", type=click.IntRange(min=0), default=20, show_default=True, help="Begin with so many.")
def chat(channel: str, url: str, name: str | None, token_env: str | None, last: int) -> None:
    """Talk on CHANNEL: each line that you type is sent; Ctrl-D leaves."""
    from .chat import talk

    if token_env and token_env not in os.environ:
        raise click.UsageError(f"--token-env is {token_env!r}: there is no such environment variable")
    try:
        talk(url, channel, name=name or _login(), token=os.environ.get(token_env or ""), last=last)
    except (ChatdError, ValueError) as bad:
        raise click.ClickException(str(bad)) from None


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # whoever it is has no entry, as in a container
        raise click.UsageError(
            "--name is not given: must be, where this computer has no name for you"
        ) from None


COMMANDS = {"token": token, "chat": chat}


def main() -> None:
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    try:
        if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
            known = ", ".join(COMMANDS)
            raise click.UsageError(
                f"{arguments[0]!r} is no command: known are {known}; without one, it serves"
            )
        if arguments and arguments[0] in COMMANDS:
            name = arguments[0]
            COMMANDS[name].main(arguments[1:], prog_name=f"chatd {name}", standalone_mode=False)
            return 0
        # False: stopped by a bug, which the log has. Anything else click returns, as for --help, is fine.
        return 1 if serve.main(arguments, prog_name="chatd", standalone_mode=False) is False else 0
    except click.UsageError as bad:
        faults = [bad.format_message().removesuffix(".") + f"; see `{_command(arguments)} --help`"]
    except click.ClickException as bad:
        faults = [bad.format_message()]
    except ConfigError as bad:
        faults = bad.faults
    except (StartError, SecretUnusable) as bad:
        faults = [str(bad)]
    for fault in faults:
        print(f"chatd: {' '.join(fault.split())}", file=sys.stderr)
    return 2


def _command(arguments: list[str]) -> str:
    """What was asked for, as it is typed."""
    return f"chatd {arguments[0]}" if arguments and arguments[0] in COMMANDS else "chatd"
