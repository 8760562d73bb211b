"""The event loop of a process stands still, for moments."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, ValidationInfo, field_validator

from chaos.faults.base import Hook, ProcessFault, Script, Seconds, Shows, Step


class LoopBlock(ProcessFault):
    """chatd's loop runs nothing for ``block_ms``, every ``every_s``, as with a long computation in it.

    By a test hook of chatd on its admin port; a run that plans it opens both.
    """

    shows = Shows.BLOCK
    hooks: ClassVar[bool] = True

    block_ms: int = Field(ge=1, le=10_000, examples=[700], description="time that nothing runs")
    every_s: Seconds = Field(30.0, examples=[30.0], description="from one block to the next")

    @field_validator("every_s")
    @classmethod
    def _runs_between(cls, every_s: float, info: ValidationInfo) -> float:
        if every_s * 1000 <= (block_ms := info.data.get("block_ms", 0)):
            raise ValueError(f"must be more than block_ms ({block_ms}), or the loop never runs")
        return every_s

    def misfit(self, duration_s: float) -> str | None:
        if duration_s < self.block_ms / 1000:
            return f"must be at least {self.block_ms / 1000:g}, block_ms"
        return None

    def script(self, fault_id: str, targets: tuple[str, ...]) -> Script:
        block = tuple(Hook(process, "block", self.block_ms) for process in targets)
        return Script(
            apply=block,
            revert=tuple(Hook(process, "block", 0) for process in targets),
            steps=(Step(self.every_s, block, every_s=self.every_s, lasts_s=self.block_ms / 1000),),
        )
