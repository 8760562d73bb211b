"""How load clients are let in and know whom they talk to: [workload.auth] and TLS.

Tokens are made here from a secret (HS256, RFC 7515 and 7519) or asked of a command of the user's. A token is
made when a client first dials and kept until half a minute before it expires, so a reconnect storm does not
wait for signatures. No secret and no token is ever written to the run directory: the specification of a run
names the file, the variable or the command.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import ssl
import subprocess
from pathlib import Path
from time import time
from typing import Any, Final

from pydantic import Field, field_validator, model_validator

from chatd.protocol.tokens import decode, sign

from .section import Section

MARGIN_S: Final = 30.0  # before a token expires, another is made
COMMAND_S: Final = 20.0  # for a command to give a token
CLIENT: Final = "{client}"  # in a command: the client's name
# X509_V_ERR_* of openssl/x509_vfy.h
_ANOTHER_NAME: Final = frozenset({62, 63, 64})  # HOSTNAME_, EMAIL_, IP_ADDRESS_MISMATCH
_OUT_OF_DATE: Final = frozenset({9, 10})  # CERT_NOT_YET_VALID, CERT_HAS_EXPIRED


class AuthFailed(Exception):
    """No token could be had. The text is one line: what was asked, and what came of it."""


class Auth(Section):
    """[workload.auth]: where the tokens of load clients come from. Exactly one source."""

    secret_file: Path | None = None
    """File with the secret that signs them; white space around it is no part of it."""
    secret_env: str = ""
    """Environment variable with that secret."""
    command: tuple[str, ...] = ()
    """Prints a token for the client whose name stands in the place of {client}."""
    audience: str = "chatd"
    """The claim aud; empty: none."""
    ttl_s: float = Field(default=86_400.0, gt=0, le=366 * 86_400, allow_inf_nan=False)
    """How long a signed token is good for."""
    claims: dict[str, Any] = Field(default_factory=dict)
    """Further claims of signed tokens, as the server wants them."""

    def __hash__(self) -> int:
        return hash(self.model_dump_json())  # a table of claims has none of its own

    @field_validator("command")
    @classmethod
    def _can_be_run(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        if command and shutil.which(command[0]) is None:
            raise ValueError(f"{command[0]!r} is no program here: name a file that can be executed")
        if command and not any(CLIENT in part for part in command):
            raise ValueError(f"one of its words must hold {CLIENT}, else all clients get the same token")
        return command

    @model_validator(mode="after")
    def _one_source(self) -> Auth:
        given = [name for name in ("secret_file", "secret_env", "command") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError("write exactly one of secret_file, secret_env and command")
        return self

    def secret(self) -> bytes:
        """The signing secret.

        Raises:
            AuthFailed: it cannot be read, or is empty.
        """
        if self.secret_file is not None:
            where = f"workload.auth.secret_file is {str(self.secret_file)!r}"
            try:
                found = self.secret_file.read_bytes().strip()
            except OSError as error:
                raise AuthFailed(f"{where}: cannot be read: {error.strerror}") from None
        else:
            where = f"workload.auth.secret_env is {self.secret_env!r}"
            found = os.environ.get(self.secret_env, "").encode(errors="surrogateescape").strip()
        if not found:
            raise AuthFailed(f"{where}: must hold the secret that signs tokens; it is empty or not set")
        return found


class Tls(Section):
    """What the load trusts besides the machine's own certificate authorities.

    ``server_name``: whom the certificate must be for, where a proxy stands between.
    """

    ca: Path | None = None
    server_name: str = ""

    def context(self) -> ssl.SSLContext:
        """A client's context: TLS 1.2 or newer, the certificate is checked, and so is its name.

        Raises:
            AuthFailed: the file cannot be used.
        """
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.ca is not None:
            try:
                context.load_verify_locations(self.ca)
            except OSError as error:  # an SSLError is one
                why = "not a certificate in PEM format" if isinstance(error, ssl.SSLError) else error.strerror
                raise AuthFailed(f"server.tls.ca is {str(self.ca)!r}: cannot be used: {why}") from None
        return context

    def arguments(self, url: str) -> dict[str, Any]:
        """What a dialler is given besides the URL, by the names that the standard library has for it.

        Raises:
            AuthFailed: the file cannot be used.
        """
        if not url.startswith(("wss:", "https:")):
            return {}
        name = {"server_hostname": self.server_name} if self.server_name else {}
        return {"ssl": self.context(), **name}

    def stranger(self, url: str, error: ssl.SSLCertVerificationError) -> AuthFailed:
        """Why nobody talks to what answered at ``url``: its certificate."""
        why = error.verify_message or str(error)
        if error.verify_code in _ANOTHER_NAME:
            name = f"server.tls.server_name is {self.server_name!r}" if self.server_name else "the host"
            return AuthFailed(
                f"{name}: the certificate at {url} is for another name ({why}): "
                "write the name that it is for as server.tls.server_name"
            )
        if error.verify_code in _OUT_OF_DATE:
            return AuthFailed(f"the certificate at {url} cannot be used ({why}): the server needs another")
        where = "is not set" if self.ca is None else f"is {str(self.ca)!r}"
        return AuthFailed(
            f"server.tls.ca {where}: it does not vouch for the certificate at {url} ({why}): "
            "name the PEM file of the authority that signed it, or of the certificate itself"
        )


class Tokens:
    """Tokens by client name, made when first asked for; none where no auth is asked for."""

    def __init__(self, auth: Auth | None) -> None:
        self._auth = auth
        self._secret = auth.secret() if auth is not None and not auth.command else b""
        self._known: dict[str, tuple[float, str]] = {}  # name -> (good until, token)

    def ready(self, client: str, now_s: float) -> bool:
        """Whether ``of`` answers at once, without a command."""
        return self._auth is None or not self._auth.command or self._fresh(client, now_s) is not None

    def of(self, client: str, now_s: float) -> str | None:
        """A token for a client, or None where none is needed. Runs the command where there is one.

        Args:
            now_s: seconds since 1970.
        Raises:
            AuthFailed: the command gave none.
        """
        if self._auth is None:
            return None
        if (token := self._fresh(client, now_s)) is not None:
            return token
        if self._auth.command:
            token = _ask(self._auth.command, client)
            until_s = _expiry(token)
        else:
            until_s = now_s + self._auth.ttl_s
            token = sign(self._secret, self._claims(client, now_s))
        self._known[client] = (until_s - min(MARGIN_S, self._auth.ttl_s / 2), token)
        return token

    def _fresh(self, client: str, now_s: float) -> str | None:
        until_s, token = self._known.get(client, (0.0, ""))
        return token if token and now_s < until_s else None

    def _claims(self, client: str, now_s: float) -> dict[str, Any]:
        assert self._auth is not None
        audience = {"aud": self._auth.audience} if self._auth.audience else {}
        times = {"iat": int(now_s), "exp": int(now_s + self._auth.ttl_s)}
        return {"sub": client, **audience, **times, **self._auth.claims}


class Trust:
    """How the clients of one worker are let in, and know whom they dial; on the worker's loop.

    Args:
        host, http_host: for the header Host of WebSockets and of other requests, where it is not the
            dialled one.
        http_server_name: whom the certificate of those other requests must be for, where it is not
            ``tls.server_name``.
    Raises:
        AuthFailed: a secret cannot be used.
    """

    def __init__(
        self,
        auth: Auth | None = None,
        tls: Tls | None = None,
        host: str = "",
        http_host: str = "",
        http_server_name: str = "",
    ) -> None:
        self.tokens, self._tls, self._host, self._http_host = Tokens(auth), tls or Tls(), host, http_host
        named = {"server_name": http_server_name} if http_server_name else {}
        self._http_tls = self._tls.model_copy(update=named)
        self._known: dict[str, dict[str, Any]] = {}  # arguments by scheme: reading authorities takes 20 ms

    def token(self, client: str) -> str | None:
        """What a client logs in with; ``prepare`` came first."""
        return self.tokens.of(client, time())

    async def prepare(self, client: str) -> None:
        """Have a token, without standing in the way of the others.

        Raises:
            AuthFailed: there is none.
        """
        if not self.tokens.ready(client, time()):
            await asyncio.get_running_loop().run_in_executor(None, self.token, client)

    def of(self, url: str) -> dict[str, Any]:
        """Arguments for picows' ``ws_connect``.

        Raises:
            AuthFailed: a certificate cannot be used.
        """
        told = self.tls_of(url)
        return {"ssl_context": told.pop("ssl"), **told} if told else {}

    def tls_of(self, url: str) -> dict[str, Any]:
        """Arguments for a loop's ``create_connection``; raises as ``of`` does."""
        scheme = url.partition(":")[0]
        if scheme not in self._known:
            self._known[scheme] = self._tls_for(url).arguments(url)
        return dict(self._known[scheme])

    def stranger(self, url: str, error: ssl.SSLCertVerificationError) -> AuthFailed:
        """Why nobody talks to what answered at ``url``; it ends the load, as a missing token does."""
        return self._tls_for(url).stranger(url, error)

    def _tls_for(self, url: str) -> Tls:
        return self._http_tls if url.startswith("http") else self._tls

    def host_for(self, dialled: str) -> str:
        """The header Host of a request over HTTP to ``dialled``."""
        return self._http_host or dialled

    def headers(self, subprotocol: str | None) -> list[tuple[str, str]] | None:
        """Of the upgrade request, besides the usual ones."""
        given = [("Host", self._host)] if self._host else []
        return given + ([("Sec-WebSocket-Protocol", subprotocol)] if subprotocol else []) or None


def _ask(command: tuple[str, ...], client: str) -> str:
    argv = [part.replace(CLIENT, client) for part in command]
    shown = " ".join(argv)
    try:
        done = subprocess.run(argv, capture_output=True, timeout=COMMAND_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AuthFailed(f"workload.auth.command {shown!r}: {error}") from None
    token = done.stdout.decode(errors="replace").strip()
    if done.returncode or not token:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = f"ended with {done.returncode}" if done.returncode else "printed nothing"
        raise AuthFailed(f"workload.auth.command {shown!r} {why}" + (f": {said[-1]}" if said else ""))
    return token


def _expiry(token: str) -> float:
    """When a token expires, seconds since 1970; a token that does not say is good for ever."""
    try:
        claims = json.loads(decode(token.split(".")[1]))
        return float(claims["exp"])
    except (IndexError, ValueError, KeyError, TypeError):
        return float("inf")
