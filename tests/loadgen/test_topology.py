"""Which channels there are and who is on them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.personas import members
from loadgen.topology import Membership, Topology, build
from loadgen.workload import SpecError, Workload, channel_names, client_channels, membership, parse_spec

SEEDS = st.integers(0, 2**63 - 1)


def made(clients: int = 40, rooms: int = 10, each: int = 2, seed: int = 3, **keys: Any) -> Membership:
    topology = Topology.model_validate(keys)
    return build(
        clients=clients, rooms=rooms, rooms_per_client=each, topology=topology, sides=None, seed=seed
    )


@settings(max_examples=60)
@given(
    clients=st.integers(2, 40),
    rooms=st.integers(1, 12),
    each=st.integers(0, 12),
    zipf=st.sampled_from([0.0, 0.5, 1.2, 3.0]),
    direct=st.floats(0, 3),
    members=st.integers(1, 40),
    seed=SEEDS,
)
def test_every_client_has_its_channels_once_and_every_channel_its_members(
    clients: int, rooms: int, each: int, zipf: float, direct: float, members: int, seed: int
) -> None:
    each, members, direct = min(each, rooms), min(members, clients), min(direct, clients - 1)
    sized = [{"channels": 2, "members": members}, {"channels": 1, "share": 1.0}]
    whole = made(clients, rooms, each, seed, zipf=zipf, sized=sized, direct_per_client=direct)
    assert whole.of(0) == ()
    for client in range(1, clients + 1):
        own = whole.of(client)
        assert list(own) == sorted(set(own))
        assert sum(channel <= rooms for channel in own) == each
    sizes = whole.sizes.tolist()
    assert sizes[rooms + 1 : rooms + 4] == [members, members, clients]
    assert sizes[rooms + 4 :] == [2] * whole.direct
    assert whole.channels == rooms + 3 + whole.direct
    assert len(set(whole.names)) == len(whole.names)
    assert whole.client.tolist() == [c for c in range(clients + 1) for _ in whole.of(c)]


def test_a_channel_of_two_is_named_after_its_members_in_the_order_of_their_names() -> None:
    whole = made(clients=12, rooms=1, each=1, direct_per_client=2.0)
    for channel in range(2, whole.channels + 1):
        pair = sorted(f"c{client}" for client in range(1, 13) if channel in whole.of(client))
        assert whole.names[channel] == f"dm:{','.join(pair)}"
    assert whole.names[1] == "room:1"


def test_everybody_may_be_in_touch_with_everybody() -> None:
    whole = made(clients=7, rooms=1, each=1, direct_per_client=6.0)
    assert whole.direct == 21


@pytest.mark.parametrize("rooms", [50, 2_000], ids=["few rooms", "many rooms"])
def test_popularity_falls_as_zipf_says(rooms: int) -> None:
    whole = made(clients=6_000, rooms=rooms, each=1, zipf=1.0)
    sizes = whole.sizes[1:]
    expected = 1 / np.arange(1, rooms + 1)
    expected *= 6_000 / expected.sum()
    assert np.abs(sizes[:10] - expected[:10]).max() < 5 * np.sqrt(expected[0])
    assert sizes[0] > 1.5 * sizes[1] > 0
    assert sizes[:10].sum() > sizes[-10:].sum() * 3


@pytest.mark.parametrize("rooms", [50, 2_000], ids=["few rooms", "many rooms"])
def test_popular_rooms_are_never_dealt_twice_to_a_client(rooms: int) -> None:
    whole = made(clients=300, rooms=rooms, each=5, zipf=2.0)
    assert all(len(set(whole.of(client))) == 5 for client in range(1, 301))


def test_a_persona_may_be_kept_to_one_half_of_the_rooms() -> None:
    plan = Workload.model_validate(
        {
            "clients": 30,
            "channels": 7,
            "channels_per_client": 3,
            "phase": [{"name": "p", "duration_s": 1}],
            "persona": [
                {"name": "odd", "weight": 1, "side": "odd"},
                {"name": "even", "weight": 1, "side": "even"},
                {"name": "all", "weight": 1},
            ],
        }
    )
    for persona, wanted in ((0, 1), (1, 0)):
        for client in members(plan, 5, persona).tolist():
            assert {channel % 2 for channel in client_channels(plan, 5)[client]} == {wanted}
    assert membership(plan, 5).channels == 7
    assert channel_names(plan, 5)[1:3] == ("room:1", "room:2")


@pytest.mark.parametrize(
    ("keys", "part"),
    [
        pytest.param({"sized": [{"channels": 1}]}, "exactly one of members and share", id="no size"),
        pytest.param({"sized": [{"channels": 1, "members": 11}]}, "must be at most 10", id="too large"),
        pytest.param({"direct_per_client": 10}, "one with each other client", id="too many pairs"),
        pytest.param({"zipf": -1}, "greater than or equal to 0", id="negative exponent"),
        pytest.param({"ziph": 1}, "ziph", id="unknown key"),
    ],
)
def test_topologies_that_do_not_fit_are_refused(keys: dict[str, Any], part: str) -> None:
    workload = {
        "clients": 10, "channels": 3, "topology": keys, "phase": [{"name": "p", "duration_s": 1}],
    }  # fmt: skip
    spec = {"run_dir": "/tmp/x", "nonce": 1, "seed": 1, "targets": ["ws://127.0.0.1:1"], "workload": workload}
    with pytest.raises(SpecError, match=part):
        parse_spec(json.dumps(spec))
