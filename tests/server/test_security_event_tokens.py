"""Security events of CAEP and RISC: each has its effect, by the moment that it states."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessauth.client import Client
from sessauth.errors import IdentityRefused, Rejected
from sessauth.model.session import SessionStatus
from sessauth.server.identity.providers import IdentityProvider
from sessauth.server.identity.statements import verify_event
from sessauth.server.identity.tokens import MAX_SKEW_MS
from tests.server.test_login_sessions import (
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
from tests.server.test_provider_signals import carrier, status
from tests.support.identity_tokens import ISSUER, NOW, NOW_MS, SERVICE, key_set, provider, signed

__all__ = ["carrier", "clock", "corp", "desk", "operator", "service"]
CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
RISC = "https://schemas.openid.net/secevent/risc/event-type/"
ANN = {"format": "iss_sub", "iss": ISSUER, "sub": "ann"}
numbers = itertools.count()


def event_token(
    kind: str, at: int, subject: object = ANN, *, typ: str | None = "secevent+jwt",
    content: dict[str, Any] | None = None, **changed: Any,
) -> str:  # fmt: skip
    """Return a security event token of a time in seconds; None leaves a claim out."""
    stated = {
        "iss": ISSUER,
        "aud": SERVICE,
        "iat": at,
        "jti": f"e{next(numbers)}",
        "sub_id": subject,
        "events": {kind: content or {}},
        **changed,
    }
    return signed({name: value for name, value in stated.items() if value is not None}, typ=typ)


class Sender:
    """Sends events of now, or of a time before."""

    def __init__(self, carrier: Client, corp: Provider) -> None:
        self._carrier, self._corp = carrier, corp

    def __call__(self, kind: str, subject: object = ANN, *, ago_s: int = 0, **changed: Any) -> Any:
        """Hand one on."""
        at = self._corp.clock.now_ms() // 1000 - ago_s
        return self._carrier.report_security_event("corp", event_token(kind, at, subject, **changed))


@pytest.fixture
def send(carrier: Client, corp: Provider) -> Sender:
    """The provider's stream."""
    return Sender(carrier, corp)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (f"{CAEP}session-revoked", {}),
        (f"{RISC}sessions-revoked", {}),
        (f"{RISC}credential-compromise", {}),
        (f"{CAEP}credential-change", {"change_type": "revoke"}),
        (f"{CAEP}token-claims-change", {"claims": "groups"}),
        (f"{CAEP}assurance-level-change", {"change_direction": "decrease"}),
    ],
)
def test_events_that_end_logins(
    send: Sender, desk: Client, operator: Client, corp: Provider, kind: str, content: dict[str, Any]
) -> None:
    """All of the user up to then; a later login counts."""
    agent = opened(desk, corp.token())
    other = opened(desk, corp.token(sub="bob", sid="s2"))
    assert send(kind, content=content).ended == 1
    assert status(operator, agent.id) is SessionStatus.ENDED
    assert operator.get_session(agent.parent_id).reason == f"corp: {kind.rpartition('/')[2]}"
    assert status(operator, other.id) is SessionStatus.ACTIVE
    assert fault_of(desk, corp.token(sid="s3")) == "IDENTITY_CUT"
    corp.clock.advance(MINUTE_MS)
    assert opened(desk, corp.token(sid="s4", auth_time=corp.clock.now_ms() // 1000 - 1))


WITHOUT_EFFECT: list[tuple[str, dict[str, Any]]] = [
    (f"{CAEP}credential-change", {"change_type": "create"}),
    (f"{CAEP}credential-change", {"change_type": ["revoke"]}),
    (f"{CAEP}risk-level-change", {"current_level": "MEDIUM"}),
    (f"{CAEP}session-presented", {}),
    (f"{CAEP}token-claims-change", {"claims": {"phone_number": "1"}}),
    (f"{CAEP}token-claims-change", {"claims": {"groups": ["support", "new"], "acr": "2", "tid": "t1"}}),
    (f"{CAEP}assurance-level-change", {"change_direction": "increase"}),
    ("https://schemas.openid.net/secevent/ssf/event-type/verification", {"state": "x"}),
    ("urn:example:other\n", {}),
]


def test_events_without_effect_are_taken(
    send: Sender, desk: Client, operator: Client, corp: Provider
) -> None:
    """The transmitter need not send them again."""
    agent = opened(desk, corp.token())
    for kind, content in WITHOUT_EFFECT:
        answer = send(kind, content=content)
        assert (answer.ended, answer.suspended, answer.resumed, answer.narrowed) == (0, 0, 0, 0), kind
    assert status(operator, agent.id) is SessionStatus.ACTIVE


def test_an_account_is_disabled_until_it_is_enabled(
    send: Sender, desk: Client, operator: Client, corp: Provider
) -> None:
    """No login of it counts; a late repeat disables nothing again, and cuts stay."""
    agent = opened(desk, corp.token())
    assert send(f"{RISC}account-disabled").ended == 1
    assert status(operator, agent.id) is SessionStatus.ENDED
    corp.clock.advance(MINUTE_MS)
    later = {"sid": "s2", "auth_time": corp.clock.now_ms() // 1000 - 1}
    with pytest.raises(IdentityRefused, match="account is disabled"):
        opened(desk, corp.token(**later))
    send(f"{RISC}account-enabled")
    again = opened(desk, corp.token(**later))
    assert fault_of(desk, corp.token(sid="s3", auth_time=corp.clock.now_ms() // 1000 - 90)) == "IDENTITY_CUT"
    assert send(f"{RISC}account-disabled", ago_s=60).ended == 0
    assert status(operator, again.id) is SessionStatus.ACTIVE

    send(f"{RISC}account-purged", {"format": "aliases", "identifiers": [ANN, {**ANN, "sub": "anna"}]})
    assert status(operator, again.id) is SessionStatus.ENDED
    corp.clock.advance(MINUTE_MS)
    operator.enable_account("corp", "ann", "by mistake")
    assert opened(desk, corp.token(sid="s5", auth_time=corp.clock.now_ms() // 1000 - 1))
    assert fault_of(desk, corp.token(sub="anna", sid="s6")) == "IDENTITY_CUT"


def test_a_device_and_a_risk_suspend_until_both_are_well(
    send: Sender, desk: Client, operator: Client, corp: Provider
) -> None:
    """A suspension by somebody else stays, and a late event changes nothing."""
    agent = opened(desk, corp.token())
    by_hand = opened(desk, corp.token(sid="s2"))
    operator.suspend(by_hand.parent_id, "unusual reads")
    device, risk = f"{CAEP}device-compliance-change", f"{CAEP}risk-level-change"

    def states() -> list[SessionStatus]:
        return [status(operator, each.parent_id) for each in (agent, by_hand)]

    suspended, active = SessionStatus.SUSPENDED, SessionStatus.ACTIVE
    assert send(device, content={"current_status": "not-compliant"}).suspended == 1
    assert states() == [suspended, suspended]
    assert send(risk, content={"current_level": "HIGH"}).suspended == 0
    corp.clock.advance(MINUTE_MS)
    assert send(device, content={"current_status": "compliant"}).resumed == 0
    assert states() == [suspended, suspended]
    assert send(risk, content={"current_level": "LOW"}).resumed == 1
    assert states() == [active, suspended]
    assert send(device, content={"current_status": "not-compliant"}, ago_s=60).suspended == 0
    assert states() == [active, suspended]


def test_a_lapse_ends_no_suspension(send: Sender, desk: Client, operator: Client, corp: Provider) -> None:
    """The next session of a login begins suspended, until the provider or the operator takes that back."""
    agent, by_hand = opened(desk, corp.token()), opened(desk, corp.token(sid="s2"))
    operator.suspend(by_hand.parent_id)
    device = f"{CAEP}device-compliance-change"
    assert send(device, content={"current_status": "not-compliant"}).suspended == 1
    corp.clock.advance(16 * MINUTE_MS)
    logged_in = corp.clock.now_ms() // 1000 - 17 * 60
    for sid in ("s1", "s1", "s2", "s2"):
        with pytest.raises(Rejected, match="suspended"):
            opened(desk, corp.token(sid=sid, auth_time=logged_in))
    assert status(operator, agent.parent_id) is SessionStatus.ENDED
    assert operator.get_session(by_hand.parent_id).reason == "suspended"
    # A login after the event is of a device that the provider has seen.
    assert opened(desk, corp.token(sid="s3"))

    assert send(device, content={"current_status": "compliant"}).resumed == 1
    assert opened(desk, corp.token(sid="s1", auth_time=logged_in))
    with pytest.raises(Rejected, match="suspended"):
        opened(desk, corp.token(sid="s2"))
    (standing,) = operator.list_sessions(status="suspended").sessions
    operator.resume(standing.id)
    assert opened(desk, corp.token(sid="s2")).parent_id == standing.id


@pytest.mark.parametrize("of_login", [True, False])
def test_a_first_token_of_an_unsafe_login_opens_it_suspended(
    send: Sender, desk: Client, corp: Provider, of_login: bool
) -> None:
    """An event comes before the first token of a login that it is of: with a ``sid``, or without."""
    risk, sid = f"{CAEP}risk-level-change", {"sid": "s1"} if of_login else {"sid": None}
    subject = {"user": ANN, "session": {"format": "opaque", "id": "s1" if of_login else "s0"}}
    assert send(risk, subject, content={"current_level": "HIGH"}).suspended == 0
    with pytest.raises(Rejected, match="corp: risk-level-change"):
        opened(desk, corp.token(**sid))
    assert opened(desk, corp.token(sid="s2"))
    corp.clock.advance(MINUTE_MS)
    assert send(risk, subject, content={"current_level": "LOW"}).resumed == 1
    assert opened(desk, corp.token(**sid, auth_time=corp.clock.now_ms() // 1000 - 120))


def test_two_events_of_one_second_have_their_order_by_its_fraction(
    send: Sender, desk: Client, operator: Client, corp: Provider
) -> None:
    """Whole seconds have none: then the login stays suspended."""
    agent = opened(desk, corp.token())
    risk, at = f"{CAEP}risk-level-change", corp.clock.now_ms() // 1000
    high, low = ({"current_level": level} for level in ("HIGH", "LOW"))
    assert send(risk, content={**high, "event_timestamp": at}).suspended == 1
    assert send(risk, content={**low, "event_timestamp": at}).resumed == 0
    corp.clock.advance(5_000)
    assert send(risk, content={**low, "event_timestamp": at + 5.2}).resumed == 1
    assert send(risk, content={**high, "event_timestamp": at + 5.1}).suspended == 0
    assert send(risk, content={**high, "event_timestamp": (at + 5) * 1000 + 300}).suspended == 1
    assert status(operator, agent.parent_id) is SessionStatus.SUSPENDED


def test_a_repeat_leaves_alone_what_an_operator_resumed(
    carrier: Client, desk: Client, operator: Client, corp: Provider
) -> None:
    """A provider sends again what was not acknowledged in time."""
    agent = opened(desk, corp.token())
    content = {"current_status": "not-compliant"}
    token = event_token(f"{CAEP}device-compliance-change", corp.clock.now_ms() // 1000, content=content)
    assert carrier.report_security_event("corp", token).suspended == 1
    operator.resume(agent.parent_id, "seen by hand")
    assert carrier.report_security_event("corp", token).suspended == 0
    assert status(operator, agent.parent_id) is SessionStatus.ACTIVE


def test_subjects(send: Sender, desk: Client, operator: Client, corp: Provider) -> None:
    """A login, a user, both, or nobody whom a login could be of."""
    revoked = f"{CAEP}session-revoked"
    first, second = opened(desk, corp.token()), opened(desk, corp.token(sid="s2"))
    third = opened(desk, corp.token(sid="s3"))
    nobody = [
        {**ANN, "iss": "https://other.example"},
        {"format": "email", "email": "ann@corp"},
        {"format": "account", "uri": "acct:ann@corp"},
        {"user": {**ANN, "iss": "https://other.example"}, "session": {"format": "opaque", "id": "s1"}},
        {"user": {"format": "email", "email": "ann@corp"}},
        {"format": "aliases", "identifiers": [{"format": "email", "email": "ann@corp"}]},
        {"tenant": {"format": "opaque", "id": "t1"}},
        {"device": {"format": "opaque", "id": "d1"}},
        {"format": "aliases", "identifiers": []},
    ]
    for subject in nobody:
        assert send(revoked, subject).ended == 0
    assert send(revoked, {"format": "opaque", "id": "s1"}).ended == 1
    assert send(revoked, {"user": ANN, "session": {"format": "opaque", "id": "s2"}, "tenant": {}}).ended == 1
    assert [status(operator, each.id) for each in (first, second, third)] == [
        SessionStatus.ENDED,
        SessionStatus.ENDED,
        SessionStatus.ACTIVE,
    ]
    assert send(revoked, None, content={"subject": ANN}).ended == 1


EMAIL = {"format": "email", "email": "ann@corp"}


@pytest.mark.parametrize(
    "subject",
    [
        {"format": "aliases", "identifiers": [EMAIL, ANN]},
        {"format": "aliases", "identifiers": [{**ANN, "iss": "https://other.example"}, ANN]},
        {"format": "aliases", "identifiers": [{**ANN, "sub": "anna"}, {"format": "opaque", "id": "s1"}]},
        {"format": "opaque", "id": "ann"},
        {"user": {"format": "opaque", "id": "ann"}},
        {"user": EMAIL, "session": {"format": "opaque", "id": "s1"}},
        {"user": {"format": "aliases", "identifiers": [EMAIL, ANN]}},
        {"user": ANN, "session": {"format": "jwt_id", "iss": ISSUER, "jti": "j1"}},
        {
            "user": {"format": "aliases", "identifiers": [EMAIL, {**ANN, "sub": "anna"}, ANN]},
            "session": {"format": "opaque", "id": "s1"},
        },
        {"subject_type": "iss-sub", "iss": ISSUER, "sub": "ann"},
    ],
)
def test_each_name_of_a_subject_counts(
    send: Sender, desk: Client, operator: Client, corp: Provider, subject: dict[str, Any]
) -> None:
    """A name that says nothing here takes nothing from another beside it."""
    agent = opened(desk, corp.token())

    assert send(f"{CAEP}session-revoked", subject).ended == 1
    assert status(operator, agent.id) is SessionStatus.ENDED


def test_a_user_of_several_names_ends_by_each(send: Sender, desk: Client, corp: Provider) -> None:
    """Names of a user beside a session: each has logins without a name of their own."""
    for user in ("ann", "anna"):
        opened(desk, corp.token(sub=user, sid=None))
    names = [ANN, {**ANN, "sub": "anna"}]
    subject = {
        "user": {"format": "aliases", "identifiers": names},
        "session": {"format": "opaque", "id": "s0"},
    }

    assert send(f"{CAEP}session-revoked", subject).ended == 2


def test_the_moment_is_that_of_the_event(
    send: Sender, desk: Client, corp: Provider, operator: Client
) -> None:
    """Seconds or ms count, of the event before that of the token; it is half a minute ahead at most."""
    revoked = f"{CAEP}session-revoked"
    agent = opened(desk, corp.token())
    login = corp.clock.now_ms() // 1000 - 60
    for content, changed in (
        ({"event_timestamp": login - 1}, {}),
        ({"event_timestamp": (login - 1) * 1000}, {}),
        ({}, {"toe": login - 1}),
    ):
        assert send(revoked, content=content, **changed).ended == 0
    assert status(operator, agent.id) is SessionStatus.ACTIVE
    assert send(revoked, content={"event_timestamp": login + 10_000}).ended == 1
    corp.clock.advance(MINUTE_MS)
    assert opened(desk, corp.token(sid="s2", auth_time=corp.clock.now_ms() // 1000 - 1))


BAD_EVENTS: list[tuple[dict[str, Any], str]] = [
    ({"typ": "JWT"}, "IDENTITY_WRONG_KIND"),
    ({"typ": None}, "IDENTITY_WRONG_KIND"),
    ({"aud": "https://other.example"}, "IDENTITY_WRONG_KIND"),
    ({"iss": "https://other.example"}, "IDENTITY_UNTRUSTED"),
    ({"jti": None}, "IDENTITY_MALFORMED"),
    ({"iat": None}, "IDENTITY_MALFORMED"),
    ({"events": {}}, "IDENTITY_MALFORMED"),
    ({"events": {"a": {}, "b": {}}}, "IDENTITY_MALFORMED"),
    ({"events": {f"{CAEP}session-revoked": 5}}, "IDENTITY_MALFORMED"),
    ({"sub_id": None}, "IDENTITY_MALFORMED"),
    ({"sub_id": "ann"}, "IDENTITY_MALFORMED"),
    ({"sub_id": {"format": "opaque"}}, "IDENTITY_MALFORMED"),
    ({"sub_id": {"format": ["opaque"]}}, "IDENTITY_MALFORMED"),
    ({"sub_id": {"format": "aliases", "identifiers": [5]}}, "IDENTITY_MALFORMED"),
    ({"content": {"event_timestamp": "now"}}, "IDENTITY_MALFORMED"),
    ({"content": {"event_timestamp": True}}, "IDENTITY_MALFORMED"),
]


def test_a_bad_event_has_no_effect(send: Sender, desk: Client, operator: Client, corp: Provider) -> None:
    """Each has its word."""
    agent = opened(desk, corp.token())
    for changed, word in BAD_EVENTS:
        with pytest.raises(IdentityRefused) as refused:
            send(f"{CAEP}session-revoked", **changed)
        assert refused.value.fault == word, changed
    assert status(operator, agent.id) is SessionStatus.ACTIVE


def test_a_transmitter_may_have_a_name_and_keys_of_its_own() -> None:
    """Its events count; those by the provider's own name no longer do."""
    stated = {"events_issuer": "https://events.example", "events_jwks_uri": "https://events.example/keys"}
    made = provider(**stated)
    asked: list[IdentityProvider] = []

    def keys_of(each: IdentityProvider, _: str) -> Any:
        asked.append(each)
        return key_set()

    token = event_token(f"{CAEP}session-revoked", NOW, iss="https://events.example")
    signal = verify_event(token, "corp", [made], keys_of, NOW_MS)
    assert (signal.provider, signal.named[0].subject) == (made, "ann")
    assert (asked[0].jwks_uri, asked[0].name) == ("https://events.example/keys", "corp.events")
    with pytest.raises(IdentityRefused):
        verify_event(event_token(f"{CAEP}session-revoked", NOW), "corp", [made], keys_of, NOW_MS)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**60) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["format", "iss", "sub", "id", "user", "session", "identifiers", "x"]),
            inner | st.sampled_from(["iss_sub", "opaque", "aliases", "complex", ISSUER, "ann"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(subject=_JSON, content=st.dictionaries(st.sampled_from(["event_timestamp", "subject", "x"]), _JSON))
def test_any_subject_and_content_is_read_or_refused(subject: Any, content: Any) -> None:
    """A refusal has a word, and there is never another exception."""
    token = event_token(f"{CAEP}session-revoked", NOW, subject, content=content)
    try:
        signal = verify_event(token, "corp", [provider()], lambda *_: key_set(), NOW_MS)
    except IdentityRefused:
        return
    assert 0 < signal.moment_ms <= NOW_MS + MAX_SKEW_MS


@pytest.mark.parametrize("stated", [{}, {"event_timestamp": 1}, {"event_timestamp": 1000}])
def test_a_provider_whose_clock_is_ahead_ends_its_logins(
    send: Sender, desk: Client, operator: Client, corp: Provider, stated: dict[str, int]
) -> None:
    """A login is in our future then, and its end a second later, too."""
    at_s = corp.clock.now_ms() // 1000 + 20
    agent = opened(desk, corp.token(ago_s=-20, auth_time=at_s, exp=at_s + 300))
    content = {name: (at_s + 1) * factor for name, factor in stated.items()}
    assert send(f"{CAEP}session-revoked", ago_s=-21, content=content).ended == 1
    assert status(operator, agent.id) is SessionStatus.ENDED


def test_an_operator_cuts_logins_of_a_provider_whose_clock_is_ahead(
    desk: Client, operator: Client, corp: Provider
) -> None:
    """Sessions that were opened before the cut are over."""
    at_s = corp.clock.now_ms() // 1000 + 20
    agent = opened(desk, corp.token(ago_s=-20, auth_time=at_s, exp=at_s + 300))
    assert operator.cut_logins("corp", subject="ann").ended == 1
    assert status(operator, agent.id) is SessionStatus.ENDED
    assert fault_of(desk, corp.token(ago_s=-20, auth_time=at_s, exp=at_s + 300)) == "IDENTITY_SESSION_ENDED"
