"""The load of one worker: its clients, their sockets, the pace, and the figures.

Runs on the loop of its process. The engine owns what happens when: arrivals and
publishes (``pacer``), reconnects, deadlines, silence. What a client does about it is ``client``'s, what
travels is ``connection``'s, and what is written down is ``recorder``'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from time import monotonic_ns
from typing import Final, NamedTuple

from reports.history import Transport

from .actions import Action
from .ahead import Ahead
from .client import Client
from .connection import Wires
from .destinations import Destinations
from .drivers import driver_named
from .drivers.base import Position
from .figures import Figures
from .moves import Move, moves
from .pacer import Pacer
from .personas import assigned, personas_of
from .publisher import Shared
from .recorder import Recorder
from .registry import News, follow
from .schedule import blocks, count_publishes, owned, striped
from .tally import Tally
from .trust import Trust
from .ways import WAYS, reach
from .workload import LoadSpec, channel_names, client_channels

TICK_S: Final = 0.1  # how late a deadline may be noticed
PROBE_S: Final = 0.005  # a loop that stands still for longer than this is seen as a hiccup
_FOLD: Final = 8_192  # records that are folded between two reports, so that no fold takes long
_STOP_S: Final = 3.0  # for the sockets to close; then the files are closed all the same


class State(NamedTuple):
    """A moment's view of a worker's clients."""

    clients: int  # arrived and not left
    connected: int
    live: int  # with every subscription live
    scheduled: int  # publishes that fell due
    scheduled_left: int
    unacked: int  # due, without a final answer
    behind: int  # open subscriptions below their sentinel
    unsent: int  # of the unacked, those that were never written


class Engine:
    """Worker ``index`` of ``workers``; ``start`` begins, ``stop`` ends and closes the files.

    Args:
        crashed: called with an exception of ours; the run cannot be believed then.
        total: ``count_publishes`` of this stripe, if it is known; counting takes seconds for a run of hours.
        first_seq: added to every publisher's count (mod 2^32), for a server that remembers an earlier run's.
        alone: no lock and no other thread may be used, for a process whose threads are not what they seem.
    """

    def __init__(
        self,
        spec: LoadSpec,
        index: int,
        workers: int,
        *,
        crashed: Callable[[BaseException], None],
        total: int | None = None,
        alone: bool = False,
        first_seq: int = 0,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        workload = spec.workload
        self.recorder = Recorder(Path(spec.run_dir) / "events", index, spec.nonce, alone=alone)
        self._alone, self._first_seq, self._crashed = alone, first_seq, crashed
        trust = Trust(workload.auth, spec.tls, spec.host, spec.http_host, spec.http_server_name)
        self._shared = Shared(
            token=trust.token,
            recorder=self.recorder,
            driver=driver_named(workload.driver),
            nonce=spec.nonce,
            body_bytes=workload.body_bytes,
            ack_timeout_s=workload.ack_timeout_s,
            reconnect=workload.reconnect,
            now_ns=monotonic_ns,
            later=self._loop.call_later,
            rng=random.Random(f"{spec.seed}:{index}"),
            channel_name=channel_names(workload, spec.seed, spec.channel_suffix).__getitem__,
        )
        self._targets = spec.targets, spec.http_targets
        self._destinations = Destinations(spec, worker=index, rng=self._shared.rng)
        self._following: asyncio.Task[None] | None = None  # of the nodes' registry
        channels = client_channels(workload, spec.seed)
        ordinals = owned(workload, index, workers)
        personas, dealt = personas_of(workload), assigned(workload, spec.seed)
        self._clients = {c: Client(c, channels[c], self._shared, personas[dealt[c - 1]]) for c in ordinals}
        self._deaf: set[int] = set()  # by plan: what is cut meanwhile stays so until they hear again
        self._ordinals = list(ordinals)
        self._present: set[int] = set()  # sessions that have arrived and not left
        self.total = count_publishes(workload, spec.seed, index, workers) if total is None else total
        drawn = striped(blocks(workload, spec.seed), index, workers)
        self._ahead = None if alone else Ahead(drawn)
        planned = moves(workload, spec.seed)
        self._pacer = Pacer(
            moves=planned[planned["client"] % workers == index % workers],
            blocks=self._ahead or drawn,
            move=self._move_on_schedule,
            publish=self._publish,
            react=self._react,
            act=self._act,
            now_ns=monotonic_ns,
        )
        self.figures = Figures(self.recorder)
        self._wires = Wires(self._shared, ended=self._ended, crashed=crashed, trust=trust)
        self._sentinels: Mapping[int, Position] = {}
        self._interactive = self._stopping = False  # interactive: sessions are opened by count
        self._dials: dict[int, asyncio.Task[None]] = {}  # that are under way, by ordinal
        self._redials: dict[int, asyncio.TimerHandle] = {}  # clients that wait before they dial again
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._all_closed = asyncio.Event()

    # The course of a run ------------------------------------------------------------------------------

    def start(self, t0_ns: int, *, interactive: bool = False) -> None:
        """Begin: offsets of the schedule count from ``t0_ns``.

        Args:
            interactive: sessions arrive when ``open_sessions`` says so, and not on schedule.
        """
        self._interactive = interactive
        if pages := self._destinations.pages:
            self._following = self._loop.create_task(follow(pages, self._heard))
            self._following.add_done_callback(self._followed)
        self._pacer.start(t0_ns)
        self._at("pace", 0.0, self._pace)
        self._at("tick", TICK_S, self._tick)
        self._probe(monotonic_ns())

    def open_sessions(self, count: int) -> None:
        """Interactive: the first ``count`` of this worker's sessions are open, the others are not."""
        if not self._interactive:
            return
        wanted = set(self._ordinals[:count])
        for ordinal in sorted(wanted - self._present):
            self._arrive(ordinal)
        for ordinal in self._present - wanted:
            self._leave(ordinal)

    def hush(self) -> None:
        """Nothing more of the schedule falls due; what is under way goes on, and sessions stay open."""
        if (timer := self._timers.pop("pace", None)) is not None:
            timer.cancel()

    def drain(self, sentinels: Mapping[int, Position]) -> None:
        """From now on ``state`` tells how many subscriptions have not reached their channel's sentinel."""
        self._sentinels = sentinels

    def reconnect_behind(self) -> int:
        """Close, on purpose, the connections with a subscription that is behind; they come back at once."""
        behind = [client for client in self._clients.values() if self._behind(client)]
        for client in behind:
            client.leave()
        return len(behind)

    async def stop(self) -> None:
        """Close all sockets on purpose, then the files. Never raises."""
        self._stopping = True
        for timer in self._timers.values():
            timer.cancel()
        for task in (*self._dials.values(), *([self._following] if self._following else [])):
            task.cancel()
        for client in self._clients.values():
            client.leave()
        if self._ahead is not None:
            self._ahead.close()
        self._note_closed()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._all_closed.wait(), _STOP_S)
        self.fold()
        self.recorder.close()

    def state(self) -> State:
        # One pass, which stands between two publishes: most clients have nothing that waits.
        connected = live = unacked = behind = unsent = 0
        for ordinal in self._present:
            client = self._clients[ordinal]
            connected += client.ready
            live += client.all_live
            if waiting := client.unacked:
                unacked += waiting
                unsent += client.unsent
            if self._sentinels:
                behind += self._behind(client)
        return State(
            clients=len(self._present),
            connected=connected,
            live=live,
            scheduled=self._pacer.scheduled,
            scheduled_left=self.total - self._pacer.scheduled,
            unacked=unacked,
            behind=behind,
            unsent=unsent,
        )

    @property
    def tally(self) -> Tally:
        """Counts of what has no record of its own."""
        return self._shared.tally

    def fold(self) -> None:
        """Bring ``figures`` up to now."""
        self.figures.fold(self._pacer.lags_ns)
        self._pacer.lags_ns.clear()

    # What happens when --------------------------------------------------------------------------------

    def _pace(self) -> None:
        try:
            due_ns = self._pacer.run(monotonic_ns())
        except Exception as error:
            self._crashed(error)
            return
        if due_ns is not None:
            # libuv counts in milliseconds: rounded up, or it would wake early and spin.
            wait_ms = max(0, -((monotonic_ns() - due_ns) // 1_000_000))
            self._at("pace", wait_ms / 1000, self._pace)

    def _move_on_schedule(self, ordinal: int, move: Move) -> None:
        if self._interactive:
            return
        client = self._clients[ordinal]
        match move:
            case Move.ARRIVE:
                self._arrive(ordinal)
            case Move.LEAVE:
                self._leave(ordinal)
            case Move.DROP:
                client.lose()
            case Move.DEAFEN:
                self._deafen(client)
            case Move.HEAR:
                self._hear(client)
            case Move.UNSUBSCRIBE:
                client.unsubscribe()
            case Move.SUBSCRIBE:
                client.subscribe_again()
            case Move.CATCH_UP:
                client.slow = False

    def _deafen(self, client: Client) -> None:
        client.deafen()
        if client.deaf:
            self._deaf.add(client.ordinal)

    def _hear(self, client: Client) -> None:
        self._deaf.discard(client.ordinal)
        client.hear()
        if client.link is None and client.ordinal in self._present:
            self._arrive(client.ordinal)

    def _arrive(self, ordinal: int) -> None:
        self._present.add(ordinal)
        client = self._clients[ordinal]
        # One that is closing, dialling or waiting to dial goes on from there when it finds itself present.
        if client.link is None and ordinal not in self._dials and ordinal not in self._redials:
            self._dial(client)

    def _leave(self, ordinal: int) -> None:
        """Close on purpose and stay away until the client arrives again; it keeps positions and outbox."""
        self._present.discard(ordinal)
        if (timer := self._redials.pop(ordinal, None)) is not None:
            timer.cancel()
        self._clients[ordinal].leave()

    def _publish(self, ordinal: int, channel: int, pub_seq: int, scheduled_ns: int) -> None:
        if ordinal in self._present:
            if self._first_seq:
                pub_seq = self._numbered(pub_seq)
            self._clients[ordinal].publish(channel, pub_seq, scheduled_ns)

    def _numbered(self, pub_seq: int) -> int:
        return (pub_seq + self._first_seq) % 2**32

    def _react(self, ordinal: int, channel: int, pub_seq: int, scheduled_ns: int) -> None:
        if ordinal in self._present:
            self._clients[ordinal].react(channel, self._numbered(pub_seq), scheduled_ns)

    def _act(self, ordinal: int, channel: int, action: int) -> None:
        if ordinal in self._present:
            self._clients[ordinal].act(channel, Action(action))

    def _dial(self, client: Client) -> None:
        self._redials.pop(client.ordinal, None)
        away = client.ordinal not in self._present or client.ordinal in self._deaf
        if self._stopping or client.ended or away:
            return
        task = self._loop.create_task(reach(client, self._urls(client), self._wires))
        self._dials[client.ordinal] = task
        task.add_done_callback(partial(self._dialled, client))

    def _dialled(self, client: Client, task: asyncio.Task[None]) -> None:
        if self._dials.get(client.ordinal) is task:
            del self._dials[client.ordinal]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crashed(error)
        self._destinations.dialled(client.ordinal, self._loop.time(), connected=client.link is not None)
        if client.ordinal not in self._present:  # it left while it was dialling
            client.leave()
        if self._stopping:
            self._note_closed()

    def _urls(self, client: Client) -> dict[Transport, str]:
        """The URL that a client dials, by what it may come; all are of one node."""
        sockets, others = self._targets
        base = self._destinations.of(client.ordinal, client.next_target(), self._loop.time())
        place = sockets.index(base) if base in sockets else client.ordinal % len(sockets)
        return {
            way: base.rstrip("/") + self._shared.driver.path(client.ordinal)
            if way is Transport.WEBSOCKET
            else others[place].rstrip("/")
            for way in WAYS[client.persona.transport]
        }

    def _heard(self, news: News) -> None:
        self._destinations.learn(news, self._loop.time())

    def _followed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crashed(error)

    def _ended(self, client: Client, wait_s: float | None) -> None:
        if self._stopping:
            self._note_closed()
        elif wait_s is not None:
            self._redials[client.ordinal] = self._loop.call_later(wait_s, self._dial, client)

    def _note_closed(self) -> None:
        if all(client.link is None for client in self._clients.values()):
            self._all_closed.set()

    def _tick(self) -> None:
        now_ns = monotonic_ns()
        self._shared.expire(now_ns)
        for client in self._clients.values():
            if client.link is None:
                continue
            if client.deaf:
                if client.link.cut:
                    client.hear()  # what was sent before the end, and the end; it comes back when it hears
            elif now_ns - client.heard_ns > client.silence_ns:
                client.link.abort()
        self._at("tick", TICK_S, self._tick)
        if self.recorder.unfolded >= _FOLD:
            self.fold()
        if self.recorder.wants_segment:
            if self._alone:
                self.recorder.prepare()
            else:
                self._loop.run_in_executor(None, self.recorder.prepare)

    def _probe(self, due_ns: int) -> None:
        """Measure how late the loop calls back; a stall of S is seen as S - PROBE_S at least."""
        now_ns = monotonic_ns()
        self.figures.hiccups_ns.append(max(0, now_ns - due_ns))
        self._timers["probe"] = self._loop.call_later(PROBE_S, self._probe, now_ns + int(PROBE_S * 1e9))

    def _behind(self, client: Client) -> int:
        """Open subscriptions of a client that are below their channel's sentinel."""
        if not self._sentinels:
            return 0
        behind = 0
        for lane in client.lanes.values():
            sentinel = self._sentinels.get(lane.channel)
            if lane.subscribed and sentinel is not None:
                epoch, serial = sentinel
                behind += lane.epoch_name != epoch or lane.serial < serial
        return behind

    def _at(self, name: str, wait_s: float, call: Callable[[], None]) -> None:
        if not self._stopping:
            self._timers[name] = self._loop.call_later(wait_s, call)
