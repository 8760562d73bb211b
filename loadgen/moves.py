"""What happens to connections by plan: arrivals, absences, drops, deafness, by time. Pure and seeded."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from .absences import absences, deafness, drops, pauses, sessions
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


MOVE: Final = np.dtype([("due_ns", "<i8"), ("client", "<u4"), ("move", "u1")])
Moves = npt.NDArray[np.void]


def moves(workload: Workload, seed: int) -> Moves:
    """Every move of every client: a ``MOVE`` array in order of time, and of ``Move`` at one time."""
    away, deaf, paused = (draw(workload, seed) for draw in (absences, deafness, pauses))
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
    ]
    whole = np.concatenate(parts)
    return whole[np.argsort(whole["due_ns"], kind="stable")]


def _table(due_ns: npt.NDArray[np.int64], client: npt.NDArray[np.uint32], move: Move) -> Moves:
    table = np.empty(len(due_ns), MOVE)
    table["due_ns"], table["client"], table["move"] = due_ns, client, move
    return table
