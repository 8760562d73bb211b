"""A scenario: server + workload + faults + gates, and what the run promises to exercise.

One TOML file. Each package reads its own section (chatd ``[server]``, loadgen
``[workload]``, chaos ``[faults]`` and ``[[fault]]``, reports ``[[gate]]``), so a new fault
kind or gate never edits this module. A file is read whole: every fault in it is
reported, one line each, naming key, value and rule.
"""

from __future__ import annotations

import difflib
import itertools
import math
import tomllib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chaos.engines import ENGINES
from chaos.faults import FAULTS
from chaos.plan import FaultsError, FaultSpecs, FaultsSection, parse_faults
from chaos.proxy.frame_view import FrameView, load_view
from chaos.swarm import Ground, SwarmSection, swarm
from chatd.store.valkey.url import without_password
from loadgen.drivers import driver_named
from loadgen.personas import personas_of
from loadgen.scale import scaled
from loadgen.workload import Workload
from reports.checks import CHECKS
from reports.gates import Gate, GatesError, Regression, parse_gates, parse_regressions
from reports.metrics import counted

from .autoscale import Autoscale
from .layout import Layout, layout
from .server import Server, balancer_faults, http_faults, own_faults, target_faults, unread_faults

BUNDLED = Path(__file__).parent
Profile = Literal["at-most-once", "at-least-once", "effectively-once"]


class ScenarioError(Exception):
    """The scenario cannot be run. ``lines``: one sentence for each thing that is wrong with it."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = list(lines)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)


class Expect(_Section):
    """``[expect]``: what the run must have exercised to prove anything, else the verdict is unknown."""

    resumes: bool = False  # some subscription must have been resumed
    unexercised: float = Field(default=0.0, ge=0, le=1)  # share of channels that may stay silent
    info_share: float = Field(default=0.2, ge=0, le=1)  # share of publishes whose outcome may stay unknown


class Deadlines(_Section):
    """``[deadlines]``: every T that the checker uses."""

    settle_s: float = Field(default=20.0, gt=0)  # after healing, until all clients are back
    drain_cap_s: float = Field(default=20.0, gt=0)  # after the sentinels, until all clients have them
    drain_quiet_s: float = Field(default=3.0, gt=0)  # without any progress: the drain ends before its cap
    ack_s: float = Field(default=5.0, gt=0)  # a publish on a live connection is answered by then


class Scenario(_Section):
    """A whole scenario, validated. ``faults`` are the parsed fault instances, not yet planned."""

    name: str
    version: Literal[1]
    why: str = Field(min_length=10, max_length=200)
    seed: int = Field(default=1, ge=0, lt=2**63)
    profile: Profile = "effectively-once"
    server: Server
    workload: Workload
    faults: FaultSpecs
    swarm: SwarmSection | None = None  # what ``faults`` were drawn by, if they were
    gates: tuple[Gate, ...] = ()
    regressions: tuple[Regression, ...] = ()  # gates of kind regression: judged by `chatproof ab` alone
    autoscale: Autoscale | None = None
    expect: Expect = Expect()
    deadlines: Deadlines = Deadlines()

    @property
    def duration_s(self) -> float:
        return self.workload.duration_s

    @property
    def layout(self) -> Layout:
        """Its nodes, brokers and wires."""
        return layout(self.server)


def find(name: str) -> Path:
    """The file of a scenario: a path to a TOML file, or the name of one that comes with chatproof.

    Raises:
        ScenarioError: there is none; names the bundled ones.
    """
    path = Path(name)
    if path.suffix == ".toml":
        if path.is_file():
            return path
        raise ScenarioError([f"{name}: there is no such file"])
    bundled = BUNDLED / f"{name}.toml"
    if bundled.is_file() and path.name == name:
        return bundled
    names = [file.stem for file in bundled_files()]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"those that come with chatproof: {', '.join(names)}"
    raise ScenarioError([f"{name!r} is no scenario: {hint} (an own one is a path that ends in .toml)"])


def bundled_files() -> list[Path]:
    """Every scenario that comes with chatproof, by name."""
    return sorted(BUNDLED.glob("*.toml"))


def load(
    path: Path,
    *,
    overrides: Sequence[str] = (),
    allow_targets: Sequence[str] = (),
    swarm_seed: int | None = None,
) -> Scenario:
    """Read a scenario and apply ``--set`` overrides.

    Args:
        swarm_seed: draw faults by this seed, in the place of those that are written.
        overrides: each ``section.key=value``, the value as in TOML; a bare word is a string.
        allow_targets: hosts besides loopback that may be loaded.
    Raises:
        ScenarioError: with everything that is wrong, in the file's order of sections.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as bad:
        raise ScenarioError([f"{path.name}: cannot be read: {bad}"]) from None
    if swarm_seed is not None:
        data.pop("fault", None)
        data["swarm"] = {**data.get("swarm", {}), "seed": swarm_seed}
    lines = [line for text in overrides for line in apply_override(data, text)]
    if lines:
        raise ScenarioError(lines)
    return parse(data, name=path.stem, allow_targets=allow_targets)


def parse(data: Mapping[str, Any], *, name: str, allow_targets: Sequence[str] = ()) -> Scenario:
    """Validate the tables of a scenario; see ``load``. A ``scale`` multiplies the workload."""
    tables = dict(data)
    lines: list[str] = []
    tables["workload"] = _scaled(tables.get("workload", {}), tables.pop("scale", 1.0), lines)
    server = _section(_with_hooks(tables.pop("server", {})), Server, "server", lines)
    workload = _section(tables.pop("workload", {}), Workload, "workload", lines)
    section, written = tables.pop("faults", {}), tables.pop("fault", [])
    drawn = _section(tables.pop("swarm"), SwarmSection, "swarm", lines) if "swarm" in tables else None
    if drawn and written:
        lines.append("swarm and [[fault]] are both there: faults are drawn or written, not both")
    elif drawn and workload and server and isinstance(section, Mapping):
        seed = tables.get("seed", 1)
        written = _swarm(drawn, seed if isinstance(seed, int) else 1, section, workload, server)
    faults = _faults(section, written, server, workload, lines)
    gates, regressions = _gates(tables.pop("gate", []), workload, faults, lines)
    if server:
        lines += target_faults(server, allow_targets)
    if server and workload:
        lines += own_faults(server, workload)
        lines += unread_faults(server, workload)
        lines += http_faults(server, workload)
        lines += balancer_faults(server, workload)
    if server and server.strange:
        lines += _shared_faults(workload, faults)
    lines += _scaled_faults(tables.get("autoscale"), server, faults)
    reserved = [
        f"{key} is not a known key"
        for key in ("name", "gates", "regressions")
        if tables.pop(key, None) is not None
    ]
    fields = {
        "server": server, "workload": workload, "faults": faults, "gates": gates, "regressions": regressions,
        "swarm": drawn,
    }  # fmt: skip
    try:
        scenario = Scenario.model_validate({**tables, **fields, "name": name})
    except ValidationError as bad:
        lines = explain(bad, Scenario, skip={key for key, value in fields.items() if value is None}) + lines
        scenario = None
    if lines or reserved or scenario is None:
        raise ScenarioError([f"{name}: {line}" for line in (*reserved, *lines)])
    return scenario


def _scaled(workload: Any, scale: Any, lines: list[str]) -> Any:
    if not isinstance(scale, int | float) or isinstance(scale, bool) or not 0 < scale <= 1_000_000:
        lines.append(f"scale is {scale!r}: must be a number above 0, and 1,000,000 at most")
        return workload
    return scaled(workload, scale) if scale != 1 and isinstance(workload, Mapping) else workload


def _scaled_faults(section: Any, server: Server | None, faults: FaultSpecs | None) -> list[str]:
    """What does not go together with nodes that come and go by their load."""
    if section is None or server is None:
        return []
    lines = []
    least = section.get("min", 1) if isinstance(section, Mapping) else 1
    if isinstance(least, int) and not least < server.nodes:
        lines.append(
            f"autoscale.min is {least}: must be less than server.nodes, {server.nodes}, or none can be added"
        )
    joining = [s.common.id for s in faults.faults if s.common.kind == "node_start"] if faults else []
    if joining:
        lines.append(
            f"fault {joining[0]!r}: kind is 'node_start', and [autoscale] starts nodes: leave one out"
        )
    return lines


def _shared_faults(workload: Workload | None, faults: FaultSpecs | None) -> list[str]:
    """What needs names of channels as they are, on a server where each run gives them a suffix of its own."""
    lines = []
    if workload and workload.topology.direct_per_client:
        lines.append(
            "workload.topology.direct_per_client is set, and the server is none of chatproof's: the name "
            "of a channel of two is the same in every run, so earlier runs' messages would stand in it; "
            "leave one of them out"
        )
    for spec in faults.faults if faults else ():
        if FAULTS[spec.common.kind].hooks:
            lines.append(
                f"fault {spec.common.id!r}: kind is {spec.common.kind!r}: it needs test hooks that only "
                "a chatd of the run's own has; leave it out"
            )
        if channel := getattr(spec.params, "channel", ""):
            lines.append(
                f"fault {spec.common.id!r}: channel is {channel!r}, and the server is none of chatproof's: "
                "each run's channels there have names of their own; leave it out"
            )
    return lines


def _with_hooks(server: Any) -> Any:
    """A run on loopback may ask for a mutant without saying test_hooks as well."""
    if isinstance(server, Mapping) and server.get("mutant"):
        return {"test_hooks": True, **server}
    return server


M = typing.TypeVar("M", bound=BaseModel)


def _section(table: Any, model: type[M], key: str, lines: list[str]) -> M | None:
    try:
        return model.model_validate(table)
    except ValidationError as bad:
        lines += explain(bad, model, prefix=key)
        return None


def _swarm(
    drawn: SwarmSection, seed: int, section: Mapping[str, Any], workload: Workload, server: Server
) -> list[dict[str, Any]]:
    """The faults of a swarm plan, of kinds that the scenario's engine can do."""
    named = section.get("engine", "auto")
    engine = ENGINES.get(FaultsSection(engine=named).engine_name if isinstance(named, str) else "")
    parts = layout(server)
    warmups = itertools.takewhile(lambda phase: phase.warmup, workload.phase)
    return swarm(
        drawn,
        seed,
        run_s=workload.duration_s,
        warmup_s=sum(phase.duration_s for phase in warmups),
        ground=Ground(
            parts.proxies,
            () if server.own else parts.processes,
            sorted({one.transport for one in personas_of(workload)}),
        ),
        able=[kind for kind, model in FAULTS.items() if engine and model.needs() <= engine.claims],
    )


def _faults(
    section: Any, tables: Any, server: Server | None, workload: Workload | None, lines: list[str]
) -> FaultSpecs | None:
    if not isinstance(section, Mapping):
        lines.append(f"faults is {section!r}: must be a table, [faults]")
        return None
    if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables):
        lines.append("fault is not a list of tables: write each as [[fault]]")
        return None
    parts = layout(server or Server())
    try:
        return parse_faults(
            section,
            tables,
            run_s=workload.duration_s if workload else math.inf,
            proxies=parts.proxies,
            processes=parts.processes,
            balanced=workload is not None and workload.balance != "fixed",
            view=_view(workload.driver) if workload else None,
            clients=workload.clients if workload else None,
        )
    except FaultsError as wrong:
        lines += wrong.problems
        return None


def _view(driver: str) -> FrameView | None:
    """How faults on messages read those of the server; None when its driver does not say."""
    name = driver_named(driver).frame_view
    return load_view(name) if name else None


def _gates(
    tables: Any, workload: Workload | None, faults: FaultSpecs | None, lines: list[str]
) -> tuple[tuple[Gate, ...] | None, tuple[Regression, ...] | None]:
    try:
        gates = parse_gates({"gate": tables}, source="gate")
        regressions = parse_regressions({"gate": tables}, source="gate")
    except GatesError as wrong:
        lines += wrong.faults
        return None, None
    lines += gate_misfits([*gates, *regressions], workload, faults)
    return gates, regressions


def _unpromised(gate: Gate | Regression, driver: str) -> list[str]:
    """Of an integrity gate: what it counts that is not judged for want of a promise, in one line."""
    offered = driver_named(driver).capabilities
    checks = {cls: CHECKS[cls] for cls in counted(gate.metric) if cls in CHECKS}
    lacks = {cls: ", ".join(sorted(check.needs - offered)) for cls, check in checks.items()}
    if not any(lacks.values()):
        return []
    told = "; ".join(f"{cls} needs {needs}" for cls, needs in lacks.items() if needs)
    rest = " or ".join(cls for cls, needs in lacks.items() if not needs)
    instead = f"take {rest}, or leave it out" if rest else "leave it out"
    return [
        f"gate {gate.id!r}: metric is {gate.metric!r}: driver {driver!r} does not promise it ({told}): "
        f"{instead}"
    ]


def gate_misfits(
    gates: Sequence[Gate | Regression], workload: Workload | None, faults: FaultSpecs | None
) -> list[str]:
    """Gates that ask for a phase, persona or fault that the scenario does not have, or for what its driver's
    server does not promise, a line each."""
    lines: list[str] = []
    if workload:
        lines += [line for gate in gates for line in _unpromised(gate, workload.driver)]
        phases = ["all", *(phase.name for phase in workload.phase)]
        lines += [
            f"gate {gate.id!r}: phase is {gate.phase!r}: must be one of {', '.join(phases)}"
            for gate in gates
            if gate.phase not in phases
        ]
        personas = [persona.name for persona in personas_of(workload)]
        lines += [
            f"gate {gate.id!r}: where.persona is {gate.where.persona!r}: must be one of {', '.join(personas)}"
            for gate in gates
            if gate.where.persona is not None and gate.where.persona not in personas
        ]
        lines += [
            f"gate {gate.id!r}: where.against is {gate.where.against!r}: must be one of {', '.join(personas)}"
            for gate in gates
            if gate.where.against is not None and gate.where.against not in personas
        ]
    if faults:
        ids = ["none", *(spec.common.id for spec in faults.faults)]
        lines += [
            f"gate {gate.id!r}: where.fault is {gate.where.fault!r}: must be one of {', '.join(ids)}"
            for gate in gates
            if gate.where.fault is not None and gate.where.fault not in ids
        ]
    return lines


def explain(
    bad: ValidationError, model: type[BaseModel], *, prefix: str = "", skip: typing.Container[str] = ()
) -> list[str]:
    """One sentence for each fault of a section: key, value, rule, and a near name for an unknown key."""
    lines = []
    for error in bad.errors(include_url=False):
        loc = tuple(part for part in error["loc"] if not (isinstance(part, str) and "[" in part))
        if loc and loc[0] in skip:
            continue
        key = ".".join(str(part) for part in ((prefix, *loc) if prefix else loc)) or "the scenario"
        if error["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(loc[-1]), _fields_at(model, loc[:-1]), n=1, cutoff=0.5)
            lines.append(f"{key} is not a known key" + (f": did you mean {near[0]!r}?" if near else ""))
        elif error["type"] == "missing":
            lines.append(f"{key} is missing: it has no default")
        else:
            rule = error["msg"].removeprefix("Value error, ")
            if error["type"] == "value_error" and isinstance(error["input"], Mapping):
                lines.append(f"{key}: {rule}")  # about several keys, which it names
                continue
            given = without_password(repr(error["input"]))
            lines.append(f"{key} is {given}: {rule[:1].lower()}{rule[1:]}")
    return lines


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Names of the keys that are legal at a place inside a section."""
    for part in loc:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        nested = [] if field is None else [field.annotation, *typing.get_args(field.annotation)]
        inner = [kind for kind in nested if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return [field.alias or name for name, field in model.model_fields.items()]


def apply_override(data: dict[str, Any], text: str) -> list[str]:
    """Apply one ``--set``; returns what is wrong with it."""
    path, equals, raw = text.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or not all(keys):
        return [f"--set {text!r}: must be section.key=value, as in --set server.retain_n=1000"]
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw.strip()
    table: Any = data
    for key in keys[:-1]:
        table = table.setdefault(key, {}) if isinstance(table, dict) else None
        if isinstance(table, list):
            return [f"--set {text!r}: {key!r} is a list; edit a copy of the scenario instead"]
    if not isinstance(table, dict):
        return [f"--set {text!r}: {'.'.join(keys[:-1])!r} is a value, not a section"]
    table[keys[-1]] = value
    return []
