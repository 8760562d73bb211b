"""What all parts of [workload] share: strict sections, units, and where their random numbers come from."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

SECOND_NS: Final = 1_000_000_000
LONGEST_S: Final = 7 * 86_400

Seconds = Annotated[float, Field(ge=0, le=LONGEST_S, allow_inf_nan=False)]
Duration = Annotated[float, Field(gt=0, le=LONGEST_S, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$")]


class Section(BaseModel):
    """A table of a scenario: unknown keys are faults, values do not change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Purpose(IntEnum):
    """First spawn key of a SeedSequence: one stream of random numbers for each purpose. Never renumbered."""

    ASSIGNMENT = 0  # of channels to clients
    SESSIONS = 1
    PUBLISHES = 2
    ABSENCES = 3
    PAUSES = 4
    PERSONAS = 5
    ACTIONS = 6
    MOVES = 7  # churn of sessions, drops, deafness
    SIZED = 8
    DIRECT = 9


def drawn(seed: int, *key: int) -> np.random.Generator:
    """The random numbers of one purpose; ``key``: a ``Purpose``, then which part of it."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(map(int, key))))
