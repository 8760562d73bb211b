"""Method: how the figures come about, the contract, versions, and how to do it again."""

from __future__ import annotations

import shlex
from typing import Any, Final

from reports import wording
from reports.analysis import Analysis
from reports.blocks import Block, Bullets, Code, Details, Pair, Para, Pre, Text, pairs

_METHOD: Final = (
    "Load is open: no slow answer moves a message's scheduled time, and delivery latency counts from it.",
    "Clients record every arrival before anything else looks at it, and repair nothing.",
    "A message is known by its publisher and that publisher's own count, inside the body, under a digest.",
    "A publish without an answer may have happened or not: its absence is no loss, its arrival no phantom.",
    "After the faults are reverted, a sentinel in each channel says up to where every subscriber owes "
    "everything; two final reads over a direct connection say what the server holds.",
    "A planned fault without a measured effect makes the verdict unknown; a harness that was the limit "
    "makes the run void.",
)


def build(analysis: Analysis) -> tuple[Block, ...]:
    run = analysis.run
    blocks: list[Block] = []
    if run.get("why"):
        blocks.append(Para(("The question: ", str(run["why"]))))
    blocks.append(Bullets(_METHOD))
    contract = _flat(run.get("contract") or {})
    load = _flat({k: v for k, v in (run.get("load") or {}).items() if k != "predicted"})
    tables = [
        pairs(rows, caption=caption) for caption, rows in (("Contract", contract), ("Load", load)) if rows
    ]
    if tables:
        blocks.append(Pair(tables))
    versions = _flat(run.get("versions") or {})
    if versions:
        blocks.append(Details("Versions", (pairs(versions),)))
    blocks += [Para("Judge this run again, or run it again:"), Pre(_again(run))]
    return tuple(blocks)


def _flat(table: dict[str, Any], prefix: str = "") -> list[tuple[str, Text]]:
    rows: list[tuple[str, Text]] = []
    for key, value in table.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", _value(str(key), value)))
    return rows


def _value(key: str, value: object) -> Text:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: wording.NONE}[value]
    if isinstance(value, list):
        return ", ".join(str(v) for v in value) or "none"
    if isinstance(value, int | float):
        if key.endswith("_bytes"):
            return wording.size_bytes(value)
        if key.endswith("_s"):
            return wording.span_s(float(value))
        return wording.count(value) if isinstance(value, int) else wording.decimal(value)
    return Code(str(value)) if value != "" else "none"


def _again(run: dict[str, Any]) -> str:
    lines = ["chatproof report RUN"]
    command = run.get("command")
    if isinstance(command, list):
        command = shlex.join(str(part) for part in command)
    lines.append(
        str(command) if command else f"chatproof run RUN/config/scenario.toml --seed {run.get('seed')}"
    )
    return "\n".join(lines)
