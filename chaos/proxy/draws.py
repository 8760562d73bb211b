"""Random numbers that depend on what they are for, not on when they are asked for.

Every draw is a hash of (seed, purpose, index), so the same seed gives the same
draws whatever else the process does, and two purposes never share a sequence.
"""

from hashlib import blake2b


class Draws:
    """The sequence of draws for one purpose.

    Args:
        seed: the proxy's ``--seed``.
        purpose: what is drawn for, e.g. ``("slow", 17, "downstream")``.
    """

    __slots__ = ("_index", "_key")

    def __init__(self, seed: int, *purpose: object) -> None:
        self._key = repr((seed, *purpose)).encode()
        self._index = 0

    def at(self, index: int) -> float:
        """The draw of that index in [0, 1), whatever was drawn before."""
        digest = blake2b(b"%d %s" % (index, self._key), digest_size=8).digest()
        return int.from_bytes(digest, "little") / 2**64

    def uniform(self, low: float, high: float) -> float:
        """The next draw, evenly spread over ``[low, high)``."""
        self._index += 1
        return low + (high - low) * self.at(self._index - 1)
