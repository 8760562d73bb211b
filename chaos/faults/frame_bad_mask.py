"""Frames are masked that must not be, or the other way round."""

from __future__ import annotations

from chaos.faults.base import Shows
from chaos.faults.frame import MalformedFault


class FrameBadMask(MalformedFault):
    """A client's frame without a mask, or a server's with one (RFC 6455 § 5.1)."""

    shows = Shows.ILLEGAL
    action = "bad_mask"
