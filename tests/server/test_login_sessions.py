"""Sessions below a login: opened by tokens of an identity provider, and ended with the login's session."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sessauth.client import Client, Tls
from sessauth.client._requests.sessions import keep_alive, open_session
from sessauth.clock import FixedClock
from sessauth.errors import IdentityRefused, NotFound, Rejected, Unavailable, UsageError
from sessauth.model.session import LOGINS_OWNER, EndCause, Session, SessionStatus
from sessauth.server.identity.login_sessions import OPENED
from sessauth.server.keys.certificates import first_der
from tests.support.authority import NEEDS_OPENSSL, Authority
from tests.support.identity_tokens import ISSUER, SERVICE, access_claims, claims, public_jwk, signed
from tests.support.service import Service, running

CEILING = ["read:tickets/**"]
MINUTE_MS = 60_000


class Provider:
    """An identity provider with a clock of its own: it signs tokens of a login now."""

    def __init__(self, keys_file: Path, clock: FixedClock) -> None:
        self.keys_file = keys_file
        self.clock = clock
        self.publish("RS256")

    def publish(self, *keys: str) -> None:
        """Publish these keys."""
        self.keys_file.write_text(json.dumps({"keys": [public_jwk(name) for name in keys]}))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a server that takes its tokens."""
        return {
            "name": "corp",
            "issuer": ISSUER,
            "audience": SERVICE,
            "clients": ["desk"],
            "algorithms": ["RS256", "ES256"],
            "jwks_file": str(self.keys_file),
            "labels": {"tenant": "{tid}"},
            "facts": ["acr"],
            "grants": [{"when": {"groups": "support"}, "ceiling": ["read:tickets/**", "write:tickets/**"]}],
        }

    def token(self, algorithm: str = "RS256", *, ago_s: int = 0, **changed: Any) -> str:
        """Return an ID token that was issued so long ago, of a login a minute before."""
        issued = self.clock.now_ms() // 1000 - ago_s
        times = {"iat": issued, "exp": issued + 300, "auth_time": self.clock.now_ms() // 1000 - 60}
        return signed(claims(**{"tid": "t1", "acr": "2", **times, **changed}), algorithm)


@pytest.fixture
def clock() -> FixedClock:
    """The clock of server and provider, at a whole second after the home folder was made."""
    return FixedClock((time.time_ns() // 1_000_000_000 + 2) * 1000)


@pytest.fixture
def corp(tmp_path: Path, clock: FixedClock) -> Provider:
    """The provider."""
    return Provider(tmp_path / "corp.json", clock)


@pytest.fixture
def service(corp: Provider) -> Iterator[Service]:
    """A server that takes its tokens."""
    with running(corp.clock, identity_providers=[corp.settings]) as made:
        yield made


@pytest.fixture
def operator(service: Service) -> Iterator[Client]:
    """The operator's client."""
    with Client(
        str(service.made.socket), credential_file=service.made.credential_file, timeout_ms=20_000
    ) as made:
        yield made


@pytest.fixture
def desk(service: Service) -> Iterator[Client]:
    """The client of an orchestrator, an issuer."""
    credential = service.add("desk", "issuer").credential
    with Client(str(service.made.socket), credential, timeout_ms=20_000) as made:
        yield made


def opened(client: Client, token: str, **terms: Any) -> Session:
    """Open an agent's session by a token."""
    return client.open_session(
        **{"subject": "agent:reader", "ceiling": CEILING, "identity_token": token, **terms}
    )


def fault_of(client: Client, token: str, **terms: Any) -> str:
    """Return the word that refuses an opening by a token."""
    with pytest.raises(IdentityRefused) as refused:
        opened(client, token, **terms)
    return refused.value.fault


def everything(client: Client) -> list[Session]:
    """Return all sessions."""
    return list(client.list_sessions().sessions)


def test_the_first_token_opens_the_session_of_the_login_too(
    desk: Client, operator: Client, corp: Provider, service: Service
) -> None:
    """Its terms are those of the mapping, and the agent's are the caller's."""
    agent = opened(desk, corp.token(act={"sub": "planner"}))
    login = operator.get_session(agent.parent_id)

    assert (agent.subject, agent.owner) == ("agent:reader", "desk")
    assert (login.subject, login.owner, login.parent_id) == ("user:ann", LOGINS_OWNER, b"")
    assert (login.lease_ms, len(login.ceilings[0])) == (900_000, 2)
    assert login.expires_at_ms == corp.clock.now_ms() - MINUTE_MS + 28_800_000
    assert {name: login.labels[name] for name in ("tenant", "provider", "sid", "actor")} == {
        "tenant": "t1",
        "provider": "corp",
        "sid": "s1",
        "actor": "planner",
    }
    assert [(fact.name, fact.value, fact.visible) for fact in login.facts] == [("acr", "2", False)]
    assert service.control is not None
    assert service.control.subsystems.metrics().identity_openings == {("corp", OPENED): 1}


def test_first_tokens_at_once_open_one_session_of_the_login(
    desk: Client, operator: Client, corp: Provider
) -> None:
    """Sixteen callers; the id of the login's session follows from the login."""
    tokens = [corp.token(jti=str(number)) for number in range(16)]
    with ThreadPoolExecutor(16) as callers:
        agents = list(callers.map(lambda token: opened(desk, token), tokens))

    assert len({agent.parent_id for agent in agents}) == 1
    assert len(everything(operator)) == 17


def test_the_end_of_the_login_ends_all_agents_and_refuses_its_tokens(
    desk: Client, operator: Client, corp: Provider
) -> None:
    """One change; another login of the same user opens, and a refreshed token of the first does not."""
    agent, token = desk.open_and_mint(
        CEILING, ["gw"], subject="agent:reader", ceiling=CEILING, identity_token=corp.token()
    )
    other = opened(desk, corp.token())
    assert operator.check(token, "read", "tickets/1", audience="gw").allowed
    operator.end(agent.parent_id, "logged out")

    assert not operator.check(token, "read", "tickets/1", audience="gw").allowed
    statuses = [operator.get_session(each.id).status for each in (agent, other)]
    assert statuses == [SessionStatus.ENDED, SessionStatus.ENDED]
    corp.clock.advance(10 * MINUTE_MS)
    assert fault_of(desk, corp.token()) == "IDENTITY_SESSION_ENDED"
    assert opened(desk, corp.token(sid="s2")).parent_id != agent.parent_id


def test_a_login_past_its_hard_end_opens_nothing(desk: Client, corp: Provider) -> None:
    """A token with the time of a later login under the same name of the login is refused as well."""
    opened(desk, corp.token())
    corp.clock.advance(28_800_000)

    assert fault_of(desk, corp.token(auth_time=corp.clock.now_ms() // 1000 - 28_801)) == "IDENTITY_EXPIRED"
    # The lease lapsed before, so this is the next session of the login.
    assert opened(desk, corp.token()).expires_at_ms > corp.clock.now_ms()


def test_a_lapse_is_no_end_for_a_token_that_is_younger(
    desk: Client, operator: Client, corp: Provider
) -> None:
    """The former session stays ended, and an old token does not open the next."""
    first = opened(desk, corp.token())
    corp.clock.advance(16 * MINUTE_MS)
    assert fault_of(desk, corp.token(ago_s=200)) == "IDENTITY_SESSION_ENDED"
    corp.clock.advance(1_000)
    second = opened(desk, corp.token())

    assert second.parent_id != first.parent_id
    assert operator.get_session(first.id).status is SessionStatus.ENDED
    assert operator.get_session(first.parent_id).end_cause is EndCause.LEASE_LAPSED
    operator.end(second.parent_id, "logged out")
    corp.clock.advance(1_000)
    assert fault_of(desk, corp.token()) == "IDENTITY_SESSION_ENDED"


def test_a_fresh_token_renews_the_lease_of_its_login_alone(
    desk: Client, operator: Client, corp: Provider
) -> None:
    """The login's session is named itself, or by one below it; an issuer sees only the second."""
    agent, other = opened(desk, corp.token()), opened(desk, corp.token(sid="s2"))
    deadline = operator.get_session(agent.parent_id).lease_deadline_ms
    # More than half of it is left: nothing is written.
    assert desk.keep_alive(agent.id, identity_token=corp.token()) == deadline
    corp.clock.advance(10 * MINUTE_MS)
    fresh = corp.token()

    for session_id in (agent.id, agent.parent_id):
        with pytest.raises(IdentityRefused, match="issued before the last renewal"):
            desk.keep_alive(session_id, identity_token=corp.token(iat=corp.clock.now_ms() // 1000 - 601))
    with pytest.raises(IdentityRefused, match="another login"):
        desk.keep_alive(other.id, identity_token=fresh)
    with pytest.raises(NotFound):
        desk.keep_alive(other.parent_id, identity_token=fresh)
    with pytest.raises(NotFound):
        desk.keep_alive(agent.parent_id)
    assert desk.keep_alive(agent.parent_id, identity_token=fresh) == corp.clock.now_ms() + 900_000
    assert operator.get_session(other.parent_id).lease_deadline_ms == deadline
    corp.clock.advance(10 * MINUTE_MS)
    with pytest.raises(IdentityRefused, match="issued before the last renewal"):
        desk.keep_alive(agent.id, identity_token=corp.token(ago_s=600, exp=2_000_000_000))
    with pytest.raises(IdentityRefused, match="no living session"):
        desk.keep_alive(other.id, identity_token=corp.token(sid="s2"))


def test_an_opening_by_a_fresh_token_renews_the_login_too(
    desk: Client, operator: Client, corp: Provider
) -> None:
    """It proves the login as a renewal does."""
    login_id = opened(desk, corp.token()).parent_id
    corp.clock.advance(10 * MINUTE_MS)
    opened(desk, corp.token(ago_s=601, exp=2_000_000_000))
    before = operator.get_session(login_id).lease_deadline_ms
    opened(desk, corp.token())

    assert operator.get_session(login_id).lease_deadline_ms == before + 10 * MINUTE_MS


def test_a_login_without_a_lease_opens_any_number(corp: Provider) -> None:
    """A later token has nothing to renew, and opens all the same."""
    with running(corp.clock, identity_providers=[{**corp.settings, "lease_ms": 0}]) as made:
        credential = made.add("desk", "issuer").credential
        with Client(str(made.made.socket), credential, timeout_ms=20_000) as client:
            agents = []
            for _ in range(2):
                agents.append(opened(client, corp.token()))
                corp.clock.advance(16 * MINUTE_MS)
    assert len({agent.parent_id for agent in agents}) == 1


def test_a_subject_of_a_provider_needs_its_token(desk: Client, operator: Client, corp: Provider) -> None:
    """Nobody states it, operators neither, and the token of another user does not prove it."""
    for client in (desk, operator):
        for subject in ("user:ann", "user:", "user:ann "):
            with pytest.raises(IdentityRefused) as refused:
                client.open_session(subject=subject, ceiling=CEILING)
            assert refused.value.fault == "IDENTITY_REQUIRED"
    login_id = opened(desk, corp.token()).parent_id
    with pytest.raises(IdentityRefused):
        operator.open_session(subject="user:ann", ceiling=CEILING, parent_id=login_id)

    assert fault_of(desk, corp.token(), subject="user:bob") == "IDENTITY_NOT_GRANTED"
    assert opened(desk, corp.token(), subject="").subject == "user:ann"
    assert opened(desk, corp.token(), subject="user:ann").subject == "user:ann"
    assert desk.open_session(subject="agent:reader", ceiling=CEILING).parent_id == b""


def test_a_provider_may_leave_its_subjects_to_issuers(corp: Provider) -> None:
    """``require_token = false`` is for the time in which both ways are in use."""
    settings = {**corp.settings, "require_token": False}
    with running(corp.clock, identity_providers=[settings]) as service:
        path = str(service.made.socket)
        with Client(path, credential_file=service.made.credential_file, timeout_ms=20_000) as client:
            assert client.open_session(subject="user:ann", ceiling=CEILING).subject == "user:ann"


def test_a_parent_beside_a_token_is_refused(desk: Client, corp: Provider) -> None:
    """The login's session is the parent."""
    parent = desk.open_session(subject="agent:x", ceiling=CEILING)

    with pytest.raises(UsageError, match="parent_id: must be empty beside identity_token"):
        opened(desk, corp.token(), parent_id=parent.id)


NOW_S = time.time_ns() // 1_000_000_000
BAD = {
    "MALFORMED": "a.b",
    "UNTRUSTED": signed(claims(iss="https://other.example")),
    "WRONG_KIND": signed(claims(aud="mail", iat=NOW_S, exp=NOW_S + 3_600, auth_time=NOW_S)),
    "EXPIRED": signed(claims(exp=NOW_S - 1)),
    "PROOF_REQUIRED": signed(claims(cnf={"jkt": "x"})),
    "NOT_GRANTED": signed(
        claims(groups=[], tid="t1", iat=NOW_S - 60, exp=NOW_S + 3_600, auth_time=NOW_S - 60)
    ),
}


@pytest.mark.parametrize("word", BAD)
def test_a_bad_token_opens_nothing_and_says_why(
    desk: Client, operator: Client, service: Service, word: str
) -> None:
    """Nothing is written, not even a rejection; refusals are counted by their words."""
    assert service.control is not None
    before = service.control.writer.head()
    assert fault_of(desk, BAD[word]) == f"IDENTITY_{word}"
    with pytest.raises(IdentityRefused):
        desk.keep_alive(bytes(16), identity_token=BAD[word])

    assert service.control.writer.head() == before
    provider = "" if word in ("MALFORMED", "UNTRUSTED") else "corp"
    counted = service.control.subsystems.logins.openings
    assert counted == {("corp", OPENED): 0, (provider, f"IDENTITY_{word}"): 1}


def test_an_agent_that_can_not_be_opened_opens_no_login(
    desk: Client, operator: Client, corp: Provider
) -> None:
    """A ceiling outside of the login's, a fault in the request, a ban, a token that can't be minted."""
    with pytest.raises(Rejected, match="WIDENS"):
        opened(desk, corp.token(), ceiling=["delete:tickets/**"])
    with pytest.raises(UsageError, match="facts"):
        opened(desk, corp.token(), facts={"1": "x"})
    with pytest.raises(Rejected, match="wider"):
        desk.open_and_mint(
            ["delete:tickets/**"], ["gw"], subject="a", ceiling=CEILING, identity_token=corp.token()
        )
    operator.end_sessions(subject="agent:banned", refuse_new_ms=60_000)
    with pytest.raises(Rejected, match="BANNED"):
        opened(desk, corp.token(), subject="agent:banned")
    operator.end_sessions(subject="user:ann", refuse_new_ms=60_000)
    with pytest.raises(Rejected, match="BANNED"):
        opened(desk, corp.token())

    assert everything(operator) == []


def test_a_later_token_that_gives_less_opens_less(corp: Provider) -> None:
    """The login's session keeps the ceiling of its first token; another has what its own token gives."""
    settings = corp.settings
    settings["grants"] = [
        {"ceiling": ["read:tickets/**"]},
        {"when": {"groups": "lead"}, "ceiling": ["write:tickets/**"]},
    ]
    with running(corp.clock, identity_providers=[settings]) as service:
        path = str(service.made.socket)
        with Client(path, credential_file=service.made.credential_file, timeout_ms=20_000) as client:
            login_id = opened(client, corp.token(groups=["lead"]), ceiling=["write:tickets/**"]).parent_id
            for ceiling in (["write:tickets/1"], ["read,write:tickets/1"], ["*:tickets/*"]):
                with pytest.raises(Rejected, match="WIDENS"):
                    opened(client, corp.token(), ceiling=ceiling)
            assert opened(client, corp.token(), ceiling=["read:tickets/1"]).parent_id == login_id


def test_a_suspended_login_opens_nothing(desk: Client, operator: Client, corp: Provider) -> None:
    """Until it is resumed."""
    login_id = opened(desk, corp.token()).parent_id
    operator.suspend(login_id, "unusual")
    with pytest.raises(Rejected, match="suspended"):
        opened(desk, corp.token())
    operator.resume(login_id)

    assert opened(desk, corp.token()).parent_id == login_id


def test_a_repeated_request_gets_the_first_session(desk: Client, corp: Provider) -> None:
    """Also with another token of the login."""
    first = opened(desk, corp.token(), request_id="r1")

    assert opened(desk, corp.token(jti="2"), request_id="r1").id == first.id


def test_an_id_jag_opens_one_session(desk: Client, corp: Provider) -> None:
    """A repeat of the request gets it again, and any other request is refused."""
    now = corp.clock.now_ms() // 1000
    stated = access_claims(jti="j1", tid="t1", iat=now, exp=now + 300, auth_time=now - 60, sid="s1")
    token = signed(stated, typ="oauth-id-jag+jwt")
    agent = opened(desk, token, request_id="r1")

    assert opened(desk, token, request_id="r1").id == agent.id
    assert fault_of(desk, token) == "IDENTITY_REPLAYED"
    assert opened(desk, corp.token()).parent_id == agent.parent_id
    desk.end(agent.id)
    assert fault_of(desk, token) == "IDENTITY_REPLAYED"


@NEEDS_OPENSSL
def test_a_token_bound_to_a_certificate_counts_on_its_connection(corp: Provider, tmp_path: Path) -> None:
    """It opens nothing by another certificate's connection, nor by the socket of this machine."""
    authority = Authority(tmp_path, "ca")
    authority.sign("server", "DNS:localhost")
    tcp = {
        "address": "127.0.0.1:0",
        "certificate": str(tmp_path / "server.pem"),
        "private_key": str(tmp_path / "server.key"),
        "client_ca": str(tmp_path / "ca.pem"),
    }
    mine, other = (authority.sign(name, f"DNS:{name}.example") for name in ("mine", "other"))
    digest = hashlib.sha256(first_der(mine[0].read_bytes())).digest()
    token = corp.token(cnf={"x5t#S256": base64.urlsafe_b64encode(digest).rstrip(b"=").decode()})
    terms: Any = {"subject": "agent:a", "ceiling": CEILING, "identity_token": token}
    with running(corp.clock, identity_providers=[corp.settings], tcp=tcp) as service:
        assert service.control is not None
        target, file = f"localhost:{service.control.tcp_port}", service.made.credential_file
        for pair, word in ((mine, ""), (other, "IDENTITY_PROOF_REQUIRED"), (None, "IDENTITY_PROOF_REQUIRED")):
            tls = None if pair is None else Tls(tmp_path / "ca.pem", *pair)
            place = str(service.made.socket) if pair is None else target
            with Client(place, credential_file=file, tls=tls, timeout_ms=20_000) as client:
                if not word:
                    assert client.open_session(**terms).parent_id
                    continue
                with pytest.raises(IdentityRefused, match=word):
                    client.open_session(**terms)


def test_a_key_that_was_rotated_is_fetched_once_a_token_names_it(desk: Client, corp: Provider) -> None:
    """Once in 30 s; a key that left the set verifies nothing from then on."""
    opened(desk, corp.token())
    corp.publish("ES256")
    opened(desk, corp.token("ES256"))
    corp.publish("RS256")
    assert fault_of(desk, corp.token()) == "IDENTITY_UNTRUSTED"
    corp.clock.advance(30_000)

    opened(desk, corp.token())
    assert fault_of(desk, corp.token("ES256")) == "IDENTITY_UNTRUSTED"


def test_keys_that_can_not_be_had_are_no_fault_of_the_token(desk: Client, corp: Provider) -> None:
    """The last set counts for a day; the answer names the provider."""
    opened(desk, corp.token())
    corp.keys_file.unlink()
    corp.clock.advance(86_400_000 - 1)
    opened(desk, corp.token())
    corp.clock.advance(1)

    with pytest.raises(Unavailable, match="keys of the identity provider corp can't be had") as refused:
        opened(desk, corp.token())
    assert refused.value.reason == "IDENTITY_KEYS_UNAVAILABLE"


def _written(file: Path) -> bytes:
    """Return what was written of a file; the data file is sparse, and has all of it in front."""
    with file.open("rb") as opened_file:
        return opened_file.read(file.stat().st_blocks * 512)


def test_no_token_is_written_anywhere(corp: Provider, caplog: pytest.LogCaptureFixture) -> None:
    """Neither to the log at its most talkative, nor to any file of the home folder, accepted or not."""
    tokens = [corp.token(), corp.token(groups=[]), corp.token()[:-4] + "AAAA", "a.b.c" * 400]
    terms: Any = {"subject": "a", "ceiling": CEILING, "identity_token": tokens[0]}
    assert tokens[0] not in repr(open_session("", terms)) + repr(keep_alive(bytes(16), tokens[0]))
    with (
        caplog.at_level(logging.DEBUG),
        running(
            corp.clock,
            identity_providers=[corp.settings],
            server={"log_level": "DEBUG"},
            audit={"enabled": True},
        ) as service,
    ):
        path = str(service.made.socket)
        with Client(path, credential_file=service.made.credential_file, timeout_ms=20_000) as client:
            login_id = opened(client, tokens[0]).parent_id
            client.keep_alive(login_id, identity_token=tokens[0])
            for token in tokens[1:]:
                with pytest.raises(IdentityRefused) as refused:
                    opened(client, token)
                assert token[-12:] not in str(refused.value)
        home = service.made.state_dir.parent
        written = [_written(file) for file in home.rglob("*") if file.is_file()]
    lines = "\n".join(str(vars(record)) for record in caplog.records)

    assert "OpenSession" in lines
    for token in tokens:
        assert token[-40:] not in lines
        assert not any(token[-40:].encode() in data for data in written)
