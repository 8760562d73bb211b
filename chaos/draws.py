"""Random numbers of a plan: each a function of the run's seed, a fault's id and what it is for."""

from __future__ import annotations

import hashlib


def draw(seed: int, fault_id: str, what: str) -> int:
    """64 uniform bits, fixed for one seed, id and purpose."""
    digest = hashlib.blake2b(f"{seed}/{fault_id}/{what}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def draw_ns(seed: int, fault_id: str, *, below_ns: int) -> int:
    """A number in [0, below_ns), 0 for 0: uniform over ids, and fixed for one seed and id."""
    return draw(seed, fault_id, "start") * below_ns >> 64
