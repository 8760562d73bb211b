"""What a person sees while a run goes on: one live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from reports import wording

PLAIN_EVERY_S = 2.0
BAR_CELLS = 24
LEAST_CELLS = 8  # a shorter bar shows nothing
PHASE_CELLS = 10  # at least


def status_line(
    stats: Mapping[str, Any],
    *,
    phase: str,
    elapsed_s: float,
    faults: Sequence[str],
    rates: tuple[float, float],
    phase_cells: int = PHASE_CELLS,
    short: bool = False,
) -> str:
    """One line of figures; each stays below the one of the line before.

    Args:
        rates: sends/s and deliveries/s since the line before.
        phase_cells: width of the longest phase.
        short: rates only, for 80 columns.
    """
    sent, received = (f"{rate:,.0f}/s" for rate in rates)
    clients = f"{stats.get('clients', 0):,}"
    there = f"{stats.get('live', 0):>{len(clients)},}/{clients} live"
    p99 = wording.ms(stats.get("p99_ms")).replace(wording.NBSP, " ")
    parts = [f"{elapsed_s:5.1f} s", f"{phase:<{phase_cells}}", there]
    if short:
        parts += [f"sent {sent:>7}", f"received {received:>9}"]
    else:
        parts += [
            f"sent {stats.get('sent', 0):>7,} {f'({sent})':>9}",
            f"received {stats.get('received', 0):>9,} {f'({received})':>11}",
        ]
    parts.append(f"p99 {p99:>7}")
    if stats.get("unacked"):
        parts.append(f"unacked {stats['unacked']:,}")
    if faults:
        parts.append("fault: " + ", ".join(faults))
    return "  ".join(parts).rstrip()


def bar(share: float, cells: int = BAR_CELLS) -> str:
    """A progress bar of fixed width for a share from 0 to 1."""
    full = round(max(0.0, min(1.0, share)) * cells)
    return "━" * full + "─" * (cells - full)


def beside(line: str, share: float, width: int) -> Text:
    """A line with as much of a bar before it as there is room for in ``width`` columns."""
    cells = min(BAR_CELLS, width - len(line) - 1)
    progress = bar(share, cells) + " " if cells >= LEAST_CELLS else ""
    return Text.assemble((progress, "cyan"), line, no_wrap=True, overflow="ellipsis")


@contextmanager
def waiting(
    console: Console, what: str, about_s: float, *, now_s: Callable[[], float] = time.monotonic
) -> Iterator[None]:
    """On a terminal, how far something is that says nothing by itself, and takes about so long."""
    began_s = now_s()

    def shown() -> Text:
        took_s = now_s() - began_s
        # It takes longer than was thought: the bar stays full, and the time goes on.
        return beside(f"{what}  {took_s:.0f} s of about {about_s:.0f} s", took_s / about_s, console.width)

    if not console.is_terminal:
        yield
        return
    with Live(get_renderable=shown, console=console, refresh_per_second=2, transient=True):
        yield


class Progress:
    """Prints steps once and figures as they change. Use as a context manager.

    On a terminal the figures are one line that is redrawn; elsewhere a plain line every
    ``PLAIN_EVERY_S``. ``quiet`` prints nothing.

    Args:
        phases: names of those that come, for the width of their column.
    """

    def __init__(
        self, console: Console, *, total_s: float, phases: Sequence[str] = (), quiet: bool = False
    ) -> None:
        self._phase_cells = max(PHASE_CELLS, *(len(name) for name in phases)) if phases else PHASE_CELLS
        self._console, self._total_s, self._quiet = console, total_s, quiet
        self._live = Live(console=console, refresh_per_second=8, transient=True)
        self._tty = console.is_terminal and not quiet
        self._last_plain_s = -PLAIN_EVERY_S
        self._before: tuple[float, int, int] | None = None
        self._rates = (0.0, 0.0)

    def __enter__(self) -> Progress:
        if self._tty:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._tty:
            self._live.stop()

    def step(self, text: str) -> None:
        """A step of the run that is worth a line of its own."""
        if not self._quiet:
            self._console.print(Text(text), highlight=False)

    def figures(
        self, stats: Mapping[str, Any], *, phase: str, elapsed_s: float, faults: Sequence[str]
    ) -> None:
        """Show the newest figures."""
        if self._quiet:
            return
        self._measure(stats)
        full, short = (
            status_line(
                stats, phase=phase, elapsed_s=elapsed_s, faults=faults, rates=self._rates,
                phase_cells=self._phase_cells, short=short,
            )
            for short in (False, True)
        )  # fmt: skip
        line = full
        if self._tty:
            line = full if len(full) <= self._console.width else short
            share = elapsed_s / self._total_s if self._total_s else 1.0
            self._live.update(beside(line, share, self._console.width))
        elif elapsed_s - self._last_plain_s >= PLAIN_EVERY_S:
            self._last_plain_s = elapsed_s
            self._console.print(Text(line), highlight=False, soft_wrap=True)

    def _measure(self, stats: Mapping[str, Any]) -> None:
        t, sent, received = stats.get("t_ns", 0) / 1e9, stats.get("sent", 0), stats.get("received", 0)
        if self._before is None:
            self._before = (t, sent, received)
        elif t - self._before[0] >= 1.0:
            span_s = t - self._before[0]
            self._rates = ((sent - self._before[1]) / span_s, (received - self._before[2]) / span_s)
            self._before = (t, sent, received)
