"""The form of a plan as HTML, and the script that answers it; see ``blocks.Planner``.

Each field has its label, its unit, and a rule that is shown when it is broken. The form is hidden until the
script runs, and on paper.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from reports.blocks import Entry, Planner
from reports.escape import for_html

_OWN: Final = tuple(Path(__file__).with_name(name) for name in ("planner.js", "planner_form.js"))


def script() -> str:
    """The formula and what joins it to the form."""
    return "\n".join(path.read_text(encoding="utf-8").strip() for path in _OWN) + "\n"


def form(planner: Planner, table: str) -> str:
    """Form and plan. ``table``: the planner's table as HTML, without a row where nothing was asked for."""
    entries = "".join(map(_entry, planner.entries))
    hidden = "" if planner.table.rows else " hidden"
    return (
        f'<div id="what-if" data-node-rate="{planner.node_deliveries_per_s!r}" '
        f'data-currency="{for_html(planner.currency)}">'
        '<form hidden novalidate autocomplete="off" aria-labelledby="what-if-head">'
        f'<p id="what-if-head"><b>What if?</b> {for_html(planner.head)}</p>'
        f'<div class="entries">{entries}</div></form>\n'
        f'<p role="status">{for_html(planner.sentence)}</p>'
        f'<div class="planned"{hidden}>{table}</div></div>\n'
    )


def _entry(entry: Entry) -> str:
    ident = f"what-if-{entry.name}"
    required = " required" if entry.required else ""
    return (
        f'<div class="entry"><label for="{ident}">{for_html(entry.label)}</label>'
        f'<span class="with-unit"><input id="{ident}" name="{entry.name}" value="{for_html(entry.value)}" '
        f'inputmode="decimal" aria-describedby="{ident}-unit {ident}-rule"{required}>'
        f'<span id="{ident}-unit">{for_html(entry.unit)}</span></span>'
        f'<span class="rule" id="{ident}-rule" hidden><span aria-hidden="true">✗</span> '
        f"Write {for_html(entry.rule)}.</span></div>"
    )
