"""The arrows of ARCHITECTURE.md: who may import whom, read from the source and proven in a process."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("chatd", "loadgen", "chaos", "reports", "scenarios")
ALLOWED = {
    "chatd": (),
    "reports": (),
    "chaos": ("reports.history",),
    "loadgen": ("chatd.protocol", "reports.history"),
    "scenarios": ("chatd", "loadgen", "chaos", "reports"),
}
LOCUST_IMPORTERS = {"loadgen/master.py", "loadgen/locustfile.py"}
SIGNAL_SENDERS = {"chaos/process.py", "chatd/crashes.py"}  # the second kills itself, as a test hook


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Absolute dotted names of everything that a module imports, relative imports resolved."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{stem}.{alias.name}" for alias in node.names}
    return names


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_its_arrows_allow(package: str) -> None:
    allowed = (package, *ALLOWED[package])
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(package)
        for name in sorted(imported(path))
        if name.split(".")[0] in PACKAGES and not any(within(name, prefix) for prefix in allowed)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_arrow_reader_sees_relative_and_absolute_imports(tmp_path: Path) -> None:
    source = ROOT / "chatd" / "protocol" / "cursor.py"
    assert "chatd.protocol.messages.Position" in imported(source)


def test_only_the_master_and_the_locustfile_import_locust() -> None:
    importers = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in modules(package)
        if any(within(name, "locust") or within(name, "gevent") for name in imported(path))
    }
    assert importers <= LOCUST_IMPORTERS


def test_no_gevent_in_the_processes_that_run_on_uvloop() -> None:
    code = (
        "import sys, chatd.server, loadgen.worker, chaos.nemesis, chaos.proxy, reports.render, scenarios.cli;"
        "print(sorted({'gevent', 'locust'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_signals_are_sent_from_one_module_only() -> None:
    senders = set()
    for package in PACKAGES:
        for path in modules(package):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    receiver = node.func.value
                    on_os = isinstance(receiver, ast.Name) and receiver.id == "os"
                    if node.func.attr == "send_signal" or (on_os and node.func.attr in {"kill", "killpg"}):
                        senders.add(str(path.relative_to(ROOT)))
    assert senders <= SIGNAL_SENDERS


@pytest.mark.parametrize("package", PACKAGES)
def test_there_is_no_drawer_for_everything(package: str) -> None:
    drawers = {"utils", "util", "common", "helpers", "misc"}
    assert not [str(path) for path in modules(package) if path.stem in drawers or path.parent.name in drawers]
