"""How far a judgement is, for whoever waits: one line, redrawn, on a terminal; plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Final

_BAR_CELLS: Final = 24
_AGAIN_S: Final = 0.1  # between two drawings


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Where a judgement stands."""

    what: str  # "sorting", "checking", …
    rows: int = 0  # records done
    of_rows: int = 0  # 0: not known
    parts: int = 0
    of_parts: int = 0


Progress = Callable[[Step], None]


def line(step: Step, elapsed_s: float) -> str:
    """``checking   3 of 12 parts  4,100,000 of 12,000,000 records  1,640,000/s  5 s left``.

    Args:
        elapsed_s: since the first step of that kind.
    """
    said = [f"{step.what:<9}"]
    if step.of_parts > 1:
        said.append(f"{step.parts} of {step.of_parts} parts")
    if step.of_rows:
        said.append(f"{step.rows:,} of {step.of_rows:,} records")
    if step.rows and elapsed_s > 0:
        rate = step.rows / elapsed_s
        said.append(f"{rate:,.0f}/s")
        if step.rows < step.of_rows:
            said.append(f"{(step.of_rows - step.rows) / rate:.0f} s left")
    return "  ".join(said).rstrip()


def bar(share: float) -> str:
    """A bar of fixed width for a share from 0 to 1."""
    full = round(max(0.0, min(1.0, share)) * _BAR_CELLS)
    return "━" * full + "─" * (_BAR_CELLS - full)


class Reporter:
    """Writes steps to a stream as they come. A context manager: at the end no half line is left.

    On a terminal one line is redrawn, and is gone at the end. Elsewhere a kind of step that counts records
    is a line of its own, written when it is done, if it took ``plain_s``: a short run leaves none in a log.
    """

    def __init__(self, out: IO[str], clock: Callable[[], float], *, plain_s: float = 5.0) -> None:
        """``clock``: seconds, of any origin, that only rise."""
        self._out, self._clock, self._plain_s = out, clock, plain_s
        self._tty = out.isatty()
        self._begun: tuple[str, float] = "", 0.0
        self._drawn_s = float("-inf")
        self._last: Step | None = None

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *exc: object) -> None:
        self._over()
        if self._tty and self._drawn_s > float("-inf"):
            self._write("\r\x1b[K")

    def __call__(self, step: Step) -> None:
        now_s = self._clock()
        if step.what != self._begun[0]:
            self._over()
            self._begun = step.what, now_s
        elapsed_s = now_s - self._begun[1]
        self._last = step
        if self._tty and (now_s - self._drawn_s >= _AGAIN_S or not step.rows):
            self._drawn_s = now_s
            drawn = f"{bar(step.rows / step.of_rows)} " if step.of_rows else ""
            self._write(f"\r{drawn}{line(step, elapsed_s)}\x1b[K")

    def _over(self) -> None:
        """The kind of step that went on is done."""
        if self._last is not None and not self._tty:
            step, elapsed_s = self._last, self._clock() - self._begun[1]
            if step.rows and elapsed_s >= self._plain_s:
                self._write(f"{line(step, elapsed_s)}  {elapsed_s:.1f} s\n")
        self._last = None

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
