"""What a daemon is told at start: one frozen model for flags, files and scenarios."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails

from .mutants import MUTANTS, parse
from .namespaces import Namespace, Prefix, read_table
from .store import STORES, kind_of
from .store.valkey.url import SHAPE, is_url, read_url, without_password

MOST_KEPT: Final = 2**53  # of messages or bytes: an exact number wherever a log keeps it
_STORES: Final = ", ".join(SHAPE if kind == "valkey" else kind for kind in STORES)
TWO_WAITS: Final = "must be two numbers of ms, the first above 0 and not above the second, like 500,30000"
RULES: Final[Mapping[str, str]] = {  # by pydantic's type of error, where its own words are of Python
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("float_parsing", "float_type"), "must be a number"),
    "finite_number": "must be a number that is not infinite",
    **dict.fromkeys(("bool_parsing", "bool_type"), "must be true or false"),
    "string_type": "must be text",
    "path_type": "must be the path of a file or a directory",
    "tuple_type": "must be a list",
    **dict.fromkeys(("dict_type", "model_type"), "must be a JSON object"),
}


class ConfigError(Exception):
    """The configuration cannot be used. ``faults``: all of them, one line each."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class Config(BaseModel):
    """Settings of one chatd. Sizes are bytes, times are seconds unless the name says otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    auth_secret_file: Path | None = Field(
        None,
        description="file with the secret that signs tokens; without one, nobody has to log in",
    )
    auth_secret_env: str = Field("", description="environment variable with that secret, in place of a file")
    auth_audience: str = Field("chatd", min_length=1, description="what the claim aud of a token must be")
    auth_grace_s: float = Field(10, ge=0, description="seconds that a client has to renew an expired token")
    host: str = Field("127.0.0.1", description="address to listen on; beyond loopback, clients need tokens")
    port: int = Field(8765, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    tls_cert: Path | None = Field(None, description="PEM file of a certificate: the public port speaks TLS")
    tls_key: Path | None = Field(None, description="PEM file of its key; by default in the same file")
    admin_port: int | None = Field(
        None, ge=0, le=65535, description="port on 127.0.0.1 for /metrics and /nodes; 0 takes a free one"
    )
    origins: tuple[str, ...] = Field(
        (), description="web pages, besides those of this machine, that may connect, as ORIGIN,ORIGIN"
    )
    http_port: Annotated[int, Field(ge=0, le=65535)] | Literal["auto", "free"] = Field(
        "auto",
        description="port of the page, SSE, polling and POST: auto is port + 1 (a free one when port is 0),"
        " free takes a free one, 0 turns it off",
    )
    node: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,32}$")] = Field(
        "n1", description="this node's name, as clients see it"
    )
    advertise: str = Field(
        "", description="URL under which other nodes' clients reach this one; empty: the one it listens on"
    )
    capacity: int = Field(
        0, ge=0, description="connections that count as a full node, for the others; 0: as many as it takes"
    )
    rebalance: bool = Field(
        True, description="whether a node with more than its share of the connections sends some to others"
    )
    slowed_to_per_s: float = Field(
        0, ge=0, description="deliveries per second at most, as of a smaller machine; 0: as many as it can"
    )
    tail_check_s: float = Field(
        1, ge=0.05, le=60, description="seconds between looks for messages that no other node told of"
    )
    store: str = Field("sqlite", description=f"where messages are kept: {_STORES}")
    data: Path = Field(Path("chatd-data"), description="directory of the sqlite store")
    retain_n: int = Field(100_000, ge=1, le=MOST_KEPT, description="messages kept per channel")
    retain_s: float = Field(86_400, gt=0, description="seconds that a message is kept")
    retain_bytes: int = Field(
        64 * 1024 * 1024, ge=1, le=MOST_KEPT, description="bytes of messages kept per channel"
    )
    namespaces: dict[Prefix, Namespace] = Field(
        {},
        description="JSON object, name → retention and rights of its channels; empty: any name goes",
    )
    dedupe_s: float = Field(300, ge=0, description="seconds in which a repeated publish is recognised")
    ping_s: float = Field(25, ge=0.1, le=3600, description="seconds between pings to a client")
    pong_s: float = Field(8, ge=0.1, le=3600, description="seconds a client has to answer a ping")
    retry_ms: tuple[int, int] = Field(
        (500, 30_000), description="first and longest wait of a client that reconnects, as FIRST,LONGEST"
    )
    profile: Literal["effectively-once"] = Field("effectively-once", description="delivery profile promised")
    echo: bool = Field(True, description="whether a publisher receives its own messages")
    frame_bytes: int = Field(64 * 1024, ge=1024, le=16 * 1024 * 1024, description="largest frame of a client")
    channels: int = Field(256, ge=1, description="subscriptions of one connection")
    in_flight: int = Field(256, ge=1, description="unanswered publishes of a connection, before it must wait")
    publish_per_s: float = Field(2000, ge=0, description="publishes of a connection per second; 0: no limit")
    publish_burst: int = Field(10_000, ge=1, description="publishes of a connection at once")
    channel_publish_per_s: float = Field(
        0, ge=0, description="publishes on a channel per second, by all connections; 0: no limit"
    )
    channel_publish_burst: int = Field(10_000, ge=1, description="publishes on a channel at once")
    connections: int = Field(50_000, ge=1, description="connections, before more are refused")
    connections_per_address: int = Field(0, ge=0, description="connections of one address; 0: no limit")
    slow_s: float = Field(30, gt=0, description="seconds a connection may take nothing before it is closed")
    drain_s: float = Field(5, ge=0, description="seconds that clients have to leave when the daemon stops")
    drain_per_s: float = Field(
        0.25, gt=0, le=1, description="share of the connections told goodbye per second then"
    )
    overload_lag_s: float = Field(
        0, ge=0, description="p99 of the loop's lag from which load is shed; 0: never"
    )
    test_hooks: bool = Field(False, description="allow switches that break promises on purpose")
    mutant: str = Field(
        "",
        description="a fault to plant: name[:probability[:seed]] or name:once[:seed[:within]];"
        " needs --test-hooks",
    )

    @property
    def authenticated(self) -> bool:
        """Whether clients must show a token."""
        return self.auth_secret_file is not None or bool(self.auth_secret_env)

    @property
    def store_kind(self) -> str:
        """Which of ``STORES``."""
        return kind_of(self.store)

    @property
    def store_where(self) -> Path | str:
        """Its directory or its URL."""
        return self.store if is_url(self.store) else self.data

    @property
    def loopback(self) -> bool:
        """Whether only programs on this machine can connect."""
        return is_loopback(self.host)

    @field_validator("host")
    @classmethod
    def _loopback(cls, host: str, info: ValidationInfo) -> str:
        try:
            host.encode("idna")
        except UnicodeError:
            raise ValueError("cannot be the name of a host: must be an address of this machine") from None
        secret = info.data.get("auth_secret_file", "?") or info.data.get("auth_secret_env", "?")
        if not is_loopback(host) and not secret:
            raise ValueError(
                "must be a loopback address (127.0.0.1, ::1 or localhost) where nobody has to log in;"
                " to be reached from elsewhere, give auth_secret_file, and make tokens with `chatd token`"
            )
        return host

    @field_validator("tls_key")
    @classmethod
    def _with_certificate(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        if key is not None and info.data.get("tls_cert", "?") is None:
            raise ValueError("needs tls_cert, the certificate that it belongs to")
        return key

    @field_validator("test_hooks")
    @classmethod
    def _only_here(cls, hooks: bool, info: ValidationInfo) -> bool:
        if hooks and not is_loopback(info.data.get("host", "localhost")):
            raise ValueError("needs a loopback host, because what it allows breaks promises on purpose")
        return hooks

    @field_validator("auth_secret_file", "tls_cert", "tls_key", "data", mode="before")
    @classmethod
    def _path(cls, value: object) -> object:
        if value == "" or (isinstance(value, str) and "\0" in value):
            raise ValueError("must be the path of a file or a directory")
        return value

    @field_validator("http_port", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        value = 0 if value == "" else value
        number = int(value) if isinstance(value, str) and re.fullmatch(r"\d{1,5}", value, re.ASCII) else value
        if isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= 65535:
            return number
        if number in ("auto", "free"):
            return number
        raise ValueError("must be auto, free, 0 for none, or a port up to 65535")

    @field_validator("advertise")
    @classmethod
    def _dialled(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and (parts.scheme not in ("ws", "wss") or not parts.hostname):
            raise ValueError(
                "must be a URL that clients of other nodes can dial: ws://HOST:PORT/ws or wss://…"
            )
        return url

    @field_validator("origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            scheme, found, rest = origin.partition("://")
            if not (scheme and found and rest) or set(rest) & set("/?#*"):
                raise ValueError(
                    f"{origin!r} is no origin: must be as the browser says it, SCHEME://HOST[:PORT] without a"
                    " path, one for each page: https://chat.example.org"
                )
        return origins

    @field_validator("http_port")
    @classmethod
    def _its_own(cls, value: int | str, info: ValidationInfo) -> int | str:
        if value and value == info.data.get("port"):
            raise ValueError("must not be that of `port`: WebSocket and HTTP need one each")
        if value == "auto" and info.data.get("port") == 65535:
            raise ValueError("would be 65536 with this port: name another one, or 0 for none")
        return value

    @field_validator("store")
    @classmethod
    def _known_store(cls, store: str) -> str:
        if is_url(store):
            read_url(store)
        elif store not in STORES or store == "valkey":
            raise ValueError(f"must be one of {_STORES}")
        return store

    @field_validator("namespaces", mode="before")
    @classmethod
    def _table(cls, value: object) -> object:
        return read_table(value)

    @field_validator("origins", mode="before")
    @classmethod
    def _list(cls, value: object) -> object:
        return [part for part in value.split(",") if part] if isinstance(value, str) else value

    @field_validator("retry_ms", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or len(parts) != 2:
            raise ValueError(TWO_WAITS)
        return parts

    @field_validator("retry_ms")
    @classmethod
    def _rising(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not 0 < value[0] <= value[1]:
            raise ValueError(TWO_WAITS)
        return value

    @field_validator("mutant")
    @classmethod
    def _allowed(cls, mutant: str, info: ValidationInfo) -> str:
        if mutant:
            broken = MUTANTS.get(parse(mutant).name)
            if not info.data.get("test_hooks"):
                raise ValueError("needs test_hooks, because it breaks a promise")
            if broken and "store" in info.data and kind_of(info.data["store"]) not in broken.stores:
                raise ValueError(f"can only be planted in store {' or '.join(sorted(broken.stores))}")
        return mutant


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load(path: Path | None, flags: Mapping[str, object]) -> Config:
    """Read a JSON file of settings, put flags over it, and check everything.

    Raises:
        ConfigError: with every fault that was found.
    """
    settings: dict[str, Any] = {}
    if path is not None:
        try:
            settings = json.loads(path.read_bytes())
        except OSError as bad:
            raise ConfigError(
                [f"config file {str(path)!r} cannot be read: {bad.strerror}; name a JSON file"]
            ) from None
        except (ValueError, RecursionError) as bad:
            why = "it is nested too deep" if isinstance(bad, RecursionError) else bad
            raise ConfigError(
                [f'config file {str(path)!r} is not JSON: {why}; write settings like {{"port": 8765}}']
            ) from None
        if not isinstance(settings, dict):
            raise ConfigError([f'config file {str(path)!r} holds no JSON object: write {{"port": 8765}}'])
    try:
        return Config.model_validate({**settings, **flags})
    except ValidationError as bad:
        raise ConfigError([_line(fault) for fault in bad.errors(include_url=False)]) from None


def _line(fault: ErrorDetails) -> str:
    where = ".".join(map(str, fault["loc"]))
    text = fault["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    text = RULES.get(fault["type"], text.replace("String should", "must"))
    if fault["type"] == "extra_forbidden":
        known, of = (Namespace, "a namespace") if len(fault["loc"]) > 1 else (Config, "chatd")
        return f"{where} is no setting of {of}: known are {', '.join(known.model_fields)}"
    return f"{where} is {without_password(repr(fault['input']))}: {text}" if where else text
