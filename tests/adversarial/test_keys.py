"""Issuer keys through their life, and tokens that name keys that may not root them."""

from __future__ import annotations

import pytest

from sessauth.crypto.key_record import KeyStatus
from sessauth.model.change import set_key_status
from sessauth.reasons import Reason
from tests.support.state_fixture import Realm
from tests.support.token_forger import id16, key, make
from tests.vectors.world import NOW, link, root

READ = "read:files/**"


def by(name: str, session: str = "session", **fields: int) -> bytes:
    """A sealed root signed by the key of a name, for a session."""
    signer = key(name)
    names = {"issuer_key_id": signer.id, "session_id": id16(session)}
    return make(link(root(READ, root_fields=names, **fields)), [signer])


@pytest.mark.parametrize("warm", [False, True])
def test_a_key_through_its_life(fresh_realm: Realm, warm: bool) -> None:
    """Prepared, active, retired and distrusted each hold from the change on, for known chains too."""
    realm = fresh_realm
    realm.add_key(key("young"), KeyStatus.PREPARED)
    before, after = by("young", issued_at_ms=NOW - 1), by("young", issued_at_ms=NOW + 2)
    assert realm.reason(before) is Reason.ISSUER_PREPARED

    realm.do(set_key_status(realm.change_id(), key("young").id, KeyStatus.ACTIVE))
    if warm:
        assert realm.reason(before) is realm.reason(after) is Reason.ALLOWED

    realm.clock.advance(1)
    realm.do(set_key_status(realm.change_id(), key("young").id, KeyStatus.RETIRED))
    at_retirement = by("young", issued_at_ms=NOW + 1)
    assert realm.reason(before) is Reason.ALLOWED
    assert realm.reason(at_retirement) is Reason.ALLOWED
    assert realm.reason(after) is Reason.ISSUER_RETIRED

    realm.do(set_key_status(realm.change_id(), key("young").id, KeyStatus.DISTRUSTED))
    assert {realm.reason(chain) for chain in (before, at_retirement, after)} == {Reason.ISSUER_DISTRUSTED}


def test_a_key_of_another_owner(fresh_realm: Realm) -> None:
    """A principal's key roots tokens of its own sessions only; the service's key of any."""
    realm = fresh_realm
    realm.add_key(key("team a"), owner="team-a")
    realm.open("of a", owner="team-a")
    realm.open("of b", owner="team-b")

    assert realm.reason(by("team a", "of a")) is Reason.ALLOWED
    assert realm.reason(by("team a", "of b")) is Reason.ISSUER_NOT_OF_SESSION
    assert realm.reason(by("team a", "session")) is Reason.ISSUER_NOT_OF_SESSION
    assert realm.reason(by("issuer", "of b")) is Reason.ALLOWED


def test_a_session_that_lists_its_keys(fresh_realm: Realm) -> None:
    """Where a session lists issuer keys, every other key is refused, the service's included."""
    realm = fresh_realm
    realm.add_key(key("listed"))
    realm.open("picky", issuer_key_ids=[key("listed").id])

    assert realm.reason(by("listed", "picky")) is Reason.ALLOWED
    assert realm.reason(by("issuer", "picky")) is Reason.ISSUER_NOT_OF_SESSION
    assert realm.reason(by("listed")) is Reason.ALLOWED


def test_a_key_that_is_named_but_did_not_sign(fresh_realm: Realm) -> None:
    """Naming a trusted key while signing with another is a bad signature, whichever is warm."""
    realm = fresh_realm
    realm.add_key(key("second"))
    assert realm.reason(by("second")) is realm.reason(by("issuer")) is Reason.ALLOWED
    for named, signer in (("issuer", "second"), ("second", "issuer")):
        blocks = link(root(READ, root_fields={"issuer_key_id": key(named).id}))
        assert realm.reason(make(blocks, [key(signer)])) is Reason.BAD_SIGNATURE
