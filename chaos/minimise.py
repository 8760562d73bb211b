"""The smallest part of a plan that still fails: delta debugging, with no idea of runs.

Generators: each yields a candidate, is sent whether that still fails, and returns the smallest failing
one that it came to. Whoever drives it may stop at any time, and has the last failing candidate.

    search = ddmin(["a", "b", "c"])
    next(search)                 # a candidate: ("a",)
    search.send(True)            # it fails: go on from there
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

T = TypeVar("T")
Search = Generator[tuple[T, ...], bool, tuple[T, ...]]


def ddmin(items: Sequence[T]) -> Search[T]:
    """Of items that fail together, a part that fails and of which no item can be left out.

    The empty part is asked for first: what fails without any item has nothing to do with them. No
    candidate is asked for twice. For a test that is not monotone the result is still one that failed.

    Source:
        Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (2002), § 3.
    """
    asked: dict[tuple[int, ...], bool] = {}

    def fails(part: Sequence[int]) -> Generator[tuple[T, ...], bool, bool]:
        key = tuple(part)
        if key not in asked:
            asked[key] = yield tuple(items[index] for index in key)
        return asked[key]

    if (yield from fails(())):
        return ()
    kept, pieces = list(range(len(items))), 2
    while len(kept) > 1:
        parts = _split(kept, pieces)
        smaller: list[int] | None = None
        for part in parts:
            if (yield from fails(part)):
                smaller, pieces = part, 2
                break
        if smaller is None and pieces > 2:  # with two pieces, each one's complement is the other
            for part in parts:
                rest = [index for index in kept if index not in part]
                if (yield from fails(rest)):
                    smaller, pieces = rest, max(pieces - 1, 2)
                    break
        if smaller is not None:
            kept = smaller
        elif pieces < len(kept):
            pieces = min(2 * pieces, len(kept))
        else:
            break
    return tuple(items[index] for index in kept)


def _split(indices: Sequence[int], pieces: int) -> list[list[int]]:
    """As many parts as asked for, in order, their lengths at most one apart."""
    edges = [round(number * len(indices) / pieces) for number in range(pieces + 1)]
    return [list(indices[a:b]) for a, b in pairwise(edges) if a < b]


def shorten(items: Sequence[T], shorter: Callable[[T], T | None]) -> Search[T]:
    """Items that fail together, each made shorter while all together still fail.

    Args:
        shorter: the next shorter form of an item; None: it cannot be shorter.
    """
    kept = list(items)
    for number in range(len(kept)):
        while (candidate := shorter(kept[number])) is not None:
            changed = [*kept[:number], candidate, *kept[number + 1 :]]
            if not (yield tuple(changed)):
                break
            kept = changed
    return tuple(kept)


@dataclass(slots=True)
class Found(Generic[T]):
    """What a driven search came to. ``whole``: it came to its end, so the result is minimal."""

    smallest: tuple[T, ...]
    whole: bool
    asked: int


def drive(search: Search[T], start: Sequence[T], fails: Callable[[tuple[T, ...]], bool | None]) -> Found[T]:
    """Answer a search's questions until it ends, or ``fails`` answers None: no more can be asked."""
    found = Found(tuple(start), whole=False, asked=0)
    try:
        candidate = next(search)
        while (answer := fails(candidate)) is not None:
            found.asked += 1
            if answer:
                found.smallest = candidate
            candidate = search.send(answer)
    except StopIteration as end:
        found.smallest, found.whole = end.value, True
    return found
