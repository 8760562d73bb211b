"""Where a Valkey is and what is asked of it, read from one URL.

    valkey://[USER@]HOST[:PORT][/DB][?wait=N][&waitaof=N][&timeout_s=S][&password_env=NAME]

``redis://`` is the same; ``valkeys://`` and ``rediss://`` speak TLS. A password never stands in the URL: URLs
are shown by ``ps``, written into logs and kept with runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

import msgspec

SCHEMES: Final = {"valkey": False, "redis": False, "valkeys": True, "rediss": True}  # → whether it is TLS
SHAPE: Final = "valkey://HOST:PORT/DB"
PORT: Final = 6379
_PASSWORD: Final = re.compile(r"(://[^/?#@:]*:)[^/?#]*(@)")  # RFC 3986 § 3.2.1


class Address(msgspec.Struct, frozen=True):
    """A server, a database of it, and what an ack waits for."""

    host: str
    port: int = PORT
    db: int = 0
    tls: bool = False
    user: str = ""
    password_env: str = ""
    wait: int = 0  # replicas that have a message in memory before it is acknowledged
    waitaof: int = 0  # replicas that have it on disk
    timeout_s: float = 5.0  # for an answer, and for the replicas

    @property
    def place(self) -> str:
        """For messages: where it is, without what is asked of it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'valkeys' if self.tls else 'valkey'}://{host}:{self.port}/{self.db}"


def is_url(store: str) -> bool:
    """Whether a value of the setting ``store`` is meant for this store, well-formed or not."""
    return store.partition("://")[0] in SCHEMES and "://" in store


def without_password(text: str) -> str:
    """A text that may hold a URL, without its password: what is refused may go into a log."""
    return _PASSWORD.sub(r"\1…\2", text)


def read_url(url: str) -> Address:
    """Raises ``ValueError`` with everything that is wrong with it."""
    faults: list[str] = []
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as bad:
        raise ValueError(f"must be {SHAPE}: {bad}") from None
    if parts.scheme not in SCHEMES:
        raise ValueError(f"must be {SHAPE}: {parts.scheme!r} is none of {', '.join(SCHEMES)}")
    if not parts.hostname:
        faults.append("names no host")
    if parts.password is not None:
        faults.append(
            "holds a password: put it into an environment variable and name that with ?password_env=NAME"
        )
    db = parts.path.removeprefix("/") or "0"
    if not (db.isdecimal() and db.isascii()):
        faults.append(f"the path is {db!r}: must be the number of a database")
    asked = _asked(parts, faults)
    if faults:
        raise ValueError(f"must be {SHAPE}: {'; '.join(faults)}")
    return Address(
        host=parts.hostname or "",
        port=PORT if port is None else port,
        db=int(db),
        tls=SCHEMES[parts.scheme],
        user=parts.username or "",
        password_env=str(asked.get("password_env", "")),
        wait=int(asked.get("wait", 0)),
        waitaof=int(asked.get("waitaof", 0)),
        timeout_s=float(asked.get("timeout_s", 5.0)),
    )


def _asked(parts: SplitResult, faults: list[str]) -> Mapping[str, str]:
    rules = {"wait": _count, "waitaof": _count, "timeout_s": _seconds, "password_env": _name}
    asked: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in rules:
            faults.append(f"?{name} is unknown: known are {', '.join(rules)}")
        elif rule := rules[name](value):
            faults.append(f"?{name} is {value!r}: must be {rule}")
        else:
            asked[name] = value
    return asked


def _count(value: str) -> str:
    good = value.isdecimal() and value.isascii() and int(value) <= 100
    return "" if good else "a number of replicas, 0 to 100"


def _seconds(value: str) -> str:
    try:
        good = 0.05 <= float(value) <= 600
    except ValueError:
        good = False
    return "" if good else "seconds, 0.05 to 600"


def _name(value: str) -> str:
    return "" if value.isidentifier() else "the name of an environment variable"
