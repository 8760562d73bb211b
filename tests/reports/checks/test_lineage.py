"""Which places are the same place."""

from __future__ import annotations

import numpy as np
import pytest

from reports.checks.facts import Sends
from reports.checks.lineage import Lineage
from reports.checks.part import Records, split
from reports.checks.shards import in_channels
from reports.history import Kind
from tests.builders import Story

# Channel 1: E1, then E2 after 10, then E3 after 20; a branch E4 off E1 after 5. Channel 2: E1 alone.
LINES = Lineage({(1, 2): (1, 10), (1, 3): (2, 20), (1, 4): (1, 5)})


@pytest.mark.parametrize(
    ("channel", "epoch", "serial", "canonical"),
    [
        pytest.param(1, 1, 50, 1, id="a root"),
        pytest.param(1, 2, 10, 1, id="at the fork"),
        pytest.param(1, 2, 11, 2, id="after the fork"),
        pytest.param(1, 3, 10, 1, id="two forks up"),
        pytest.param(1, 3, 20, 2, id="one fork up"),
        pytest.param(1, 3, 21, 3, id="after the last fork"),
        pytest.param(1, 4, 5, 1, id="a branch, shared"),
        pytest.param(1, 4, 6, 4, id="a branch, its own"),
        pytest.param(2, 2, 5, 2, id="another channel"),
        pytest.param(1, 9, 5, 9, id="an unknown epoch"),
    ],
)
def test_canonical_epochs(channel: int, epoch: int, serial: int, canonical: int) -> None:
    assert LINES.epoch(channel, epoch, serial) == canonical
    many = LINES.epochs(*(np.array([value, value]) for value in (channel, epoch, serial)))
    assert many.tolist() == [canonical, canonical]


@pytest.mark.parametrize(
    ("epoch", "first", "last", "pieces"),
    [
        pytest.param(1, 1, 50, [(1, 1, 50)], id="a root"),
        pytest.param(3, 5, 30, [(1, 5, 10), (2, 11, 20), (3, 21, 30)], id="across both forks"),
        pytest.param(3, 10, 20, [(1, 10, 10), (2, 11, 20)], id="from fork to fork"),
        pytest.param(3, 11, 20, [(2, 11, 20)], id="between"),
        pytest.param(2, 10, 10, [(1, 10, 10)], id="one serial"),
    ],
)
def test_ranges_are_cut_at_forks(
    epoch: int, first: int, last: int, pieces: list[tuple[int, int, int]]
) -> None:
    assert LINES.pieces(1, epoch, first, last) == pieces


@pytest.mark.parametrize(
    ("older", "newer", "after", "goes_on"),
    [
        pytest.param(1, 1, 99, True, id="the same"),
        pytest.param(1, 2, 10, True, id="nothing lost"),
        pytest.param(1, 2, 11, False, id="one lost"),
        pytest.param(1, 3, 10, True, id="over two forks"),
        pytest.param(2, 3, 20, True, id="the second alone"),
        pytest.param(2, 1, 5, False, id="backwards"),
        pytest.param(4, 2, 5, False, id="between branches"),
    ],
)
def test_an_epoch_goes_on_from_another(older: int, newer: int, after: int, goes_on: bool) -> None:
    assert LINES.goes_on(1, older, newer, after) is goes_on


def epochs_of(story: Story) -> Records:
    nothing = Sends(message=np.empty(0, np.int64), channel=np.empty(0, np.int64), resent_elsewhere=0)
    return split(in_channels(story.history(), nothing, 0, 9))


def test_the_lowest_of_disagreeing_forks_counts() -> None:
    story = Story()
    story.epoch(1, 2, parent=1, fork=10)
    story.epoch(2, 2, parent=1, fork=7)
    story.epoch(3, 2, parent=1, fork=9)
    lineage = Lineage.of(epochs_of(story).epochs)
    assert (lineage.epoch(1, 2, 7), lineage.epoch(1, 2, 8)) == (1, 2)
    assert lineage.conflicts == 2


def test_circles_are_broken_and_counted() -> None:
    story = Story()
    story.epoch(1, 2, parent=1, fork=10)
    story.epoch(1, 1, parent=2, fork=10)
    story.epoch(1, 3, parent=3, fork=10)
    lineage = Lineage.of(epochs_of(story).epochs)
    assert lineage.conflicts == 2
    assert lineage.epoch(1, 3, 5) == 3
    assert {lineage.epoch(1, 1, 5), lineage.epoch(1, 2, 5)} in ({1}, {2})


def test_a_fresh_life_has_no_parent() -> None:
    story = Story()
    story.epoch(1, 2)
    assert Lineage.of(epochs_of(story).epochs).epoch(1, 2, 1) == 2
    assert story.logs[1][0][8] == Kind.EPOCH
