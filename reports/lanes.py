"""Faults as lanes: when each was planned, applied and reverted, a lane a fault.

A plan of more than MOST_LANES faults has a lane for each kind and target, with a mark a fault; of more
lanes than that, those with the fewest faults share the last. No plan has more than some MOST_MARKS marks:
those next to each other become one that says how many it stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Final

from reports import wording
from reports.effects import FaultEffect
from reports.grids import Lane, Mark

MOST_LANES: Final = 20
MOST_MARKS: Final = 240


def lanes(faults: Sequence[FaultEffect], numbers: Mapping[str, str]) -> tuple[Lane, ...]:
    """The lanes of a plan, in the order in which their first faults were planned.

    Args:
        numbers: of the faults' bands in the charts, by id.
    """
    if len(faults) <= MOST_LANES:
        return tuple(_own(fault, numbers.get(fault.id, "")) for fault in faults)
    groups = _grouped(faults, lambda fault: f"{fault.kind} · {fault.target}")
    if len(groups) > MOST_LANES:
        shown = sorted(groups, key=lambda name: -len(groups[name]))[: MOST_LANES - 1]
        others = f"{len(groups) - len(shown)} other kinds and targets"
        groups = _grouped(faults, lambda f: name if (name := f"{f.kind} · {f.target}") in shown else others)
    each = MOST_MARKS // len(groups)
    return tuple(_shared(name, own, each) for name, own in groups.items())


def _grouped(
    faults: Sequence[FaultEffect], name: Callable[[FaultEffect], str]
) -> dict[str, list[FaultEffect]]:
    groups: dict[str, list[FaultEffect]] = {}
    for fault in faults:
        groups.setdefault(name(fault), []).append(fault)
    return groups


def skew_ms(fault: FaultEffect) -> float | None:
    """How much later than planned it was applied."""
    if fault.planned_s is None or fault.applied_s is None:
        return None
    return (fault.applied_s - fault.planned_s) * 1000


def _own(fault: FaultEffect, number: str) -> Lane:
    return Lane(
        f"{fault.id} · {fault.kind} · {fault.target}", (_mark(fault),), "; ".join(_course(fault)), number
    )


def _shared(name: str, faults: Sequence[FaultEffect], most: int) -> Lane:
    late = [skew for fault in faults if (skew := skew_ms(fault)) is not None]
    told = [wording.plural(len(faults), "fault")]
    if unapplied := sum(fault.applied_s is None for fault in faults):
        told.append(f"{unapplied} never applied")
    if late:
        told.append(f"at most {_late(max(late))}")
    return Lane(name, _merged([_mark(fault) for fault in faults], most), ", ".join(told))


def _mark(fault: FaultEffect) -> Mark:
    told = f"{fault.id} ({fault.kind}, {fault.target}): {', '.join(_course(fault, exact=True))}"
    return Mark(fault.planned_s, fault.applied_s, fault.reverted_s, told)


def _course(fault: FaultEffect, *, exact: bool = False) -> list[str]:
    """What became of it, in clauses. ``exact``: with the times."""

    def at(what: str, t: float | None) -> list[str]:
        return [f"{what} {t:,.2f}{wording.NBSP}s"] if exact and t is not None else []

    planned = at("planned at", fault.planned_s)
    if fault.applied_s is None:
        return [*planned, "never applied"]
    skew = skew_ms(fault)
    late = [] if skew is None else [_late(skew)]
    if fault.reverted_s is None:
        return [*planned, *at("applied at", fault.applied_s), *late, "never reverted"]
    lasted = f"{wording.span_s(fault.reverted_s - fault.applied_s)} in force"
    return [*planned, *at("applied at", fault.applied_s), *late, *at("reverted at", fault.reverted_s), lasted]


def _late(skew: float) -> str:
    return f"{wording.ms(abs(skew))} {'early' if skew < 0 else 'late'}"


def _merged(marks: Sequence[Mark], most: int) -> tuple[Mark, ...]:
    """At most ``most`` marks, in order of time; those with the least time between them are one."""
    placed = sorted(marks, key=_reach)
    gaps = [_reach(b)[0] - _reach(a)[1] for a, b in pairwise(placed)]
    cuts = sorted(sorted(range(len(gaps)), key=lambda n: (-gaps[n], n))[: most - 1])
    edges = [0, *(cut + 1 for cut in cuts), len(placed)]
    return tuple(_together(placed[a:b]) for a, b in pairwise(edges))


def _reach(mark: Mark) -> tuple[float, float]:
    known = [t for t in (mark.planned, mark.begin, mark.end) if t is not None]
    return min(known, default=0.0), max(known, default=0.0)


def _together(marks: Sequence[Mark]) -> Mark:
    if len(marks) == 1:
        return marks[0]
    begun = [mark for mark in marks if mark.begin is not None]
    begin = min((mark.begin for mark in begun if mark.begin is not None), default=None)
    ends = [mark.end for mark in begun]
    end = None if None in ends else max((end for end in ends if end is not None), default=None)
    first, last = _reach(marks[0])[0], max(_reach(mark)[1] for mark in marks)
    told = f"{len(marks)} faults, from {first:,.2f} to {last:,.2f}{wording.NBSP}s"
    return Mark(None if begun else first, begin, end, told)
