"""Capacity: what a search found, in the page of the run that confirmed it."""

from __future__ import annotations

from typing import Any

from reports.analysis import Analysis
from reports.blocks import Block, Column, Details, Para, Table, pairs
from reports.capacity_report import (
    CAPACITY_FILE,
    REFUSED,
    facts,
    headline,
    ladder_rows,
    planned,
    read_capacity,
    trial_rows,
)


def build(analysis: Analysis) -> tuple[Block, ...]:
    found = read_capacity(analysis.history.path)
    try:
        return _none() if found is None else _shown(found)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # anybody may have written the file
        return (Para(f"{CAPACITY_FILE} cannot be shown: {type(error).__name__}: {error}."),)


def _none() -> tuple[Block, ...]:
    return (
        Para("This run was no part of a search for capacity: `chatproof capacity` makes one.", quiet=True),
    )


def _shown(found: dict[str, Any]) -> tuple[Block, ...]:
    ladder = Table(
        (Column("p99 at most"), Column("holds at", align="right"), Column("is passed at", align="right")),
        tuple(ladder_rows(found)),
        note="The scenario's own objective is searched for; these brackets are as wide as the steps were.",
    )
    columns = ("load", "deliveries/s", "p99", "CPU, cores", "memory")
    trials = Table(
        (*(Column(name, align="right") for name in columns), Column("outcome", wide=True)),
        tuple(trial_rows(found)),
    )
    return (
        Para(headline(found)),
        *(Para(line) for line in planned(found)),
        pairs(facts(found)),
        ladder,
        Details(f"All {len(found['trials'])} trials", (trials,)),
        Para(REFUSED, quiet=True),
    )
