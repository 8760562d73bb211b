"""Texts are no UTF-8."""

from __future__ import annotations

from chaos.faults.base import Shows
from chaos.faults.frame import MalformedFault


class FrameBadUtf8(MalformedFault):
    """Puts a byte into the text that is in no UTF-8 (RFC 6455 § 8.1)."""

    shows = Shows.ILLEGAL
    action = "bad_utf8"
