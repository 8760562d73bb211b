"""Where in a row of noisy figures the level changed. Pure: values in, places out, the same every time.

A stretch of the row is cut where its parts differ most, and where that is no more than chance, around the
run of values that stands furthest from the rest, so that a step that was taken back is found too (circular
binary segmentation, Olshen and others 2004). Whether it is chance is told by permuting the stretch: were
nothing changed, every order of its values would be as likely. Then each part is looked at in turn, and at the
end each place once more, between its neighbours.

Compared are normal scores of ranks, not the values: one night on a bad machine, ten times as slow as all
others, weighs as much as the slowest of many, and logarithms change nothing. What a permutation cannot know:
values that depend on those before them, as of a machine that is busy for a week, look like changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

SIGNIFICANCE: Final = 0.01  # of a split: the chance to see one where nothing changed
LEAST_RUNS: Final = 4  # on each side of a change
PERMUTATIONS: Final = 1_999  # so that the smallest p is a twentieth of SIGNIFICANCE
MOST_VALUES: Final = 2_000
_AT_ONCE: Final = 100  # permutations; after each lot those are given up that cannot become significant
_MOST_EDGES: Final = (
    300  # of a stretch: longer ones are looked at on a grid, and the place is refined at the end
)
_ROUNDS: Final = 20  # of moving places; two or three are enough
_SEED: Final = 20_140_211
Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A change: ``at`` is the index of the first value of the new level.

    ``p``: share of the orders of the values between its neighbours that look as much like a change.
    """

    at: int
    p: float


def change_points(
    values: Sequence[float], *, significance: float = SIGNIFICANCE, least_runs: int = LEAST_RUNS
) -> tuple[Split, ...]:
    """Every place at which the level of ``values`` changed, in their order.

    Args:
        values: finite, in the order in which they were measured; at most MOST_VALUES.
        significance: a split whose p is above it is chance.
        least_runs: values on each side of a change, at least.
    Raises:
        ValueError: values that are too many or not finite, or a limit that cannot be.
    """
    if len(values) > MOST_VALUES:
        raise ValueError(f"{len(values)} values are given: at most {MOST_VALUES} are looked at")
    if not all(map(math.isfinite, values)):
        raise ValueError("a value is not finite")
    if not 2 / (PERMUTATIONS + 1) <= significance < 1 or least_runs < 2:
        raise ValueError(f"significance {significance!r} or least_runs {least_runs!r} cannot be")
    row = np.asarray(values, dtype=np.float64)
    found = sorted(_splits(row, 0, len(row), significance, least_runs))
    return _pruned(row, found, significance, least_runs)


def _splits(row: Scores, low: int, high: int, significance: float, least: int) -> Iterator[int]:
    """Places inside row[low:high], whose ends are changes already or the ends of the row."""
    if high - low < 2 * least:
        return
    scores = _scores(row[low:high])
    inside = _step(scores, significance / 2, least) or _run(scores, significance / 2, least)
    if not inside:
        return
    places = [low + at for at in inside]
    yield from places
    for begin, end in pairwise([low, *places, high]):
        yield from _splits(row, begin, end, significance, least)


def _step(scores: Scores, significance: float, least: int) -> list[int]:
    """Where scores are cut in two; nowhere when that may be chance. It takes fewer values than ``_run``."""
    edges = _from_the_first(scores, least)
    best, _, last = _furthest(scores[None, :], edges, least, steps_only=True)
    p = _p(scores, float(best[0]), edges, least, significance, steps_only=True)
    return [int(last[0])] if p <= significance else []


def _run(scores: Scores, significance: float, least: int) -> list[int]:
    """Both ends, or the inner one, of the run of scores that stands out most; none when it may be chance."""
    edges = _edges(len(scores), least)
    best, first, last = _furthest(scores[None, :], edges, least)
    if _p(scores, float(best[0]), edges, least, significance) > significance:
        return []
    return [at for at in (int(first[0]), int(last[0])) if 0 < at < len(scores)]


def _pruned(row: Scores, found: list[int], significance: float, least: int) -> tuple[Split, ...]:
    """Each place moved to where it is clearest between its neighbours; those that may be chance given up."""
    while True:
        found = _settled(row, found, least)
        tested = [
            Split(at=at, p=_tested(row[low:high], significance, least))
            for low, at, high in _between(found, len(row))
        ]
        weakest = max(tested, key=lambda split: (split.p, split.at), default=None)
        if weakest is None or weakest.p <= significance:
            return tuple(tested)
        found = [at for at in found if at != weakest.at]


def _between(found: Sequence[int], length: int) -> list[tuple[int, int, int]]:
    """Each place with the one before it and the one after it."""
    return list(zip([0, *found], found, [*found[1:], length], strict=False))


def _settled(row: Scores, found: list[int], least: int) -> list[int]:
    """Places moved, one after the other, to where the stretch between their neighbours is best cut."""
    for _ in range(_ROUNDS):
        before = list(found)
        for n in range(len(found)):
            low, _, high = _between(found, len(row))[n]
            scores = _scores(row[low:high])
            _, _, last = _furthest(scores[None, :], _from_the_first(scores, least), least, steps_only=True)
            found[n] = low + int(last[0])
        if found == before:
            break
    return found


def _tested(values: Scores, significance: float, least: int) -> float:
    """p of the best cut of ``values``."""
    scores = _scores(values)
    edges = _from_the_first(scores, least)
    best, _, _ = _furthest(scores[None, :], edges, least, steps_only=True)
    return _p(scores, float(best[0]), edges, least, significance, steps_only=True)


def _from_the_first(scores: Scores, least: int) -> NDArray[np.int64]:
    """Edges of runs that begin at the first value: every place far enough from both ends."""
    return np.array([0, *range(least, len(scores) - least + 1)])


def _scores(values: Scores) -> Scores:
    """Normal scores of the ranks, with mean 0; equal values have equal ones."""
    scores = ndtri(rankdata(values) / (len(values) + 1))
    return np.asarray(scores - scores.mean(), dtype=np.float64)


def _edges(length: int, least: int) -> NDArray[np.int64]:
    """Where a run of values may begin and end: at the ends, or far enough from them."""
    step = max(1, math.ceil((length - 2 * least + 1) / _MOST_EDGES))
    return np.array([0, *range(least, length - least + 1, step), length])


def _furthest(
    rows: Scores, edges: NDArray[np.int64], least: int, *, steps_only: bool = False
) -> tuple[Scores, NDArray[np.int64], NDArray[np.int64]]:
    """Of each row, the run of values between two edges that is furthest from the rest, and its edges.

    Args:
        rows: one of scores with mean 0 each.
        steps_only: runs begin at the first edge.
    Returns:
        How far, in standard errors of a row with variance 1; where it begins, and where it ends.
    """
    count, length = rows.shape
    sums = np.concatenate([np.zeros((count, 1)), np.cumsum(rows, axis=1)], axis=1)[:, edges]
    best, first, last = np.zeros(count), np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    for begin in range(1 if steps_only else len(edges) - 1):
        size = edges[begin + 1 :] - edges[begin]
        fits = (size >= least) & (length - size >= least)
        if not fits.any():
            continue
        weights = np.sqrt(length / (size[fits] * (length - size[fits])))
        far = np.abs(sums[:, begin + 1 :][:, fits] - sums[:, begin, None]) * weights
        place = far.argmax(axis=1)
        value = far[np.arange(count), place]
        better = value > best * (1 + 1e-12)
        best = np.where(better, value, best)
        first = np.where(better, edges[begin], first)
        last = np.where(better, edges[begin + 1 :][fits][place], last)
    return best, first, last


def _p(
    scores: Scores, seen: float, edges: NDArray[np.int64], least: int, significance: float,
    *, steps_only: bool = False,
) -> float:  # fmt: skip
    """Share of the permutations that are as far as ``seen``; of fewer where it is surely not significant."""
    draw = np.random.default_rng(_SEED)
    limit = significance * (PERMUTATIONS + 1)
    as_far = done = 0
    while done < PERMUTATIONS and 1 + as_far <= limit:
        count = min(_AT_ONCE, PERMUTATIONS - done)
        rows = draw.permuted(np.broadcast_to(scores, (count, len(scores))), axis=1)
        far, _, _ = _furthest(rows, edges, least, steps_only=steps_only)
        as_far += int((far >= seen * (1 - 1e-12)).sum())  # equal sums are equal, whatever their order
        done += count
    return (1 + as_far) / (1 + done)
