"""What people paste: the workflow's commands exist, its files load."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from loadgen.workload import predict
from reports.gates import load_gates, load_regressions
from reports.planning import read_prices
from scenarios.ab import read_side, regressions_for
from scenarios.cli import main, read_scenario
from scenarios.model import apply_override, load, parse

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PAGES = ("docs/continuous-integration.md", "docs/capacity-planning.md", "examples/centrifugo/README.md")


def workflow() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((EXAMPLES / "github-actions.yml").read_text(encoding="utf-8"))
    return found


def commands() -> list[list[str]]:
    """Every call of chatproof in the workflow, as words."""
    steps = [step for job in workflow()["jobs"].values() for step in job["steps"]]
    lines = [line for step in steps for line in step.get("run", "").splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("chatproof ")]


@pytest.fixture
def pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job's directory: both checkouts with their builds, and the example's files where they are read."""
    for side in ("base", "head"):
        build = tmp_path / side / "venv" / "bin" / "chatd"
        build.parent.mkdir(parents=True)
        build.write_text("#!/bin/sh\n")
        build.chmod(0o755)
    shutil.copytree(EXAMPLES / "chat", tmp_path / "head" / "chat")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_command_of_the_workflow_exists_with_its_options() -> None:
    assert {words[1] for words in commands()} == {"doctor", "run", "ab"}
    for _, command, *rest in commands():
        shown = CliRunner().invoke(main, [command, "--help"]).output
        assert all(word in shown for word in rest if word.startswith("--"))


def test_each_file_that_the_workflow_reads_is_there_and_is_right(pasted: Path) -> None:
    named = {word for words in commands() for word in words if word.endswith(".toml")}
    assert all((pasted / name).is_file() for name in named)
    assert {Path(name).name for name in named} == {path.name for path in (EXAMPLES / "chat").iterdir()}
    promises = load(pasted / "head/chat/promises.toml")
    assert promises.why.endswith("?")
    assert promises.faults.faults
    gates = pasted / "head/chat/gates.toml"
    assert {gate.kind for gate in load_gates(gates)} == {"integrity", "threshold"}
    sides = [read_side(f"head/chat/{side}.toml") for side in ("base", "head")]
    assert [side.server.command for side in sides] == [("base/venv/bin/chatd",), ("head/venv/bin/chatd",)]
    assert regressions_for(*sides, gates) == load_regressions(gates)


@pytest.mark.parametrize("path", sorted((EXAMPLES / "centrifugo").glob("*.toml")), ids=lambda path: path.stem)
def test_what_a_scenario_for_centrifugo_asks_for_its_configuration_gives(path: Path) -> None:
    scenario = load(path)
    config = json.loads((EXAMPLES / "centrifugo/config.json").read_text(encoding="utf-8"))
    listens = config["http_server"]
    assert scenario.server.url == f"ws://{listens['address']}:{listens['port']}"
    assert scenario.workload.driver == "centrifugo"
    assert scenario.workload.auth is not None
    assert scenario.workload.auth.secret_env == "CENTRIFUGO_CLIENT_TOKEN_HMAC_SECRET_KEY"
    assert scenario.workload.auth.audience == ""
    rooms = {space["name"]: space for space in config["channel"]["namespaces"]}["room"]
    assert rooms["force_recovery"]
    assert all(rooms[f"allow_{right}_for_client"] for right in ("publish", "subscribe", "history"))
    assert scenario.workload.channels_per_client <= 128  # channel_limit, unless it is configured
    expected = predict(scenario.workload, scenario.seed).publishes
    assert rooms["history_size"] > expected  # even if one channel had all of them
    assert config["client"]["recovery_max_publication_limit"] >= rooms["history_size"]
    assert {gate.kind for gate in scenario.gates} == {"integrity", "threshold"}


def test_every_command_for_centrifugo_names_a_scenario_and_settings_that_there_are() -> None:
    text = (EXAMPLES / "centrifugo/README.md").read_text(encoding="utf-8")
    lines = [shlex.split(line) for line in text.splitlines() if line.startswith("chatproof run ")]
    assert {name for _, _, name, *_ in lines} == {
        str(path.relative_to(ROOT)) for path in (EXAMPLES / "centrifugo").glob("*.toml")
    }
    for _, _, name, *rest in lines:
        tables = tomllib.loads((ROOT / name).read_text(encoding="utf-8"))
        for flag, setting in zip(rest[::2], rest[1::2], strict=True):
            assert flag == "--set"
            assert apply_override(tables, setting) == []
        parse(tables, name=name)


def test_a_workflow_may_do_no_more_than_read() -> None:
    assert workflow()["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_exists_with_its_options(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"chatproof ([a-z]+)\b([^`\n|]*)", text)
    called = [(command, rest) for command, rest in found if command in main.commands]
    assert called
    for command, rest in called:
        shown = CliRunner().invoke(main, [command, "--help"]).output
        for option in re.findall(r"(?<!\S)(--[a-z-]+)", rest):
            assert option in shown, f"chatproof {command} {option}"


def typed(page: str) -> list[list[str]]:
    """Every call of chatproof that a page shows whole, as words: no mere name, no placeholder."""
    text = (ROOT / page).read_text(encoding="utf-8")
    fenced = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.M | re.S)
    lines = [
        line for kind, block in fenced.findall(text) if kind in ("", "sh") for line in block.splitlines()
    ]
    lines += re.findall(r"`(chatproof [^`\n]+)`", fenced.sub("", text))
    found = [re.search(r"\bchatproof (?:(?!\|\||;).)*", line) for line in lines]
    calls = [shlex.split(match[0])[1:] for match in found if match]
    return [
        call
        for call in calls
        if len(call) > 1 and not [word for word in call if re.search(r"<\w+>|^[A-Z]+\d?$", word)]
    ]


@pytest.fixture
def followed(pasted: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where somebody who follows the pages to the letter is: what they copy, and runs of those names."""
    shutil.copytree(EXAMPLES / "chat", pasted, dirs_exist_ok=True)
    shutil.copytree(EXAMPLES, pasted / "examples")
    shutil.copy(ROOT / "scenarios/capacity.toml", pasted / "my.toml")
    for run in ("latest/analysis/excerpts/D1-1", "one/latest", "two/latest", "four/latest"):
        (pasted / "runs" / run).mkdir(parents=True)
    (pasted / "bin").mkdir()
    shutil.copy(pasted / "head/venv/bin/chatd", pasted / "bin/chatd")
    monkeypatch.setenv("PATH", str(pasted / "bin"), prepend=":")
    return pasted


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_can_be_typed_as_it_stands(page: str, followed: Path) -> None:
    calls = typed(page)
    assert len(calls) > 2
    for command, *rest in calls:
        with main.commands[command].make_context(command, rest) as context:  # values and files are looked at
            if {"scenario", "overrides"} <= set(context.params):
                names = ("scenario", "overrides", "seed", "scale", "allow_targets")
                assert read_scenario(*(context.params[name] for name in names))


@pytest.mark.parametrize(
    ("ends", "status"),
    [([0], 0), ([1], 1), ([3], 3), ([5, 0], 0), ([5, 3], 3), ([5, 5], 5)],
    ids=lambda value: str(value),
)
def test_only_a_void_run_has_a_second_try_and_the_last_one_counts(
    ends: list[int], status: int, tmp_path: Path
) -> None:
    text = (ROOT / PAGES[0]).read_text(encoding="utf-8")
    (step,) = [block for block in re.findall(r"```sh\n(.*?)```", text, flags=re.S) if "status" in block]
    for number, end in enumerate(ends):
        (tmp_path / f"end-{number}").write_text(str(end))
    fake = tmp_path / "chatproof"
    fake.write_text(
        f"#!/bin/bash\ncd {shlex.quote(str(tmp_path))}\n"
        'for end in end-*; do e=$(<"$end"); rm "$end"; exit "$e"; done\n'
    )
    fake.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    shell = ["bash", "-e", "-o", "pipefail", "-c", step]  # as a job's step is run
    ended = subprocess.run(shell, env={"PATH": path}, timeout=60, check=False)
    assert ended.returncode == status
    assert not list(tmp_path.glob("end-*"))


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    assert not [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]


def test_the_gates_of_the_page_for_pipelines_are_right(tmp_path: Path) -> None:
    text = (ROOT / PAGES[0]).read_text(encoding="utf-8")
    (shown,) = re.findall(r"```toml\n(.*?)```", text, flags=re.S)
    (tmp_path / "gates.toml").write_text(shown, encoding="utf-8")
    assert len(load_gates(tmp_path / "gates.toml")) == 3
    assert len(load_regressions(tmp_path / "gates.toml")) == 1


def test_every_scenario_that_the_planners_page_names_comes_with_it() -> None:
    text = (ROOT / PAGES[1]).read_text(encoding="utf-8").split("## 6.")[1]
    named = re.findall(r"^\|.*\|([^|]+)\|$", text, flags=re.M)
    names = [name for cell in named for name in re.findall(r"`(\w+)`", cell)]
    assert names
    assert not [name for name in names if not (ROOT / "scenarios" / f"{name}.toml").is_file()]


def test_the_prices_of_the_planners_page_are_right(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```toml\n(.*?)```", (ROOT / PAGES[1]).read_text(encoding="utf-8"), flags=re.S)
    (tmp_path / "prices.toml").write_text(shown, encoding="utf-8")
    assert read_prices(tmp_path / "prices.toml").per_hour == 0.34
