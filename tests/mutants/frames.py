"""FRAME_RUNS: an honest server, and a proxy that loses, repeats, swaps or falsifies single messages.

The same is asked as of the server's own mutants: is it found, and nothing else? So the whole pipeline is
tested, load workers included, and it needs no server with planted faults: any server that has a
driver with a frame view will do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from loadgen.body import encode_body
from tests.mutants.runs import AWAY, LOAD, Run, Table

EACH: Final = {"type": "message", "every": 20}
STRIPPED: Final = {"field": "gap", "how": "remove"}
# Of another run: well formed, with a digest that is right and a nonce that is not this run's.
STRANGER: Final = encode_body(
    nonce=1, channel=1, publisher=1, pub_seq=1, scheduled_ns=1, body_bytes=100
).decode()
SHORT: Final = {"phase": [{**LOAD, "duration_s": 3.0}]}


def _fault(action: str, *, id: str = "m", at_s: float = 0.8, duration_s: float = 1.8, **keys: Any) -> Table:
    where = {"target": "all", "at_s": at_s, "duration_s": duration_s}
    return {"id": id, "kind": f"frame_{action}", **where, **keys}


def _run(classes: str, *faults: Table, may: str = "", **sections: Any) -> Run:
    sections = {"workload": SHORT, "deadlines": {"drain_quiet_s": 1.0}} | sections
    return Run(
        frames=True, classes=frozenset(classes.split()), may=frozenset(may.split()), faults=faults, **sections
    )


def _absent() -> dict[str, Any]:
    """Some are away for longer than the server keeps messages; what they are told then is changed."""
    return {
        "server": {"retain_n": 10},
        "workload": {"absence": [AWAY]},
    }


def _rewritten(kind: str, *changes: Table, **keys: Any) -> Table:
    return _fault("rewrite", type=kind, changes=list(changes), **keys)


FRAME_RUNS: Final[Mapping[str, Run]] = {
    # A sentinel that is dropped is V1 when the forced reconnect brings it.
    "frame-drop": _run("D1", _fault("drop", **EACH), may="V1"),
    "frame-duplicate": _run("D5", _fault("duplicate", **EACH)),
    "frame-swap": _run("D6", _fault("swap", **EACH)),
    "frame-corrupt": _run("L7", _fault("corrupt", **EACH)),
    # On the channel where it arrives, its serial is another message's, or none at all yet.
    "frame-move": _run("L6", _fault("move", **EACH), may="D1 D5 D6 D9 L1 L4 V1"),
    # Not sent again, as a client would: INFO, and a publisher that was never answered.
    "frame-drop-acks": _run(
        "V3",
        _fault("drop", type="ack", every=5),
        workload={**SHORT, "ack_timeout_s": 30.0},
        deadlines={"settle_s": 2.0, "ack_s": 1.5},
    ),
    "frame-rewrite-acks": _run(
        "L9", _rewritten("ack", {"field": "position.1", "how": "add", "value": -1}, every=5)
    ),
    "frame-set-resumed": _run(
        "D2",
        _rewritten("subscribed", STRIPPED, {"field": "resumed", "value": True}, duration_s=3.1),
        may="D1",
        **_absent(),
    ),
    "frame-strip-gap": _run("D3", _rewritten("subscribed", STRIPPED, duration_s=3.1), may="D1", **_absent()),
    "frame-inject": _run("L5", _fault("inject", body=STRANGER, **EACH), may="D5"),
    # What a network, an intermediary or a hostile client may do to an honest server: all stays true.
    "frame-honest": Run(
        frames=True,
        workload={"phase": [{**LOAD, "duration_s": 7.0}]},
        # Held first, alone: latency is compared with that of two seconds before.
        faults=(
            _fault("delay", id="held", target="a", delay_ms=150, every=4, at_s=2.3, duration_s=1.2),
            _fault("fragment", id="pieces", direction="both", messages=0.5, at_s=3.6, duration_s=3.0),
            _fault("close", id="goodbye", target="a", code=1012, after=5, times=1, at_s=3.6),
            _fault("bad_mask", id="mask", target="b", type="publish", times=1, at_s=3.7, duration_s=0.9),
            _fault("bad_utf8", id="utf8", target="b", type="publish", times=1, at_s=4.7, duration_s=0.9),
            _fault(
                "oversize", id="long", target="b", type="publish", times=1, message_bytes=200_000, at_s=5.7,
                duration_s=0.9,
            ),
        ),
        expect={"resumes": True},
        exit=0,
    ),
    # Nobody hears that the other lives: both sides must give the connection up, and go on on another.
    "frame-honest-silence": Run(
        frames=True,
        server={"ping_s": 0.5, "pong_s": 0.5},
        faults=(_fault("suppress_ping", target="a", duration_s=3.0),),
        expect={"resumes": True},
        exit=0,
    ),
}  # fmt: skip

# One each of what is missing, what is wrong and what is said wrongly: tests/e2e/test_mutants.py.
FRAMES_IN_CI: Final = ("frame-drop", "frame-corrupt", "frame-rewrite-acks")
