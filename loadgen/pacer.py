"""When to do what: walks the schedule of one worker and never skips.

Pure but for its callbacks: the caller says what time it is. Whatever is due by then is
done, however late, with its scheduled time kept, so a worker that fell behind shows
up as lag and in latency instead of as missing load.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from .absences import Absences
from .schedule import SECOND_NS, Publishes, Sessions

_NEVER: Final = 2**63 - 1


class Pacer:
    """One worker's sessions and publishes, in order of their due times.

    Args:
        sessions: ``SESSION`` array, sorted by time.
        blocks: ``PUBLISH`` arrays, one for each second; drawn as they are needed.
        absences: ``ABSENCE`` array of the same clients, sorted by begin.
        arrive: called with a client that arrives, or comes back from an absence.
        leave: called with a client that goes away for a while.
        publish: called with (client, channel, pub_seq, scheduled time) of a publish.
        now_ns: CLOCK_MONOTONIC; read once for every publish, to know how late it is.
    """

    def __init__(
        self,
        *,
        sessions: Sessions,
        blocks: Iterator[Publishes],
        arrive: Callable[[int], None],
        publish: Callable[[int, int, int, int], None],
        now_ns: Callable[[], int],
        absences: Absences | None = None,
        leave: Callable[[int], None] | None = None,
    ) -> None:
        self._arrive, self._publish, self._now_ns = arrive, publish, now_ns
        self._leave = leave
        self._t0_ns = 0
        self._moves = _moves(sessions, absences)
        self._next_move = 0
        self._blocks = blocks
        self._second = -1  # of the block at hand
        self._block: list[tuple[int, int, int, int]] = []
        self._next_publish = 0
        self._done = False
        self.scheduled = 0  # publishes that fell due
        self.lags_ns: list[int] = []  # how late each was handed over; the owner folds and clears it

    def start(self, t0_ns: int) -> None:
        """The schedule's offsets count from ``t0_ns``."""
        self._t0_ns = t0_ns
        self._next_block()

    def run(self, now_ns: int) -> int | None:
        """Do everything that is due; returns when to come back, None when nothing is left."""
        offset_ns = now_ns - self._t0_ns
        moves = self._moves
        while self._next_move < len(moves) and moves[self._next_move][0] <= offset_ns:
            due_ns, client, leaves = moves[self._next_move]
            self._next_move += 1
            if not leaves:
                self._arrive(client)
            elif self._leave is not None:
                self._run_publishes(due_ns - 1)  # it says what is due by then, however late it is
                self._leave(client)
        self._run_publishes(offset_ns)
        due_ns = min(self._move_ns(), self._publish_ns())
        return None if due_ns == _NEVER else self._t0_ns + due_ns

    def _run_publishes(self, offset_ns: int) -> None:
        t0_ns = self._t0_ns
        while not self._done:
            block, index = self._block, self._next_publish
            while index < len(block) and block[index][0] <= offset_ns:
                due_ns, client, channel, pub_seq = block[index]
                index += 1
                scheduled_ns = t0_ns + due_ns
                self.lags_ns.append(self._now_ns() - scheduled_ns)
                self._publish(client, channel, pub_seq, scheduled_ns)
            self.scheduled += index - self._next_publish
            self._next_publish = index
            if index < len(block):
                return
            # Drawn a little ahead, when there is nothing else to do: the first publish of a second is not
            # made late by its own second's draw.
            if (self._second + 1) * SECOND_NS - offset_ns > SECOND_NS // 2 and self._second >= 0:
                return
            self._next_block()

    def _next_block(self) -> None:
        block = next(self._blocks, None)
        self._done = block is None
        self._block = [] if block is None else block.tolist()
        self._second += 1
        self._next_publish = 0

    def _move_ns(self) -> int:
        return self._moves[self._next_move][0] if self._next_move < len(self._moves) else _NEVER

    def _publish_ns(self) -> int:
        if self._done:
            return _NEVER
        if self._next_publish < len(self._block):
            return self._block[self._next_publish][0]
        return (self._second + 1) * SECOND_NS - SECOND_NS // 2


def _moves(sessions: Sessions, absences: Absences | None) -> list[tuple[int, int, bool]]:
    """Arrivals, leavings and returns in order of time: (due, client, does it leave)."""
    moves = [(due_ns, client, False) for due_ns, client in sessions.tolist()]
    for begin_ns, end_ns, client in [] if absences is None else absences.tolist():
        moves += [(begin_ns, client, True), (end_ns, client, False)]
    return sorted(moves, key=lambda move: move[0])
