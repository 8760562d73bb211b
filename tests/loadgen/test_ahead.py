"""Drawing ahead: the same items in the same order, and an error where it is asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from loadgen.ahead import Ahead


def test_the_items_come_in_order_and_end() -> None:
    assert list(Ahead(iter(range(50)))) == list(range(50))
    assert list(Ahead(iter(()))) == []


def test_the_next_item_is_drawn_before_it_is_asked_for() -> None:
    drawn = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        drawn.set()
        yield 2

    ahead = Ahead(items())
    assert next(ahead) == 1
    assert drawn.wait(10)
    assert next(ahead) == 2
    ahead.close()


def test_what_drawing_raises_is_raised_to_the_reader() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    ahead = Ahead(items())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="no more"):
        next(ahead)
    ahead.close()
