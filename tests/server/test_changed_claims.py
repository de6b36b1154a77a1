"""Claims that change during a login: terms that they gave go, facts follow them, and nothing widens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessauth.client import Client
from sessauth.errors import IdentityRefused
from sessauth.model.session import EndCause, Fact, ScopeRecord, Session, SessionStatus
from sessauth.scopes.scope import Scope
from sessauth.scopes.value import Number
from sessauth.server.identity.mapping import changed_terms, map_identity
from sessauth.server.identity.providers import IdentityProvider
from sessauth.server.identity.tokens import ProvenIdentity, TokenKind
from tests.server.test_login_sessions import (
    MINUTE_MS,
    Provider,
    clock,
    corp,
    desk,
    fault_of,
    opened,
    operator,
)
from tests.server.test_provider_signals import carrier, status
from tests.server.test_security_event_tokens import ANN, CAEP, Sender, send
from tests.support.identity_tokens import provider
from tests.support.service import Service, running

__all__ = ["carrier", "clock", "corp", "desk", "operator", "send"]
CHANGED = f"{CAEP}token-claims-change"
GRANTS = [
    {"when": {"groups": "support"}, "ceiling": ["read:tickets/**"]},
    {"when": {"groups": "admin"}, "ceiling": ["read:tickets/**", "write:tickets/**"]},
    {"when": {"acr": "3"}, "ceiling": ["write:refunds/*"]},
]


@pytest.fixture
def service(corp: Provider) -> Iterator[Service]:
    """A server whose provider has three grants."""
    with running(corp.clock, identity_providers=[{**corp.settings, "grants": GRANTS}]) as made:
        yield made


def layers(operator: Client, session_id: bytes) -> list[list[str]]:
    """Return a session's ceiling as texts."""
    found = operator.get_session(session_id).ceilings
    return [[str(Scope.from_record(scope)) for scope in layer] for layer in found]


def facts(operator: Client, session_id: bytes) -> dict[str, object]:
    """Return a session's facts."""
    return {fact.name: fact.value for fact in operator.get_session(session_id).facts}


def test_a_group_that_is_left_takes_its_scopes_along(
    send: Sender, desk: Client, operator: Client, corp: Provider
) -> None:
    """The rest of the login goes on, and a group that is joined again gives nothing back."""
    agent = opened(desk, corp.token(groups=["support", "admin"], acr="3"))
    assert len(layers(operator, agent.parent_id)[0]) == 3
    answer = send(CHANGED, content={"claims": {"groups": ["support"]}})
    assert (answer.narrowed, answer.ended) == (1, 0)
    assert layers(operator, agent.parent_id) == [["read:tickets/**", "write:refunds/*"]]
    assert status(operator, agent.id) is SessionStatus.ACTIVE
    corp.clock.advance(MINUTE_MS)
    again = send(CHANGED, content={"claims": {"groups": ["support", "admin"]}})
    assert (again.narrowed, again.ended) == (0, 0)
    assert layers(operator, agent.parent_id) == [["read:tickets/**", "write:refunds/*"]]


def test_a_login_with_nothing_left_ends(send: Sender, desk: Client, operator: Client, corp: Provider) -> None:
    """So does one whose subject, label or requirement is another."""
    for number, claims in enumerate(
        ({"groups": []}, {"groups": None}, {"sub": "eve"}, {"tid": "t2"}, {"tid": 5})
    ):
        agent = opened(desk, corp.token(sid=f"s{number}"))
        answer = send(CHANGED, content={"claims": claims})
        assert (answer.narrowed, answer.ended) == (0, 1), claims
        assert status(operator, agent.id) is SessionStatus.ENDED
        corp.clock.advance(MINUTE_MS)


def test_a_token_from_before_the_change_opens_nothing(send: Sender, desk: Client, corp: Provider) -> None:
    """A refreshed one of the same login does, and gives what it says."""
    stale = corp.token(groups=["support", "admin"])
    login = corp.clock.now_ms() // 1000 - 60
    assert send(CHANGED, content={"claims": {"groups": ["support"]}}).narrowed == 0
    assert fault_of(desk, stale) == "IDENTITY_EXPIRED"
    corp.clock.advance(MINUTE_MS)
    agent = opened(desk, corp.token(auth_time=login, groups=["support"]))
    with pytest.raises(IdentityRefused, match="refresh the token"):
        desk.keep_alive(agent.id, identity_token=stale)
    desk.keep_alive(agent.id, identity_token=corp.token(auth_time=login, groups=["support"]))


def test_facts_follow_the_claims(send: Sender, desk: Client, operator: Client, corp: Provider) -> None:
    """A claim that is gone is no fact; a late change of a fact removes it, as nobody knows the last value."""
    agent = opened(desk, corp.token(groups=["support", "admin"]))
    corp.clock.advance(MINUTE_MS)
    assert send(CHANGED, content={"claims": {"acr": "1"}}).narrowed == 1
    assert facts(operator, agent.parent_id) == {"acr": "1"}
    assert send(CHANGED, content={"claims": {"acr": "1"}}).narrowed == 0
    assert send(CHANGED, content={"claims": {"acr": "2"}}, ago_s=30).narrowed == 1
    assert facts(operator, agent.parent_id) == {}
    assert send(CHANGED, content={"claims": {"acr": 1}}).narrowed == 1
    assert facts(operator, agent.parent_id) == {"acr": Number.of(1)}
    assert send(CHANGED, content={"claims": {"acr": None}}).narrowed == 1
    assert facts(operator, agent.parent_id) == {}


def test_an_operators_layers_are_left(send: Sender, desk: Client, operator: Client, corp: Provider) -> None:
    """A layer is added beside them, a repeat adds none, and a login without room for one ends."""
    agent = opened(desk, corp.token(groups=["support", "admin"], acr="3"))
    operator.narrow(agent.parent_id, ["write:**", "read:tickets/a"])
    removed = {"claims": {"groups": ["support"]}}
    assert send(CHANGED, content=removed).narrowed == 1
    left = ["read:tickets/**", "write:refunds/*"]
    assert layers(operator, agent.parent_id)[1:] == [["write:**", "read:tickets/a"], left]
    assert send(CHANGED, content=removed).narrowed == 0
    for number in range(13):
        operator.narrow(agent.parent_id, ["*:tickets/a/*" if number % 2 else "*:tickets/*/b"])
    assert send(CHANGED, content={"claims": {"acr": "0"}}).ended == 1
    assert status(operator, agent.id) is SessionStatus.ENDED


def test_later_logins_are_left(send: Sender, desk: Client, operator: Client, corp: Provider) -> None:
    """Their tokens say what held after the change."""
    first = opened(desk, corp.token())
    corp.clock.advance(MINUTE_MS)
    later = opened(desk, corp.token(sid="s2", auth_time=corp.clock.now_ms() // 1000 - 1))
    assert send(CHANGED, content={"claims": {"groups": []}}, ago_s=20).ended == 1
    assert [status(operator, each.id) for each in (first, later)] == [
        SessionStatus.ENDED,
        SessionStatus.ACTIVE,
    ]


@pytest.mark.parametrize(("effect", "ended"), [("end", 1), ("ignore", 0)])
def test_the_settings_state_another_effect(corp: Provider, effect: str, ended: int) -> None:
    """A change of claims may end the logins, or be ignored."""
    settings = {**corp.settings, "on": {"token-claims-change": effect}}
    with (
        running(corp.clock, identity_providers=[settings]) as service,
        Client(str(service.made.socket), service.add("desk", "issuer").credential) as desk,
        Client(str(service.made.socket), service.add("carrier", "security-events").credential) as carrier,
    ):
        opened(desk, corp.token())
        answer = Sender(carrier, corp)(CHANGED, ANN, content={"claims": {"acr": "1"}})
        assert (answer.ended, answer.narrowed) == (ended, 0)


NAMES = ("a", "b", "c")
_WHEN = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["x", "y"]), max_size=2)
_SCOPES = st.lists(st.sampled_from(["read:a", "read:b", "read:c", "read:d"]), min_size=1, max_size=3)
_CLAIMS = st.dictionaries(
    st.sampled_from(NAMES), st.sampled_from(["x", "y", None, ["x", "y"], []]), max_size=3
)


def _ceiling(mapped: IdentityProvider, claims: Mapping[str, Any]) -> set[str]:
    """Return the scopes that a token with some claims gives."""
    identity = ProvenIdentity(
        provider=mapped, kind=TokenKind.ID_TOKEN, key="", algorithm="", subject="ann", client="desk", sid="",
        token_id="", logged_in_at_ms=1, issued_at_ms=1, expires_at_ms=2, machine=False, actors=(),
        claims={**claims, "sub": "ann"},
    )  # fmt: skip
    try:
        return set(map_identity(identity).ceiling)
    except IdentityRefused:
        return set()


@given(
    grants=st.lists(st.tuples(_WHEN, _SCOPES), min_size=1, max_size=4), before=_CLAIMS,
    changes=st.lists(_CLAIMS, min_size=1, max_size=3),
)  # fmt: skip
def test_the_rest_lies_inside_both_mappings(
    grants: list[tuple[dict[str, str], list[str]]], before: dict[str, Any], changes: list[dict[str, Any]]
) -> None:
    """Only scopes remain that a token of now would give; all of these if all claims changed."""
    mapped = provider(grants=[{"when": when, "ceiling": scopes} for when, scopes in grants], facts=["a"])
    claims = {name: value for name, value in before.items() if value is not None}
    given_at_login = _ceiling(mapped, claims)
    if not given_at_login:
        return
    left: tuple[ScopeRecord, ...] = tuple(Scope.parse(text).to_record() for text in sorted(given_at_login))
    for change in changes:
        claims |= change
        now = _ceiling(mapped, {name: value for name, value in claims.items() if value is not None})
        terms = changed_terms(mapped, change, _session(left), is_late=False)
        if terms is None:
            if set(change) == set(NAMES):
                assert not {str(Scope.from_record(each)) for each in left} & now
            return
        before_change, left = left, terms.ceiling or left
        kept = {str(Scope.from_record(each)) for each in left}
        assert kept <= given_at_login & now
        if set(change) == set(NAMES):
            assert kept == {str(Scope.from_record(each)) for each in before_change} & now


def _session(ceiling: tuple[Any, ...]) -> Session:
    return Session(
        id=b"s" * 16, subject="user:ann", purpose="", owner="", parent_id=b"", status=SessionStatus.ACTIVE,
        epoch=1, ceilings=(ceiling,), facts=(Fact("a", "x"),), labels={}, opened_at_ms=1, expires_at_ms=2,
        lease_ms=0, issuer_key_ids=(), revoked_count=0, ended_at_ms=0, reason="", revision=1,
        end_cause=EndCause.UNSPECIFIED,
    )  # fmt: skip
