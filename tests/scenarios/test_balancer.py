"""[server] balancer: what HAProxy is told, what clients and nodes are told of it, and what is refused."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from loadgen.balance import POLICIES
from scenarios import balancer, doctor
from scenarios.away import Away
from scenarios.balancer import ALGORITHMS, REMEDY, Behind, OverHttp, config_text, program
from scenarios.cluster import Cluster, Member
from scenarios.model import ScenarioError, parse
from scenarios.run import Options, make_fault_plan, run_once
from tests.balancer import needs_haproxy

LISTEN = "127.0.0.1", 13_000
AT = "127.0.0.1"
DIRECT = [Behind(f"n{k}", (f"{AT}:1310{k}",), (AT, 13_100 + k), (f"{AT}:1360{k}",)) for k in (1, 2)]
WIRED = [
    Behind(
        f"n{k}",
        (f"{AT}:1320{k}", f"{AT}:1330{k}"),
        (AT, 13_100 + k),
        (f"{AT}:1340{k}", f"{AT}:1350{k}"),
    )
    for k in (1, 2)
]
THREE = {"nodes": 3, "store": "valkey", "balancer": "haproxy"}

GOLDEN = """\
global
    log stdout format iso local0
    zero-warning
    nbthread 1
    maxconn 336

defaults
    mode http
    log global
    option httplog
    option dontlognull
    option http-server-close
    http-reuse never
    option redispatch 1
    retries 3
    retry-on conn-failure empty-response response-timeout 503
    timeout connect 1s
    timeout http-request 5s
    timeout client 5s
    timeout server 5s
    timeout check 1s
    timeout tunnel 1h
    timeout client-fin 5s
    timeout server-fin 5s

frontend clients
    bind 127.0.0.1:13000
    monitor-uri /readyz
    monitor fail if { nbsrv(nodes) eq 0 }
    default_backend nodes

backend nodes
    balance leastconn
    option httpchk
    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host 127.0.0.1
    http-check expect status 200
    server n1 127.0.0.1:13101 check inter 250ms fall 2 rise 1 addr 127.0.0.1 port 13101
    server n2 127.0.0.1:13102 check inter 250ms fall 2 rise 1 addr 127.0.0.1 port 13102
"""

HALVES = """\
    monitor fail if { nbsrv(a) eq 0 }
    use_backend a if { url_param(c),mod(2) eq 0 }
    default_backend b

backend a
    balance url_param c
    hash-type consistent wt6 avalanche
    option httpchk
    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host 127.0.0.1
    http-check expect status 200
    server n1 127.0.0.1:13201 weight 16 check inter 250ms fall 2 rise 1 addr 127.0.0.1 port 13101
    server n2 127.0.0.1:13202 weight 16 check inter 250ms fall 2 rise 1 addr 127.0.0.1 port 13102

backend b
    balance url_param c
    hash-type consistent wt6 avalanche
    server n1 127.0.0.1:13301 weight 16 track a/n1
    server n2 127.0.0.1:13302 weight 16 track a/n2
"""


OVER_HTTP = """\

frontend clients-http
    bind 127.0.0.1:13001
    timeout client 34s
    timeout http-keep-alive 1h
    option http-no-delay
    monitor-uri /readyz
    monitor fail if { nbsrv(a) eq 0 }
    use_backend a-http if { url_param(c),mod(2) eq 0 }
    default_backend b-http

backend a-http
    balance leastconn
    timeout server 34s
    http-request disable-l7-retry if METH_POST
    stick-table type integer size 296
    stick on url_param(c)
    server n1 127.0.0.1:13401 track a/n1
    server n2 127.0.0.1:13402 track a/n2

backend b-http
    balance leastconn
    timeout server 34s
    http-request disable-l7-retry if METH_POST
    stick-table type integer size 296
    stick on url_param(c)
    server n1 127.0.0.1:13501 track a/n1
    server n2 127.0.0.1:13502 track a/n2
"""
HTTP = OverHttp(("127.0.0.1", 13_001), 33.5)


def scenario(server: dict[str, Any], **workload: Any) -> Any:
    load = {"clients": 4, "channels": 2, "balance": "least", "phase": [{"name": "p", "duration_s": 5.0}]}
    document = {"version": 1, "why": "Is this a question?", "server": server, "workload": load | workload}
    return parse(document, name="own")


def test_haproxy_is_told_of_nodes_that_it_reaches_directly() -> None:
    assert config_text(LISTEN, "least", DIRECT, clients=40) == GOLDEN


def test_each_half_of_the_clients_goes_through_its_own_wires_and_a_node_is_checked_once_past_them() -> None:
    assert config_text(LISTEN, "hash", WIRED, clients=40).endswith(HALVES)


def test_clients_over_http_have_a_port_and_backends_of_their_own_and_stay_on_their_node() -> None:
    plain = config_text(LISTEN, "least", WIRED, clients=40)
    both = config_text(LISTEN, "least", WIRED, clients=40, http=HTTP)
    assert both == plain.replace("maxconn 336", "maxconn 416") + OVER_HTTP
    hashed = config_text(LISTEN, "hash", WIRED, clients=40, http=HTTP)
    assert hashed.count("balance url_param c") == 4, "of the ordinal, as by itself: nothing to remember"
    assert "stick" not in hashed


def test_every_way_to_balance_that_a_balancer_can_do_has_its_algorithm() -> None:
    assert {*ALGORITHMS, "fixed"} == set(POLICIES)
    assert len({config_text(LISTEN, policy, DIRECT, clients=1) for policy in ALGORITHMS}) == len(ALGORITHMS)


@needs_haproxy
@pytest.mark.parametrize("http", [None, HTTP], ids=["", "over HTTP too"])
@pytest.mark.parametrize("nodes", [DIRECT, WIRED], ids=["direct", "through wires"])
@pytest.mark.parametrize("policy", ALGORITHMS)
def test_haproxy_takes_it_without_a_warning(
    policy: Any, nodes: list[Behind], http: OverHttp | None, tmp_path: Path
) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text(config_text(LISTEN, policy, nodes, clients=40, http=http))
    told = subprocess.run([str(program()), "-c", "-f", path], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr  # "zero-warning" makes each an error


def test_clients_are_told_of_the_balancer_alone_and_steady_state_asks_it_too() -> None:
    made = scenario(THREE)
    members = tuple(
        Member(node, f"ws://127.0.0.1:{node.number}", (f"ws://127.0.0.1:{node.number}",), ("127.0.0.1", 1))
        for node in made.layout.nodes
    )
    alone, behind = Cluster(members), Cluster(members, None, {made.layout.balancer: LISTEN})
    assert (behind.targets, behind.load_nodes, behind.host) == (("ws://127.0.0.1:13000",), (), "")
    assert (len(alone.targets), len(alone.load_nodes), alone.host) == (3, 3, "127.0.0.1:1")
    assert set(behind.asked) - set(behind.pages) == {"balancer-1"}
    assert alone.asked == alone.pages == behind.pages
    over = Cluster(members, None, {made.layout.balancer: LISTEN}, "", HTTP.listen)
    assert (behind.http_targets, over.http_targets) == ((), ("http://127.0.0.1:13001",))
    assert over.http_host == ""


def test_faults_may_be_aimed_at_the_balancer() -> None:
    made = scenario(THREE)
    assert made.layout.processes == ("chatd-1", "chatd-2", "chatd-3", "broker-1", "balancer-1")
    assert "balancer-1" not in scenario({**THREE, "balancer": ""}).layout.processes


@pytest.mark.parametrize(
    ("server", "workload", "parts"),
    [
        pytest.param(
            {"balancer": "haproxy"}, {}, ["balancer is 'haproxy'", "nodes is 1", "nodes = 2"], id="one node"
        ),
        pytest.param(
            {"balancer": "haproxy", "url": "ws://127.0.0.1:9"}, {}, ["process of the run"], id="not ours"
        ),
        pytest.param(
            {**THREE, "balancer": "nginx"}, {}, ["server.balancer is 'nginx'", "haproxy"], id="another"
        ),
        pytest.param(
            THREE, {"balance": "fixed"}, ["balance is 'fixed'", "'haproxy'", "least, hash"], id="fixed nodes"
        ),
        pytest.param(
            THREE,
            {"persona": [{"name": "old", "weight": 1.0, "transport": "sse"}]},
            ["server.http_port is 0", "come over HTTP"],
            id="over http, which is off",
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_with_a_balancer_is_refused(
    server: dict[str, Any], workload: dict[str, Any], parts: list[str]
) -> None:
    with pytest.raises(ScenarioError) as wrong:
        scenario(server, **workload)
    (line,) = wrong.value.lines
    for part in parts:
        assert part in line


def test_tls_and_a_balancer_are_refused(tmp_path: Path) -> None:
    files = {"tls_cert": str(tmp_path / "cert.pem"), "tls_key": str(tmp_path / "key.pem")}
    for path in files.values():
        Path(path).touch()
    with pytest.raises(ScenarioError, match=r"balancer is 'haproxy', and tls_cert is set.*leave one"):
        scenario({**THREE, **files})


def test_workers_on_other_hosts_cannot_dial_it_and_those_here_need_no_registry() -> None:
    made = scenario(THREE)
    plan = make_fault_plan(made)
    assert Away(2).misfits(made.server, made.workload, plan, ()) == []
    (line,) = Away(2, "10.0.0.1").misfits(made.server, made.workload, plan, ())
    assert "server.balancer is 'haproxy'" in line
    assert "loopback" in line


def test_without_haproxy_nothing_is_started_and_the_remedy_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balancer, "WHERE", ("no-such-haproxy",))
    with pytest.raises(ScenarioError) as wrong:
        run_once(scenario(THREE), Options(out=tmp_path / "runs"), Console(quiet=True))
    (line,) = wrong.value.lines
    assert line.startswith("server.balancer is 'haproxy'")
    assert REMEDY in line
    assert not (tmp_path / "runs").exists()
    found = doctor.haproxy()
    assert (found.ok, found.optional, found.found) == (False, True, "not found")
    assert REMEDY in found.remedy


def test_doctor_names_the_haproxy_that_a_run_would_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "haproxy"
    own.write_text("#!/bin/sh\necho 'HAProxy version 9.9.9-1 2026/01/01'\n")
    own.chmod(0o755)
    monkeypatch.setattr(balancer, "WHERE", ("no-such-haproxy", str(own)))
    assert doctor.haproxy().found == program() == str(own)
    assert balancer.version(str(own)) == "9.9.9-1"
    assert doctor.haproxy() in doctor.examine()
