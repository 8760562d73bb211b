"""Swarm plans: which faults, when and how hard, drawn from a seed within an envelope.

``ENVELOPE`` says of each kind what may be drawn: where it is aimed, how long its lease is, and its
keys. What comes out are [[fault]] tables like those that a person writes, so everything after this
(parsing, plan.json, nemesis, report) knows nothing of swarms.

No two faults contradict each other: they come one after the other, with time to recover between
them, each kind at most once (or more often where another one needs it below); only what leaves
another fault's trace to be seen may be laid over it, on all proxies (``over``). So each can be seen.

Of several nodes each may be hit alone, on its wires, its process or its way to the broker, and so may a
broker that the run started and that has no replica: ``Ground`` says what there is.

Draws are hashes of the seed and of what is drawn (``chaos.plan.draw``): the same on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from chaos.draws import draw
from chaos.faults import FAULTS
from chaos.faults.base import Where
from chaos.faults.frame_close import OF_INTERMEDIARIES
from chaos.plan import PROCESSES, PROXIES
from chaos.wires import ALL, is_link, targets

NODES: Final = ("chatd-*",)
WIRES: Final = (*PROXIES, ALL)
BROKER: Final = "broker-1"
Range = tuple[float, float]  # lowest and highest; a pair of integers draws an integer

QUIET_S: Final = 2.0  # after the warm-up, before the first fault: what a shift is compared with
RECOVER_S: Final = 3.0  # between two faults: clients are back, and a close is the first one's doing no more
AROUND_S: Final = 0.5  # that a fault laid over another one begins before it, and ends after it
GIVEN_UP_S: Final = 4.5  # a stream of which nothing comes is given up after 3 s, and is dialled within 1 s
TAIL_S: Final = 0.5  # of the load after the last fault
OVER_SHARE: Final = 0.4  # of the faults that have another one laid over them


@dataclass(frozen=True, slots=True)
class Envelope:
    """What may be drawn for a kind.

    ``targets``: with one node; WIRES and NODES stand for what there is of the kind. ``keys``: ranges of its
    own keys. ``among``: keys of which one of some values is drawn. ``over``: kinds
    that it may be laid over; one with ``alone`` False shows only there, and brings one of them. It ends
    ``after_s`` after it. ``ways``: by one of these some clients have to come, or nobody meets it.
    """

    targets: tuple[str, ...]
    duration_s: Range
    keys: Mapping[str, Range] = field(default_factory=dict)
    among: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    over: tuple[str, ...] = ()
    alone: bool = True
    after_s: float = AROUND_S
    ways: tuple[str, ...] = ()


ENDING: Final = ("kill", "restart", "term", "rolling", "crash_loop")  # chatd's end ends its connections
CUTTING: Final = (*ENDING, "down", "reset_peer", "disconnect", "storm", "flap")
STOPPING: Final = ("pause", "loop_block", "disk_full")
DOORS: Final = ("disconnect",)  # who dials anew meets what is done to new connections
LINKED: Final = (  # kinds that may strike a node's way to its broker, where their effect is measured
    *("latency", "reset_peer", "down", "disconnect", "flap", "blackhole", "partition"),
)
OF_BROKERS: Final = ("kill", "pause")  # kinds that may strike the broker
OF_ONE_LOG: Final = ("disk_full",)  # kinds that need a node with a log of its own
OF_CLIENTS: Final = ("share",)  # keys that choose among clients: nobody dials a link
SOCKETS: Final = ("websocket", "fallback")  # ways of clients that dial a WebSocket
SIDES: Final = {"direction": ("downstream", "upstream", "both")}

ENVELOPE: Final[Mapping[str, Envelope]] = {
    # on the wire, by any engine
    "latency": Envelope(WIRES, (2.5, 5.0), {"latency_ms": (80, 400)}, over=(*CUTTING, *STOPPING)),
    "bandwidth": Envelope(WIRES, (2.5, 4.0), {"rate_kb_per_s": (4, 8)}, over=("loop_block", "disk_full")),
    "slicer": Envelope(
        WIRES, (2.5, 4.0), {"average_bytes": (24, 64), "delay_us": (8_000, 20_000)}, over=("disk_full",)
    ),
    "slow_close": Envelope(WIRES, (2.0, 5.0), {"delay_ms": (200, 900)}, over=ENDING, alone=False),
    "timeout": Envelope(WIRES, (1.5, 3.0), {"timeout_ms": (0, 800)}),
    "reset_peer": Envelope(WIRES, (0.5, 1.5), {"timeout_ms": (0, 300)}),
    "limit_data": Envelope(WIRES, (2.0, 3.5), {"bytes": (500, 4_000)}),
    "down": Envelope(WIRES, (0.4, 1.5)),
    # on processes
    "kill": Envelope(NODES, (0.4, 1.5)),
    "restart": Envelope(("chatd-1",), (5.0, 6.0)),
    "pause": Envelope(NODES, (0.8, 2.5)),
    "term": Envelope(NODES, (3.5, 5.0), {"deadline_s": (2.5, 3.0)}),
    "rolling": Envelope(NODES, (5.0, 6.0), {"deadline_s": (3.0, 4.0)}),
    "crash_loop": Envelope(NODES, (3.5, 5.0), {"every_s": (1.5, 2.5)}),
    "loop_block": Envelope(NODES, (2.0, 3.0), {"block_ms": (300, 600), "every_s": (0.9, 1.4)}),
    "disk_full": Envelope(NODES, (1.5, 3.0)),
    # on connections and streams, by the embedded engine
    "disconnect": Envelope(WIRES, (1.0, 2.0), {"share": (0.2, 1.0)}, {"how": ("fin", "rst")}),
    "half_open": Envelope(WIRES, (5.5, 6.5), {"share": (0.2, 0.6)}, {"side": ("client", "server")}),
    "half_close": Envelope(WIRES, (1.0, 2.0), {}, {"direction": ("downstream", "upstream")}),
    "blackhole": Envelope(WIRES, (1.5, 3.0), {}, {"mode": ("hold", "drop"), **SIDES}),
    "limit_time": Envelope(WIRES, (2.0, 3.5), {"lifetime_ms": (300, 1_200)}, {"how": ("fin", "rst")}),
    "flap": Envelope(WIRES, (2.5, 4.0), {"down_ms": (200, 600), "up_ms": (400, 900)}),
    "storm": Envelope(WIRES, (0.8, 2.0), {}, {"how": ("fin", "rst")}),
    "partition": Envelope(WIRES, (1.5, 3.0), {}, {"mode": ("hold", "drop")}),
    "loss": Envelope(WIRES, (3.0, 5.0), {"lost": (0.2, 0.4), "rto_ms": (150, 300)}),
    "delay": Envelope(
        WIRES,
        (2.5, 5.0),
        {"p50_ms": (80, 200), "p99_ms": (300, 600)},
        {"distribution": ("normal", "lognormal", "pareto")},
        over=STOPPING,
    ),
    "stall": Envelope(WIRES, (1.5, 3.0), {}, {"direction": ("downstream", "upstream")}),
    "refuse": Envelope(WIRES, (2.0, 3.0), {"refused": (0.5, 1.0)}, over=DOORS, alone=False),
    "accept_close": Envelope(WIRES, (2.0, 3.0), over=DOORS, alone=False),
    "fail_first_n": Envelope(WIRES, (2.0, 3.0), {"attempts": (1, 2)}, over=DOORS, alone=False),
    "connect_delay": Envelope(WIRES, (2.0, 3.0), {"delay_ms": (150, 500)}, over=DOORS, alone=False),
    "connect_blackhole": Envelope(WIRES, (2.0, 3.0), {}, {"how": ("accept",)}, over=DOORS, alone=False),
    # on messages, where that breaks no promise of the server
    "frame_delay": Envelope(WIRES, (2.5, 4.0), {"delay_ms": (80, 250)}, ways=SOCKETS),
    "frame_close": Envelope(WIRES, (0.5, 1.5), {}, {"code": tuple(sorted(OF_INTERMEDIARIES))}, ways=SOCKETS),
    "frame_suppress_ping": Envelope(WIRES, (6.0, 7.0), ways=SOCKETS),
    # as strict proxies do
    "refuse_upgrade": Envelope(WIRES, (2.0, 3.0), over=DOORS, alone=False, ways=SOCKETS),
    "buffer_stream": Envelope(
        WIRES, (5.0, 6.5), over=("reset_peer", "down"), alone=False, after_s=GIVEN_UP_S, ways=("sse",)
    ),
}
_VOID: Final = "the load itself is hit, so the run is void by design"
_TEST: Final = "it breaks a promise in the server's name, so the run fails by design"
_TRACE: Final = "an honest server and client do not feel it, so no record shows it"
LEFT_OUT: Final[Mapping[str, str]] = {
    **dict.fromkeys(("client_kill", "client_pause"), _VOID),
    **dict.fromkeys(("corrupt", "frame_drop", "frame_duplicate", "frame_swap", "frame_corrupt"), _TEST),
    **dict.fromkeys(("frame_rewrite", "frame_move", "frame_inject"), _TEST),
    **dict.fromkeys(("frame_oversize", "frame_bad_mask", "frame_bad_utf8"), _TEST),
    "frame_fragment": _TRACE,
    "promote": "it needs a replica of the broker",
    "node_start": "it needs a node that is not there yet",
}


class SwarmSection(BaseModel):
    """[swarm]: what is drawn. Times are seconds from the start of the load."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    seed: int | None = Field(None, ge=0, lt=2**63)  # None: the scenario's
    least: int = Field(2, ge=1, le=20)  # faults, not counting those laid over them
    most: int = Field(4, ge=1, le=20)
    kinds: tuple[str, ...] = tuple(ENVELOPE)
    from_s: float | None = Field(None, ge=0)  # None: when the warm-up and a quiet time are over

    @field_validator("kinds", mode="before")
    @classmethod
    def _a_list(cls, kinds: object) -> object:
        return tuple(kinds) if isinstance(kinds, list) else kinds

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [kind for kind in kinds if kind not in ENVELOPE]:
            raise ValueError(f"{', '.join(unknown)} cannot be drawn: must be of {', '.join(ENVELOPE)}")
        if not any(ENVELOPE[kind].alone for kind in kinds):
            raise ValueError("at least one kind must be able to stand alone, not only be laid over another")
        return kinds

    @field_validator("most")
    @classmethod
    def _not_below_least(cls, most: int, info: Any) -> int:
        if most < (least := info.data.get("least", most)):
            raise ValueError(f"must be at least {least}, least")
        return most


@dataclass(frozen=True, slots=True)
class Ground:
    """What there is to strike.

    ``proxies``: of clients and links. ``processes``: of the run's own, under test; () with a server that
    somebody else started. ``ways``: by which clients come, as a persona's ``transport`` says.
    """

    proxies: Sequence[str] = PROXIES
    processes: Sequence[str] = PROCESSES
    ways: Sequence[str] = ("websocket",)

    def has(self, kind: str) -> bool:
        """Whether there is anything for this kind."""
        if kind in OF_ONE_LOG and self._shared:
            return False
        if (ways := ENVELOPE[kind].ways) and not set(ways) & set(self.ways):
            return False
        return bool(self.processes) or FAULTS[kind].where is Where.PROXY

    def places(self, kind: str, *, alone: bool) -> tuple[str, ...]:
        """What a fault of this kind may be aimed at.

        Args:
            alone: no other fault lies over it. One that does needs clients that feel both.
        """
        targets_ = ENVELOPE[kind].targets
        if not self._shared:
            return targets_
        if targets_ == WIRES:
            known = targets(self.proxies)
            wires = [name for name in known if not is_link(name)]
            links = [name for name in known if is_link(name) and name.removeprefix("link-").isdecimal()]
            return (*wires, *(links if alone and kind in LINKED else ()))
        if kind == "rolling":
            return targets_
        nodes = [name for name in self.processes if name.startswith("chatd-")]
        brokers = [name for name in self.processes if name.startswith("broker-")]
        strikes = alone and kind in OF_BROKERS and brokers == [BROKER]
        return (*nodes, *(brokers if strikes else ()))

    def stretch(self, kind: str) -> int:
        """How many times as long a fault of this kind takes as with one node."""
        return sum(name.startswith("chatd-") for name in self.processes) if kind == "rolling" else 1

    @property
    def _shared(self) -> bool:
        """Several nodes, or one, with a log behind a broker."""
        return len(self.proxies) > len(PROXIES)


def swarm(
    section: SwarmSection,
    seed: int,
    *,
    run_s: float,
    warmup_s: float = 0.0,
    ground: Ground | None = None,
    able: Sequence[str] = tuple(FAULTS),
) -> list[dict[str, Any]]:
    """The [[fault]] tables of one seed, in order of start.

    Args:
        seed: used where the section has none.
        run_s, warmup_s: length of the load, and of the warm-up at its beginning.
        ground: what there is to strike; None: one node, started by the run.
        able: kinds that the engine can do.
    """
    seed = seed if section.seed is None else section.seed
    dice, ground = _Dice(seed), ground or Ground()
    usable = {kind: ENVELOPE[kind] for kind in section.kinds if kind in able and ground.has(kind)}
    left = [kind for kind, one in usable.items() if one.alone or set(one.over) & set(usable)]
    count = section.least + dice.below("count", section.most - section.least + 1)
    at_s = warmup_s + QUIET_S if section.from_s is None else section.from_s
    tables: list[dict[str, Any]] = []
    number = 0
    while left and number < count:
        kind = left.pop(dice.below(f"{number}/kind/{len(left)}", len(left)))
        under, upper = _pair(dice, f"{number}/{kind}", kind, usable)
        main = _drawn(dice, f"{number}-{under}", under, ground, alone=upper is None)
        main["at_s"] = round(at_s + AROUND_S + dice.between(f"{main['id']}/at", (0.0, 1.0)), 1)
        end_s = main["at_s"] + main["duration_s"]
        after_s = usable[upper].after_s if upper is not None else AROUND_S
        if end_s + after_s + TAIL_S > run_s:
            continue  # another kind may be shorter
        tables.append(main)
        if upper is not None:
            laid = _drawn(dice, f"{number}-over-{upper}", upper, ground, alone=False)
            long_s = round(AROUND_S + main["duration_s"] + after_s, 1)
            tables.append(
                laid | {"target": ALL, "at_s": round(main["at_s"] - AROUND_S, 1), "duration_s": long_s}
            )
        at_s = end_s + after_s - AROUND_S + RECOVER_S
        number += 1
        left = [kind for kind in left if kind != under]
    return sorted(tables, key=lambda table: (table["at_s"], table["id"]))


def _pair(dice: _Dice, what: str, kind: str, usable: Mapping[str, Envelope]) -> tuple[str, str | None]:
    """A kind that stands alone, and the one that is laid over it, if any; ``kind`` is one of them."""
    if not usable[kind].alone:
        under = [name for name in usable[kind].over if name in usable]
        return under[dice.below(f"{what}/under", len(under))], kind
    over = [name for name, envelope in usable.items() if kind in envelope.over]
    if not over or dice.share(f"{what}/over") >= OVER_SHARE:
        return kind, None
    return kind, over[dice.below(f"{what}/upper", len(over))]


def _drawn(dice: _Dice, fault_id: str, kind: str, ground: Ground, *, alone: bool) -> dict[str, Any]:
    """One fault, without its start."""
    envelope, places = ENVELOPE[kind], ground.places(kind, alone=alone)
    target = places[dice.below(f"{fault_id}/target", len(places))]
    keys = {
        key: dice.between(f"{fault_id}/{key}", span)
        for key, span in envelope.keys.items()
        if not (is_link(target) and key in OF_CLIENTS)
    }
    lasts_s = float(dice.between(f"{fault_id}/duration", envelope.duration_s))
    duration_s = round(lasts_s * ground.stretch(kind), 1)
    choices = {
        key: values[dice.below(f"{fault_id}/{key}", len(values))] for key, values in envelope.among.items()
    }
    fixed = {"id": fault_id, "kind": kind, "target": target, "duration_s": duration_s}
    return {**fixed, **choices, **keys}


class _Dice:
    """Draws by name, fixed for one seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def share(self, what: str) -> float:
        """In [0, 1)."""
        return (draw(self._seed, "swarm", what) >> 11) / 2**53

    def below(self, what: str, n: int) -> int:
        """An integer in [0, n)."""
        return draw(self._seed, "swarm", what) * n >> 64

    def between(self, what: str, span: Range) -> int | float:
        """In a range: an integer between integers, both included, else to a tenth."""
        low, high = span
        if isinstance(low, int) and isinstance(high, int):
            return low + self.below(what, high - low + 1)
        return round(low + self.share(what) * (high - low), 1)
