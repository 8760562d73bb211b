"""Waiting for a process to be ready, and what is known of one that ends before."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from chaos.process import Process, ProcessSpec, Supervisor
from scenarios.ready import StageFailed, await_ready

LONG_S = 30.0


def started(supervisor: Supervisor, directory: Path, code: str) -> Process:
    argv, log = (sys.executable, "-c", code), directory / "server-1.log"
    return supervisor.start(ProcessSpec(name="server-1", argv=argv, log=log, role="target"))


def test_who_ends_before_it_is_ready_has_broken_no_promise(supervisor, tmp_path):
    process = started(supervisor, tmp_path, "import sys; sys.exit('no such flag')")
    with pytest.raises(StageFailed, match=r"the server ended at its start(?s:.)*no such flag"):
        await_ready(supervisor, process, lambda: False, what="the server")
    (end,) = supervisor.poll()
    assert (end.code, end.planned, end.ready) == (1, False, False)


def test_who_was_ready_has_its_end_on_its_own_account(supervisor, tmp_path):
    process = started(supervisor, tmp_path, "input()")
    await_ready(supervisor, process, lambda: True, what="the server")
    end = supervisor.wait("server-1", timeout_s=LONG_S)  # its stdin is empty
    assert end is not None
    assert end.ready
    assert not end.planned
