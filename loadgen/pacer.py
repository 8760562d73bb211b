"""When to do what: walks the schedule of one worker and never skips.

Pure but for its callbacks: the caller says what time it is. Whatever is due by then is
done, however late, with its scheduled time kept, so a worker that fell behind shows
up as lag and in latency instead of as missing load. One that fell far behind catches up in runs of
``RUN_NS``: between them its owner reads, or every answer would seem to have come when the last run ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from .moves import Move, Moves
from .schedule import PUBLISH, SECOND_NS, Block, Publishes

RUN_NS: Final = 2_000_000  # after it, a run gives way even when it is behind
_NEVER: Final = 2**63 - 1
_PART: Final = 512
_NOTHING: Final = np.empty(0, PUBLISH)


class Pacer:
    """One worker's moves, publishes and other actions, in order of their due times.

    Args:
        moves: ``MOVE`` array, sorted by time.
        blocks: one for each second; drawn as they are needed.
        move: called with a client and what its connection does.
        publish: called with (client, channel, pub_seq, scheduled time) of a publish.
        react: the same for a reaction.
        act: called with (client, channel, action) of what leaves nothing in the log.
        now_ns: CLOCK_MONOTONIC; read for everything done, to know how late it is and how long the run is.
    """

    def __init__(
        self,
        *,
        moves: Moves,
        blocks: Iterator[Block],
        move: Callable[[int, Move], None],
        publish: Callable[[int, int, int, int], None],
        react: Callable[[int, int, int, int], None],
        act: Callable[[int, int, int], None],
        now_ns: Callable[[], int],
    ) -> None:
        self._move, self._publish, self._now_ns = move, publish, now_ns
        self._react, self._act = react, act
        self._t0_ns = 0
        self._moves: list[tuple[int, int, int]] = moves.tolist()
        self._next_move = 0
        self._blocks = blocks
        self._second = -1  # of the block at hand
        self._rows = np.empty(0, PUBLISH)  # all of it
        self._taken = 0  # rows of it that are, or were, the part at hand
        self._part: list[tuple[int, int, int, int, int]] = []  # due, client, channel, pub_seq, action
        self._next_publish = 0  # in the part
        self._done = False
        self.scheduled = 0  # publishes that fell due, reactions among them
        self.lags_ns: list[int] = []  # how late each was handed over; the owner folds and clears it

    def start(self, t0_ns: int) -> None:
        """The schedule's offsets count from ``t0_ns``."""
        self._t0_ns = t0_ns
        self._next_block()

    def run(self, now_ns: int) -> int | None:
        """Do what is due, for ``RUN_NS`` or a little longer; returns when to come back.

        That is ``now_ns`` or earlier when the time was too short, and None when nothing is left.
        """
        offset_ns, until_ns = now_ns - self._t0_ns, now_ns + RUN_NS
        moves, done = self._moves, True
        while done and self._next_move < len(moves) and moves[self._next_move][0] <= offset_ns:
            due_ns, client, move = moves[self._next_move]
            # A move says what is due by then, however late it is. Who arrives has nothing due before.
            if move != Move.ARRIVE and not self._run_publishes(due_ns - 1, until_ns):
                done = False
                break
            self._next_move += 1
            self._move(client, Move(move))
            done = self._now_ns() < until_ns
        if done:
            self._run_publishes(offset_ns, until_ns)
        due_ns = min(self._move_ns(), self._publish_ns())
        return None if due_ns == _NEVER else self._t0_ns + due_ns

    def _run_publishes(self, offset_ns: int, until_ns: int) -> bool:
        """Do what is due by an offset. False: the time was over before that."""
        while not self._done:
            intime = self._run_part(offset_ns, until_ns)
            if self._next_publish < len(self._part):
                return intime
            if self._taken < len(self._rows):
                self._next_part()
            # Drawn a little ahead, when there is nothing else to do: the first publish of a second is not
            # made late by its own second's draw.
            elif (self._second + 1) * SECOND_NS - offset_ns > SECOND_NS // 2 and self._second >= 0:
                return intime
            else:
                self._next_block()
            if not intime:
                return False
        return True

    def _run_part(self, offset_ns: int, until_ns: int) -> bool:
        """Do what of the part at hand is due by an offset. False: the time was over first."""
        t0_ns, part, index, acts = self._t0_ns, self._part, self._next_publish, 0
        clock, publish, late = self._now_ns, self._publish, self.lags_ns.append
        intime, end = True, len(part)
        while intime and index < end:
            due_ns, client, channel, pub_seq, action = part[index]
            if due_ns > offset_ns:
                break
            index += 1
            scheduled_ns, now_ns = t0_ns + due_ns, clock()
            intime = now_ns < until_ns
            if not pub_seq:
                acts += 1
                self._act(client, channel, action)
                continue
            late(now_ns - scheduled_ns)
            if action:
                self._react(client, channel, pub_seq, scheduled_ns)
            else:
                publish(client, channel, pub_seq, scheduled_ns)
        self.scheduled += index - self._next_publish - acts
        self._next_publish = index
        return intime

    def _next_block(self) -> None:
        block = next(self._blocks, None)
        self._done = block is None
        self._rows, self._taken = _NOTHING if block is None else _merged(block), 0
        self._second += 1
        self._next_part()

    def _next_part(self) -> None:
        """Some rows as Python's own numbers. All at once would take 20 ms where there are many."""
        part = self._rows[self._taken : self._taken + _PART]
        self._taken += len(part)
        # By columns, which is three times as fast as row by row.
        columns = [part[name].tolist() for name in ("due_ns", "client", "channel", "pub_seq", "action")]
        self._part, self._next_publish = list(zip(*columns, strict=True)), 0

    def _move_ns(self) -> int:
        return self._moves[self._next_move][0] if self._next_move < len(self._moves) else _NEVER

    def _publish_ns(self) -> int:
        if self._done:
            return _NEVER
        if self._next_publish < len(self._part):
            return self._part[self._next_publish][0]
        return (self._second + 1) * SECOND_NS - SECOND_NS // 2


def _merged(block: Block) -> Publishes:
    """All of a block by time, as ``PUBLISH`` rows; pub_seq 0: nothing in the log."""
    if not len(block.acts):
        return block.publishes
    acts = np.zeros(len(block.acts), PUBLISH)
    for name in ("due_ns", "client", "channel", "action"):
        acts[name] = block.acts[name]
    rows = np.concatenate([block.publishes, acts])
    return rows[np.argsort(rows["due_ns"], kind="stable")]
