"""A whole run against Centrifugo itself, by examples/centrifugo; skipped where it is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_run import ROOT, run
from tests.loadgen.drivers.centrifuge_server import SECRET_ENV, product

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
STORM = ROOT / "examples/centrifugo/reconnect_storm.toml"
SMALLER = {
    "workload.clients": "20",
    "workload.channels": "4",
    "workload.connect_over_s": "0.3",
    "workload.reconnect": "{ base_s = 0.1, cap_s = 0.3 }",
    "workload.phase": '[{ name = "all", duration_s = 3.0, publish_per_s = 40.0 }]',
    "fault": '[{ id = "cut", kind = "down", target = "a", at_s = 1.0, duration_s = 0.3 }]',
    # A tenth of it is the lag that the load may have, on whatever machine this runs.
    "gate": '[{ id = "some-day", kind = "threshold", metric = "delivery", expr = "p(99) < 10s" }]',
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv(SECRET_ENV, "a secret of this test alone")
    with product("a secret of this test alone") as url:
        yield url


def test_who_was_cut_off_recovers_from_centrifugo_what_it_missed(tmp_path: Path, server: str) -> None:
    words = [word for key, value in SMALLER.items() for word in ("--set", f"{key}={value}")]
    status, output, summary = run(str(STORM), "--set", f"server.url={server}", *words, cwd=tmp_path)
    assert status == 0, output
    assert summary["coverage"]["resumed"] == summary["faults"][0]["recovery"]["subscriptions"] > 0
    assert summary["coverage"]["gaps"] == 0
    assert summary["classes"]["L3"]["count"] == summary["classes"]["D1"]["count"] == 0
    assert summary["classes"]["L2"]["lacks"] == ["dedupe"]
