"""Figures as people read them: thousands separated, a unit with each, three digits that matter.

All functions are pure and know no locale: a report reads the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

NBSP = "\u00a0"  # between a figure and its unit, so that a line never breaks there
NONE = "–"  # where there is no figure


def count(n: int | float) -> str:
    """1234567 → 1,234,567."""
    return f"{n:,.0f}"


def either(words: Sequence[str]) -> str:
    """``lost, duplicated or reordered``."""
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def plural(n: int, one: str, many: str = "") -> str:
    """(1, "gate") → 1 gate; (1200, "gate") → 1,200 gates."""
    return f"{count(n)} {one if n == 1 else many or one + 's'}"


def decimal(x: float | None) -> str:
    """Three digits that matter, thousands separated: 0.0123, 1.23, 12.3, 123, 12,345."""
    if x is None or math.isnan(x):
        return NONE
    size = abs(x)
    if size >= 100 or x == 0:
        return f"{x:,.0f}"
    digits = 2 - math.floor(math.log10(size)) if size >= 0.001 else 3
    return f"{x:,.{max(0, min(digits, 4))}f}"


def ms(x: float | None) -> str:
    """Milliseconds with their unit; from a second on, seconds."""
    value, unit = in_ms(x)
    return f"{value}{NBSP}{unit}" if unit else value


def in_ms(x: float | None) -> tuple[str, str]:
    """As ``ms``, value and unit apart: 40.5 → 40.5, ms; 3903 → 3.90, s."""
    if x is None:
        return NONE, ""
    return (decimal(x / 1000), "s") if abs(x) >= 1000 else (decimal(x), "ms")


def span_s(x: float | None) -> str:
    """A length of time or a place on the time axis, in seconds."""
    return NONE if x is None else f"{decimal(x)}{NBSP}s"


def figure(x: float | None, unit: str) -> str:
    """A figure with its unit: one of a gate ("ms", "/s", "x", "MiB" or "", a count), "us" or "s"."""
    if x is None:
        return NONE
    if unit == "us":
        return f"{decimal(x)}{NBSP}µs"
    if unit == "s":
        return span_s(x)
    if unit == "ms":
        return ms(x)
    if unit == "/s":
        return f"{decimal(x)}/s"
    if unit == "x":
        return f"{decimal(x)}{NBSP}×"
    if unit == "MiB":
        return size_bytes(x * 1024**2)
    return count(x)


def size_bytes(n: float | None) -> str:
    """Bytes in powers of 1,024: 512 B, 1.50 KiB, 64.0 MiB."""
    if n is None:
        return NONE
    size, names = float(n), ("B", "KiB", "MiB", "GiB", "TiB")
    place = 0
    while abs(size) >= 1024 and place < len(names) - 1:
        size, place = size / 1024, place + 1
    return f"{count(size) if place == 0 else decimal(size)}{NBSP}{names[place]}"


def share(x: float | None) -> str:
    """A ratio from 0 to 1 as per cent."""
    return NONE if x is None else f"{decimal(x * 100)}{NBSP}%"


def upper_bound(n: int) -> str:
    """What zero of ``n`` proves: with 95 % confidence the true rate is at most 3/n (rule of three)."""
    if n <= 0:
        return NONE
    rate = min(1.0, 3 / n)
    return f"≤{NBSP}{share(rate)}" if rate >= 1e-3 else f"≤{NBSP}{decimal(rate * 1e6)} per million"
