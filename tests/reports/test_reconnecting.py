"""Coming back: the busiest second of dials, and positions from which nobody may go on."""

from __future__ import annotations

import pytest

from reports.history import Flag, Kind
from reports.latency import Selection, SelectionError
from reports.reconnecting import dials_per_client, refused_resumes
from tests.reports.synthetic import T0, S, Synthetic, in_memory


def bare() -> Synthetic:
    """Two seconds of warm-up, eight of load; nobody has done anything yet."""
    return Synthetic(clients=4, channels=2, bare=True, personas={"calm": [1, 2], "wild": [3, 4]})


def dial(made: Synthetic, client: int, at_s: float, *, status: int = 101) -> None:
    made.add(Kind.CONN, at_s + 0.2, client=client, t2=T0 + round(at_s * S), serial=status)


def test_the_busiest_second_begins_at_any_dial() -> None:
    made = bare()
    for client, at_s in ((1, 3.0), (3, 3.6), (4, 3.9), (3, 4.5), (4, 4.599), (2, 4.6)):
        dial(made, client, at_s)
    assert dials_per_client(in_memory(made)) == pytest.approx(4 / 4)  # those from 3.6 to before 4.6


def test_a_dial_in_vain_counts_and_a_second_has_no_end_of_its_own() -> None:
    made = bare()
    for at_s in (3.0, 3.5, 4.0):
        dial(made, 3, at_s, status=65_536 + 111)
    assert dials_per_client(in_memory(made), Selection(persona="wild")) == pytest.approx(2 / 2)


def test_dials_are_those_of_the_persona_and_the_phase() -> None:
    made = bare()
    for at_s in (0.1, 0.2, 0.3):
        dial(made, 1, at_s)
    dial(made, 1, 5.0)
    dial(made, 3, 5.1)
    history = in_memory(made)
    assert dials_per_client(history) == pytest.approx(2 / 4)
    assert dials_per_client(history, Selection(persona="calm")) == pytest.approx(1 / 2)
    assert dials_per_client(history, Selection(persona="calm", phase="warm-up")) == pytest.approx(3 / 2)
    assert dials_per_client(history, Selection(persona="wild", phase="warm-up")) is None
    with pytest.raises(SelectionError, match="is 'ghost'"):
        dials_per_client(history, Selection(persona="ghost"))


def test_the_run_itself_dials_for_nobody() -> None:
    made = bare()
    made.add(Kind.CONN, 3.0, worker=0, serial=101, t2=T0 + 3 * S)
    assert dials_per_client(in_memory(made)) is None


def subscribe(made: Synthetic, client: int, at_s: float, *, epoch: int, flags: int = 0) -> None:
    where = {"client": client, "channel": 1, "epoch": 1}
    made.add(Kind.SUB, at_s, t2=T0 + round(at_s * S), publisher=epoch, pub_seq=7, flags=flags, **where)


def test_only_who_asked_to_go_on_can_be_refused() -> None:
    made = bare()
    subscribe(made, 1, 0.5, epoch=0)
    assert refused_resumes(in_memory(made)) is None


def test_the_share_that_did_not_go_on_is_of_those_who_asked() -> None:
    made = bare()
    for client in (1, 2, 3):
        subscribe(made, client, 4.0, epoch=1, flags=Flag.RESUMED)
    subscribe(made, 4, 4.0, epoch=1)
    subscribe(made, 4, 0.5, epoch=0)
    history = in_memory(made)
    assert refused_resumes(history) == pytest.approx(1 / 4)
    assert refused_resumes(history, Selection(persona="wild")) == pytest.approx(1 / 2)
    assert refused_resumes(history, Selection(persona="calm")) == 0
