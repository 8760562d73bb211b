"""How commands end: each status of the shell means one thing, whatever the command."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

import scenarios.cli
from reports.verdict import Exit

ON_A_SCENARIO = {
    "run": ["run", "nowhere"],
    "plan": ["plan", "nowhere"],
    "ab": ["ab", "smoke", "nowhere"],
    "capacity": ["capacity", "nowhere"],
    "soak": ["soak", "nowhere"],
}


@pytest.mark.parametrize("arguments", ON_A_SCENARIO.values(), ids=ON_A_SCENARIO)
def test_a_scenario_that_is_not_there_is_a_usage_error(arguments: list[str]) -> None:
    ended = CliRunner().invoke(scenarios.cli.main, arguments)
    assert ended.exit_code == Exit.USAGE, ended.output
    assert "'nowhere' is no scenario" in ended.output
    assert "Traceback" not in ended.output


@pytest.mark.parametrize(
    ("error", "status"),
    [
        pytest.param(ZeroDivisionError("planted"), Exit.INTERNAL, id="a defect"),
        pytest.param(KeyboardInterrupt(), Exit.INTERRUPTED, id="Ctrl-C"),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan", "capacity"])
def test_a_defect_is_no_failed_gate(
    command: str, error: BaseException, status: Exit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str) -> None:
        raise error

    monkeypatch.setattr(scenarios.cli, "find", broken)
    ended = CliRunner().invoke(scenarios.cli.main, [command, "smoke"])
    assert ended.exit_code == status, ended.output
    assert ("Please report them" in ended.output) == (status is Exit.INTERNAL)


def test_what_click_refuses_keeps_its_own_words() -> None:
    ended = CliRunner().invoke(scenarios.cli.main, ["run", "smoke", "--workers", "0"])
    assert ended.exit_code == Exit.USAGE
    assert "Invalid value for '--workers'" in ended.output
    assert CliRunner().invoke(scenarios.cli.main, ["--version"]).exit_code == Exit.PASS
