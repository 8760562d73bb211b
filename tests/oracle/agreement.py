"""Whether the checker and the oracle say the same of a history.

``COMPARED`` says per class what both count. Where the page names no unit, only emptiness is compared.
"Unknown" is no disagreement as such: a class of absence is unknown wherever a log is torn (the page: torn
logs), and both count then only what positive evidence shows. A check that broke is never agreement.
"""

from __future__ import annotations

from typing import Final

from reports.checks import run_checks
from reports.history import History
from tests.oracle.judge import judge

ONLY_EMPTINESS: Final = "only whether there is one"
COMPARED: Final = {
    "L1": "places",
    "L2": "places of a message beyond its first",
    "L2x": "places of a message beyond its first",
    "L3": "messages",
    "L4": "places",
    "L5": "(place, message) pairs",
    "L6": "(place, message) pairs",
    "L7": "places",
    "L8": "messages",
    "L9": "messages",
    "L10": ONLY_EMPTINESS,  # the page speaks of pairs, of which one late message can make many
    "L11": ONLY_EMPTINESS,  # as L10
    "L12": ONLY_EMPTINESS,  # four faults in one class: which of two epochs is to blame the page leaves open
    "D1": "serials of one subscriber: a late frame counts once",
    "D2": "resumes",
    "D3": "notices, wrong or lacking",
    "D4": ONLY_EMPTINESS,  # a notice, or each serial in it: the page leaves it open
    "D5": "deliveries",
    "D6": "deliveries",
    "D7": "deliveries",
    "D8": "deliveries",
    "D9": "deliveries",
    "D10": "answers",
    "V1": "subscriptions",
    "V2": "clients",
    "V3": "messages and connections",
    "V4": "connections",
    "V5": "channels",
    "V6": "exits",
}


def disagreements(history: History, *, part_rows: int = 1_000_000) -> dict[str, tuple[int, int]]:
    """Classes of which the checker and the oracle do not say the same, and how many each found.

    A class whose check broke is among them, with -1 for the checker.
    """
    judged = run_checks(history, part_rows=part_rows)
    found = judge(history)
    assert judged.classes.keys() == found.keys() == COMPARED.keys()
    apart = {}
    for cls, unit in COMPARED.items():
        checker, oracle = judged.classes[cls].count, found[cls]
        broke = any("the check broke" in reason for reason in judged.classes[cls].reasons)
        same = (checker > 0) == (oracle > 0) if unit == ONLY_EMPTINESS else checker == oracle
        if broke or not same:
            apart[cls] = (-1 if broke else checker), oracle
    return apart
