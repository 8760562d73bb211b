"""Distributions of durations, folded with numpy: never a call per value.

Buckets are those of HdrHistogram with three significant digits: below 2,048 units each
value has its own, above that a bucket is at most 0.1 % wide. The unit is one microsecond.

Source: Tene, HdrHistogram, https://github.com/HdrHistogram/HdrHistogram.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

_UNIT_NS: Final = 1_000
_SUB_BUCKETS: Final = 2048
_HALF: Final = _SUB_BUCKETS // 2
_BITS: Final = 11  # of _SUB_BUCKETS - 1
_LARGEST: Final = 2**42  # units: 50 days
_SIZE: Final = (42 - _BITS + 2) * _HALF

Sparse = list[tuple[int, int]]  # (bucket, count), as it travels between processes


class Quantiles(NamedTuple):
    """In milliseconds; all 0 when there is no value."""

    p50_ms: float
    p99_ms: float
    max_ms: float


class Histogram:
    """Counts of durations by bucket."""

    def __init__(self) -> None:
        self._counts = np.zeros(_SIZE, np.int64)
        self._max_ns = 0

    def add(self, durations_ns: npt.NDArray[np.int64]) -> None:
        """Fold in durations, shape (n,), nanoseconds; negative ones count as 0."""
        if len(durations_ns) == 0:
            return
        self._max_ns = max(self._max_ns, int(durations_ns.max()))
        units = np.clip(durations_ns // _UNIT_NS, 0, _LARGEST - 1)
        self._counts += np.bincount(_bucket(units), minlength=_SIZE)

    def merge(self, sparse: Sparse) -> None:
        """Fold in what another histogram's ``sparse`` gave."""
        for bucket, count in sparse:
            if 0 <= bucket < _SIZE and count > 0:
                self._counts[bucket] += count
                self._max_ns = max(self._max_ns, int(_upper_units(bucket)) * _UNIT_NS)

    def sparse(self) -> Sparse:
        used = np.nonzero(self._counts)[0]
        return list(zip(used.tolist(), self._counts[used].tolist(), strict=True))

    @property
    def count(self) -> int:
        return int(self._counts.sum())

    def quantile_ms(self, q: float) -> float:
        """Nearest-rank quantile, as the upper end of its bucket; 0 when there is no value."""
        total = self.count
        if total == 0:
            return 0.0
        rank = max(1, int(np.ceil(q * total)))
        bucket = int(np.searchsorted(np.cumsum(self._counts), rank))
        return min(float(_upper_units(bucket)) * _UNIT_NS, max(self._max_ns, 0)) / 1e6

    def quantiles(self) -> Quantiles:
        return Quantiles(self.quantile_ms(0.5), self.quantile_ms(0.99), max(self._max_ns, 0) / 1e6)

    def clear(self) -> None:
        self._counts[:] = 0
        self._max_ns = 0


def _bucket(units: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Index of the bucket of each value."""
    bits = np.frexp((units | (_SUB_BUCKETS - 1)).astype(np.float64))[1].astype(np.int64)
    shift = bits - _BITS
    index: npt.NDArray[np.int64] = (shift + 1) * _HALF + ((units >> shift) - _HALF)
    return index


def _upper_units(bucket: int) -> int:
    """The largest value of a bucket, in units."""
    shift, within = divmod(bucket, _HALF)
    if shift == 0:
        return within
    return ((within + _HALF + 1) << (shift - 1)) - 1
