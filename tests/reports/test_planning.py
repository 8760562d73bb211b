"""Nodes for a need: what a plan promises, and that the page's script works out and says the same."""

from __future__ import annotations

import importlib.util
import json
import math
import random
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import planner_html
from reports.planning import RULES, Need, PlanError, Price, broken, node_plan, read_prices, rows, sentence
from tests.browser import CHROMIUM, MISSING

NODE: Final = shutil.which("node")
BOUNDS: Final = {name: (rule.low, rule.high) for name, rule in RULES.items()}
Case = tuple[float, float, float, float, float | None, str]  # peak, growth, spare, node, price, currency

CASES: Final[list[Case]] = [
    (90_000, 0.3, 1, 18_000, None, ""),
    (90_000, 0.3, 1, 18_000, 0.34, "EUR"),
    (400_000, 0, 0, 20_000, 1, ""),
    (1, 0, 0, 20_000, 0.0042, "US$"),
    (10_000, 0.1, 0, 1_100, None, ""),  # 11,000.000000000002 of 1,100: ten nodes, not eleven
    (9_000, 0.0, 1, 8_000, 1234.5, "¥"),  # 112.5 % with one gone: a tie, rounded to the even digit
    (9_001, 0.5, 2, 8_000, 0.125, ""),
    (1e9, 10, 1000, 1e-3, 1e5, "EUR"),
    (1e-9, 1e-9, 0, 1e9, 1e-4, "EUR"),
    # What breaks a rule, alone and together
    (0, 0.3, 1, 18_000, None, ""),
    (-1, -0.1, -1, -1, -1, ""),
    (math.nan, math.nan, math.nan, math.nan, math.nan, ""),
    (math.inf, math.inf, math.inf, math.inf, math.inf, ""),
    (1e9 + 1, 10.1, 1001, 1e9 + 1, 1e5 + 1, ""),
    (1, 0, 0.5, 9e-4, 0, ""),
]


def drawn(count: int) -> list[Case]:
    """Cases over all sizes that can be planned with."""
    rng = random.Random(7)
    return [
        (
            10 ** rng.uniform(-2, 9),
            rng.choice([0, 0.1, 0.3, rng.uniform(0, 10)]),
            rng.choice([0, 1, 2, rng.randint(0, 1000)]),
            10 ** rng.uniform(-3, 9),
            rng.choice([None, round(10 ** rng.uniform(-3, 3), 2) or 1.0]),
            rng.choice(["", "EUR"]),
        )
        for _ in range(count)
    ]


def in_python(case: Case) -> dict[str, Any]:
    peak, growth, spare, node, per_hour, currency = case
    values = dict(zip(RULES, (node, peak, growth, spare, per_hour), strict=True))
    if wrong := broken(values):
        return {"broken": wrong}
    need = Need(peak_deliveries_per_s=peak, growth=growth, spare=int(spare))
    price = None if per_hour is None else Price(per_hour, currency)
    plan = node_plan(need, node, price)
    told = rows(need, plan, price)
    return {"plan": asdict(plan), "sentence": sentence(need, plan), "rows": [list(row) for row in told]}


IN_SCRIPT: Final = """
const run = ([peak, growth, spare, node, hour, currency]) => {
  const [p, g, s, n] = [peak, growth, spare, node].map(Number);
  const price = hour === null ? null : { per_hour: Number(hour), currency };
  const need = { peak_deliveries_per_s: p, growth: g, spare: s };
  const wrong = Planning.broken({ ...need, node_deliveries_per_s: n, per_hour: price && price.per_hour });
  if (wrong.length) return { broken: wrong };
  const plan = Planning.nodePlan(need, n, price);
  return { plan, sentence: Planning.sentence(need, plan), rows: Planning.rows(need, plan, price) };
};
"""


def script(expression: str) -> Any:
    """The value of an expression after planner.js: in Node if there is one, else in Chromium."""
    library = (Path(planner_html.__file__).with_name("planner.js")).read_text(encoding="utf-8")
    program = f"{library}\n{IN_SCRIPT}\n"
    if NODE:
        program += f"process.stdout.write(JSON.stringify({expression}))"
        ran = subprocess.run(
            [NODE, "-"], input=program, capture_output=True, text=True, check=True, timeout=60
        )
        return json.loads(ran.stdout, parse_int=float)
    if importlib.util.find_spec("playwright") is None or MISSING:
        pytest.skip(f"no node, and no {' and no '.join(MISSING)} here: run `make browser`")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-background-networking", "--disable-dev-shm-usage"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        told = chromium.new_page().evaluate(f"() => {{ {program} return JSON.stringify({expression}); }}")
        chromium.close()
    return json.loads(told, parse_int=float)


def test_the_script_plans_and_says_what_python_does() -> None:
    cases = [*CASES, *drawn(500)]
    given = [[*map(repr, case[:4]), None if case[4] is None else repr(case[4]), case[5]] for case in cases]
    made = script(f"{json.dumps(given)}.map(run)")
    assert made == [in_python(case) for case in cases]
    assert sum("broken" in one for one in made) == 6


def test_at_its_bounds_each_rule_is_the_same_in_both() -> None:
    cases: list[Case] = []
    for index, name in enumerate(
        ("peak_deliveries_per_s", "growth", "spare", "node_deliveries_per_s", "per_hour")
    ):
        for bound in BOUNDS[name]:
            for x in (bound, math.nextafter(bound, -math.inf), math.nextafter(bound, math.inf)):
                case: list[Any] = [1.0, 0.0, 0, 1.0, 1.0, ""]
                case[index] = x
                cases.append(tuple(case))  # type: ignore[arg-type]
    given = [[*map(repr, case[:5]), ""] for case in cases]
    assert script(f"{json.dumps(given)}.map(run)") == [in_python(case) for case in cases]


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        ("", "null"),
        ("  ", "null"),
        ("400000", "400000"),
        ("400,000", "400000"),
        ("400 000", "400000"),
        ("1,234,567.5", "1234567.5"),
        (" .5", "0.5"),
        ("4e5", "400000"),
        ("0,34", "NaN"),  # may be meant as 0.34
        ("0,340", "NaN"),
        ("1,2", "NaN"),
        ("12x", "NaN"),
        ("-3", "NaN"),
        ("NaN", "NaN"),
        ("Infinity", "NaN"),
        ("0x10", "NaN"),
        ("1.2.3", "NaN"),
    ],
)
def test_what_is_typed_is_one_number_or_none(typed: str, number: str) -> None:
    assert script(f"String(Planning.read({json.dumps(typed)}))") == number


@pytest.mark.parametrize("currency", ["", "EUR"])
def test_a_plan_is_told_with_what_it_costs(currency: str) -> None:
    price = Price(0.34, currency)
    need = Need(peak_deliveries_per_s=90_000)
    plan = node_plan(need, 18_000, price)
    unit = f" {currency}" if currency else ""
    told = [(name, value.replace("\u00a0", " ")) for name, value in rows(need, plan, price)]
    assert sentence(need, plan).replace("\u00a0", " ") == (
        "For 90,000 deliveries/s at the peak and 30 % of growth: 7 nodes, and 8 so that 1 may fail."
    )
    assert [(name.replace("\u00a0", " "), value) for name, value in told] == [
        ("used of each node at the peak", "62.5 %"),
        ("used of each node at the peak, with 1 gone", "71.4 %"),
        ("used of each node after the growth", "81.2 %"),
        ("used of each node after the growth, with 1 gone", "92.9 %"),
        (f"cost an hour, 0.34{unit} a node", f"2.72{unit}"),
        ("cost a month of 730 h", f"1,986{unit}"),
    ]


@given(st.floats(1, 1e7), st.floats(0, 3), st.integers(0, 5), st.floats(10, 1e6))
def test_the_nodes_of_a_plan_serve_the_peak_even_without_the_spare_ones(
    peak: float, growth: float, spare: int, node: float
) -> None:
    need = Need(peak_deliveries_per_s=peak, growth=growth, spare=spare)
    plan = node_plan(need, node, Price(2.0))
    assert (plan.total - spare) * node >= peak * (1 + growth) * (1 - 1e-9)
    assert plan.nodes == 1 or (plan.nodes - 1) * node < peak * (1 + growth)
    assert 0 < plan.share <= plan.share_down <= plan.grown_share_down <= 1 + 1e-9
    assert plan.share <= plan.grown_share <= plan.grown_share_down
    assert plan.cost_per_hour == 2.0 * plan.total


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_without_a_measured_node_there_is_no_plan(rate: float) -> None:
    with pytest.raises(ValueError, match="nothing to plan with"):
        node_plan(Need(peak_deliveries_per_s=1.0), rate)


def test_figures_that_cannot_be_planned_with_are_all_named() -> None:
    with pytest.raises(PlanError) as wrong:
        node_plan(Need(peak_deliveries_per_s=math.nan, growth=-1.0, spare=1), 10.0, Price(0.0))
    assert [line.split(":")[0] for line in wrong.value.faults] == [
        "peak_deliveries_per_s is nan", "growth is -1", "per_hour is 0",
    ]  # fmt: skip


# prices.toml ---------------------------------------------------------------------------------------------


def written(folder: Path, text: str) -> Path:
    path = folder / "prices.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_prices_are_read(tmp_path: Path) -> None:
    assert read_prices(written(tmp_path, '[node]\nper_hour = 0.34\ncurrency = "EUR"\n')) == Price(0.34, "EUR")
    assert read_prices(written(tmp_path, "[node]\nper_hour = 2\n")) == Price(2.0, "")


def test_all_faults_of_a_file_with_prices_are_told_at_once(tmp_path: Path) -> None:
    path = written(
        tmp_path, '[node]\nper_hour = "much"\ncurrency = "a\\u0007"\nper_month = 1\n[disk]\nper_hour = 1\n'
    )
    with pytest.raises(PlanError) as wrong:
        read_prices(path)
    told = str(wrong.value)
    assert all(line.startswith(f"{path}: ") for line in told.splitlines())
    for part in ("node.per_hour is 'much'", "node.currency is 'a\\x07'", "node.per_month", "disk"):
        assert part in told
    assert told.count("there is no such key") == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "node: Field required"),
        ("[node]\n", "node.per_hour: Field required"),
        ("[node]\nper_hour = 0\n", "node.per_hour is 0"),
        ("[node]\nper_hour = nan\n", "finite number"),
        ("[node]\nper_hour = inf\n", "node.per_hour is inf"),
        ("[node]\nper_hour = true\n", "valid number"),
        ("node = 3\n", "node is 3"),
        ("[node\n", "cannot be read as TOML"),
    ],
)
def test_a_price_that_is_none_is_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(PlanError, match=r"prices\.toml: ") as wrong:
        read_prices(written(tmp_path, text))
    assert told in str(wrong.value)
