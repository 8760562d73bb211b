"""From [faults] and [[fault]] to a plan: every fault, its target and its times, fixed before the run.

A section is read in two steps: the keys that every fault has (``Common``), then the rest by
the model of its kind. All mistakes of a scenario are found at once, and nothing starts
before they are mended. The same faults, seed, clients and phases give the same bytes of
plan.json, in whatever order the scenario lists them.

Times in a plan are nanoseconds after t0, the start of the load.
"""

from __future__ import annotations

import difflib
import fnmatch
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from chaos.draws import draw, draw_ns
from chaos.engines import AUTO, ENGINES
from chaos.engines.base import Engine
from chaos.faults import FAULTS
from chaos.faults.base import REROUTED, Fault, Script, Shows, Where, WorkerFault
from chaos.proxy.frame_view import FrameView
from chaos.wires import dialling, is_link, meant, of_clients, targets
from chaos.wires import proxies as proxies_of

SCHEMA_VERSION: Final = 1
PROXIES: Final = proxies_of()  # of a run with one node
PROCESSES: Final = ("chatd-1",)
WORKER: Final = "worker-1"  # the first of the load; how many there are is known only when a run starts
_STRICT = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class FaultsError(Exception):
    """The faults of a scenario cannot be planned. ``problems``: all of them, one line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class FaultsSection(BaseModel):
    """[faults]: by what means the wire is broken."""

    model_config = _STRICT

    engine: str = "auto"
    toxiproxy: str = ""  # URL of a running server, or path of a binary; "" = on PATH
    self_test: bool = False  # faults that break a promise of the server in its name may run

    @property
    def engine_name(self) -> str:
        return AUTO if self.engine == "auto" else self.engine


class Common(BaseModel):
    """The keys that every [[fault]] has."""

    model_config = _STRICT

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$")  # goes into names of toxics and URLs
    kind: str
    target: str  # wires, by chaos.wires, or a process; of processes also a pattern, "chatd-*"
    at_s: float = Field(ge=0)  # from t0
    duration_s: float = Field(gt=0)  # the lease: the fault is reverted when it ends
    jitter_s: float = Field(0.0, ge=0)  # the start is put off by a draw from [0, jitter_s)
    probability: float = Field(1.0, gt=0, le=1)  # that the fault is in the plan at all


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """One [[fault]], read and checked."""

    common: Common
    params: Fault


@dataclass(frozen=True, slots=True)
class FaultSpecs:
    """All faults of a scenario, read and checked."""

    section: FaultsSection
    faults: tuple[FaultSpec, ...]


@dataclass(frozen=True, slots=True)
class PlannedFault:
    id: str
    kind: str
    target: str
    at_ns: int
    duration_ns: int
    params: Mapping[str, Any]
    ordinals: tuple[int, ...] | None  # clients that it can hit; None: a process or link, which many share

    @property
    def end_ns(self) -> int:
        return self.at_ns + self.duration_ns


class Phase(Protocol):
    """What a plan asks of a phase of the load."""

    @property
    def name(self) -> str: ...
    @property
    def duration_s(self) -> float: ...


@dataclass(frozen=True, slots=True)
class PlannedPhase:
    name: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Plan:
    """plan.json. Faults are in order of start, then of id."""

    seed: int
    proxies: tuple[str, ...]
    phases: tuple[PlannedPhase, ...]
    faults: tuple[PlannedFault, ...]
    processes: tuple[str, ...] = PROCESSES
    left_out: tuple[str, ...] = ()  # ids of those that a draw of their probability left out

    def script(self, fault: PlannedFault, *, table: Mapping[str, type[Fault]] = FAULTS) -> Script:
        """What the nemesis does for a fault of this plan."""
        params = self.params(fault, table=table)
        if params.where is Where.PROXY:
            hit = meant(fault.target, self.proxies)
        else:
            hit = aimed(fault.target, self.processes)
        return params.planned(fault.id, hit, fault.ordinals)

    def params(self, fault: PlannedFault, *, table: Mapping[str, type[Fault]] = FAULTS) -> Fault:
        """A fault of this plan as its kind reads it."""
        return table[fault.kind].model_validate(fault.params)

    def needs(self, *, table: Mapping[str, type[Fault]] = FAULTS) -> frozenset[str]:
        """Abilities that the engine must have."""
        return frozenset().union(*(self.params(fault, table=table).requires() for fault in self.faults))

    def hooked(self, *, table: Mapping[str, type[Fault]] = FAULTS) -> bool:
        """Whether some fault needs test hooks of its target."""
        return any(table[fault.kind].hooks for fault in self.faults)

    def on_wires(self, *, table: Mapping[str, type[Fault]] = FAULTS) -> bool:
        """Whether some fault acts on what clients dial."""
        return any(
            table[fault.kind].where is Where.PROXY and not is_link(fault.target) for fault in self.faults
        )

    def starts(self, *, table: Mapping[str, type[Fault]] = FAULTS) -> frozenset[str]:
        """Processes that a fault starts for the first time: they are not there before."""
        return frozenset(
            name
            for fault in self.faults
            if table[fault.kind].shows is Shows.ARRIVAL
            for name in aimed(fault.target, self.processes)
        )

    def workers(self, *, table: Mapping[str, type[Fault]] = FAULTS) -> dict[str, str]:
        """Load workers that are hit: name of the worker by id of the fault."""
        return {fault.id: fault.target for fault in self.faults if issubclass(table[fault.kind], WorkerFault)}

    def to_bytes(self) -> bytes:
        """plan.json: equal plans give equal bytes."""
        document = {
            "schema_version": SCHEMA_VERSION,
            "seed": self.seed,
            "proxies": self.proxies,
            "processes": self.processes,
            "left_out": self.left_out,
            "phases": [
                {"name": phase.name, "start_ns": phase.start_ns, "end_ns": phase.end_ns}
                for phase in self.phases
            ],
            "faults": [
                {
                    "id": fault.id,
                    "kind": fault.kind,
                    "target": fault.target,
                    "at_ns": fault.at_ns,
                    "duration_ns": fault.duration_ns,
                    "params": dict(fault.params),
                    "ordinals": fault.ordinals,
                }
                for fault in self.faults
            ],
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_bytes(cls, raw: bytes, *, table: Mapping[str, type[Fault]] = FAULTS) -> Plan:
        """Read plan.json back.

        Raises:
            FaultsError: not a plan, of another schema version, or with a fault that this build cannot do.
        """
        try:
            document = json.loads(raw)
            if (version := document["schema_version"]) != SCHEMA_VERSION:
                rule = f"this build reads version {SCHEMA_VERSION}"
                raise FaultsError([f"plan: schema_version is {version!r}: {rule}"])
            plan = _PLAN.validate_python(document)
        except (ValueError, KeyError, TypeError) as error:  # pydantic's is a ValueError
            raise FaultsError([f"plan: not a plan.json: {type(error).__name__}: {error}"]) from error
        problems: list[str] = []
        for fault in plan.faults:
            _read_params(fault.kind, fault.params, f"plan: fault {fault.id!r}", table, problems)
        if problems:
            raise FaultsError(problems)
        return plan


_PLAN: Final = TypeAdapter(Plan)


def parse_faults(
    section: Mapping[str, Any],
    faults: Sequence[Any],
    *,
    run_s: float,
    proxies: Sequence[str] = PROXIES,
    processes: Sequence[str] = PROCESSES,
    table: Mapping[str, type[Fault]] = FAULTS,
    engines: Mapping[str, type[Engine]] = ENGINES,
    view: FrameView | None = None,
    clients: int | None = None,
    balanced: bool = False,
) -> FaultSpecs:
    """Read [faults] and the list of [[fault]].

    Args:
        run_s: length of the load, seconds; every fault, jitter included, must end within it.
        processes: names of the target processes of the run.
        view: how the server's messages are read; None: they cannot be.
        clients: how many there are; None: not known, so that nobody is asked whether they are there.
        balanced: which node a client dials is not fixed.
    Raises:
        FaultsError: with every problem of both.
    """
    problems: list[str] = []
    try:
        means: FaultsSection | None = FaultsSection.model_validate(section)
    except ValidationError as error:
        means = None
        problems += [_sentence("faults", e, FaultsSection, "[faults]") for e in error.errors()]
    engine = _engine(means, engines, problems) if means else None
    specs: list[FaultSpec] = []
    ids: list[str] = []
    for number, raw in enumerate(faults, 1):
        if not isinstance(raw, Mapping):
            problems.append(f"fault {number} is {raw!r}: must be a table, [[fault]]")
            continue
        where = f"fault {number}"
        if isinstance(fault_id := raw.get("id"), str):
            where += f" ({fault_id!r})"
            ids.append(fault_id)
        common, params = _read_fault(raw, where, table, problems)
        if common and (model := table.get(common.kind)):
            problems += _misfits(common, model, where, run_s=run_s, proxies=proxies, processes=processes)
            if params is not None and (rule := params.misfit(common.duration_s)):
                problems.append(f"{where}: duration_s is {common.duration_s:g}: {rule}")
        if common is None or params is None:
            continue
        specs.append(spec := FaultSpec(common, params))
        problems += _unfit_messages(spec, where, means, view)
        if clients:
            problems += _unfit_aim(spec, where, clients, proxies, balanced)
        if engine is not None:
            problems += _unable(spec, where, engine, engines)
    for fault_id in dict.fromkeys(ids):
        if (times := ids.count(fault_id)) > 1:
            problems.append(f"fault id {fault_id!r} is used {times} times: must be unique")
    if problems or means is None:
        raise FaultsError(problems)
    return FaultSpecs(means, tuple(specs))


def make_plan(
    specs: FaultSpecs,
    *,
    seed: int,
    clients: int,
    phases: Iterable[Phase],
    proxies: Sequence[str] = PROXIES,
    processes: Sequence[str] = PROCESSES,
    balanced: bool = False,
) -> Plan:
    """Fix every fault: whether it happens, times, and the clients that it can hit.

    Links are left out of a plan in which no fault acts on one or leads it elsewhere.

    Args:
        clients: client ordinals are 1..clients.
        proxies: of clients, and links.
        balanced: which node a client dials is not fixed.
    """
    planned_phases: list[PlannedPhase] = []
    end_ns = 0
    for phase in phases:
        start_ns, end_ns = end_ns, end_ns + _ns(phase.duration_s)
        planned_phases.append(PlannedPhase(phase.name, start_ns, end_ns))
    drawn = [spec for spec in specs.faults if _happens(seed, spec.common)]
    planned = [_planned(spec, seed, clients, proxies, balanced) for spec in drawn]
    planned.sort(key=lambda fault: (fault.at_ns, fault.id))
    if not any(is_link(spec.common.target) or REROUTED in spec.params.requires() for spec in drawn):
        proxies = of_clients(proxies)
    left_out = sorted(spec.common.id for spec in specs.faults if spec not in drawn)
    return Plan(
        seed, tuple(proxies), tuple(planned_phases), tuple(planned), tuple(processes), tuple(left_out)
    )


def _unable(
    spec: FaultSpec, where: str, engine: type[Engine], engines: Mapping[str, type[Engine]]
) -> list[str]:
    """What keeps an engine from a fault: its kind, or this machine."""
    needed = spec.params.requires()
    if lacking := sorted(needed - engine.claims):
        able = [name for name, other in engines.items() if needed <= other.claims]
        remedy = f"set faults.engine to {' or '.join(able)}" if able else "no engine can"
        return [
            f"{where}: kind is {spec.common.kind!r}: engine {engine.name} cannot do it "
            f"({', '.join(lacking)}); {remedy}"
        ]
    reasons = (engine.cannot(ability) for ability in sorted(needed))
    return [f"{where}: kind is {spec.common.kind!r}: {why}" for why in reasons if why]


def _unfit_aim(
    spec: FaultSpec, where: str, clients: int, proxies: Sequence[str], balanced: bool
) -> list[str]:
    """What is wrong with the clients that a fault asks for."""
    target = spec.common.target
    if spec.params.where is not Where.PROXY or not meant(target, proxies):
        return []
    if is_link(target):
        return [f"{where}: target is {target!r}: {why}"] if (why := spec.params.link_problem()) else []
    candidates = dialling(target, clients, proxies, balanced=balanced)
    why = spec.params.aim_problem(candidates)
    return [f"{where}: {why}; {target} has {len(candidates)} of {clients} clients"] if why else []


def _planned(
    spec: FaultSpec, seed: int, clients: int, proxies: Sequence[str], balanced: bool
) -> PlannedFault:
    common, target = spec.common, spec.common.target
    ordinals = None
    if spec.params.where is Where.PROXY and not is_link(target):
        candidates = dialling(target, clients, proxies, balanced=balanced)
        ordinals = spec.params.choose(candidates, seed=seed, fault_id=common.id)
    return PlannedFault(
        id=common.id,
        kind=common.kind,
        target=target,
        at_ns=_ns(common.at_s) + draw_ns(seed, common.id, below_ns=_ns(common.jitter_s)),
        duration_ns=_ns(common.duration_s),
        params=spec.params.model_dump(),
        ordinals=ordinals,
    )


def aimed(target: str, processes: Sequence[str]) -> tuple[str, ...]:
    """The processes that a target means: those that its pattern matches, or the one of that name."""
    return tuple(fnmatch.filter(processes, target)) if "*" in target else (target,)


def _happens(seed: int, common: Common) -> bool:
    return draw(seed, common.id, "happens") < common.probability * 2**64


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _engine(
    means: FaultsSection, engines: Mapping[str, type[Engine]], problems: list[str]
) -> type[Engine] | None:
    engine = engines.get(means.engine_name)
    if engine is None:
        problems.append(f"faults: engine is {means.engine!r}: must be one of auto, {', '.join(engines)}")
    else:
        problems += engine.problems(means.toxiproxy)
    return engine


def _read_fault(
    raw: Mapping[str, Any], where: str, table: Mapping[str, type[Fault]], problems: list[str]
) -> tuple[Common | None, Fault | None]:
    """The two steps: the common keys, then the kind's. Reports what both find."""
    common: Common | None = None
    shared = Common.model_fields
    try:
        common = Common.model_validate({key: value for key, value in raw.items() if key in shared})
    except ValidationError as error:
        problems += [_sentence(where, e, Common, "a fault") for e in error.errors()]
    if not isinstance(kind := raw.get("kind"), str):
        return common, None
    own = {key: value for key, value in raw.items() if key not in shared}
    return common, _read_params(kind, own, where, table, problems)


def _read_params(
    kind: str, own: Mapping[str, Any], where: str, table: Mapping[str, type[Fault]], problems: list[str]
) -> Fault | None:
    if (model := table.get(kind)) is None:
        problems.append(f"{where}: kind is {kind!r}: must be one of {', '.join(table)}")
        return None
    try:
        return model.model_validate(dict(own))
    except ValidationError as error:
        problems += [_sentence(where, e, model, kind) for e in error.errors()]
        return None


def _misfits(
    common: Common,
    model: type[Fault],
    where: str,
    *,
    run_s: float,
    proxies: Sequence[str],
    processes: Sequence[str],
) -> list[str]:
    """What is wrong with a fault in this run, though well formed."""
    problems = []
    if problem := _mistaken(common, model, proxies, processes):
        problems.append(f"{where}: target is {common.target!r}: {problem}")
    latest_s = common.at_s + common.jitter_s + common.duration_s
    if common.at_s >= run_s:
        problems.append(f"{where}: at_s is {common.at_s:g}: the load ends at {run_s:g} s; start it earlier")
    elif latest_s > run_s:
        problems.append(
            f"{where}: duration_s is {common.duration_s:g}: the fault can last until {latest_s:g} s "
            f"and the load ends at {run_s:g} s; shorten it, or lengthen a phase"
        )
    return problems


def _mistaken(
    common: Common, model: type[Fault], proxies: Sequence[str], processes: Sequence[str]
) -> str | None:
    """Why a kind cannot be aimed at this target; None: it can."""
    acts = f"{common.kind} acts on a {model.where}, "
    if model.where is Where.WORKER:
        number = common.target.removeprefix("worker-")
        known = number != common.target and number.isdecimal() and number[0] != "0"
        return None if known else acts + "worker-1, worker-2 ... of those that --workers starts"
    on_wires = model.where is Where.PROXY
    found = meant(common.target, proxies) if on_wires else aimed(common.target, processes)
    known = on_wires or common.target in processes or found != (common.target,)
    if not found or not known:
        allowed = targets(proxies) if on_wires else processes
        return acts + (f"one of {', '.join(allowed)}" if allowed else "and this run has none of its own")
    if not on_wires and len(found) > 1 and not model.several:
        return f"{common.kind} acts on one process, and that is {len(found)}"
    return None


def _unfit_messages(
    spec: FaultSpec, where: str, means: FaultsSection | None, view: FrameView | None
) -> list[str]:
    """What is wrong with a fault on messages in this scenario."""
    problems = [f"{where}: {why}"] if (why := spec.params.view_problem(view)) else []
    if means is not None and not means.self_test and (why := spec.params.breaks_promise()):
        kind = f"kind is {spec.common.kind!r}"
        problems.append(f"{where}: {kind}: {why}; set faults.self_test to true to test the checker with it")
    return problems


def _sentence(where: str, error: ErrorDetails, model: type[BaseModel], of: str) -> str:
    """One pydantic error in our words: field, value, rule, remedy."""
    field = ".".join(map(str, error["loc"]))
    keys = list(model.model_fields)
    if error["type"] == "missing":
        described = model.model_fields[field].description
        return f"{where}: {field} is missing: {of} needs it" + (f" ({described})" if described else "")
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(field, keys, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]}? " if close else ""
        takes = f"its own keys are {', '.join(keys)}" if keys else "it has no keys of its own"
        return f"{where}: {field} is {error['input']!r}: no such key of {of}; {hint}{takes}"
    rule = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    rule = rule.replace("String should match", "must match")
    if not field:  # a rule about several keys
        return f"{where}: {rule}"
    return f"{where}: {field} is {error['input']!r}: {rule}"
