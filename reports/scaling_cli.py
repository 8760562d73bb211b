"""``chatproof scaling``: from searches at several numbers of nodes to how capacity grows with them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Final

import click

from reports import scaling_page
from reports.escape import for_terminal
from reports.scaling import ScalingError, fit
from reports.scaling_report import NODES, as_json, as_markdown, as_text, read_all
from reports.verdict import Exit

_NUMBERED: Final = re.compile(r"([1-9]\d{0,5})=(.+)")


def _asked(argument: str) -> tuple[int | None, Path]:
    """``4=runs/four`` → (4, runs/four)"""
    found = _NUMBERED.fullmatch(argument)
    return (int(found[1]), Path(found[2])) if found else (None, Path(argument))


@click.command()
@click.argument("searches", metavar="[N=]CAPACITY.json…", nargs=-1, required=True)
@click.option(
    "--of",
    default=NODES,
    show_default=True,
    metavar="WHAT",
    help="What there were N of. Nodes are in the files; of cores or clients write N= before each.",
)
@click.option(
    "--out",
    metavar="DIRECTORY",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where scaling.html, scaling.md and scaling.json go.",
)  # fmt: skip
def scaling(searches: tuple[str, ...], of: str, out: Path) -> None:
    """Say how capacity grows with the number of nodes: the Universal Scalability Law, fitted to what
    ``chatproof capacity`` found at each number. Name its files, or its --out directories.

    At least three different numbers; intervals from four searches on. All have to be of one scenario with the
    same settings, and each has to have found a limit.

    Exit status: 0 fitted; 2 a file cannot be used, and all faults of all files are told.
    """
    try:
        measured = read_all(map(_asked, searches), of)
        told = as_json(measured, fit([one.point for one in measured]), of)
    except ScalingError as bad:
        for line in str(bad).splitlines():
            click.echo(for_terminal(f"error: {line}"), err=True)
        sys.exit(Exit.USAGE)
    out.mkdir(parents=True, exist_ok=True)
    (out / "scaling.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "scaling.md").write_text(as_markdown(told), encoding="utf-8")
    (out / "scaling.html").write_text(scaling_page.page(told), encoding="utf-8")
    click.echo(as_text(told) + f"\n\n  page  {out / 'scaling.html'}")
