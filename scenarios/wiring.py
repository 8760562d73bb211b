"""The proxies of a run: made only where the plan acts on them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from chaos import wires
from chaos.engines import ENGINES
from chaos.engines.base import Engine, EngineError
from chaos.plan import Plan
from chaos.process import Supervisor
from loadgen.drivers import driver_named

from .layout import Node
from .model import Scenario
from .ready import StageFailed
from .rundir import RunDirectory


@dataclass(slots=True)
class Wiring:
    """The engine of a run, if it needs one. ``listening``: HOST:PORT of each proxy that was made;
    of one that is before several ports of a node, the first."""

    engine: Engine | None = None
    made: frozenset[str] = frozenset()  # names of proxies that the plan needs
    listening: dict[str, str] = field(default_factory=dict)

    def before(self, node: Node, upstream: str) -> tuple[str, ...]:
        """Where clients reach a node, HOST:PORT: its proxies, or the node itself."""
        return tuple(self._wire(name, upstream) for name in node.proxies if name in self.made) or (upstream,)

    def link(self, node: Node, broker: str) -> str:
        """Where a node reaches the broker, HOST:PORT."""
        return self.wire(node.link, broker)

    def wire(self, name: str, upstream: str) -> str:
        """Where a wire is entered, HOST:PORT: its proxy if the plan needs one, or what it leads to."""
        return self._wire(name, upstream) if name in self.made else upstream

    def reroute_links(self, upstream: str) -> list[str]:
        """Let every node's link lead elsewhere; which those are."""
        links = [name for name in self.listening if wires.is_link(name) and name != wires.REPLICA]
        for name in links if self.engine else ():
            assert self.engine is not None
            self.engine.reroute(name, upstream)
        return links

    def _wire(self, name: str, upstream: str) -> str:
        if self.engine is None:
            raise ValueError(f"proxy {name!r} is to be made, and there is no engine")
        try:
            made = self.engine.create((name,), upstream=upstream)[name]
        except EngineError as failed:
            raise StageFailed(f"the fault engine: {failed}") from None
        self.listening.setdefault(name, made)
        return made

    def describe(self) -> str:
        return f"proxy ({self.engine.describe()})" if self.engine else "direct"


def start_wiring(
    scenario: Scenario,
    plan: Plan,
    supervisor: Supervisor,
    rundir: RunDirectory,
    stack: ExitStack,
    *,
    allow_targets: tuple[str, ...] = (),
    listen_host: str = "127.0.0.1",
) -> Wiring:
    """Start the fault engine when the plan touches the wire.

    Args:
        listen_host: address of this machine on which the proxies listen.
        stack: what undoes it, is pushed there.
    Raises:
        StageFailed: it cannot be started.
    """
    if not plan.needs():
        return Wiring()
    section = scenario.faults.section
    engine = ENGINES[section.engine_name](toxiproxy=section.toxiproxy)
    stack.callback(_close, engine, rundir.problem)
    try:
        engine.start(
            supervisor,
            log_dir=rundir.path / "logs",
            run_id=rundir.run_id[-6:],
            seed=scenario.seed,
            frame_view=driver_named(scenario.workload.driver).frame_view,
            allow_targets=allow_targets,
            listen_host=listen_host,
        )
    except EngineError as failed:
        raise StageFailed(f"the fault engine: {failed}") from None
    clients = wires.of_clients(plan.proxies) if plan.on_wires() else ()
    return Wiring(engine, frozenset((*clients, *filter(wires.is_link, plan.proxies))))


def _close(engine: Engine, problem: Callable[..., None]) -> None:
    for left in engine.close():
        problem(f"left behind on the fault engine: {left}", void=False)
