"""Two nodes of one name: who notices, who has to go, and who must not."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from chatd.registry import SURE, NameTaken, Registry
from chatd.store.bus import Beat, Node, NodeState


def node(started_ms: int, state: NodeState = "up", name: str = "n1") -> Node:
    return Node(name, f"ws://{started_ms}", state, 0, 100, 0.0, started_ms)


class Said:
    """Stands in for a bus on which others spoke under this node's name, before each of its beats in turn."""

    def __init__(self, before: Collection[Node | None]) -> None:
        self.before = list(before)
        self.parted = False

    async def heartbeat(self, me: Node, ttl_s: float) -> Beat:
        if not self.before:
            raise asyncio.CancelledError
        return Beat([me], self.before.pop(0))

    async def part(self, name: str) -> None:
        self.parted = True


def beaten(me: Node, before: Collection[Node | None], monkeypatch: pytest.MonkeyPatch) -> Said:
    """Beats for as long as there is something to hear, then parts."""
    monkeypatch.setattr("chatd.registry.BEAT_S", 0)
    said = Said(before)
    registry = Registry(said, lambda: me, lambda: 0, lambda: None)  # type: ignore[arg-type]

    async def main() -> None:
        try:
            await registry.beat()
        except asyncio.CancelledError:
            pass
        finally:
            await registry.part()

    asyncio.run(main())
    return said


def test_the_one_that_started_last_has_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = node(1), node(2)
    with pytest.raises(
        NameTaken, match=r"node is 'n1': .* at ws://1; give each node a name of its own with --node"
    ):
        beaten(new, [None, *[old] * SURE], monkeypatch)
    assert beaten(old, [None, *[new] * SURE], monkeypatch).parted


def test_who_goes_leaves_the_others_entry_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatd.registry.BEAT_S", 0)
    said = Said([None, *[node(1)] * SURE])
    registry = Registry(said, lambda: node(2), lambda: 0, lambda: None)  # type: ignore[arg-type]

    async def main() -> None:
        with pytest.raises(NameTaken):
            await registry.beat()
        await registry.part()

    asyncio.run(main())
    assert not said.parted


@pytest.mark.parametrize(
    "before",
    [
        [node(1), node(2), node(2)],  # its own last life, killed less than a beat ago
        [None, node(1), node(2), node(1), node(2)],  # a broker came back twice, with what it had kept
        [None, *[node(1, "draining")] * 5],  # the one that it replaces, on its way out
        [None, *[node(2)] * 5],  # itself
    ],
    ids=["last-life", "broker-came-back", "draining", "itself"],
)
def test_these_are_no_others(before: list[Node | None], monkeypatch: pytest.MonkeyPatch) -> None:
    assert beaten(node(2), before, monkeypatch).parted
