"""The notebook of the examples runs, and what is stored in it is what its cells show."""

from __future__ import annotations

import ast
import base64
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import pandas as pd
import pytest

from tests.reports.synthetic import Cut, fault_lines, small

NOTEBOOK: Final = Path(__file__).parents[2] / "examples/notebook.ipynb"
MAX_PICTURE_BYTES: Final = 150_000
Cell = dict[str, Any]
# Of the machine that it was run on, or of a run that went wrong.
UNWANTED: Final = re.compile(
    r"(?<!\w)/(?:tmp|work|root|home|Users)/|[A-Z]:\\\\|Traceback|\bin \d+(?:\.\d+)? ?s\b"
)


def cells() -> list[Cell]:
    """The cells with code."""
    found = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == "code"]


def stored() -> list[dict[str, Any]]:
    """All outputs."""
    return [output for cell in cells() for output in cell["outputs"]]


def told(output: dict[str, Any]) -> str:
    """An output's text in every form but pictures."""
    data = output.get("data", {})
    return json.dumps({key: text for key, text in data.items() if key != "image/png"}) + str(
        output.get("text")
    )


@dataclass
class Ran:
    """``known``: what the cells left; ``shown``: the value that each ends with, None where it shows none."""

    known: dict[str, Any]
    shown: dict[str, Any]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    made = small(cuts=[Cut(4, 5, 1)], faults=fault_lines("cut", "down", 4, 5, target="b"))
    run = made.write(tmp_path_factory.mktemp("notebook") / "run")
    known: dict[str, Any] = {}
    shown = {}
    with pytest.MonkeyPatch.context() as patch, mpl.rc_context({"backend": "agg"}):
        patch.setenv("CHATPROOF_RUN", str(run))
        for cell in cells():
            shown[cell["id"]] = _result("".join(cell["source"]), cell["id"], known)
        known["plt"].close("all")
    return Ran(known, shown)


def _result(source: str, name: str, known: dict[str, Any]) -> Any:
    """Run a cell as a notebook does: its last expression is its value, unless a semicolon hides it."""
    *body, last = ast.parse(source).body
    if not isinstance(last, ast.Expr) or source.rstrip().endswith(";"):
        exec(compile(source, name, "exec"), known)
        return None
    exec(compile(ast.Module(body, []), name, "exec"), known)
    return eval(compile(ast.Expression(last.value), name, "eval"), known)


def test_it_runs_on_a_run(ran: Ran) -> None:
    assert len(ran.known["live"])
    assert set(ran.known["disturbed"].kind) <= {"fault in force", "coming back"}
    assert len(ran.known["disturbed"])


def test_what_a_cell_shows_is_stored_with_it(ran: Ran) -> None:
    for cell in cells():
        value, outputs = ran.shown[cell["id"]], cell["outputs"]
        assert bool(outputs) == (value is not None or "plt.subplots" in "".join(cell["source"])), cell["id"]
        if isinstance(value, pd.DataFrame):  # run again and save it after a change of what is shown
            assert all(f"<th>{column}</th>" in told(outputs[0]) for column in value.columns), cell["id"]


def test_what_is_stored_is_of_no_machine_and_no_failure() -> None:
    assert {output["output_type"] for output in stored()} == {"execute_result", "display_data"}
    assert not [found[0] for output in stored() if (found := UNWANTED.search(told(output)))]


def test_saving_it_again_changes_nothing_but_what_a_run_measured() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert notebook["metadata"]["language_info"] == {"name": "python", "version": "3.11"}
    assert not [cell["id"] for cell in notebook["cells"] if cell["metadata"]]  # times of execution go there
    assert not [output for output in stored() if output["metadata"]]
    assert [cell["execution_count"] for cell in cells()] == list(range(1, len(cells()) + 1))


def test_pictures_and_tables_are_small() -> None:
    pictures = [output["data"]["image/png"] for output in stored() if "image/png" in output["data"]]
    assert pictures
    assert sum(len(base64.b64decode(picture)) for picture in pictures) < MAX_PICTURE_BYTES
    assert all(told(output).count("<tr") <= 12 for output in stored())
