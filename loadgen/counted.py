"""How often something has happened to somebody by a time, for arrays of questions at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer[Any]]


class Counted:
    """Events, each of one id at one time.

    Id and time are sorted as one number. Where both do not fit into 63 bits, times lose their last bits.

    Args:
        ids, times_ns: shape (n,), not negative, in any order.
        last_ns: no time, of an event or a question, is later.
        ids_below: nor is any id as high as this.
    """

    def __init__(self, ids: Ints, times_ns: Ints, *, last_ns: int, ids_below: int) -> None:
        self._bits = max(1, int(last_ns).bit_length())
        self._shift = max(0, self._bits + max(1, int(ids_below).bit_length()) - 63)
        self._bits -= self._shift
        self._keys = np.sort(self._key(ids, times_ns))

    def by(self, ids: Ints, times_ns: Ints) -> npt.NDArray[np.int64]:
        """How many events each id has had by then, that moment included."""
        upto = np.searchsorted(self._keys, self._key(ids, times_ns), side="right")
        return np.asarray(upto - np.searchsorted(self._keys, np.asarray(ids, np.int64) << self._bits))

    def _key(self, ids: Ints, times_ns: Ints) -> npt.NDArray[np.int64]:
        return (np.asarray(ids, np.int64) << self._bits) | (np.asarray(times_ns, np.int64) >> self._shift)
