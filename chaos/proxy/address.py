"""Addresses as ``HOST:PORT``, and who may be listened on and dialled.

The errors' texts are those of Go's ``net`` package, which Toxiproxy's clients see.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address
from typing import ClassVar

BACKLOG = 4096


class AddressError(Exception):
    """An address cannot be parsed or bound. The text is Go's; Toxiproxy answers 500 with it."""

    status: ClassVar[int] = 500


class BadUpstream(AddressError):
    """An upstream is no address. Toxiproxy takes it, and closes every connection."""

    status = 400


class NotAllowed(AddressError):
    """An address is outside of what this proxy may touch."""

    status = 403


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen or dial."""

    host: str  # no brackets
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(text: str) -> Address:
    """``HOST:PORT``, ``[IPV6]:PORT``, ``:PORT``, or nothing, which is ``:0``.

    Raises:
        AddressError: anything else.
    """
    if not text:
        return Address("", 0)
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port:
        raise AddressError(f"address {text}: missing port in address")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise AddressError(f"address {text}: too many colons in address")
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise AddressError(f"address {port}: invalid port")
    return Address(host, int(port))


def is_loopback(host: str) -> bool:
    """Whether a name can only mean this machine; no name is looked up."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Policy:
    """What the proxy may touch: loopback, and what ``--allow-listen`` and ``--allow-target`` name."""

    listen: Collection[str] = ()
    targets: Collection[str] = ()

    def check_listen(self, address: Address) -> None:
        """Raise ``NotAllowed`` unless the proxy may listen there."""
        if not is_loopback(address.host) and address.host not in self.listen:
            raise NotAllowed(
                f"listen is {str(address)!r}: only loopback addresses are allowed; "
                f"start the proxy with --allow-listen {address.host}"
            )

    def check_upstream(self, address: Address) -> None:
        """Raise ``NotAllowed`` unless the proxy may dial there."""
        if not is_loopback(address.host) and address.host not in self.targets:
            raise NotAllowed(
                f"upstream is {str(address)!r}: only loopback addresses are allowed; "
                f"start the proxy with --allow-target {address.host}"
            )


def listen_address(text: str) -> Address:
    """Where to bind. No host means loopback, not every interface as in Go; ``localhost`` is IPv4.

    Raises:
        AddressError: as ``parse``.
    """
    address = parse(text)
    return Address("127.0.0.1", address.port) if address.host in ("", "localhost") else address


def upstream_address(text: str) -> Address:
    """Where to dial. No host means ``localhost``, as in Go.

    Raises:
        BadUpstream: not ``HOST:PORT``.
    """
    try:
        address = parse(text)
    except AddressError as error:
        raise BadUpstream(f"upstream is {text!r}: must be HOST:PORT ({error})") from None
    return address if address.host else Address("localhost", address.port)


def bind(address: Address) -> socket.socket:
    """A listening socket.

    Raises:
        AddressError: the system refuses, e.g. the port is taken.
    """
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError:
        raise AddressError(f"listen tcp: lookup {address.host}: no such host") from None
    family, kind, protocol, _, bound = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(bound)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise AddressError(f"listen tcp {address}: bind: {reason(error)}") from None
    return listener


def reason(error: OSError) -> str:
    """The system's words for an error, as Go writes them."""
    return os.strerror(error.errno or errno.EINVAL).lower()


async def dial(address: Address, protocol: asyncio.Protocol) -> None:
    """Connect ``protocol`` to ``address``, IPv4 before IPv6 for ``localhost``.

    Raises:
        OSError: nobody answers there.
    """
    loop = asyncio.get_running_loop()
    # No lookup for localhost: it would cost a thread for each connection.
    hosts = ("127.0.0.1", "::1") if address.host == "localhost" else (address.host,)
    for host in hosts:
        try:
            await loop.create_connection(lambda: protocol, host, address.port)
            return
        except OSError:
            if host == hosts[-1]:
                raise
