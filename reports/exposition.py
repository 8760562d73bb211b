"""OpenMetrics 1.0 text, of families that are gauges or summaries.

Only these two types, and no timestamps, so that readers of the older Prometheus text format (0.0.4) take the
same file: node_exporter's textfile collector and the Pushgateway refuse a file with another type.

Source: OpenMetrics 1.0, https://prometheus.io/docs/specs/om/open_metrics_spec/ (§ Text Format).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from reports.escape import for_terminal

_LABEL: Final = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})
_DIGITS: Final = 9  # significant ones: more than was measured, and the same on every machine


class Type(StrEnum):
    """Of a family."""

    GAUGE = "gauge"
    SUMMARY = "summary"


@dataclass(frozen=True, slots=True)
class Sample:
    """A line. ``suffix``: "_count" or "_sum" of a summary."""

    labels: Mapping[str, str]
    value: float
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """Samples of one name. ``unit``: "seconds", "bytes" or "ratio", with which the name ends; "": none."""

    name: str
    help: str
    samples: Sequence[Sample]
    unit: str = ""
    type: Type = Type.GAUGE


def document(families: Iterable[Family], common: Mapping[str, str]) -> str:
    """The whole text. Families without a sample are left out.

    Args:
        common: labels of every sample, before its own.
    """
    return "".join(_family(family, common) for family in families) + "# EOF\n"


def _family(family: Family, common: Mapping[str, str]) -> str:
    # Two samples with the same labels make a reader refuse the whole file: the first one counts.
    lines: dict[str, str] = {}
    for sample in family.samples:
        if math.isfinite(sample.value):
            name = f"{family.name}{sample.suffix}{_labels({**common, **sample.labels})}"
            lines.setdefault(name, f"{name} {number(sample.value)}\n")
    if not lines:
        return ""
    head = f"# TYPE {family.name} {family.type}\n"
    head += f"# UNIT {family.name} {family.unit}\n" if family.unit else ""
    return head + f"# HELP {family.name} {family.help.translate(_LABEL)}\n" + "".join(lines.values())


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in labels.items()) + "}"


def escaped(value: str) -> str:
    """A label's value: control characters made visible, then backslash, quote and line break escaped."""
    return for_terminal(value).translate(_LABEL)


def number(value: float) -> str:
    """A finite number; counts stay whole."""
    if float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.{_DIGITS}g}"
