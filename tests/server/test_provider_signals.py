"""Statements of identity providers that end logins: verified, durable, harmless however often they come."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from sessauth.client import Client
from sessauth.errors import IdentityRefused, NotFound, PermissionDenied, SessauthError, UsageError
from sessauth.model.session import LOGINS_OWNER, SessionStatus
from tests.server.test_login_sessions import (
    CEILING,
    MINUTE_MS,
    Provider,
    clock,
    corp,
    desk,
    fault_of,
    opened,
    operator,
    service,
)
from tests.support.identity_tokens import ISSUER, SERVICE, signed
from tests.support.service import Service

__all__ = ["clock", "corp", "desk", "operator", "service"]
EVENT = "http://schemas.openid.net/event/backchannel-logout"


@pytest.fixture
def carrier(service: Service) -> Iterator[Client]:
    """The client of a gateway that carries statements."""
    credential = service.add("signals", "security-events").credential
    with Client(str(service.made.socket), credential, timeout_ms=20_000) as made:
        yield made


def logout(corp: Provider, *, ago_s: int = 0, typ: str | None = "logout+jwt", **changed: Any) -> str:
    """Return a logout token of now; None leaves a claim out."""
    at = corp.clock.now_ms() // 1000 - ago_s
    stated = {
        "iss": ISSUER,
        "aud": "desk",
        "iat": at,
        "exp": at + 120,
        "jti": f"j{at}",
        "events": {EVENT: {}},
        "sid": "s1",
        **changed,
    }
    return signed({name: value for name, value in stated.items() if value is not None}, typ=typ)


def revocation(corp: Provider, *, ago_s: int = 0, **changed: Any) -> str:
    """Return the JWT of a global revocation."""
    at = corp.clock.now_ms() // 1000 - ago_s
    stated = {"iss": ISSUER, "aud": f"{SERVICE}/revoke/corp", "iat": at, "jti": f"r{at}", **changed}
    return signed(
        {name: value for name, value in stated.items() if value is not None},
        typ="global-token-revocation+jwt",
    )


def body(**changed: Any) -> bytes:
    """Return the body of a global revocation of ann."""
    return json.dumps({"sub_id": {"format": "iss_sub", "iss": ISSUER, "sub": "ann", **changed}}).encode()


def status(client: Client, session_id: bytes) -> SessionStatus:
    """Return the status of a session."""
    return client.get_session(session_id).status


def test_a_logout_ends_the_login_and_all_below_it(
    desk: Client, operator: Client, carrier: Client, corp: Provider
) -> None:
    """Its tokens open nothing afterwards, refreshed ones neither; another login of the user lives on."""
    agent, token = desk.open_and_mint(
        CEILING, ["gw"], subject="agent:reader", ceiling=CEILING, identity_token=corp.token()
    )
    other = opened(desk, corp.token(sid="s2"))
    assert operator.check(token, "read", "tickets/1", audience="gw").allowed

    ended = carrier.report_logout("corp", logout(corp))

    assert ended.ended == 1 and ended.revision
    assert not operator.check(token, "read", "tickets/1", audience="gw").allowed
    assert status(operator, agent.id) is SessionStatus.ENDED
    assert operator.get_session(agent.parent_id).reason == "corp: logout"
    assert status(operator, other.id) is SessionStatus.ACTIVE
    corp.clock.advance(MINUTE_MS)
    assert fault_of(desk, corp.token()) == "IDENTITY_CUT"
    assert opened(desk, corp.token(sid="s2")).parent_id == other.parent_id


@pytest.mark.parametrize(("typ", "exp"), [("JWT", None), ("logout+jwt", 120)], ids=["older", "newer"])
def test_logout_tokens_of_keycloak(
    desk: Client, operator: Client, carrier: Client, corp: Provider, typ: str, exp: int | None
) -> None:
    """They name user and login, and may say that offline tokens go too; older ones have no ``exp``."""
    at = corp.clock.now_ms() // 1000
    agent, other = opened(desk, corp.token()), opened(desk, corp.token(sid="s2"))
    events: dict[str, object] = {EVENT: {}, "revoke_offline_access": True}
    statement = logout(corp, typ=typ, sub="ann", events=events, exp=None if exp is None else at + exp)
    assert carrier.report_logout("corp", statement).ended == 1
    assert status(operator, agent.id) is SessionStatus.ENDED
    assert status(operator, other.id) is SessionStatus.ACTIVE


def test_a_logout_before_the_first_token(desk: Client, carrier: Client, corp: Provider) -> None:
    """Nothing is there to end, and the token that comes later is refused all the same."""
    assert carrier.report_logout("corp", logout(corp)).ended == 0
    corp.clock.advance(MINUTE_MS)
    assert fault_of(desk, corp.token()) == "IDENTITY_CUT"
    assert opened(desk, corp.token(sid="s2"))


def test_a_logout_of_a_user_ends_all_logins_up_to_then(
    desk: Client, operator: Client, carrier: Client, corp: Provider
) -> None:
    """A login that begins later opens, whatever comes late or twice."""
    first, second = opened(desk, corp.token()), opened(desk, corp.token(sid="s2"))
    others = opened(desk, corp.token(sub="bob", sid="s3"))
    statement = logout(corp, sid=None, sub="ann")
    assert carrier.report_logout("corp", statement).ended == 2
    assert {status(operator, each.id) for each in (first, second)} == {SessionStatus.ENDED}
    assert status(operator, others.id) is SessionStatus.ACTIVE
    assert fault_of(desk, corp.token(sid="s4")) == "IDENTITY_CUT"

    corp.clock.advance(2 * MINUTE_MS - 1000)
    again = opened(desk, corp.token(sid="s5", auth_time=corp.clock.now_ms() // 1000 - 1))
    for late in (statement, logout(corp, ago_s=90, sid=None, sub="ann", jti="late")):
        assert carrier.report_logout("corp", late).ended == 0
    assert status(operator, again.id) is SessionStatus.ACTIVE


def test_a_login_without_a_name_ends_with_each_logout_of_its_user(
    desk: Client, operator: Client, carrier: Client, corp: Provider
) -> None:
    """Nobody can say that it was another one."""
    nameless, named = opened(desk, corp.token(sid=None)), opened(desk, corp.token(sid="s2"))
    assert carrier.report_logout("corp", logout(corp, sub="ann")).ended == 1
    assert status(operator, nameless.id) is SessionStatus.ENDED
    assert status(operator, named.id) is SessionStatus.ACTIVE
    assert fault_of(desk, corp.token(sid=None)) == "IDENTITY_CUT"
    assert opened(desk, corp.token(sid="s3"))


def test_many_logins_end_in_parts(
    desk: Client, operator: Client, carrier: Client, corp: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cut is in the first commit, so none opens between."""
    monkeypatch.setattr("sessauth.server.identity.login_changes.CHANGES_A_COMMIT", 2)
    agents = [opened(desk, corp.token(sid=f"s{number}")) for number in range(5)]
    assert carrier.report_logout("corp", logout(corp, sid=None, sub="ann")).ended == 5
    assert {status(operator, each.id) for each in agents} == {SessionStatus.ENDED}


def test_a_second_carrier_brings_what_a_first_one_brought(
    service: Service, operator: Client, carrier: Client, corp: Provider
) -> None:
    """It is no other statement, and takes no further place in the queue of cuts."""
    again = Client(
        str(service.made.socket), service.add("other", "security-events").credential, timeout_ms=20_000
    )
    token = logout(corp, sub="ann")
    first = carrier.report_logout("corp", token)
    corp.clock.advance(MINUTE_MS)
    with again:
        for _ in range(3):
            assert again.report_logout("corp", token) == first


def test_a_global_revocation_ends_all_logins_of_the_user(
    desk: Client, operator: Client, carrier: Client, corp: Provider
) -> None:
    """Another issuer's user is none of the provider's."""
    agent = opened(desk, corp.token())
    assert carrier.report_revocation("corp", revocation(corp), body()).ended == 1
    assert status(operator, agent.id) is SessionStatus.ENDED
    assert fault_of(desk, corp.token(sid="s2")) == "IDENTITY_CUT"
    with pytest.raises(IdentityRefused) as refused:
        carrier.report_revocation("corp", revocation(corp), body(iss="https://other.example"))
    assert refused.value.fault == "IDENTITY_WRONG_KIND"


def test_an_operator_cuts_logins(desk: Client, operator: Client, corp: Provider) -> None:
    """All of a user, or one of them."""
    first, second = opened(desk, corp.token()), opened(desk, corp.token(sid="s2"))
    assert operator.cut_logins("corp", sid="s1", reason="lost laptop").ended == 1
    assert [status(operator, each.id) for each in (first, second)] == [
        SessionStatus.ENDED,
        SessionStatus.ACTIVE,
    ]
    cut = operator.cut_logins("corp", subject="ann", reason="left")
    assert (cut.ended, cut.up_to_ms) == (1, corp.clock.now_ms())
    with pytest.raises(IdentityRefused, match="left"):
        opened(desk, corp.token(sid="s3"))
    with pytest.raises(NotFound, match="provider"):
        operator.cut_logins("crop", subject="ann")
    with pytest.raises(UsageError):
        operator.cut_logins("corp")
    with pytest.raises(PermissionDenied):
        desk.cut_logins("corp", subject="ann")


def test_a_carrier_carries_and_does_nothing_else(carrier: Client) -> None:
    """Its credential opens, reads and cuts nothing."""
    for call in (
        lambda: carrier.list_sessions(),
        lambda: carrier.open_session(subject="x", ceiling=CEILING),
        lambda: carrier.cut_logins("corp", subject="ann"),
    ):
        with pytest.raises(PermissionDenied):
            call()


BAD_LOGOUTS: list[tuple[dict[str, Any], str]] = [
    ({"events": {}}, "IDENTITY_WRONG_KIND"),
    ({"events": None}, "IDENTITY_WRONG_KIND"),
    ({"events": {EVENT: 1}}, "IDENTITY_WRONG_KIND"),
    ({"nonce": "n"}, "IDENTITY_WRONG_KIND"),
    ({"aud": "other"}, "IDENTITY_WRONG_KIND"),
    ({"aud": None}, "IDENTITY_WRONG_KIND"),
    ({"aud": [1]}, "IDENTITY_WRONG_KIND"),
    ({"typ": "at+jwt"}, "IDENTITY_WRONG_KIND"),
    ({"sid": None}, "IDENTITY_MALFORMED"),
    ({"sid": 5}, "IDENTITY_MALFORMED"),
    ({"sid": "s1\n"}, "IDENTITY_MALFORMED"),
    ({"sub": "a\x00"}, "IDENTITY_MALFORMED"),
    ({"jti": "forged\nline"}, "IDENTITY_MALFORMED"),
    ({"jti": None}, "IDENTITY_MALFORMED"),
    ({"iat": None}, "IDENTITY_EXPIRED"),
    ({"iat": "now"}, "IDENTITY_MALFORMED"),
    ({"exp": 5}, "IDENTITY_EXPIRED"),
    ({"exp": "soon"}, "IDENTITY_MALFORMED"),
    ({"ago_s": 130}, "IDENTITY_EXPIRED"),
    ({"ago_s": -60}, "IDENTITY_EXPIRED"),
    ({"iss": "https://other.example"}, "IDENTITY_UNTRUSTED"),
]


def test_a_bad_logout_token_ends_nothing(
    desk: Client, operator: Client, carrier: Client, corp: Provider
) -> None:
    """Each has its word; those of trust have one."""
    agent = opened(desk, corp.token())
    for changed, word in BAD_LOGOUTS:
        with pytest.raises(IdentityRefused) as refused:
            carrier.report_logout("corp", logout(corp, **changed))
        assert refused.value.fault == word, changed
    assert operator.get_session(agent.parent_id).revision <= agent.revision
    assert status(operator, agent.id) is SessionStatus.ACTIVE


def test_statements_for_another_address_or_of_another_kind(
    carrier: Client, desk: Client, corp: Provider
) -> None:
    """An ID token is no logout token, nor the other way round; a name that nobody has is untrusted."""
    for name, token in (
        ("other", logout(corp)),
        ("", logout(corp)),
        ("corp", logout(corp)[:-8] + "AAAAAAAA"),
    ):
        with pytest.raises(IdentityRefused) as refused:
            carrier.report_logout(name, token)
        assert refused.value.fault == "IDENTITY_UNTRUSTED"
    with pytest.raises(IdentityRefused) as refused:
        carrier.report_logout("corp", corp.token())
    assert refused.value.fault == "IDENTITY_WRONG_KIND"
    assert fault_of(desk, logout(corp, nonce="n", auth_time=1)) == "IDENTITY_WRONG_KIND"


BAD_REVOCATIONS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"aud": "https://other.example"}, {}, "IDENTITY_WRONG_KIND"),
    ({"ago_s": 301}, {}, "IDENTITY_EXPIRED"),
    ({"exp": 5}, {}, "IDENTITY_EXPIRED"),
    ({"jti": None}, {}, "IDENTITY_MALFORMED"),
    ({}, {"format": "email", "email": "ann@corp"}, "IDENTITY_MALFORMED"),
    ({}, {"sub": 5}, "IDENTITY_MALFORMED"),
    ({}, {"sub": ""}, "IDENTITY_MALFORMED"),
    ({}, {"sub": "ann\x7f"}, "IDENTITY_MALFORMED"),
]


BAD_BODIES = [b"", b"[]", b"{", b'{"sub_id": 1}', b'{"sub_id": {}, "sub_id": {}}']


def test_a_bad_revocation_ends_nothing(carrier: Client, corp: Provider) -> None:
    """Each has its word; a body that is none is malformed."""
    cases = [(changed, body(**named), word) for changed, named, word in BAD_REVOCATIONS]
    cases += [({}, bad, "IDENTITY_MALFORMED") for bad in BAD_BODIES]
    for changed, content, word in cases:
        with pytest.raises(IdentityRefused) as refused:
            carrier.report_revocation("corp", revocation(corp, **changed), content)
        assert refused.value.fault == word, (changed, content)


@pytest.mark.parametrize("state", ["full", "frozen"])
def test_a_server_that_gives_no_authority_takes_it_away(
    service: Service,
    desk: Client,
    operator: Client,
    carrier: Client,
    corp: Provider,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
) -> None:
    """A statement cuts and ends while nothing opens."""
    agent = opened(desk, corp.token())
    assert service.control is not None
    if state == "full":
        monkeypatch.setattr(service.control.writer._committer, "is_full", lambda rows: True)
    else:
        operator.freeze("an incident")
    assert carrier.report_logout("corp", logout(corp)).ended == 1
    assert status(operator, agent.id) is SessionStatus.ENDED
    with pytest.raises(SessauthError):
        opened(desk, corp.token(sid="s2"))


def test_labels_of_a_login_on_a_session_of_an_issuer_say_nothing(
    desk: Client, operator: Client, carrier: Client, corp: Provider
) -> None:
    """A statement ends the login's session, and none that looks like it."""
    agent = opened(desk, corp.token())
    labels = operator.get_session(agent.parent_id).labels
    alike = desk.open_session(subject="agent:alike", ceiling=CEILING, labels=labels)
    with pytest.raises(PermissionDenied):
        desk.open_session(subject="agent:alike", ceiling=CEILING, labels=labels, owner=LOGINS_OWNER)
    for statement in (logout(corp), logout(corp, sid=None, sub="ann", jti="j")):
        carrier.report_logout("corp", statement)
    assert status(operator, agent.id) is SessionStatus.ENDED
    assert status(operator, alike.id) is SessionStatus.ACTIVE
