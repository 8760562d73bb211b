"""Random edits of valid histories, each with the classes that it must be found to be.

    edited = EDITS["a delivery is dropped"].apply(simulate(7), random.Random(1))
    edited.predicts  # {"D1"}, or {"D1", "L3"} where that delivery was all that showed an acked message

``apply`` gives None where a history has no place for the edit. What an edit predicts is computed from the
records that it found; ``predicts`` has also what the history shows without it (``Simulated.expected``).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from reports.history import History
from tests.builders import Story

from .draft import Draft
from .edits_delivery import DELIVERY
from .edits_liveness import LIVENESS
from .edits_log import LOG
from .expect import repeated_places
from .simulate import Simulated, simulate

Make = Callable[[Draft], set[str] | None]  # edits a draft; the classes that follow, None: no place for it


@dataclass(frozen=True)
class Edited:
    """An edited history and the classes of which something must be counted, and no other."""

    seed: int
    story: Story
    predicts: frozenset[str]

    def history(self) -> History:
        return self.story.history()


@dataclass(frozen=True)
class Edit:
    """One way to spoil a history."""

    cls: str  # the class that it is made for; always among those predicted
    make: Make

    def apply(self, simulated: Simulated, rng: random.Random) -> Edited | None:
        """The history with one edit at a random place; ``simulated`` stays as it is."""
        if simulated.shared.torn:
            return None
        draft = Draft(simulated, rng)
        found = self.make(draft)
        if found is None or self.cls not in found:
            return None
        before = repeated_places(draft.left()) if simulated.expected else {}
        return Edited(simulated.seed, draft.done(), frozenset(found | before.keys()))

    def examples(self, count: int, *, first: int = 0, most: int = 4000) -> Iterator[Edited]:
        """The first so many histories, by seed, that have a place for it; each edited."""
        for seed in range(first, first + most):
            if count <= 0:
                return
            edited = self.apply(simulate(seed), random.Random(f"edit {seed}"))
            if edited is not None:
                count -= 1
                yield edited


EDITS: dict[str, Edit] = {
    name: Edit(cls, make) for name, (cls, make) in {**LOG, **DELIVERY, **LIVENESS}.items()
}
