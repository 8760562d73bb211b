"""A server that the run did not start: over TLS, with tokens, through the fault proxy."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reports.history import Transport
from tests.chatd.certificates import Certificate, make_certificate
from tests.e2e.test_fallback import transports
from tests.e2e.test_run import ROOT, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(700)]
SECRET = "forty characters of secret, at the least"
SCENARIO = """
version = 1
why = "Can a server that somebody else runs be held to its promises too?"

[server]
url = "{url}"
http_url = "{http_url}"
tls.ca = "ca.pem"

[workload]
clients = 20
channels = 4
channels_per_client = 2
connect_over_s = 0.5

[workload.auth]
secret_file = "secret"

[[workload.persona]]
name = "socket"
weight = 0.5

[[workload.persona]]
name = "stream"
weight = 0.3
transport = "sse"

[[workload.persona]]
name = "polling"
weight = 0.2
transport = "poll"

[[workload.phase]]
name = "all"
duration_s = 6.0
publish_per_s = 30.0

[[fault]]
id = "cut"
kind = "down"
target = "a"
at_s = 3.0
duration_s = 0.5

[expect]
resumes = true

[[gate]]
id = "some-day"
kind = "threshold"
metric = "delivery"
expr = "p(99) < 10s"
"""


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path, "ca")


@pytest.fixture
def server(tmp_path: Path, certificate: Certificate) -> Iterator[dict[str, str]]:
    """The addresses of a chatd that nobody but this test knows of."""
    (tmp_path / "secret").write_text(SECRET)
    argv = [
        sys.executable,
        "-m",
        "chatd",
        "--port",
        "0",
        "--http-port",
        "free",
        "--data",
        str(tmp_path / "data"),
    ]
    argv += ["--tls-cert", str(certificate.cert), "--tls-key", str(certificate.key)]
    argv += ["--auth-secret-file", str(tmp_path / "secret"), "--retry-ms", "100,1000"]
    with subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, bufsize=0) as process:
        assert process.stderr is not None
        line = process.stderr.readline().decode()
        found = re.search(r"url=(wss://127\.0\.0\.1:\d+)/ws.* page=(https://127\.0\.0\.1:\d+)/", line)
        assert found, line
        yield {"url": found[1], "http_url": found[2]}
        process.terminate()


def test_a_server_with_tls_and_tokens_is_held_to_its_promises(tmp_path: Path, server: dict[str, str]) -> None:
    (tmp_path / "theirs.toml").write_text(SCENARIO.format(**server))
    status, output, summary = run("theirs.toml", cwd=tmp_path)
    assert status == 0, output
    assert summary["via"].startswith("proxy")
    assert summary["coverage"]["resumed"] >= 20
    assert summary["coverage"]["acked"] > 100
    came = transports(tmp_path / "runs/latest")
    assert {way: list(came.values()).count(way) for way in Transport} == {
        Transport.WEBSOCKET: 10, Transport.SSE: 6, Transport.POLL: 4,
    }  # fmt: skip
    again, output, second = run(
        "theirs.toml", "--set", "fault=[]", "--set", "expect.resumes=false", cwd=tmp_path
    )
    assert again == 0, output  # nothing of the first run stands in its channels, and no id was seen before
    assert second["coverage"]["acked"] > 100
    assert second["coverage"]["duplicate_acks"] == 0
    written = "".join(
        path.read_text(errors="replace") for path in (tmp_path / "runs/latest").rglob("*.json*")
    )
    assert SECRET not in written
    assert "eyJ" not in written  # what every JWT begins with


def test_a_server_that_is_not_trusted_is_not_loaded(tmp_path: Path, server: dict[str, str]) -> None:
    (tmp_path / "other").mkdir()
    stranger = make_certificate(tmp_path / "other", "ca")
    stranger.cert.rename(tmp_path / "ca.pem")
    (tmp_path / "theirs.toml").write_text(SCENARIO.format(**server))
    status, _, summary = run("theirs.toml", cwd=tmp_path)
    assert status == 5
    assert "server.tls.ca is 'ca.pem': it does not vouch for the certificate at wss://" in str(
        summary["void"]
    )


def test_a_server_that_is_not_there_over_http_is_not_loaded(
    tmp_path: Path, server: dict[str, str], certificate: Certificate
) -> None:
    (tmp_path / "theirs.toml").write_text(SCENARIO.format(**server))
    status, _, summary = run(
        "theirs.toml", "--set", f"server.http_url={server['http_url'].replace('127.0.0.1', '127.0.0.2')}",
        cwd=tmp_path,
    )  # fmt: skip
    assert status == 5
    assert "Connection refused" in str(summary["void"])
    assert "let them in at server.http_url" in str(summary["void"])
