"""A short run of the harness of connections, and that it would notice."""

from __future__ import annotations

import random

import pytest

from tests.fuzz import http2_any_bytes as harness
from tests.fuzz.http2_world import Broken, World, tokens
from tests.vectors.world import AUDIENCE

LOOPS = 8


def test_the_invariants_hold() -> None:
    """Every type of frame is sent, calls are answered by the loop and by threads, and nothing is wrong."""
    found = harness.run(20260711, 60.0, LOOPS)

    assert found["loops"] >= 2
    assert {f"frame {kind}" for kind in range(10)} <= found.keys()
    for each in ("allows received", "direct answers", "receive", "answer", "send", "end", "cancel"):
        assert found[each] > 0, each


def test_the_harness_notices() -> None:
    """An allow that the oracle does not know is broken."""
    world = World(random.Random(1))
    assert world.checker._check(tokens()[0], b"read", b"files/a", b"", audience=AUDIENCE).allowed
    assert world.hold()["allowed"] == 1

    world._of_digest = dict.fromkeys(world._of_digest, tokens()[-1])
    world._judged.clear()
    world.checker._check(tokens()[0], b"read", b"files/a", b"", audience=AUDIENCE)
    with pytest.raises(Broken):
        world.hold()
