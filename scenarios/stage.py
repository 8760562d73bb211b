"""The processes of a run and the steps it goes through, each step a method.

Everything that must be undone is pushed on the run's exit stack as soon as it is done, so
that leaving, by whatever way, heals first, then ends the load (its records are closed),
then every other process.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from websockets.exceptions import WebSocketException

from chaos.journal import Journal
from chaos.nemesis import Nemesis
from chaos.plan import Plan
from chaos.process import Supervisor
from loadgen.drivers import driver_named
from loadgen.drivers.base import Welcome
from loadgen.prediction import quiet_channels
from loadgen.topology import Topology
from loadgen.trust import AuthFailed
from loadgen.workload import LoadSpec, channel_names
from reports.history import Mark

from .autoscale import Autoscaler, beginners
from .away import Away, number_of
from .cluster import Cluster, start_cluster, trusted
from .control import Control, ControlFailed
from .describe import described, write_inputs
from .http_trip import ask_over_http
from .live import Progress
from .load import Load, LoadFailed, Page
from .model import Scenario
from .ready import StageFailed
from .rundir import RunDirectory
from .sampler import Sampler
from .steady import CHANNEL, Probe, ProbeFailed, RoundTrip, Steady, all_ready, probes_of
from .wiring import start_wiring

START_S = 15.0  # for each process to be ready
LEAD_S = 0.7  # between the order to start and t0, so that every worker is ready for it
TICK_S = 0.1
GRACE_S = 5.0  # for a process to end by itself
STOP_S = 15.0  # for the load to close its records
WELL_S = 5.0  # for the target to be in its steady state before the load
READ_S = 60.0  # for one reading of all channels
FINAL_READS = 2


class Stage:
    """One run's processes. Methods are called in the order of their definition."""

    def __init__(
        self,
        scenario: Scenario,
        plan: Plan,
        rundir: RunDirectory,
        progress: Progress,
        stack: ExitStack,
        *,
        allow_targets: tuple[str, ...] = (),
        away: Away | None = None,
    ) -> None:
        self._away = away
        self._scenario, self._plan, self._rundir = scenario, plan, rundir
        self._allow_targets = allow_targets
        self._progress, self._stack = progress, stack
        self._nonce: int = rundir.manifest["nonce"]
        # What an earlier run left in a channel, or published under the same ids, is no anomaly of this one.
        self._suffix = f"-{self._nonce & 0xFFFFFFFF:08x}" if scenario.server.strange else ""
        self._journal = Journal(rundir.path / "faults.jsonl")
        stack.callback(self._journal.close)
        stack.callback(shutil.rmtree, rundir.path / "data", ignore_errors=True)  # of the target
        self._supervisor = Supervisor(self._journal)
        stack.callback(self._supervisor.end_all, grace_s=GRACE_S)
        self._phase, self._t0_ns = "set-up", 0
        self._nemesis: Nemesis | None = None
        self._autoscaler: Autoscaler | None = None
        self._told = 0  # of its problems, how many are in the manifest
        self._load_ended = False
        rundir.update(**described(scenario))
        rundir.manifest["load"]["channel_suffix"] = self._suffix
        write_inputs(scenario, plan, rundir)

    # -- before the load ---------------------------------------------------------------------------------

    def start_target(self) -> None:
        """Start the wires, brokers and nodes, or take the server that the scenario names; learn its contract.

        The fault engine comes first, because a node is told at its start where clients reach it; it is left
        out when the plan does not touch the wire, and clients dial the target itself.
        """
        server = self._scenario.server
        self._tls, self._http_tls = trusted(server, server.url), trusted(server, server.http_url)
        self._wiring = start_wiring(
            self._scenario,
            self._plan,
            self._supervisor,
            self._rundir,
            self._stack,
            allow_targets=self._allow_targets,
            listen_host=self._away.host if self._away else "127.0.0.1",
        )
        self._cluster = start_cluster(
            server,
            self._scenario.layout,
            self._wiring,
            self._supervisor,
            self._rundir,
            workload=self._scenario.workload,
            hooks=self._plan.hooked(),
            later=self._plan.starts() | beginners(self._scenario.autoscale, self._scenario.layout.processes),
        )
        sampler = self._sampler = Sampler(self._supervisor.pids, self._cluster.pages)
        self._stack.callback(sampler.stop, self._rundir.path / "metrics")
        welcome = self._ask_contract()
        self._steady = Steady(self._rundir.path / "probes.jsonl", self._probes(self._cluster))
        self._stack.callback(self._steady.close)
        urls = ", ".join(self._cluster.urls)
        self._progress.step(f"target    {urls}  durability: {welcome.contract.get('durability', 'not said')}")
        self._tell_wires()

    def _ask_contract(self) -> Welcome:
        workload = self._scenario.workload
        try:
            self._control = Control(
                self._rundir.path / "events",
                urls=self._cluster.urls,
                driver=workload.driver,
                nonce=self._nonce,
                names=channel_names(workload, self._scenario.seed, self._suffix),
                body_bytes=workload.body_bytes,
                auth=workload.auth,
                tls=self._tls,
            )
            self._stack.callback(self._control.close)
            welcome = self._control.contract(time.monotonic() + START_S)
            if self._scenario.server.strange:
                self._rehearse(self._control.token())
        except ControlFailed as failed:
            raise StageFailed(str(failed)) from None
        self._publish_contract(dict(welcome.contract), welcome.ping_s, welcome.pong_s)
        return welcome

    def _rehearse(self, token: str | None) -> None:
        """A message there and back, where somebody else set the server up: what he forbids is no anomaly."""
        workload, cluster = self._scenario.workload, self._cluster
        trip = RoundTrip(
            cluster.urls, workload.driver, self._rundir.run_id[-6:], tls=self._tls, token=token,
            channel=CHANNEL + self._suffix, patience_s=START_S,
        )  # fmt: skip
        try:
            trip()
        except (ProbeFailed, OSError, WebSocketException) as failed:
            raise StageFailed(
                f"before the load, a message to {CHANNEL + self._suffix} on {cluster.urls[0]} was {failed}; "
                "let clients publish, subscribe and read the channel back"
            ) from None
        if workload.over_http:
            self._rehearse_over_http(cluster.members[0].http_url, token)

    def _rehearse_over_http(self, url: str, token: str | None) -> None:
        """One poll: who is not let in, or talks to a stranger, is told before the load."""
        try:
            ask_over_http(
                url, self._scenario.workload.driver, tls=self._http_tls, token=token,
                channel=CHANNEL + self._suffix, patience_s=START_S,
            )  # fmt: skip
        except AuthFailed as stranger:
            raise StageFailed(str(stranger)) from None
        except (ProbeFailed, OSError) as failed:
            raise StageFailed(
                f"before the load, a poll of {CHANNEL + self._suffix} at {url} was {failed}; some personas "
                "come over HTTP: let them in at server.http_url"
            ) from None

    def _tell_wires(self) -> None:
        wiring, engine = self._wiring, self._wiring.engine
        via = wiring.describe()
        if version := self._cluster.balancer_version:
            via = f"haproxy ({self._scenario.workload.balance}), {via}"
            self._rundir.manifest["versions"]["haproxy"] = version
        self._rundir.update(via=via, wires=wiring.listening, nodes=self._cluster.told())
        if engine:
            self._rundir.manifest["versions"][engine.name] = engine.version
        self._progress.step(f"wire      {via}")

    def start_load(self, *, workers: int, page: Page | None = None) -> None:
        """Start the Locust master and the workers, or wait for those of other hosts; nothing is sent yet."""
        spec = LoadSpec(
            run_dir=self._rundir.path,
            nonce=self._nonce,
            seed=self._scenario.seed,
            targets=self._cluster.targets,
            nodes=self._cluster.load_nodes,
            http_targets=self._cluster.http_targets,
            tls=self._tls,
            http_server_name=self._http_tls.server_name,
            channel_suffix=self._suffix,
            host=self._cluster.host if self._wiring.engine else "",
            http_host=self._cluster.http_host if self._wiring.engine else "",
            allow_targets=self._allow_targets,
            workload=self._scenario.workload,
        )
        self._rundir.write_json("config/load.json", spec.model_dump(mode="json"))
        self._rundir.update(workers=list(range(1, workers + 1)), interactive=page is not None)
        self._rundir.manifest["load"]["workers"] = workers
        away = self._away
        self._load = Load(self._supervisor, self._rundir.path, workers=workers, page=page, away=away)
        self._load.hit = frozenset(map(number_of, self._plan.workers().values()))
        self._stack.callback(self._stop_load)
        try:
            if away is not None:
                self._load.await_workers(
                    away, self._progress.step, self._cluster.dialled(self._scenario.workload)
                )
                self._note_clocks()
            else:
                self._load.connect_workers(START_S * 2)
        except LoadFailed as failed:
            raise StageFailed(str(failed)) from None
        if unwell := self._steady.ask_until_well("before", time.monotonic() + WELL_S):
            raise StageFailed(f"the target is not in its steady state before the load: {'; '.join(unwell)}")
        where = f"  web page: {self._load.ui_url}" if self._load.ui_url else ""
        self._progress.step(
            f"load      {workers} workers, {self._scenario.workload.clients:,} clients{where}\n"
        )

    # -- under load ----------------------------------------------------------------------------------------

    def walk_plan(self) -> None:
        """Open the gate at t0 and go through the phases, injecting what the plan says."""
        self._t0_ns = time.monotonic_ns() + round(LEAD_S * 1e9)
        phases = self._phases()
        self._rundir.update(t0_ns=self._t0_ns, phases=phases)
        try:
            self._nemesis = Nemesis(
                self._plan,
                t0_ns=self._t0_ns,
                engine=self._wiring.engine,
                supervisor=self._supervisor,
                journal=self._journal,
                brokers=self._cluster.brokers,
            )
        except ValueError as lacking:
            raise StageFailed(str(lacking)) from None
        self._stack.callback(self._heal)
        if (section := self._scenario.autoscale) is not None:
            ask = self._sampler.gauge if section.connections is not None else self._sampler.rate_per_s
            self._autoscaler = Autoscaler(
                section,
                [node.process for node in self._scenario.layout.nodes],
                load=partial(ask, section.metric),
                processes=self._supervisor,
                record=self._journal.acted,
            )
        if self._scenario.workload.topology != Topology():  # where some channels are quiet on purpose
            for channel in quiet_channels(self._scenario.workload, self._scenario.seed):
                self._control.mark(Mark.SILENT, channel=channel)
        self._load.send("start", t0_ns=self._t0_ns)
        self._steady.start()
        for index, phase in enumerate(phases):
            self._until(lambda: False, deadline_ns=phase["start_ns"])
            self._control.mark(Mark.PHASE, pub_seq=index)
            self._phase = phase["name"]
            self._until(lambda: False, deadline_ns=phase["end_ns"])

    def heal_and_settle(self) -> None:
        """Revert every fault; wait until all clients are back, all publishes answered and all probes well."""
        self._heal()
        self._control.mark(Mark.HEAL)
        self.reached("settle")
        interactive = self._rundir.manifest["interactive"]  # then as many as the page says are open

        def settled() -> bool:
            stats = self._load.stats
            all_there = not interactive and not self._load.gone
            clients = self._scenario.workload.clients if all_there else stats.get("clients", 0)
            left = stats.get("scheduled_left", 1) + stats.get("unacked", 1)
            return bool(stats.get("t_ns", 0) > healed_ns and stats.get("live", 0) == clients and left == 0)

        healed_ns = time.monotonic_ns()
        if not self._until(settled, deadline_ns=healed_ns + _ns(self._scenario.deadlines.settle_s)):
            stats = self._load.stats
            text = f"not settled after {self._scenario.deadlines.settle_s:g} s: " + ", ".join(
                (
                    f"{stats.get('live', 0)} of {self._scenario.workload.clients} clients live",
                    f"{stats.get('unacked', 0)} publishes unanswered",
                )
            )
            self._rundir.problem(text, void=False)
        self._steady.stop()
        deadline_s = time.monotonic() + self._scenario.deadlines.settle_s
        if failed := self._steady.ask_until_well("after", deadline_s):
            self._rundir.problem(f"the steady state did not come back: {'; '.join(failed)}", void=False)

    def drain(self) -> None:
        """Publish a sentinel on each channel and wait until every open subscription has it."""
        self.reached("drain")
        self._control.mark(Mark.DRAIN)
        deadlines = self._scenario.deadlines
        try:
            sentinels = self._control.publish_sentinels(time.monotonic() + deadlines.settle_s)
        except ControlFailed as failed:
            self._rundir.problem(str(failed), void=False)
            return
        self._load.send("drain", sentinels={str(channel): place for channel, place in sentinels.items()})
        if not self._wait_for_sentinels():
            self._control.mark(Mark.FORCED_RECONNECT)
            self._load.send("reconnect_behind")
            self._wait_for_sentinels()

    def read_back(self) -> None:
        """Read every channel directly, twice, and end the load."""
        self.reached("final reads")
        self._control.mark(Mark.FINAL_READS)
        for _ in range(FINAL_READS):
            nodes = [node.process for node in self._scenario.layout.nodes]
            if not self._scenario.server.url and not any(map(self._supervisor.running, nodes)):
                self._rundir.problem("the target has ended: nothing can be read back", void=False)
                break
            try:
                self._control.read_all(time.monotonic() + READ_S)
            except ControlFailed as failed:
                self._rundir.problem(str(failed), void=False)
        self._control.mark(Mark.END)
        self._stop_load()

    def reached(self, phase: str) -> None:
        """Note how far the run has come."""
        self._phase = phase
        self._rundir.update(phase_reached=phase)

    def _probes(self, cluster: Cluster) -> dict[str, Probe]:
        """What may be asked of the target: a message only where any client may write on any channel."""
        server, workload = self._scenario.server, self._scenario.workload
        ready = all_ready(cluster.asked, self._supervisor.running) if cluster.asked else None
        # A planted mutant may fire only once: no message of ours may take it away from the load's.
        free = not (server.url or server.mutant or server.namespaces or workload.auth)
        run = self._rundir.run_id[-6:]
        trip = RoundTrip(cluster.urls, workload.driver, run, tls=self._tls) if free else None
        return probes_of(ready, trip)

    # -- parts -----------------------------------------------------------------------------------------------

    def _wait_for_sentinels(self) -> bool:
        """Whether every open subscription got its sentinel. Ends early only when nothing moves any more."""
        deadlines = self._scenario.deadlines
        asked_ns = progress_ns = time.monotonic_ns()
        best: tuple[int, int] | None = None

        def done() -> bool:
            nonlocal best, progress_ns
            stats = self._load.stats
            if stats.get("t_ns", 0) <= asked_ns or stats.get("behind") is None:
                return False
            state = (-stats["behind"], stats.get("received", 0))
            if best is None or state > best:
                best, progress_ns = state, time.monotonic_ns()
            quiet = time.monotonic_ns() - progress_ns > _ns(deadlines.drain_quiet_s)
            return stats["behind"] == 0 or quiet

        self._until(done, deadline_ns=asked_ns + _ns(deadlines.drain_cap_s))
        return bool(self._load.stats.get("behind") == 0)

    def _until(self, done: Callable[[], bool], *, deadline_ns: int) -> bool:
        """The run's one loop: faults that are due, events of the load, exits of children, progress."""
        while (now_ns := time.monotonic_ns()) < deadline_ns:
            due_ns = deadline_ns
            if self._nemesis and not self._nemesis.done:
                self._nemesis.step(now_ns)
                due_ns = min(due_ns, self._nemesis.next_due_ns or due_ns)
            wait_s = min(TICK_S, max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
            if self._autoscaler:
                self._autoscaler.step(now_ns)
            for event in self._load.poll(wait_s):
                if event["event"] in ("worker_lost", "closed"):
                    raise StageFailed(f"the load broke off: {event.get('why', 'its master ended')}")
            for gone in self._supervisor.poll():
                if not gone.planned and gone.role == "harness":
                    raise StageFailed(
                        f"{gone.process} ended by itself ({gone.signal or gone.code}); see logs/"
                    )
                if gone.fault_id and gone.role == "harness":
                    why = f"fault {gone.fault_id!r} ended {gone.process}: its clients' records end there"
                    self._rundir.problem(why, void=True)
            self._progress.figures(
                self._load.stats,
                phase=self._phase,
                elapsed_s=max(0.0, (time.monotonic_ns() - self._t0_ns) / 1e9),
                faults=tuple(self._nemesis.active(now_ns)) if self._nemesis else (),
            )
            if done():
                return True
        return done()

    def _heal(self) -> None:
        nemesis = self._nemesis
        if nemesis is None:
            return
        nemesis.heal(time.monotonic_ns())
        self._autoscaler = None  # what is judged now is the end of the run
        for failed in nemesis.problems[self._told :]:
            self._rundir.problem(f"a fault was not applied or not reverted: {failed}", void=True)
        self._told = len(nemesis.problems)

    def _stop_load(self) -> None:
        """End the load so that its records are closed; safe to call twice."""
        if self._load_ended:
            return
        self._load_ended = True
        for name in self._supervisor.pids():
            if name == "master" or name.startswith("worker-"):
                self._supervisor.expect_exit(name)
        for failed in self._load.end(STOP_S):
            self._rundir.problem(f"records may be missing: {failed}", void=True)
        self._note_clocks()

    def _note_clocks(self) -> None:
        """Keep what is known by now of the clocks of other hosts."""
        self._rundir.manifest["clock"] |= self._load.clock()
        self._rundir.update()

    def _phases(self) -> list[dict[str, Any]]:
        rows, start_ns = [], self._t0_ns
        for phase in self._scenario.workload.phase:
            end_ns = start_ns + _ns(phase.duration_s)
            rows.append({"name": phase.name, "start_ns": start_ns, "end_ns": end_ns, "warmup": phase.warmup})
            start_ns = end_ns
        return rows

    def _publish_contract(self, promised: dict[str, Any], ping_s: float, pong_s: float) -> None:
        deadlines = self._scenario.deadlines.model_dump()
        offered = driver_named(self._scenario.workload.driver).capabilities
        promised = {**promised, "capabilities": sorted(offered)}
        contract = {**promised, "profile": self._scenario.profile, "ping_s": ping_s, "pong_s": pong_s}
        self._rundir.update(contract={**contract, "deadlines": deadlines})


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
