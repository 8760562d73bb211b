"""Documents in step with the code: exit codes, seams, versions, commands, links."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from reports.verdict import Exit
from scenarios.cli import main
from scenarios.model import bundled_files, load

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", "ARCHITECTURE.md", "DECISIONS.md", "CHANGELOG.md", "chaos/README.md",
             "loadgen/README.md",
             "loadgen/drivers/README.md", "reports/HISTORY.md", "chatd/protocol/PROTOCOL.md"]  # fmt: skip


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_inside_the_project_lead_somewhere(document: str) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text(document))
    missing = [link for link in links if not (ROOT / document).parent.joinpath(link).exists()]
    assert not missing


def test_exit_codes_of_the_document_are_those_of_the_code() -> None:
    section = text("ARCHITECTURE.md").split("| exit | meaning |")[1].split("\n\n")[0]
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", section, flags=re.M)}
    assert documented == set(Exit)


def test_every_file_of_the_seam_table_exists() -> None:
    section = text("ARCHITECTURE.md").split("## Seams")[1].split("## Processes")[0]
    paths = re.findall(r"`((?:tests|chatd|loadgen|chaos|reports|scenarios)/[\w/]+)/x\.\w+`", section)
    paths += re.findall(r"`(tests/conformance/\w+\.py)`", section)
    assert len(paths) > 8
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_the_changelog_begins_with_the_version_of_the_package() -> None:
    version = tomllib.loads(text("pyproject.toml"))["project"]["version"]
    headings = re.findall(r"^## \[(.+?)\]", text("CHANGELOG.md"), flags=re.M)
    assert headings[0] == "Unreleased"
    assert version in headings or f"{version} " in text("CHANGELOG.md")


def test_every_command_of_the_readme_exists() -> None:
    readme = text("README.md")
    commands = set(re.findall(r"^(?:\.venv/bin/)?chatproof (\w+)", readme, flags=re.M))
    targets = set(re.findall(r"^make ([a-z-]+)", readme, flags=re.M))
    assert commands
    assert targets >= {"run", "test"}
    assert commands <= set(main.commands)
    assert targets <= set(re.findall(r"^([a-z-]+):", text("Makefile"), flags=re.M))


def test_every_option_of_the_readme_exists() -> None:
    for command, rest in re.findall(r"^(?:\.venv/bin/)?chatproof (\w+)(.*)$", text("README.md"), flags=re.M):
        shown = CliRunner().invoke(main, [command, "--help"]).output
        for option in re.findall(r"(--[a-z-]+)", rest):
            assert option in shown, f"chatproof {command} {option}"


@pytest.mark.parametrize("path", bundled_files(), ids=lambda path: path.stem)
def test_every_scenario_loads_and_asks_a_question(path: Path) -> None:
    assert load(path).why.rstrip().endswith("?")


@pytest.mark.parametrize("path", bundled_files(), ids=lambda path: path.stem)
def test_every_scenario_is_named_in_the_readme(path: Path) -> None:
    assert f"`{path.stem}`" in text("README.md")
