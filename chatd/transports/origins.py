"""Which web pages may reach in through a browser: this machine's, and those that the operator names."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

LOCAL = ("localhost", "127.0.0.1", "::1")


def origin_allowed(origin: str, named: Collection[str]) -> bool:
    """Whether a request with this ``Origin`` is let in.

    >>> origin_allowed("http://localhost:3000", ()), origin_allowed("https://chat.example", ())
    (True, False)
    >>> origin_allowed("https://chat.example", ["https://chat.example"])
    True
    """
    try:
        return origin in named or urlsplit(origin).hostname in LOCAL
    except ValueError:  # no URL at all
        return False
