"""Of the locustfile: its options, and the specification of a load that they amount to."""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Final

from .workload import LoadSpec, SpecError, parse_spec

LONGEST_S: Final = 7 * 86_400
_ON_PAGE: Final = ("clients", "channels", "channels-per-client", "rate", "body-bytes", "seed")
_OPTIONS: Final = {  # by field of a specification
    "targets": "--host",
    "seed": "--chat-seed",
    "workload.clients": "--chat-clients",
    "workload.channels": "--chat-channels",
    "workload.channels_per_client": "--chat-channels-per-client",
    "workload.body_bytes": "--chat-body-bytes",
    "workload.phase.0.publish_per_s": "--chat-rate",
}


def add_options(parser: ArgumentParser) -> None:
    """The options of the load; each has an environment variable too."""
    group = parser.add_argument_group("Chat load")
    none, one = at_least(int, 0), at_least(int, 1)
    rows: tuple[tuple[str, Callable[[str], object], object, str], ...] = (
        ("clients", none, 0, "Sessions that there are; by default as many as --users. Dealt to the workers."),
        ("channels", one, 10, "Channels."),
        ("channels-per-client", one, 2, "Channels that each session subscribes to."),
        ("rate", at_least(float, 0), 10.0, "Publishes a second, of all sessions together."),
        ("body-bytes", none, 100, "Padding of a message; a body is 66 bytes longer."),
        ("seed", none, 1, "Another seed: other times."),
        ("workers", none, 0, "Locust workers that will come; by default those that are there at the start."),
        ("allow-target", str, "", "Hosts besides loopback that may be loaded, with commas; of this process."),
        ("records", str, "", "Keep the records of each test below this directory."),
        ("summary", str, "", "Write counts and HDR quantiles to this JSON file."),
    )
    for name, kind, default, text in rows:
        variable = "CHATPROOF_" + name.upper().replace("-", "_")
        option = group.add_argument(f"--chat-{name}", type=kind, default=default, env_var=variable, help=text)
        vars(option)["include_in_web_ui"] = name in _ON_PAGE  # Locust asks; of a group it sets none


def at_least(kind: Callable[[str], int | float], least: int) -> Callable[[str], int | float]:
    """For an option: reads a number, and refuses what is less."""

    def read(text: str) -> int | float:
        value = kind(text)
        if not least <= value < float("inf"):
            raise ArgumentTypeError(f"is {text}: must be {least} or more")
        return value

    read.__name__ = kind.__name__  # for argparse, which calls what is no number an "invalid float value"
    return read


def in_options(wrong: SpecError) -> str:
    """The faults of a specification, by the names of the options that it was made of."""
    told = str(wrong).removeprefix("options: ")
    for field, option in _OPTIONS.items():
        told = re.sub(rf"(?<![\w.]){re.escape(field)} is ", f"{option} is ", told)
    told = re.sub(r"--host is \[.*?\]: target is ", "--host is ", told)
    return told.replace("(--allow-target", "(--chat-allow-target")


def load_spec(
    options: Namespace, host: str, allowed: tuple[str, ...], run_dir: Path, workers: int
) -> LoadSpec:
    """The specification that Locust's options amount to.

    Raises:
        SpecError: with all faults.
    """
    if options.chat_channels_per_client > options.chat_channels:
        more = f"{options.chat_channels_per_client}: must be at most --chat-channels, {options.chat_channels}"
        raise SpecError("options", [f"--chat-channels-per-client is {more}"])
    phase = {
        "name": "load",
        "duration_s": min(float(options.run_time or LONGEST_S), LONGEST_S),
        "publish_per_s": options.chat_rate,
    }
    text = {
        "run_dir": str(run_dir),
        "nonce": options.chat_nonce,
        "seed": options.chat_seed,
        "allow_targets": allowed,
        "targets": [host],
        "workload": {
            # Locust deals users evenly: with equal stripes, none gets more than it owns.
            "clients": -(-options.chat_sessions // workers) * workers,
            "channels": options.chat_channels,
            "channels_per_client": options.chat_channels_per_client,
            "body_bytes": options.chat_body_bytes,
            "connect_over_s": 0.0,
            "phase": [phase],
        },
    }
    return parse_spec(json.dumps(text), source="options")


def three(value: float) -> str:
    """Three digits that matter."""
    return f"{float(f'{value:.3g}'):,g}"


def unwritable(file: str) -> str | None:
    """Why a file cannot be made there; told before the test, and not after it."""
    folder = Path(file).absolute().parent
    return None if not file or folder.is_dir() else f"there is no directory {folder}"
