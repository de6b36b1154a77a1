"""Calls in observe mode are attributed to the scopes that admitted them; one with an unknown scope counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessauth._fast._check import DecisionQueue, DecisionRecord
from sessauth.model.change import narrow_session
from sessauth.scopes.scope import Scope
from sessauth.state.lmdb.rows import stored_lineage
from sessauth.usage import SessionUsage
from sessauth.usage.collector import UsageAttributor
from sessauth.usage.profile import CEILING, GrantLayer
from tests.support.changes import scopes
from tests.support.state_fixture import StateFixture
from tests.support.token_forger import id16
from tests.vectors.world import root, token

OBSERVED = id16("observed")
TOKEN = token(root("*:** free *", root_fields={"session_id": OBSERVED}))


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateFixture]:
    """A state whose decisions are queued."""
    state = StateFixture(tmp_path / "state")
    state.verifier.decision_queue = DecisionQueue(1 << 20)
    yield state
    state.close()


def call(state: StateFixture, resource: str, **arguments: str) -> DecisionRecord:
    """Return the record of an allowed call."""
    data = json.dumps(arguments).encode()
    assert state.check(TOKEN, action=b"read", resource=resource.encode(), arguments=data)
    queue = state.verifier.decision_queue
    assert queue is not None
    (record,) = [each for each in queue.drain() if isinstance(each, DecisionRecord)]
    return record


def narrow(state: StateFixture, session_id: bytes, scope: str) -> None:
    """Narrow a session."""
    state.do(narrow_session(state.change_id(), session_id, scopes(scope)))


def uses(state: StateFixture, record: DecisionRecord) -> dict[str, int]:
    """Return the layers of the ceiling that a call is attributed to, by their first scope; -1: unknown."""
    source = state.writer.source()
    usage = SessionUsage()
    UsageAttributor(lambda session_id: stored_lineage(source, session_id)).observe(usage, record)
    texts = {}
    for session in stored_lineage(source, OBSERVED):
        for layer in session.ceilings:
            read = [Scope.from_record(scope) for scope in layer]
            texts[GrantLayer(CEILING, read).id] = str(read[0])
    return {texts[layer]: index for (layer, index), _ in usage.uses if layer.startswith(CEILING)}


def test_a_scope_that_was_narrowed_since_counts_as_unknown(state: StateFixture) -> None:
    """The parent's observed ceiling refused; the session's own admitted, and is another one by now."""
    parent = state.open("parent", ["read:files/**"], observe=True)
    state.open("observed", ["read:files/**"], parent_id=parent, observe=True)
    narrow(state, parent, "read:files/a/**")
    record = call(state, "files/b")
    assert (record.level, record.index) == (1, 1)
    assert uses(state, record) == {"read:files/**": 0}

    narrow(state, OBSERVED, "read:files/c/**")
    assert uses(state, record) == {"read:files/c/**": -1, "read:files/a/**": -1}


def test_what_layers_in_observe_mode_refused_is_no_use_of_them(state: StateFixture) -> None:
    """The record names the first that refused; one behind it that refuses too admitted nothing either."""
    first, second = 'read:*/** where path under "a" free *', "read:files/** free *"
    state.open("observed", [first], observe=True)
    narrow(state, OBSERVED, second)
    assert uses(state, call(state, "files/b", path="a/1")) == {first: 0, second: 0}
    assert uses(state, call(state, "desk/1")) == {}
    assert uses(state, call(state, "desk/1", path="a/1")) == {first: 0}
    assert uses(state, call(state, "files/b")) == {second: 0}


def test_an_enforced_ceiling_that_was_narrowed_since_counts_as_unknown(state: StateFixture) -> None:
    """The parent enforces, so it admitted the call, whatever it says now."""
    parent = state.open("parent", ["read:**"])
    state.open("observed", ["read:files/**"], parent_id=parent, observe=True)
    record = call(state, "mail/1")
    assert uses(state, record) == {"read:**": 0}

    narrow(state, parent, "read:files/**")
    assert uses(state, record) == {"read:files/**": -1}
