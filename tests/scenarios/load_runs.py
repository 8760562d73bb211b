"""As ``gate_runs``, for scenarios that compare kinds of clients or of load, or ask what the load takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np
import polars as pl

from reports.history import Flag, Kind, Transport
from tests.reports.synthetic import MS, T0, Cut, Records, S, Slow, fault_lines, start_line
from tests.scenarios.gate_runs import Run, Spoil, acked_late, both, in_order, leave_out, phased, repeat, swap

Make = Callable[..., Run]


def numbers(first: int, last: int) -> tuple[int, ...]:
    return tuple(range(first, last + 1))


# ── what is spoiled in records ────────────────────────────────────────────────────────────


def dials(clients: Iterable[int], times: int, *, at_s: float = 6.0) -> Spoil:
    """Each of these clients dials so often within half a second, in vain."""

    def spoil(rows: Records) -> Records:
        extra = np.zeros(len(list(clients)) * times, rows.dtype)
        extra["kind"], extra["serial"] = Kind.CONN, 65_536 + 111
        extra["client"] = np.repeat(list(clients), times)
        begun = T0 + round(at_s * S) + np.tile(np.arange(times) * (500 * MS // times), len(list(clients)))
        extra["t2"], extra["t"] = begun, begun + MS
        return in_order(np.concatenate([rows, extra]))

    return spoil


def begin_anew(rows: Records) -> Records:
    """One subscription that asked to go on did not."""
    changed = rows.copy()
    at = np.flatnonzero((rows["kind"] == Kind.SUB) & (rows["flags"] & int(Flag.RESUMED) != 0))[0]
    changed["flags"][at] &= ~np.uint8(Flag.RESUMED)
    return changed


def resident(mib: float, *, before: float = 50.0) -> dict[str, pl.DataFrame]:
    """The server's memory: before the load, and then."""
    at = [T0 - S, T0 + S, T0 + 5 * S]
    columns = {"t": at, "process": ["chatd-1"] * 3, "pid": [4712] * 3, "cpu_s": [0.1, 0.2, 0.9]}
    sizes = [round(size * 1024**2) for size in (before, (before + mib) / 2, mib)]
    return {"processes": pl.DataFrame(columns | {"rss_bytes": sizes})}


# ── runs ──────────────────────────────────────────────────────────────────────────────────

STEPS: Final = {"third": 1, "two-thirds": 6, "full": 11}  # when each begins


def budget(**more: Any) -> Run:
    fields = {"clients": 20, "channels": 4, "rate": 40.0, "spread": 0.3, **more}
    return Run(phased([("warm-up", 1), *((name, 5.0) for name in STEPS)], **fields))


SEATED: Final = numbers(1, 28)
TUNNEL: Final = numbers(29, 40)


def tunnels(times: int, clients: tuple[int, ...] = TUNNEL) -> list[Cut]:
    return [Cut(at, at + 0.4, clients=frozenset(clients)) for at in (4, 6, 8)[:times]]


def train(**more: Any) -> Run:
    fields = {
        "clients": 40,
        "channels": 10,
        "rate": 40.0,
        "spread": 0.1,
        "personas": {"seated": SEATED, "tunnel": TUNNEL},
        "cuts": tunnels(3),
        **more,
    }
    return Run(phased([("warm-up", 1), ("baseline", 2), ("train", 12)], **fields))


POLICIES: Final = {
    "none": numbers(1, 8),
    "fixed": numbers(9, 16),
    "full-jitter": numbers(17, 24),
    "decorrelated": numbers(25, 32),
    "server-hint": numbers(33, 40),
}
STORM: Final = dials(POLICIES["none"], 6)


def restart(*spoils: Spoil, **more: Any) -> Run:
    """Within a second after the restart everybody is back, each by one dial."""
    fields = {
        "clients": 40,
        "channels": 10,
        "rate": 40.0,
        "spread": 0.1,
        "personas": POLICIES,
        "cuts": [Cut(5, 7)],
        "faults": fault_lines("restart", "kill", 5, 7, target="chatd-1"),
        **more,
    }
    made = phased([("warm-up", 1), ("baseline", 3), ("restart", 12)], **fields)
    return Run(made, {1: both(*spoils)})


def hall(**more: Any) -> Run:
    fields = {"clients": 60, "channels": 1, "per_client": 1, "rate": 20.0, "spread": 0.3, **more}
    return Run(phased([("warm-up", 1), ("one-talks", 4), ("all-talk", 4)], **fields))


def pairs(*, grown_mib: float = 0.2, **more: Any) -> Run:
    """Twenty channels of two."""
    fields = {"clients": 20, "channels": 20, "rate": 40.0, "faults": [start_line("", -3)], **more}
    made = phased([("warm-up", 1), ("quiet", 6)], **fields)
    return Run(made, samples=resident(50 + grown_mib, before=50))


SOAK_S: Final = 20


def rising(bytes_per_s: int) -> dict[str, pl.DataFrame]:
    """The server's memory, a sample a second, growing for as long as the load stands still."""
    at = range(SOAK_S + 1)
    columns = {
        "t": [T0 + second * S for second in at],
        "process": ["chatd-1"] * len(at),
        "pid": [4712] * len(at),
        "cpu_s": [0.1 * second for second in at],
        "rss_bytes": [80_000_000 + bytes_per_s * second for second in at],
    }
    return {"processes": pl.DataFrame(columns)}


def long(*, bytes_per_s: int = 100, **more: Any) -> Run:
    fields = {"clients": 20, "channels": 2, "rate": 40.0, "spread": 0.0, **more}
    fields |= {"faults": [start_line("", -3)]}
    made = phased([("warm-up", 1), ("steady", SOAK_S)], **fields)
    return Run(made, samples=rising(bytes_per_s))


def slower_and_slower() -> list[Slow]:
    """Each second a few ms later than the one before, within the limit of the p99."""
    return [Slow(2 + second, 3 + second, 3.0 * second) for second in range(SOAK_S - 2)]


BESIDE: Final = numbers(3, 20)
LATE: Final = Slow(2, 9, 1500, clients=frozenset({1}))


def readers(*, mib: float = 80, slows: Iterable[Slow] = (LATE,), **more: Any) -> Run:
    """One of forty reads late, one nothing for a while."""
    personas = {"slow": (1,), "stalled": (2,), "beside": BESIDE, "control": numbers(21, 40)}
    fields = {"clients": 40, "channels": 10, "rate": 60.0, "spread": 0.1, "slows": list(slows), **more}
    fields |= {"personas": personas, "faults": [start_line("", -3)]}
    return Run(phased([("warm-up", 1), ("slow-readers", 10)], **fields), samples=resident(mib))


RESIDENTS: Final = numbers(1, 10)


def room(*, heard: int = 8_000, refused: int = 0, **more: Any) -> Run:
    fields = {
        "clients": 40,
        "channels": 10,
        "rate": 40.0,
        "spread": 0.1,
        "personas": {"residents": RESIDENTS, "crowd": numbers(11, 40)},
        "cuts": [Cut(10, 11)],
        "faults": fault_lines("crash", "kill", 10, 11, target="chatd-1"),
        **more,
    }
    made = phased([("warm-up", 1), ("enter", 4), ("leave", 4), ("crash", 10)], **fields)
    return Run(made, counters={"presence_heard": heard, "presence_failed": refused})


NOISY: Final = numbers(1, 20)


def noise(*, heard: int = 20_000, refused: int = 0, **more: Any) -> Run:
    personas = {"noisy": NOISY, "quiet": numbers(21, 40)}
    fields = {"clients": 40, "channels": 10, "rate": 60.0, "spread": 0.1, "personas": personas, **more}
    made = phased([("warm-up", 1), ("noise", 10)], **fields)
    return Run(made, counters={"typing_heard": heard, "receipt_failed": refused})


POLLING: Final = numbers(55, 60)
BY_STREAM: Final = tuple(n for n in numbers(1, 54) if n % 4 == 0)
BY_POLLS: Final = (*(n for n in numbers(1, 54) if n % 4 == 2), *POLLING)
BY_SOCKET: Final = tuple(n for n in numbers(1, 54) if n % 2)


def by_transport(rows: Records) -> Records:
    """Who is behind the strict proxy has no WebSocket; half of them have no stream."""
    changed = rows.copy()
    for clients, transport in ((BY_STREAM, Transport.SSE), (BY_POLLS, Transport.POLL)):
        mine = (rows["kind"] == Kind.CONN) & np.isin(rows["client"], clients)
        changed["flags"][mine] = transport
    return changed


def strict(*spoils: Spoil, **more: Any) -> Run:
    """All are cut off once, and come back by what they came by."""
    fields = {
        "clients": 60,
        "channels": 12,
        "rate": 40.0,
        "spread": 0.1,
        "personas": {"page": numbers(1, 54), "polling": POLLING},
        "cuts": [Cut(10, 10.5)],
        "faults": fault_lines("cut", "disconnect", 10, 10.5),
        **more,
    }
    return Run(phased([("warm-up", 1), ("chat", 7), ("cut", 8)], **fields), {1: both(by_transport, *spoils)})


def slow_for(clients: Iterable[int], begin: float, end: float, extra_ms: float) -> list[Slow]:
    return [Slow(begin, end, extra_ms, clients=frozenset(clients))]


def also(run: Run, spoil: Spoil) -> Run:
    """The same run with one more change."""
    own = run.spoil.get(1)
    spoiled = {1: both(own, spoil) if own else spoil}
    return Run(run.made, spoiled, run.counters, run.samples)


BASES: Final[dict[str, Make]] = {
    "latency_budget": budget,
    "mobile_network": train,
    "backoff_policies": lambda: restart(STORM),
    "town_hall": hall,
    "fallback_transport": strict,
    "direct_messages": pairs,
    "soak": long,
    "slow_consumers": readers,
    "presence_storm": room,
    "typing_noise": noise,
}
_PROMISES: Final[Mapping[str, Spoil]] = {
    "nothing-lost": leave_out,
    "nothing-twice": repeat,
    "nothing-out-of-order": swap,
}


def _broken(scenario: str, spoil: Spoil) -> Callable[[], Run]:
    return lambda: also(BASES[scenario](), spoil)


def _late_at(step: str) -> Callable[[], Run]:
    return lambda: budget(slows=[Slow(STEPS[step] + 1, STEPS[step] + 2, 100)])


def _rarely_late_at(step: str) -> Callable[[], Run]:
    return lambda: budget(slows=slow_for({1}, STEPS[step] + 1, STEPS[step] + 1.3, 300))


def _not_back(policy: str, after_s: float) -> Callable[[], Run]:
    client = POLICIES[policy][0]
    dialled = dials({client}, 1, at_s=7.5)  # at the same time as the others, but in vain
    return lambda: restart(STORM, dialled, late={(client, 0): after_s})


def _unpaced(policy: str) -> Callable[[], Run]:
    return lambda: restart(STORM, dials(POLICIES[policy], 3))


SPOILED: Final[dict[tuple[str, str], Callable[[], Run]]] = {
    **{(scenario, gate): _broken(scenario, spoil) for scenario in BASES for gate, spoil in _PROMISES.items()},
    **{("latency_budget", f"soon-at-{step}"): _late_at(step) for step in STEPS},
    **{("latency_budget", f"hardly-ever-late-at-{step}"): _rarely_late_at(step) for step in STEPS},
    ("mobile_network", "soon-for-the-seated"): lambda: train(slows=slow_for(SEATED, 10, 11, 2700)),
    ("mobile_network", "soon-in-the-tunnel"): lambda: train(slows=slow_for(TUNNEL, 10, 11, 2700)),
    ("mobile_network", "caught-up-after-the-tunnel"): lambda: train(
        cuts=[*tunnels(3, TUNNEL[:-1]), Cut(3.5, 9.5, clients=frozenset(TUNNEL[-1:]), on_purpose=True)]
    ),
    ("mobile_network", "resumes-happened"): lambda: train(cuts=tunnels(2)),
    ("mobile_network", "resumes-hold"): _broken("mobile_network", begin_anew),
    ("backoff_policies", "soon-while-quiet"): lambda: restart(STORM, slows=[Slow(1, 4, 900)]),
    ("backoff_policies", "all-back-none"): _not_back("none", 2.5),
    ("backoff_policies", "all-back-fixed"): _not_back("fixed", 3.5),
    ("backoff_policies", "all-back-full-jitter"): _not_back("full-jitter", 6.5),
    ("backoff_policies", "all-back-decorrelated"): _not_back("decorrelated", 6.5),
    ("backoff_policies", "all-back-server-hint"): _not_back("server-hint", 6.5),
    ("backoff_policies", "nothing-waits"): lambda: restart(STORM, acked_late(6.5, 15.5)),
    ("backoff_policies", "without-a-policy-they-storm"): lambda: restart(dials(POLICIES["none"], 1)),
    ("backoff_policies", "all-at-once-without-jitter"): lambda: restart(STORM, late={(9, 0): 1.5}),
    ("backoff_policies", "paced-full-jitter"): _unpaced("full-jitter"),
    ("backoff_policies", "paced-decorrelated"): _unpaced("decorrelated"),
    ("backoff_policies", "paced-server-hint"): _unpaced("server-hint"),
    ("fallback_transport", "soon-by-websocket"): lambda: strict(slows=slow_for(BY_SOCKET, 3, 4, 600)),
    ("fallback_transport", "soon-by-stream"): lambda: strict(slows=slow_for(BY_STREAM, 3, 4, 600)),
    ("fallback_transport", "soon-by-polls"): lambda: strict(slows=slow_for(BY_POLLS, 3, 4, 600)),
    ("fallback_transport", "resumes-happened"): lambda: strict(
        cuts=[Cut(10, 10.5, clients=frozenset(numbers(1, 40)))]
    ),
    ("fallback_transport", "resumes-hold"): _broken("fallback_transport", begin_anew),
    ("town_hall", "all-of-it-delivered"): lambda: hall(rate=10.0),
    ("town_hall", "soon-when-one-talks"): lambda: hall(slows=[Slow(2, 3, 400)]),
    ("town_hall", "soon-when-all-talk"): lambda: hall(slows=[Slow(6, 7, 400)]),
    ("town_hall", "together-when-one-talks"): lambda: hall(slows=slow_for({1}, 2, 3.5, 60)),
    ("town_hall", "together-when-all-talk"): lambda: hall(slows=slow_for({1}, 6, 7.5, 60)),
    ("direct_messages", "soon"): lambda: pairs(slows=[Slow(3, 4, 600)]),
    ("direct_messages", "memory-of-a-channel"): lambda: pairs(grown_mib=2.0),
    ("soak", "soon"): lambda: long(slows=[Slow(8, 10, 100)]),
    ("soak", "memory-stays"): lambda: long(bytes_per_s=8_000),
    ("soak", "latency-stays"): lambda: long(slows=slower_and_slower()),
    ("slow_consumers", "others-not-slower"): lambda: readers(slows=[LATE, *slow_for(BESIDE, 2, 9, 4)]),
    ("slow_consumers", "others-not-later"): lambda: readers(
        slows=[LATE, Slow(2, 9, 60), *slow_for(BESIDE, 2, 9, 12)]
    ),
    ("slow_consumers", "soon-for-all-others"): lambda: readers(slows=[LATE, Slow(2, 9, 600)]),
    ("slow_consumers", "the-slow-were-slow"): lambda: readers(slows=()),
    ("slow_consumers", "memory-bounded"): lambda: readers(mib=300),
    ("presence_storm", "soon-while-they-enter"): lambda: room(slows=slow_for(RESIDENTS, 2, 3, 600)),
    ("presence_storm", "soon-while-they-leave"): lambda: room(slows=slow_for(RESIDENTS, 6, 7, 600)),
    ("presence_storm", "all-back"): lambda: room(late={(2, 0): 6.5}),
    ("presence_storm", "presence-was-told"): lambda: room(heard=100),
    ("presence_storm", "nothing-refused"): lambda: room(refused=1),
    ("typing_noise", "not-slower-than-in-quiet-rooms"): lambda: noise(slows=slow_for(NOISY, 2, 9, 4)),
    ("typing_noise", "not-later-than-in-quiet-rooms"): lambda: noise(
        slows=[Slow(2, 9, 60), *slow_for(NOISY, 2, 9, 12)]
    ),
    ("typing_noise", "soon-for-all"): lambda: noise(slows=[Slow(2, 9, 600)]),
    ("typing_noise", "there-was-noise"): lambda: noise(heard=100),
    ("typing_noise", "nothing-refused"): lambda: noise(refused=1),
}
