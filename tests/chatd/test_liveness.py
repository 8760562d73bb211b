"""Pings on the timing wheel, with time moved by hand."""

from __future__ import annotations

import pytest

from tests.chatd.pipes import Model, run_model

PING_S, PONG_S = 25.0, 8.0


def turn(model: Model, now: float) -> None:
    """What the server's task does at each step of the wheel."""
    for connection in model.server.wheel.expire(now):
        connection.on_time(now)


def pings(sent: bytes) -> int:
    return sent.count(b"\x81\x02{}")


def test_first_pings_are_spread_over_the_whole_interval_and_later_ones_keep_their_distance() -> None:
    async def scenario(model: Model) -> None:
        began = model.server.clock()
        pipes = [model.pipe(endless=True) for _ in range(1000)]
        came: list[float] = []  # they connect in real time; from here on it is moved by hand
        for pipe in pipes:
            pipe.ask(0, "connect")
            came.append(model.server.clock())
        pinged: list[list[float]] = [[] for _ in pipes]  # since it connected
        step_s = 0.25
        for step in range(1, round((came[-1] - began + 2.2 * PING_S) / step_s)):
            now = began + step * step_s
            turn(model, now)
            model.server.flusher.flush()
            for number, pipe in enumerate(pipes):
                if pings(pipe.sent) > len(pinged[number]):
                    pinged[number].append(now - came[number])
                    pipe.peer.session.receive(b"{}", now)
        first, second = [each[0] for each in pinged], [each[1] for each in pinged]
        tenths = [sum(n * PING_S / 10 < at <= (n + 1) * PING_S / 10 for at in first) for n in range(10)]
        assert all(60 < count < 140 for count in tenths), tenths
        assert max(first) <= PING_S + 2 * step_s
        assert all(abs(b - a - PING_S) <= 2 * step_s for a, b in zip(first, second, strict=True))
        assert not any(pipe.peer.gone for pipe in pipes)

    run_model(scenario, ping_s=PING_S, pong_s=PONG_S)


@pytest.mark.parametrize(("answers", "code"), [(True, None), (False, 4004)], ids=["answered", "not answered"])
def test_who_does_not_answer_a_ping_is_closed_with_4004_in_time(answers, code) -> None:
    async def scenario(model: Model) -> None:
        began = model.server.clock()
        pipe = model.pipe(endless=True)
        pipe.ask(0, "connect")
        pinged = closed = None
        for step in range(1, 400):
            now = began + step * 0.25
            turn(model, now)
            model.server.flusher.flush()
            if pinged is None and pings(pipe.sent):
                pinged = now
                if answers:
                    pipe.peer.received(b"{}")
            if closed is None and pipe.peer.gone:
                closed = now
            if pinged is not None and now > pinged + PONG_S + 1:
                break
        assert pinged is not None
        if code is None:
            assert closed is None
        else:
            assert closed is not None
            assert PONG_S <= closed - pinged <= PONG_S + 0.5
            assert list(model.server.metrics.closed) == [code]
            turn(model, closed + 10)
            assert pipe.aborted, "nor did it answer the close"

    run_model(scenario, ping_s=PING_S, pong_s=PONG_S)
