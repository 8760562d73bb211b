"""The pacer: everything that is due, in order, however late, and never twice."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loadgen.actions import Action
from loadgen.moves import MOVE, Move
from loadgen.pacer import RUN_NS, Pacer
from loadgen.schedule import ACT, PUBLISH, SECOND_NS, Block

T0 = 1_000 * SECOND_NS


class Run:
    """A pacer with a clock that moves when told, and by ``takes_ns`` for whatever is done."""

    def __init__(
        self,
        sessions: list[tuple[int, int]],
        publishes: list[tuple[int, int, int, int]],
        *,
        moves: list[tuple[int, int, Move]] | None = None,
        acts: list[tuple[int, int, int, Action]] | None = None,
        reactions: list[tuple[int, int, int, int]] | None = None,
        takes_ns: int = 0,
    ) -> None:
        self.now_ns, self.takes_ns = T0, takes_ns
        self.did: list[Any] = []
        self.drawn = 0
        said = [(*row, Action.PUBLISH) for row in publishes]
        said = sorted(said + [(*row, Action.REACTION) for row in reactions or []])
        seconds = range(1 + max([row[0] for row in said], default=0) // SECOND_NS)
        blocks = [
            Block(
                np.array([row for row in said if row[0] // SECOND_NS == second], PUBLISH),
                np.array([row for row in acts or [] if row[0] // SECOND_NS == second], ACT),
                0,
            )
            for second in seconds
        ]
        arrivals = [(*session, Move.ARRIVE) for session in sessions]

        def draw() -> Any:
            for block in blocks:
                self.drawn += 1
                yield block

        self.pacer = Pacer(
            moves=np.array(sorted(arrivals + (moves or [])), MOVE),
            blocks=draw(),
            move=lambda client, move: self.do(client if move is Move.ARRIVE else (client, move.name)),
            publish=lambda *publish: self.do(publish),
            react=lambda *publish: self.do(("reaction", *publish)),
            act=lambda client, channel, action: self.do((client, channel, Action(action).name)),
            now_ns=lambda: self.now_ns,
        )
        self.pacer.start(T0)

    def do(self, what: Any) -> None:
        self.did.append(what)
        self.now_ns += self.takes_ns

    def at(self, offset_ns: int) -> int | None:
        self.now_ns = T0 + offset_ns
        due_ns = self.pacer.run(self.now_ns)
        return None if due_ns is None else due_ns - T0


def test_it_does_what_is_due_and_says_when_to_come_back() -> None:
    run = Run([(100, 1), (300, 2)], [(200, 1, 9, 1), (400, 2, 8, 1)])
    assert run.at(0) == 100
    assert run.at(250) == 300
    assert run.did == [1, (1, 9, 1, T0 + 200)]
    assert run.at(400) is None or run.did[-1] == (2, 8, 1, T0 + 400)
    assert run.did == [1, (1, 9, 1, T0 + 200), 2, (2, 8, 1, T0 + 400)]


def test_nothing_is_skipped_when_it_comes_late_and_the_lag_says_how_late() -> None:
    publishes = [(n * SECOND_NS // 4, 1, 1, n + 1) for n in range(20)]
    run = Run([(0, 1)], publishes)
    assert run.at(60 * SECOND_NS) is None
    assert [publish[2] for publish in run.did[1:]] == list(range(1, 21))
    assert run.pacer.scheduled == 20
    assert run.pacer.lags_ns == [60 * SECOND_NS - due for due, *_ in publishes]


def test_a_second_is_drawn_before_it_begins_and_not_long_before() -> None:
    run = Run([], [(n * SECOND_NS, 1, 1, n + 1) for n in range(5)])
    assert run.at(0) == SECOND_NS // 2
    assert run.drawn == 1
    assert run.at(SECOND_NS // 2) == SECOND_NS
    assert run.drawn == 2


@given(
    due=st.lists(st.integers(0, 6 * SECOND_NS), max_size=40).map(sorted),
    steps=st.lists(st.integers(0, SECOND_NS), max_size=40),
)
def test_however_it_is_woken_each_publish_is_done_once_in_order_and_never_early(
    due: list[int], steps: list[int]
) -> None:
    run = Run([], [(ns, 1, 1, n + 1) for n, ns in enumerate(due)])
    offset = 0
    for step in [*steps, 7 * SECOND_NS]:
        offset += step
        before = len(run.did)
        run.at(offset)
        assert all(publish[3] - T0 <= offset for publish in run.did[before:])
    assert [publish[2] for publish in run.did] == list(range(1, len(due) + 1))


@given(due=st.lists(st.integers(0, 6 * SECOND_NS), max_size=40).map(sorted))
def test_coming_back_when_it_says_is_enough(due: list[int]) -> None:
    run = Run([], [(ns, 1, 1, n + 1) for n, ns in enumerate(due)])
    offset: int | None = 0
    wakes = 0
    while offset is not None:
        offset = run.at(offset)
        wakes += 1
    assert len(run.did) == len(due)
    assert all(lag == 0 for lag in run.pacer.lags_ns)
    assert wakes <= len(due) + 10


def test_a_client_leaves_after_what_it_said_before_and_comes_back_however_late_the_pacer_is() -> None:
    said = [(200, 1, 9, 1), (300, 2, 8, 1), (800, 1, 9, 2)]
    run = Run([(0, 1)], said, moves=[(300, 1, Move.LEAVE), (700, 1, Move.ARRIVE)])
    run.at(1_000)
    assert run.did == [
        1,
        (1, 9, 1, T0 + 200),
        (1, "LEAVE"),
        1,
        (2, 8, 1, T0 + 300),
        (1, 9, 2, T0 + 800),
    ]


def test_it_says_when_a_leaving_or_a_return_is_due() -> None:
    run = Run([(0, 1)], [], moves=[(300, 1, Move.LEAVE), (700, 1, Move.ARRIVE)])
    assert run.at(0) == 300
    assert run.at(300) == 700
    assert run.did == [1, (1, "LEAVE")]


def test_what_leaves_nothing_in_the_log_is_done_at_its_time_and_is_no_publish() -> None:
    run = Run(
        [(0, 1)],
        [(200, 1, 9, 1), (600, 1, 9, 3)],
        reactions=[(400, 1, 9, 2)],
        acts=[(100, 1, 8, Action.TYPING), (500, 1, 9, Action.RECEIPT)],
    )
    run.at(1_000)
    assert run.did == [
        1,
        (1, 8, "TYPING"),
        (1, 9, 1, T0 + 200),
        ("reaction", 1, 9, 2, T0 + 400),
        (1, 9, "RECEIPT"),
        (1, 9, 3, T0 + 600),
    ]
    assert run.pacer.scheduled == len(run.pacer.lags_ns) == 3


def test_a_run_that_is_behind_gives_way_and_asks_to_come_back_at_once() -> None:
    each_ns = RUN_NS // 10
    run = Run([(0, 1)], [(n, 1, 9, n + 1) for n in range(25)], takes_ns=each_ns)
    began = SECOND_NS
    runs = []
    offset_ns: int | None = began
    while offset_ns is not None:
        before = len(run.did)
        came_ns = run.now_ns - T0 if runs else began
        offset_ns = run.at(came_ns)
        assert offset_ns is None or offset_ns <= came_ns
        runs.append(len(run.did) - before)
    assert runs == [11, 11, 4]
    assert [publish[2] for publish in run.did[1:]] == list(range(1, 26))
    assert run.pacer.lags_ns == [began - n + each_ns * (n + 1) for n in range(25)]


def test_a_session_leaves_only_when_all_that_it_said_before_was_said_in_however_many_runs() -> None:
    run = Run(
        [(0, 1)],
        [(n, 1, 9, n + 1) for n in range(8)],
        moves=[(5, 1, Move.LEAVE), (6, 1, Move.ARRIVE)],
        takes_ns=RUN_NS,
    )
    for _ in range(20):
        run.at(run.now_ns - T0 + 1_000)
    said = [(1, 9, n + 1, T0 + n) for n in range(8)]
    assert run.did == [1, *said[:5], (1, "LEAVE"), 1, *said[5:]]


def test_arrivals_and_what_leaves_nothing_in_the_log_count_for_the_length_of_a_run() -> None:
    arrivals = Run([(n, 1 + n) for n in range(25)], [], takes_ns=RUN_NS // 10)
    arrivals.at(SECOND_NS)
    assert arrivals.did == list(range(1, 11))
    acts = Run([], [], acts=[(n, 1, 9, Action.TYPING) for n in range(25)], takes_ns=RUN_NS // 10)
    acts.at(SECOND_NS)
    assert acts.did == [(1, 9, "TYPING")] * 11
    assert acts.pacer.scheduled == 0


@given(
    due=st.lists(st.integers(0, 3 * SECOND_NS), max_size=60).map(sorted),
    moves=st.lists(st.integers(0, 3 * SECOND_NS), max_size=20).map(sorted),
    takes_ns=st.integers(0, 2 * RUN_NS),
    away_ns=st.integers(0, SECOND_NS),
)
def test_in_short_runs_the_same_is_done_in_the_same_order(
    due: list[int], moves: list[int], takes_ns: int, away_ns: int
) -> None:
    said = [(ns, 1, 1, n + 1) for n, ns in enumerate(due)]
    moved = [(ns, 1, Move.LEAVE if n % 2 else Move.DROP) for n, ns in enumerate(moves)]
    at_once, in_runs = (Run([], said, moves=moved, takes_ns=takes) for takes in (0, takes_ns))
    at_once.at(9 * SECOND_NS)
    offset_ns: int | None = 0
    while offset_ns is not None:
        offset_ns = in_runs.at(max(offset_ns, in_runs.now_ns - T0) + away_ns)
    assert in_runs.did == at_once.did
    assert in_runs.pacer.scheduled == len(due)
