"""Messages say something else."""

from __future__ import annotations

import json
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from chaos.faults.base import Shows
from chaos.faults.frame import ViewFault


class FieldChange(BaseModel):
    """One field: ``set`` it to ``value``, ``add`` a number to it, or ``remove`` it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    field: str = Field(min_length=1)  # names joined by dots, and indices of lists: "position.1"
    how: Literal["set", "add", "remove"] = "set"
    value: bool | int | float | str = ""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.how == "set" and "value" not in self.model_fields_set:
            raise ValueError("set takes a value")
        if self.how == "add" and (isinstance(self.value, bool) or not isinstance(self.value, int)):
            raise ValueError("add takes a whole number as value")
        return self


class FrameRewrite(ViewFault):
    """Changes fields of the message; where one is not there, the message passes as it is."""

    shows = Shows.CHANGED
    action = "rewrite"

    changes: list[FieldChange] = Field(
        min_length=1, examples=[[{"field": "serial", "how": "add", "value": 1}]], description="the fields"
    )

    def own(self) -> dict[str, Any]:
        return {"changes": json.dumps([[each.field, each.how, each.value] for each in self.changes])}
