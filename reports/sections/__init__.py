"""Sections of a report, in their order: one module each, ``build(analysis) -> blocks``.

To add one, write a module with a ``build`` and put a line into SECTIONS. A section reads the
analysis, returns blocks and knows no markup; it renders for an empty run too. One without blocks
is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reports.analysis import Analysis
from reports.blocks import Block
from reports.sections import (
    capacity,
    comparison,
    faults,
    glance,
    host,
    integrity,
    latency,
    method,
    throughput,
    validity,
    verdict,
)

SECTIONS: Final[dict[str, tuple[str, Callable[[Analysis], tuple[Block, ...]]]]] = {
    "verdict": ("Verdict", verdict.build),
    "glance": ("At a glance", glance.build),
    "validity": ("Validity of the run", validity.build),
    "integrity": ("Integrity", integrity.build),
    "latency": ("Latency", latency.build),
    "throughput": ("Throughput", throughput.build),
    "faults": ("Faults and recovery", faults.build),
    "host": ("Server and host", host.build),
    "capacity": ("Capacity", capacity.build),
    "comparison": ("Comparison", comparison.build),
    "method": ("Method and contract", method.build),
}
