"""The mutant `gap-off-by-one`: a part that stands in for ``Joins``. See ``mutants``.

Apart from the others because ``mutants`` is read by the configuration, which the sockets of ``Joins`` read.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from msgspec import structs

from .connection import Connection
from .effects import Send, Subscription
from .hub import Channel, Hub
from .joins import Joins, Spawn
from .mutants import Mutant
from .protocol.messages import encode
from .store.base import Store


class ShortGaps(Joins):
    """Leaves the last missing message out of the notice of a gap; delivery goes on where it should."""

    def __init__(
        self,
        store: Store,
        hub: Hub,
        spawn: Spawn,
        caught_up: Callable[[Connection], None],
        mutant: Mutant,
    ) -> None:
        super().__init__(store, hub, spawn, caught_up)
        self._rng = random.Random(mutant.seed)
        self._probability = mutant.probability

    def _answer(self, connection: Connection, channel: Channel, subscription: Subscription) -> None:
        _, answer = connection.session.subscribed(subscription, channel.head)
        if answer.gap is not None and self._rng.random() < self._probability:
            epoch, serial = answer.gap.to
            short = structs.replace(answer.gap, to=(epoch, max(0, serial - 1)))
            answer = structs.replace(answer, gap=short)
        connection.apply([Send(encode(answer))])


def make_joins(
    store: Store, hub: Hub, spawn: Spawn, caught_up: Callable[[Connection], None], mutant: Mutant | None
) -> Joins:
    if mutant is not None and mutant.name == "gap-off-by-one":
        return ShortGaps(store, hub, spawn, caught_up, mutant)
    return Joins(store, hub, spawn, caught_up)
