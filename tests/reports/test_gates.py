"""Gates as written: the grammar, and every fault of a file at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports.gates import (
    Expr,
    Gate,
    GatesError,
    Where,
    load_gates,
    override,
    parse_expr,
    parse_gates,
    parse_regressions,
    tightest_ms,
)
from reports.metrics import METRICS


def gate(**more: Any) -> dict[str, Any]:
    return {"id": "g", "kind": "threshold", "metric": "delivery", "expr": "p(99) < 50ms"} | more


def faults_of(*gates: dict[str, Any], **document: Any) -> list[str]:
    with pytest.raises(GatesError) as caught:
        parse_gates({"gate": list(gates)} | document, source="gates.toml")
    assert str(caught.value).startswith("gates.toml: ")
    return caught.value.faults


@pytest.mark.parametrize(
    ("text", "metric", "expr"),
    [
        pytest.param("p(99) < 50ms", "delivery", Expr("p", "<", 50.0, 99.0), id="percentile"),
        pytest.param("p(99.9)<=1.5s", "delivery", Expr("p", "<=", 1500.0, 99.9), id="no spaces"),
        pytest.param("  max  <  5 s ", "recovery.all_back", Expr("max", "<", 5000.0), id="many spaces"),
        pytest.param("p( 50 ) < 800us", "ack", Expr("p", "<", 0.8, 50.0), id="microseconds"),
        pytest.param("min >= 20µs", "service", Expr("min", ">=", 0.02), id="micro sign"),
        pytest.param("max < 2min", "resume", Expr("max", "<", 120_000.0), id="minutes"),
        pytest.param("max < 900ns", "connect", Expr("max", "<", 0.0009), id="nanoseconds"),
        pytest.param("count == 0", "lost", Expr("count", "==", 0.0), id="count"),
        pytest.param("count > 10", "delivery", Expr("count", ">", 10.0), id="count of samples"),
        pytest.param("mean > 1000/s", "deliveries_per_s", Expr("mean", ">", 1000.0), id="rate"),
        pytest.param("p(99) <= 1.5x", "catch_up.others_ratio", Expr("p", "<=", 1.5, 99.0), id="ratio"),
        pytest.param("count != 3", "resumes", Expr("count", "!=", 3.0), id="not equal"),
        pytest.param("p(99) < 5ms", "lag", Expr("p", "<", 5.0, 99.0), id="lag"),
        pytest.param("max < 512KiB", "memory", Expr("max", "<", 0.5), id="size in KiB"),
        pytest.param("max < 2 GiB", "memory", Expr("max", "<", 2048.0), id="size in GiB"),
    ],
)
def test_an_expression_is_read(text: str, metric: str, expr: Expr) -> None:
    found = parse_expr(text, METRICS[metric])
    assert (found.stat, found.op, found.quantile) == (expr.stat, expr.op, expr.quantile)
    assert found.threshold == pytest.approx(expr.threshold)


@pytest.mark.parametrize(
    ("text", "metric", "told"),
    [
        pytest.param("p99 < 50ms", "delivery", "write a statistic, a comparison and a number", id="p99"),
        pytest.param("p(99) < 50", "delivery", "the unit 'none'", id="a time without a unit"),
        pytest.param("p(99) < 50 lightyears", "delivery", "the unit 'lightyears'", id="unknown unit"),
        pytest.param("p(99) < 50/s", "delivery", "the unit '/s'", id="a rate's unit for a time"),
        pytest.param("count == 0ms", "lost", "a count has no unit", id="a count with a unit"),
        pytest.param("mean > 1000", "deliveries_per_s", 'a rate is written with "/s"', id="a bare rate"),
        pytest.param(
            "p(99) < 1.5", "catch_up.others_ratio", 'a ratio is written with "x"', id="a bare ratio"
        ),
        pytest.param("max < 5MB", "memory", "a size is written with KiB, MiB or GiB", id="MB"),
        pytest.param("p(101) < 1ms", "delivery", "a percentile is above 0 and at most 100", id="p(101)"),
        pytest.param("p(0) < 1ms", "delivery", "a percentile is above 0 and at most 100", id="p(0)"),
        pytest.param("max == 0", "lost", "this metric has count", id="max of a count"),
        pytest.param("p(99.9) < 5ms", "lag", "this metric has p(50), p(99)", id="a percentile nobody kept"),
        pytest.param("p(99) = 5ms", "delivery", "write a statistic", id="one equals sign"),
        pytest.param("", "delivery", "write a statistic", id="empty"),
    ],
)
def test_an_expression_that_cannot_be_meant_is_refused(text: str, metric: str, told: str) -> None:
    with pytest.raises(ValueError, match="expr ") as caught:
        parse_expr(text, METRICS[metric])
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        pytest.param(gate(expr=""), "gate[0]: write exactly one of expr and max", id="neither expr nor max"),
        pytest.param(
            {"id": "g", "kind": "integrity", "metric": "lost", "expr": "count == 0", "max": 0},
            "gate[0]: write exactly one of expr and max",
            id="both",
        ),
        pytest.param(
            {"id": "g", "kind": "threshold", "metric": "delivery", "max": 50},
            "has a unit",
            id="max of a time",
        ),
        pytest.param(gate(metric="latency"), "gate[0].metric is 'latency': it is one of lost,", id="metric"),
        pytest.param(
            gate(kind="integrity"),
            "gate[0].metric is 'delivery': this metric is for gates of kind threshold",
            id="kind of another metric",
        ),
        pytest.param(gate(kind="hope"), "gate[0].kind is 'hope'", id="unknown kind"),
        pytest.param(gate(severity="warn"), "gate[0].severity is 'warn': there is no such key", id="key"),
        pytest.param(gate(where={"region": "eu"}), "gate[0].where.region", id="key of where"),
        pytest.param(
            gate(metric="delivery.ratio", expr="p(99) < 2x", where={"persona": "slow"}),
            "this metric compares two personas: write persona and against",
            id="comparison with nobody",
        ),
        pytest.param(
            gate(where={"persona": "slow", "against": "control"}),
            "this metric cannot be narrowed by against",
            id="control group of one figure",
        ),
        pytest.param(gate(id="a b"), "gate[0].id is 'a b'", id="id"),
        pytest.param(
            {"id": "g", "kind": "integrity", "metric": "lost", "max": 0, "phase": "steady"},
            "gate[0].phase is 'steady': this metric cannot be narrowed by phase",
            id="phase of a class",
        ),
        pytest.param(
            gate(metric="recovery.all_back", expr="max < 5s", where={"fault": "cut"}),
            "gate[0].where: this metric cannot be narrowed by fault",
            id="where of a recovery",
        ),
        pytest.param(
            {
                "id": "g",
                "kind": "threshold",
                "metric": "connect",
                "expr": "max < 1s",
                "where": {"channel": "x"},
            },
            "gate[0].where: this metric cannot be narrowed by channel",
            id="channel of a connect",
        ),
    ],
)
def test_a_gate_that_cannot_be_meant_is_refused(given: dict[str, Any], told: str) -> None:
    (fault,) = faults_of(given)
    assert told in fault


def test_all_faults_of_a_file_are_told_at_once() -> None:
    faults = faults_of(
        gate(id="one", expr="p(99) < 50"),
        gate(id="two", metric="latency", colour="red"),
        gate(id="three", kind="validity"),
        {"id": "four"},
    )
    assert [fault.split(":")[0].split(" ")[0] for fault in faults] == [
        "gate[0].expr",
        "gate[1].metric",
        "gate[1].colour",
        "gate[2].metric",
        "gate[3].kind",
        "gate[3].metric",
    ]


def test_two_gates_of_one_id_are_refused() -> None:
    assert faults_of(gate(), gate()) == ["gate.id is 'g': another gate has this id"]


def test_a_version_of_tomorrow_is_refused() -> None:
    assert faults_of(version=2)[0].startswith("version is 2")


def test_a_gate_of_another_file_adds_or_takes_the_place() -> None:
    own = parse_gates({"gate": [gate(id="a"), gate(id="b")]}, source="s")
    more = parse_gates({"gate": [gate(id="b", expr="max < 1s"), gate(id="c")]}, source="m")
    both = override(own, more)
    assert [g.id for g in both] == ["a", "b", "c"]
    assert both[1].expr == "max < 1s"


def test_a_gates_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "gates.toml"
    path.write_text('version = 1\n[[gate]]\nid = "g"\nkind = "integrity"\nmetric = "D1"\nmax = 0\n')
    (found,) = load_gates(path)
    assert (found.metric, found.written) == ("D1", "count <= 0")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param(b"[[gate", "cannot be read as TOML", id="not TOML"),
        pytest.param(b"\xff\xfe", "cannot be read as TOML", id="not text"),
    ],
)
def test_a_gates_file_that_cannot_be_read_is_an_error(
    tmp_path: Path, content: bytes | None, told: str
) -> None:
    path = tmp_path / "gates.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(GatesError, match=told):
        load_gates(path)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_can_be_asked_for(metric: str) -> None:
    known = METRICS[metric]
    stat = known.stats.split()[-1]
    stat = f"p({known.quantiles[0] if known.quantiles else 90:g})" if stat == "p" else stat
    unit = "" if stat == "count" else known.unit
    where = Where(persona="near", against="far") if known.compares else Where()
    kind: Any = known.kinds.split()[0]
    made = Gate(id="g", kind=kind, metric=metric, expr=f"{stat} < 5{unit}", where=where)
    assert made.parsed.threshold == 5


@pytest.mark.parametrize(
    ("op", "actual", "holds", "margin"),
    [
        pytest.param("<", 4, True, 1, id="below"),
        pytest.param("<", 5, False, 0, id="not below"),
        pytest.param("<=", 5, True, 0, id="at most"),
        pytest.param(">", 7, True, 2, id="above"),
        pytest.param(">=", 4, False, -1, id="not at least"),
        pytest.param("==", 5, True, 0, id="equal"),
        pytest.param("==", 7, False, -2, id="not equal by"),
        pytest.param("!=", 7, True, None, id="different has no margin"),
    ],
)
def test_a_margin_is_the_room_that_is_left(op: str, actual: float, holds: bool, margin: float | None) -> None:
    expr = Expr("max", op, 5)
    assert (expr.holds(actual), expr.margin(actual)) == (holds, margin)


def test_the_tightest_limit_is_the_lowest_upper_one_of_a_latency() -> None:
    gates = parse_gates(
        {
            "gate": [
                gate(id="a", expr="p(99) < 80ms"),
                gate(id="b", metric="ack", expr="max <= 65ms"),
                gate(id="c", expr="min > 1us"),
                gate(id="d", expr="count < 3"),
                gate(id="e", metric="recovery.all_back", expr="max < 1ms"),
                gate(id="f", kind="validity", metric="lag", expr="p(99) < 2ms"),
            ]
        },
        source="s",
    )
    assert tightest_ms(gates) == 65
    assert tightest_ms([]) is None


# Regression gates ----------------------------------------------------------------------------------------


def regression(**more: Any) -> dict[str, Any]:
    given = {"id": "r", "kind": "regression", "metric": "delivery", "stat": "p(99)", "max_increase": "10%"}
    return given | more


def test_a_regression_gate_is_read_beside_the_others_and_judges_no_single_run() -> None:
    document = {"gate": [gate(), regression(min_delta="1ms", pairs=7)]}
    assert [g.id for g in parse_gates(document, source="x")] == ["g"]
    (found,) = parse_regressions(document, source="x")
    assert (found.pairs, found.limit, found.better) == (7, (0.10, 1.0), "lower")
    assert found.probe.parsed == Expr("p", ">=", 0.0, 99.0)


@pytest.mark.parametrize("metric", ["deliveries_per_s", "sends_per_s"])
def test_of_a_rate_the_higher_is_the_better(metric: str) -> None:
    (found,) = parse_regressions({"gate": [regression(metric=metric, stat="mean")]}, source="x")
    assert found.better == "higher"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        pytest.param(regression(max_increase="a lot"), "gate[0].max_increase is 'a lot'", id="increase"),
        pytest.param(regression(max_increase=0.1), "gate[0].max_increase is 0.1", id="increase as a number"),
        pytest.param(regression(min_delta="1"), "a time is written with ns, us, ms", id="delta without unit"),
        pytest.param(regression(min_delta="soon"), "min_delta is 'soon': a number and a unit", id="delta"),
        pytest.param(regression(stat="median"), "write a statistic, a comparison and a number", id="stat"),
        pytest.param(
            regression(metric="lost"), "gate[0].metric is 'lost': it is one of delivery", id="count"
        ),
        pytest.param(regression(pairs=1), "gate[0].pairs is 1", id="one pair"),
        pytest.param(
            regression(expr="p(99) < 1ms"), "gate[0].expr is 'p(99) < 1ms': there is no such key", id="key"
        ),
        pytest.param(regression(metric="connect", where={"channel": "x"}), "narrowed by channel", id="where"),
    ],
)
def test_a_regression_gate_that_cannot_be_meant_is_refused(given: dict[str, Any], told: str) -> None:
    (fault,) = faults_of(given)
    assert told in fault


def test_ids_are_unique_across_all_kinds() -> None:
    assert faults_of(gate(id="same"), regression(id="same")) == [
        "gate.id is 'same': another gate has this id"
    ]
