"""Where clients dial: where a server has sent them, or the node that the balancing chooses; no I/O."""

from __future__ import annotations

import random
from collections.abc import Sequence
from urllib.parse import urlsplit

from .balance import Balancer
from .registry import News
from .workload import LoadSpec, target_fault


class Destinations:
    """Of the clients of one worker.

    Args:
        worker: begins round robin elsewhere than the other workers do.
        rng: of the worker.
    """

    def __init__(self, spec: LoadSpec, *, worker: int, rng: random.Random) -> None:
        self._targets, self._allowed, self._rng = spec.targets, spec.allow_targets, rng
        names = [node.name for node in spec.nodes] or [""]
        self._halves = len(spec.targets) if len(names) == 1 else len(spec.targets) // len(names)
        self._balancer = Balancer(spec.workload.balance, names, halves=self._halves, first=worker)
        self._node: dict[int, int] = {}  # that a client dialled last, by its ordinal
        self._pages = [node.pages for node in spec.nodes if node.pages]

    @property
    def pages(self) -> Sequence[str]:
        """HOST:PORT of nodes whose registry has to be followed; none where nothing is chosen."""
        return self._pages if self._balancer.listens else ()

    def learn(self, news: News, now_s: float) -> None:
        """What the registry has said."""
        self._balancer.learn(news, now_s)

    def of(self, ordinal: int, sent_to: Sequence[str], now_s: float) -> str:
        """The URL that a client dials now, without the driver's path.

        Args:
            sent_to: where the server has sent it. Only where load may go, and only if it speaks as the usual
                target does; of the proxies before a node a client keeps to its own.
        """
        self._node.pop(ordinal, None)
        usual = self._targets[ordinal % len(self._targets)]
        fitting = [
            url
            for url in sent_to
            if target_fault(url, self._allowed) is None and _scheme(url) == _scheme(usual)
        ]
        if fitting:
            return self._own_half(ordinal, fitting[0])  # the server tells the best first
        node = self._balancer.choose(ordinal, now_s, self._rng)
        return self._at(ordinal, node)

    def dialled(self, ordinal: int, now_s: float, *, connected: bool) -> None:
        """What came of it."""
        if (node := self._node.get(ordinal)) is None:
            return
        if connected:
            self._balancer.connected(node)
        else:
            self._balancer.failed(node, now_s)

    def _own_half(self, ordinal: int, url: str) -> str:
        places = [place for place, target in enumerate(self._targets) if _place(target) == _place(url)]
        return self._at(ordinal, places[0] // self._halves) if places else url

    def _at(self, ordinal: int, node: int) -> str:
        self._node[ordinal] = node
        return self._targets[node * self._halves + ordinal % self._halves]


def _place(url: str) -> str:
    """Host and port: a node names itself with the path that its clients dial."""
    return urlsplit(url).netloc


def _scheme(url: str) -> str:
    return url.partition(":")[0].lower()
