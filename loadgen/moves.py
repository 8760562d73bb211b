"""What happens to connections by plan: arrivals, absences, drops, deafness, by time. Pure and seeded."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .absences import absences, deafness, drops, pauses, sessions
from .personas import members, personas_of
from .section import SECOND_NS
from .workload import Workload


class Move(IntEnum):
    """What a client's connection does."""

    ARRIVE = 0  # for the first time, or back from an absence
    LEAVE = 1  # on purpose, with a close frame
    DROP = 2  # without a word
    DEAFEN = 3  # the socket stays open; nothing is read, answered or sent
    HEAR = 4  # it reads on
    UNSUBSCRIBE = 5  # from all channels, the connection stays
    SUBSCRIBE = 6  # to them again
    CATCH_UP = 7  # a slow reader reads as fast as it can, so that it can be judged by what it is owed


MOVE: Final = np.dtype([("due_ns", "<i8"), ("client", "<u4"), ("move", "u1")])
Moves = npt.NDArray[np.void]


def moves(workload: Workload, seed: int) -> Moves:
    """Every move of every client: a ``MOVE`` array in order of time, and of ``Move`` at one time."""
    away, deaf, paused = (draw(workload, seed) for draw in (absences, deafness, pauses))
    slow = slow_readers(workload, seed)
    arrived, dropped = sessions(workload, seed), drops(workload, seed)
    parts = [
        _table(arrived["due_ns"], arrived["client"], Move.ARRIVE),
        _table(away["end_ns"], away["client"], Move.ARRIVE),
        _table(away["begin_ns"], away["client"], Move.LEAVE),
        _table(dropped["due_ns"], dropped["client"], Move.DROP),
        _table(deaf["begin_ns"], deaf["client"], Move.DEAFEN),
        _table(deaf["end_ns"], deaf["client"], Move.HEAR),
        _table(paused["begin_ns"], paused["client"], Move.UNSUBSCRIBE),
        _table(paused["end_ns"], paused["client"], Move.SUBSCRIBE),
        _table(np.full(len(slow), round(workload.duration_s * SECOND_NS)), slow, Move.CATCH_UP),
    ]
    whole = np.concatenate(parts)
    return whole[np.argsort(whole["due_ns"], kind="stable")]


def slow_readers(workload: Workload, seed: int) -> npt.NDArray[np.int64]:
    """Ordinals of the clients that read slowly."""
    groups = [
        members(workload, seed, index)
        for index, persona in enumerate(personas_of(workload))
        if persona.read_per_s is not None
    ]
    return np.concatenate([np.empty(0, np.int64), *groups])


def _table(due_ns: npt.NDArray[np.int64], client: npt.NDArray[Any], move: Move) -> Moves:
    table = np.empty(len(due_ns), MOVE)
    table["due_ns"], table["client"], table["move"] = due_ns, client, move
    return table
