"""What a person sees while a run goes on: one live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

PLAIN_EVERY_S = 2.0
BAR_CELLS = 24


def status_line(
    stats: Mapping[str, Any],
    *,
    phase: str,
    elapsed_s: float,
    faults: Sequence[str],
    rates: tuple[float, float],
) -> str:
    """One line of figures; ``rates`` are sends/s and deliveries/s since the line before."""
    p99 = stats.get("p99_ms")
    parts = [
        f"{elapsed_s:5.1f} s",
        f"{phase:<10}",
        f"{stats.get('live', 0):,}/{stats.get('clients', 0):,} live",
        f"sent {stats.get('sent', 0):,} ({rates[0]:,.0f}/s)",
        f"received {stats.get('received', 0):,} ({rates[1]:,.0f}/s)",
        "p99 –" if p99 is None else f"p99 {p99:,.1f} ms",
    ]
    if stats.get("unacked"):
        parts.append(f"unacked {stats['unacked']:,}")
    if faults:
        parts.append("fault: " + ", ".join(faults))
    return "  ".join(parts)


def bar(share: float) -> str:
    """A progress bar of fixed width for a share from 0 to 1."""
    full = round(max(0.0, min(1.0, share)) * BAR_CELLS)
    return "━" * full + "─" * (BAR_CELLS - full)


class Progress:
    """Prints steps once and figures as they change. Use as a context manager.

    On a terminal the figures are one line that is redrawn; elsewhere a plain line every
    ``PLAIN_EVERY_S``. ``quiet`` prints nothing.
    """

    def __init__(self, console: Console, *, total_s: float, quiet: bool = False) -> None:
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
        line = status_line(stats, phase=phase, elapsed_s=elapsed_s, faults=faults, rates=self._rates)
        if self._tty:
            progress = bar(elapsed_s / self._total_s if self._total_s else 1.0)
            self._live.update(
                Text.assemble((progress + " ", "cyan"), line, no_wrap=True, overflow="ellipsis")
            )
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
