"""Gates: objectives of a scenario that set the exit status. ``[[gate]]`` in a scenario or a gates file.

    [[gate]]
    id = "p99"                       # unique
    kind = "threshold"               # integrity | threshold | validity | regression
    metric = "delivery"              # a name in METRICS
    expr = "p(99) < 50ms"            # or, for counts, max = 0
    phase = "steady"                 # default "all": every phase but warm-ups
    where = { fault = "none" }       # or a fault's id; channel = "room:3"; persona = "slow";
                                     # transport = "sse"

The tightest of the gates on p(99) of all deliveries is the objective that ``recovery.slo`` waits for.
What may be asked of which metric is in ``reports.metrics``. Metrics that compare two groups of clients
take both: ``where = { persona = "beside", against = "control" }``.

A message counts to a fault if it was in flight while the fault was in force or those whom it
cut off were not yet back; ``fault = "none"`` leaves all such messages out.

Grammar of ``expr``, spaces ignored:

    expr  = stat op number [ unit ]
    stat  = "p(" number ")" | "min" | "max" | "mean" | "count"
    op    = "<" | "<=" | ">" | ">=" | "==" | "!="
    unit  = "ns" | "us" | "µs" | "ms" | "s" | "min"      of a time, always written
          | "/s"                                         of a rate, always written
          | "x"                                          of a ratio, always written
          | "KiB" | "MiB" | "GiB"                        of a size, always written
                                                         of a count: none

A metric that the run does not have fails its gate: silence is not a pass. One that counts a class
which the server does not promise is unknown, unless the others it counts fail it.

A gate of kind "regression" compares two sides over several runs, so only ``chatproof ab`` judges it:

    [[gate]]
    id = "p99-not-worse"
    kind = "regression"
    metric = "delivery"              # of those that are a time, a rate or a ratio
    stat = "p(99)"                   # as in expr
    max_increase = "10%"             # how much worse the new side may be
    min_delta = "1ms"                # optional: less than this is never a failure
    pairs = 5                        # optional: runs a side before it is decided
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from reports.metrics import LATENCY_METRICS, METRICS, Metric, Unit

_TO_MS: Final = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "μs": 1e-3, "ms": 1.0, "s": 1e3, "min": 6e4}
_EXPR: Final = re.compile(
    r"\s*(?:p\s*\(\s*(?P<q>\d+(?:\.\d+)?)\s*\)|(?P<stat>min|max|mean|count))"
    r"\s*(?P<op><=|>=|==|!=|<|>)\s*(?P<number>-?\d+(?:\.\d+)?)\s*(?P<unit>[a-zA-Zµμ/%]*)\s*"
)
_TO_MIB: Final = {"KiB": 1 / 1024, "MiB": 1.0, "GiB": 1024.0}


@dataclass(frozen=True, slots=True)
class Expr:
    """A parsed ``expr``. ``threshold`` is in the metric's unit (milliseconds for a time)."""

    stat: str  # "p", "min", "max", "mean" or "count"
    op: str
    threshold: float
    quantile: float = 0.0  # of "p": 0–100

    @property
    def name(self) -> str:
        return f"p({self.quantile:g})" if self.stat == "p" else self.stat

    def holds(self, actual: float) -> bool:
        return {
            "<": actual < self.threshold,
            "<=": actual <= self.threshold,
            ">": actual > self.threshold,
            ">=": actual >= self.threshold,
            "==": actual == self.threshold,
            "!=": actual != self.threshold,
        }[self.op]

    def margin(self, actual: float) -> float | None:
        """Room left until the gate fails, in the metric's unit; negative: by how much it failed."""
        if self.op in ("<", "<="):
            return self.threshold - actual
        if self.op in (">", ">="):
            return actual - self.threshold
        return -abs(actual - self.threshold) if self.op == "==" else None


def parse_expr(text: str, metric: Metric) -> Expr:
    """Read an ``expr`` for a metric.

    Raises:
        ValueError: not of the grammar, or a statistic or unit that the metric does not have.
    """
    found = _EXPR.fullmatch(text)
    if not found:
        raise ValueError(f'expr is {text!r}: write a statistic, a comparison and a number, as "p(99) < 50ms"')
    stat = "p" if found["q"] is not None else found["stat"]
    quantile = float(found["q"] or 0)
    if not metric.has(stat):
        offered = ", ".join("p(…)" if s == "p" else s for s in metric.stats.split())
        raise ValueError(f"expr asks for {stat!r}: this metric has {offered}")
    if stat == "p" and not 0 < quantile <= 100:
        raise ValueError(f"expr asks for p({quantile:g}): a percentile is above 0 and at most 100")
    if stat == "p" and metric.quantiles and quantile not in metric.quantiles:
        offered = ", ".join(f"p({q:g})" for q in metric.quantiles)
        raise ValueError(f"expr asks for p({quantile:g}): this metric has {offered}")
    unit = Unit.COUNT if stat == "count" else metric.unit
    number = _in_unit(float(found["number"]), found["unit"], unit)
    return Expr(stat, found["op"], number, quantile)


def _in_unit(number: float, written: str, unit: Unit) -> float:
    if unit is Unit.TIME:
        if written not in _TO_MS:
            raise ValueError(
                f"expr has the unit {written or 'none'!r}: a time is written with ns, us, ms, s or min"
            )
        return number * _TO_MS[written]
    if unit is Unit.SIZE:
        if written not in _TO_MIB:
            raise ValueError(
                f"expr has the unit {written or 'none'!r}: a size is written with KiB, MiB or GiB"
            )
        return number * _TO_MIB[written]
    if written != unit:
        wanted = "a count has no unit"
        if unit is not Unit.COUNT:
            wanted = f'a {unit.name.lower()} is written with "{unit}"'
        raise ValueError(f"expr has the unit {written or 'none'!r}: {wanted}")
    return number


_ID: Final = r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$"


class Where(BaseModel):
    """Narrows a gate's metric to some of its samples."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fault: str | None = None  # a fault's id, or "none"
    channel: str | None = None  # a channel's name
    persona: str | None = None  # a persona's name: what its clients saw
    transport: Literal["websocket", "sse", "poll"] | None = None  # what came by it: clients may change theirs
    against: str | None = None  # of a comparison: the persona whose clients are the control group


class Gate(BaseModel):
    """One ``[[gate]]`` table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=_ID)
    kind: Literal["integrity", "threshold", "validity"]
    metric: str
    expr: str = ""
    max: float | None = None  # shorthand of a count's expr: "count <= max"
    phase: str = "all"
    where: Where = Where()

    @field_validator("metric")
    @classmethod
    def _known(cls, value: str, info: ValidationInfo) -> str:
        if value not in METRICS:
            raise ValueError(f"it is one of {', '.join(METRICS)}")
        kinds = METRICS[value].kinds.split()
        if info.data.get("kind", kinds[0]) not in kinds:
            raise ValueError(f"this metric is for gates of kind {' or '.join(kinds)}")
        return value

    @field_validator("expr")
    @classmethod
    def _readable(cls, value: str, info: ValidationInfo) -> str:
        metric = METRICS.get(info.data.get("metric", ""))
        if value and metric:
            parse_expr(value, metric)
        return value

    @field_validator("max")
    @classmethod
    def _of_a_count(cls, value: float | None, info: ValidationInfo) -> float | None:
        metric = METRICS.get(info.data.get("metric", ""))
        if value is not None and metric and metric.unit is not Unit.COUNT:
            raise ValueError('this metric has a unit, so write expr = "max < …"')
        return value

    @field_validator("phase", "where")
    @classmethod
    def _selectable(cls, value: Any, info: ValidationInfo) -> Any:
        metric = METRICS.get(info.data.get("metric", ""))
        asked = value.model_dump(exclude_none=True) if isinstance(value, Where) else {}
        if info.field_name == "phase" and value != "all":
            asked = {"phase": value}
        wrong = [key for key in asked if metric and key not in metric.selects.split()]
        if wrong:
            raise ValueError(f"this metric cannot be narrowed by {' and '.join(wrong)}: leave it out")
        return value

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        if (self.max is None) == (not self.expr):
            raise ValueError("write exactly one of expr and max")
        if METRICS[self.metric].compares and not (self.where.persona and self.where.against):
            raise ValueError("this metric compares two personas: write persona and against in where")
        return self

    @property
    def parsed(self) -> Expr:
        if self.max is not None:
            return Expr("count", "<=", self.max)
        return parse_expr(self.expr, METRICS[self.metric])

    @property
    def written(self) -> str:
        """The condition as one reads it."""
        return self.expr or f"count <= {self.max:g}"


def _form(table: object) -> str:
    """By its kind a table is read as the one model or the other, so that errors are about the right one."""
    kind = table.get("kind") if isinstance(table, Mapping) else getattr(table, "kind", "")
    return "regression" if kind == "regression" else "gate"


class Regression(BaseModel):
    """One ``[[gate]]`` table of kind "regression"."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=_ID)
    kind: Literal["regression"]
    metric: str
    stat: str
    max_increase: str
    min_delta: str = ""
    pairs: int = Field(default=5, ge=2, le=50)
    phase: str = "all"
    where: Where = Where()

    @field_validator("metric")
    @classmethod
    def _comparable(cls, value: str) -> str:
        if value not in METRICS or METRICS[value].unit is Unit.COUNT:
            able = ", ".join(name for name, metric in METRICS.items() if metric.unit is not Unit.COUNT)
            raise ValueError(f"it is one of {able}")
        return value

    @field_validator("max_increase")
    @classmethod
    def _a_share(cls, value: str) -> str:
        if not re.fullmatch(r"\d+(\.\d+)?%", value):
            raise ValueError('a share of what there was, written as "10%"')
        return value

    @model_validator(mode="after")
    def _measurable(self) -> Self:
        # Each says what is wrong with its own keys; the probe in the words of any other gate.
        _ = self.limit, self.probe
        return self

    @property
    def probe(self) -> Gate:
        """A gate that holds in any run, and whose actual figure is the one that is compared."""
        unit = METRICS[self.metric].unit
        kind = METRICS[self.metric].kinds.split()[0]
        return Gate.model_validate(
            {"id": self.id, "kind": kind, "metric": self.metric, "expr": f"{self.stat} >= 0{unit}",
             "phase": self.phase, "where": self.where}
        )  # fmt: skip

    @property
    def better(self) -> Literal["lower", "higher"]:
        return "higher" if METRICS[self.metric].unit is Unit.RATE else "lower"

    @property
    def limit(self) -> tuple[float, float]:
        """``max_increase`` as a ratio, and ``min_delta`` in the metric's unit."""
        increase = float(self.max_increase[:-1]) / 100
        if not self.min_delta:
            return increase, 0.0
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Zµμ/]*)", self.min_delta)
        if not found:
            raise ValueError(f'min_delta is {self.min_delta!r}: a number and a unit, as "1ms"')
        return increase, _in_unit(float(found[1]), found[2], METRICS[self.metric].unit)


class _GateFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    gate: tuple[
        Annotated[
            Annotated[Gate, Tag("gate")] | Annotated[Regression, Tag("regression")], Discriminator(_form)
        ],
        ...,
    ] = ()


class GatesError(ValueError):
    """Gates that cannot be used; ``faults`` holds one line each, all of a file at once."""

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        super().__init__("\n".join(f"{source}: {fault}" for fault in faults))
        self.source, self.faults = source, list(faults)


def parse_gates(tables: Mapping[str, Any], *, source: str) -> tuple[Gate, ...]:
    """Gates of a parsed TOML document with ``version`` and ``gate`` that one run is judged by.

    Args:
        source: name of the document, for errors.
    Raises:
        GatesError: with every fault of the document, in its regression gates too.
    """
    return tuple(gate for gate in _parse(tables, source) if isinstance(gate, Gate))


def parse_regressions(tables: Mapping[str, Any], *, source: str) -> tuple[Regression, ...]:
    """The regression gates of the same document; see ``parse_gates``."""
    return tuple(gate for gate in _parse(tables, source) if isinstance(gate, Regression))


def _parse(tables: Mapping[str, Any], source: str) -> tuple[Gate | Regression, ...]:
    try:
        gates = _GateFile.model_validate(dict(tables)).gate
    except ValidationError as error:
        raise GatesError(source, validation_lines(error)) from None
    ids = [gate.id for gate in gates]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise GatesError(source, [f"gate.id is {name!r}: another gate has this id" for name in twice])
    return gates


def load_gates(path: Path) -> tuple[Gate, ...]:
    """Gates of a TOML file.

    Raises:
        GatesError: no such file, not TOML, or any fault in it.
    """
    return parse_gates(_read(path), source=str(path))


def load_regressions(path: Path) -> tuple[Regression, ...]:
    """Regression gates of a TOML file. Raises as ``load_gates``."""
    return parse_regressions(_read(path), source=str(path))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise GatesError(str(path), [f"cannot be read as TOML: {reason}"]) from None


def override(gates: Iterable[Gate], extra: Iterable[Gate]) -> tuple[Gate, ...]:
    """Gates with those of ``extra`` added; one with the same id takes the other's place."""
    return tuple(({gate.id: gate for gate in gates} | {gate.id: gate for gate in extra}).values())


def validation_lines(error: ValidationError) -> list[str]:
    """One line a fault: field, value, rule."""
    lines: list[str] = []
    for fault in error.errors(include_url=False):
        loc = (*fault["loc"][:2], *fault["loc"][3:])  # without which of the two models it was read as
        place = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in loc).lstrip(".")
        told = fault["msg"].removeprefix("Value error, ")
        given = f" is {fault['input']!r}" if isinstance(fault["input"], str | int | float) else ""
        if fault["type"] == "extra_forbidden":
            told = "there is no such key; remove it or mend its spelling"
        lines.append(f"{place}{given}: {told}")
    return lines


def objective_ms(gates: Iterable[Gate]) -> float | None:
    """Lowest upper limit that a gate sets on p(99) of delivery, milliseconds; None without such a gate.

    Gates on one channel, persona, transport or fault do not speak of all deliveries and are left out.
    """
    limits = [
        gate.parsed.threshold
        for gate in gates
        if gate.kind == "threshold"
        and gate.metric == "delivery"
        and (gate.parsed.name, gate.parsed.op[0]) == ("p(99)", "<")
        and gate.where.model_dump(exclude_none=True).items() <= {"fault": "none"}.items()
    ]
    return min(limits, default=None)


def tightest_ms(gates: Iterable[Gate]) -> float | None:
    """Lowest upper limit that a gate sets on a latency, milliseconds; None without such a gate."""
    limits = [
        gate.parsed.threshold
        for gate in gates
        if gate.kind == "threshold"
        and gate.metric in LATENCY_METRICS
        and gate.parsed.stat != "count"
        and gate.parsed.op in ("<", "<=")
    ]
    return min(limits, default=None)
