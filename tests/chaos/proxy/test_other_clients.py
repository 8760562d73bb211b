"""Two more unmodified clients of Toxiproxy drive the embedded proxy, where they are installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.conformance.engines")

from tests.chaos.engine_servers import embedded  # noqa: E402 - rewritten first
from tests.conformance.engines import Engine, passes  # noqa: E402

ROOT = Path(__file__).parents[3]
PACKAGES = ROOT / ".tools/node/node_modules"
CHAOSTOOLKIT = ROOT / ".tools/chaostoolkit/bin/python"

EXPERIMENT = """
import sys
from chaostoxi.proxy import actions as proxies, probes
from chaostoxi.toxic import actions as toxics

where = {"toxiproxy_host": sys.argv[1], "toxiproxy_port": sys.argv[2]}
assert probes.proxy_exist("wire", configuration=where)
toxics.create_latency_toxic(for_proxy="wire", toxic_name="late", latency=50, jitter=5, configuration=where)
toxics.create_bandwith_degradation_toxic(for_proxy="wire", toxic_name="slow", rate=7, configuration=where)
toxics.delete_toxic(for_proxy="wire", toxic_name="late", configuration=where)
proxies.disable_proxy("wire", configuration=where)
proxies.enable_proxy("wire", configuration=where)
"""

DRIVE = """
const { Toxiproxy } = require("toxiproxy-node-client");
const assert = require("assert");
(async () => {
  const client = new Toxiproxy(process.argv[2]);
  const body = { name: "node", listen: "127.0.0.1:0", upstream: process.argv[3] };
  const proxy = await client.createProxy(body);
  assert.strictEqual((await client.get("node")).name, "node");
  const toxic = await proxy.addToxic({ name: "late", type: "latency", stream: "downstream", toxicity: 1,
                                       attributes: { latency: 120, jitter: 0 } });
  await toxic.update({ attributes: { latency: 60 } });
  assert.strictEqual((await proxy.getToxic("late")).attributes.latency, 60);
  await toxic.remove();
  await assert.rejects(proxy.getToxic("late"));
  await proxy.addToxic({ name: "some", type: "cut", attributes: { how: "rst" }, ordinals: [7], live: true });
  await proxy.update({ enabled: false });
  assert.strictEqual((await client.get("node")).enabled, false);
  await client.reset();
  const again = await client.populate([{ name: "two", listen: "127.0.0.1:0", upstream: process.argv[3] }]);
  const two = Object.values(again)[0];
  assert.strictEqual(two.name, "two");
  assert.deepStrictEqual(Object.keys(await client.getAll()).sort(), ["node", "p", "two"]);
  await two.remove();
  console.log(JSON.stringify({ listen: (await client.get("node")).listen }));
})().catch((error) => { console.error(error); process.exit(1); });
"""


@pytest.fixture
def engine() -> Iterator[Engine]:
    with embedded() as engine:
        yield engine


def test_the_node_client_drives_it(engine, tmp_path):
    node = shutil.which("node")
    if node is None or not (PACKAGES / "toxiproxy-node-client").is_dir():
        pytest.skip(
            "needs Node and its client: `npm install --prefix .tools/node toxiproxy-node-client@4.1.0`"
        )
    with engine.proxied() as proxy:
        upstream = "{}:{}".format(*proxy.listener.getsockname())
        script = tmp_path / "drive.js"
        script.write_text(DRIVE)
        done = subprocess.run(
            [node, str(script), engine.url, upstream],
            capture_output=True,
            text=True,
            timeout=30,
            env=os.environ | {"NODE_PATH": str(PACKAGES)},
        )
        assert done.returncode == 0, done.stderr
        proxy.listen = json.loads(done.stdout)["listen"]
        pair = proxy.connect()
        passes(pair.client, pair.server)


def test_chaostoolkit_toxiproxy_drives_it(engine, tmp_path):
    if not CHAOSTOOLKIT.exists():
        pytest.skip(
            "needs chaostoolkit-toxiproxy: `python3 -m venv .tools/chaostoolkit && "
            ".tools/chaostoolkit/bin/pip install chaostoolkit-toxiproxy`"
        )
    with engine.proxied("wire"):
        host, _, port = engine.url.removeprefix("http://").rpartition(":")
        script = tmp_path / "drive.py"
        script.write_text(EXPERIMENT)
        command = [str(CHAOSTOOLKIT), str(script), host, port]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        shown = engine.ok("GET", "/proxies/wire")
        assert (shown["enabled"], [each["name"] for each in shown["toxics"]]) == (True, ["slow"])
        assert shown["toxics"][0]["attributes"] == {"rate": 7}
