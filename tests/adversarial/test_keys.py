"""Issuer keys through their life, and tokens that name keys that may not root them."""

from __future__ import annotations

import pytest

from sessauth.crypto.keys import KeyStatus
from sessauth.model.change import set_key_status
from sessauth.reasons import Reason
from tests.support.state_fixture import StateFixture
from tests.support.token_forger import id16, key, make
from tests.vectors.world import NOW, link, root

READ = "read:files/**"


def by(name: str, session: str = "session", **fields: int) -> bytes:
    """A sealed root signed by the key of a name, for a session."""
    signer = key(name)
    names = {"issuer_key_id": signer.id, "session_id": id16(session)}
    return make(link(root(READ, root_fields=names, **fields)), [signer])


@pytest.mark.parametrize("warm", [False, True])
def test_a_key_through_its_life(fresh_state: StateFixture, warm: bool) -> None:
    """Prepared, active, retired and distrusted each hold from the change on, for known chains too."""
    state = fresh_state
    state.add_key(key("young"), KeyStatus.PREPARED)
    before, after = by("young", issued_at_ms=NOW - 1), by("young", issued_at_ms=NOW + 2)
    assert state.reason(before) is Reason.ISSUER_PREPARED

    state.do(set_key_status(state.change_id(), key("young").id, KeyStatus.ACTIVE))
    if warm:
        assert state.reason(before) is state.reason(after) is Reason.ALLOWED

    state.clock.advance(1)
    state.do(set_key_status(state.change_id(), key("young").id, KeyStatus.RETIRED))
    at_retirement = by("young", issued_at_ms=NOW + 1)
    assert state.reason(before) is Reason.ALLOWED
    assert state.reason(at_retirement) is Reason.ALLOWED
    assert state.reason(after) is Reason.ISSUER_RETIRED

    state.do(set_key_status(state.change_id(), key("young").id, KeyStatus.DISTRUSTED))
    assert {state.reason(chain) for chain in (before, at_retirement, after)} == {Reason.ISSUER_DISTRUSTED}


def test_a_key_that_is_named_but_did_not_sign(fresh_state: StateFixture) -> None:
    """Naming a trusted key while signing with another is a bad signature, whichever is warm."""
    state = fresh_state
    state.add_key(key("second"))
    assert state.reason(by("second")) is state.reason(by("issuer")) is Reason.ALLOWED
    for named, signer in (("issuer", "second"), ("second", "issuer")):
        blocks = link(root(READ, root_fields={"issuer_key_id": key(named).id}))
        assert state.reason(make(blocks, [key(signer)])) is Reason.BAD_SIGNATURE
