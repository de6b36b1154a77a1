"""Transaction tokens: what a call that was allowed is exchanged for, and what refuses them."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from joserfc import jwt as joserfc_jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from sessauth.audit.replay import replay
from sessauth.cli.main import cli
from sessauth.client import AsyncClient, Client, TransactionToken
from sessauth.clock import FixedClock
from sessauth.errors import (
    ConfigError,
    IdentityRefused,
    KeyFolderError,
    MalformedToken,
    Rejected,
    ServerError,
    UsageError,
)
from sessauth.reasons import Reason
from sessauth.server.config import from_dict
from sessauth.server.keys.transaction_keys import TransactionKeys
from sessauth.server.process.control import Control
from sessauth.server.process.init import initialise
from sessauth.server.sections import TRANSACTION_KEY_SHOWN_MS
from sessauth.tokens.prover import HolderKey
from sessauth.tokens.token import Token
from tests.support.identity_tokens import ISSUER, SERVICE, claims, public_jwk, signed
from tests.support.recorded import records
from tests.support.service import Service, home_folder, running, wait_until

TXN_ISSUER = "https://sessauth.corp"
DOMAIN = "https://shop.corp"
SETTINGS = {"issuer": TXN_ISSUER, "trust_domains": [DOMAIN]}
DAY_MS = TRANSACTION_KEY_SHOWN_MS


@pytest.fixture
def clock() -> FixedClock:
    """The clock of the server, at a whole second; a real one, for PyJWT has no other."""
    return FixedClock((time.time_ns() // 1_000_000_000 + 2) * 1000)


@pytest.fixture
def service(tmp_path: Path, clock: FixedClock) -> Iterator[Service]:
    """A server that signs transaction tokens, and takes tokens of a provider."""
    keys_file = tmp_path / "corp.json"
    keys_file.write_text(json.dumps({"keys": [public_jwk("RS256"), public_jwk("EdDSA")]}))
    corp = {
        "name": "corp",
        "issuer": ISSUER,
        "audience": SERVICE,
        "clients": ["desk"],
        "algorithms": ["RS256", "EdDSA"],
        "jwks_file": str(keys_file),
        "grants": [{"ceiling": ["read:tickets/**"]}],
    }
    with running(clock, identity_providers=[corp], transaction_tokens=SETTINGS) as made:
        yield made


@pytest.fixture
def operator(service: Service) -> Iterator[Client]:
    """The operator's client."""
    with Client(
        str(service.made.socket), credential_file=service.made.credential_file, timeout_ms=20_000
    ) as made:
        yield made


def login_token(clock: FixedClock, **changed: Any) -> str:
    """Return an ID token of Ann's login a minute ago."""
    now = clock.now_ms() // 1000
    return signed(claims(iat=now, exp=now + 300, auth_time=now - 60, **changed))


def decoded(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims, unverified."""
    header, payload, _ = token.split(".")
    return tuple(json.loads(base64.urlsafe_b64decode(part + "==")) for part in (header, payload))  # type: ignore[return-value]


def test_an_allowed_call_is_exchanged_for_a_token_of_it(
    operator: Client, service: Service, clock: FixedClock
) -> None:
    """It names the user, the agents that act for her, the call, the session and the decision."""
    agent = operator.open_session(
        subject="agent:desk",
        purpose="ticket 7",
        ceiling=["read:tickets/**"],
        identity_token=login_token(clock, act={"sub": "planner"}),
    )
    child = operator.open_session(subject="agent:reader", parent_id=agent.id, ceiling=["read:tickets/**"])
    token = operator.mint(child.id, ["read:tickets/**"], ["gw"])
    credential = service.add("edge", "gateway", audiences=("gw",)).credential
    with Client(str(service.made.socket), credential, timeout_ms=20_000) as gateway:
        made = gateway.exchange(token, "read", "tickets/7", {"part": 1}, source="192.0.2.7")
        keys = json.loads(gateway.transaction_keys())

    assert made
    assert made.text not in repr(made)
    header, found = decoded(made.text)
    now = clock.now_ms() // 1000
    assert header == {"alg": "EdDSA", "typ": "txntoken+jwt", "kid": keys["keys"][0]["kid"]}
    assert found == {
        "iss": TXN_ISSUER,
        "aud": DOMAIN,
        "iat": now,
        "exp": now + 15,
        "txn": made.decision.decision_id.hex(),
        "sub": "user:ann",
        "act": {"sub": "agent:reader", "act": {"sub": "agent:desk"}},
        "scope": "read",
        "tctx": {"action": "read", "resource": "tickets/7", "session": child.id.hex()},
        "rctx": {"gateway": "edge", "actors": "planner", "req_ip": "192.0.2.7"},
    }
    assert made.expires_at_ms == (now + 15) * 1000
    assert service.control is not None
    assert service.control.subsystems.metrics().exchanges == {("signed",): 1, ("denied",): 0}


def test_a_session_without_a_login_is_its_own_subject(operator: Client) -> None:
    """Nobody acts for it; its purpose is in the context of the call."""
    with operator.session(subject="agent:night", purpose="backup", ceiling=["read:db/**"]) as session:
        made = operator.exchange(session.mint(["read:db/**"], ["gw"]), "read", "db/1", audience="gw")

    found = decoded(made.text)[1]
    assert (found["sub"], found["tctx"]["purpose"]) == ("agent:night", "backup")
    assert "act" not in found


def test_a_denial_is_a_decision_as_a_check_gives_it_and_no_token(operator: Client) -> None:
    """Reason and place are those of Check; after the end of the session nothing is signed any more."""
    with operator.session(subject="agent", ceiling=["read:db/**"]) as session:
        token = session.mint(["read:db/**"], ["gw"])
        denied = operator.exchange(token, "write", "db/1", audience="gw")
        checked = operator.check(token, "write", "db/1", audience="gw")
        assert operator.exchange(token, "read", "db/1", audience="gw")
    ended = operator.exchange(token, "read", "db/1", audience="gw")

    assert (bool(denied), denied.text, denied.expires_at_ms) == (False, "", 0)
    assert denied.decision.reason is checked.reason is Reason.OUT_OF_SCOPE
    assert denied.decision.explain() == checked.explain()
    assert (ended.decision.reason, ended.text) == (Reason.SESSION_ENDED, "")


def test_what_a_call_costs_is_taken_once(operator: Client) -> None:
    """An exchange is the check: the third of two uses is denied, and a retry costs nothing."""
    with operator.session(subject="agent", ceiling=["read:db/**"]) as session:
        token = session.mint(["read:db/** needs uses(2)"], ["gw"])

        def exchanged(retry_id: str) -> Reason:
            return operator.exchange(token, "read", "db/1", audience="gw", retry_id=retry_id).decision.reason

        reasons = [exchanged(name) for name in ("a", "a", "b", "c")]
    assert reasons == [Reason.ALLOWED, Reason.ALLOWED, Reason.ALLOWED, Reason.USES_EXHAUSTED]


def test_a_token_is_never_valid_beyond_the_hard_end_of_its_session(
    operator: Client, clock: FixedClock
) -> None:
    """An end that was known when it was signed counts before the setting."""
    with operator.session(subject="agent", ceiling=["read:db/**"], ttl_ms=5_000) as session:
        made = operator.exchange(session.mint(["read:db/**"], ["gw"]), "read", "db/1", audience="gw")

    assert made.expires_at_ms <= clock.now_ms() + 5_000


@pytest.mark.parametrize(
    ("options", "field"),
    [({"trust_domain": "https://elsewhere"}, "trust_domain"), ({"audience": ""}, "audience")],
)
def test_a_request_that_can_not_be_exchanged_names_its_field(
    operator: Client, options: dict[str, str], field: str
) -> None:
    """An unknown trust domain, or no audience of the check."""
    with operator.session(subject="agent", ceiling=["read:db/**"]) as session:
        token = session.mint(["read:db/**"], ["gw"])
        with pytest.raises(UsageError, match=f"^{field}: "):
            operator.exchange(token, "read", "db/1", **{"audience": "gw", **options})


def test_without_settings_nothing_is_signed() -> None:
    """Both calls say which setting is missing, and no key is made."""
    with running() as service:
        client = Client(str(service.made.socket), credential_file=service.made.credential_file)
        with client, client.session(subject="agent", ceiling=["read:db/**"]) as session:
            token = session.mint(["read:db/**"], ["gw"])
            for call in (
                lambda: client.exchange(token, "read", "db/1", audience="gw"),
                client.transaction_keys,
            ):
                with pytest.raises(Rejected, match=r"transaction_tokens\.issuer") as refused:
                    call()
                assert refused.value.word == "NO_TRANSACTION_KEY"
        assert service.control is not None
        assert not (service.made.home / "keys" / "transactions").exists()


def _mutations(token: str) -> Iterator[str]:
    """Yield the token with a changed character or bit in each part, and with other claims."""
    header, payload, signature = token.split(".")
    for part in range(3):
        parts = [header, payload, signature]
        data = bytearray(base64.urlsafe_b64decode(parts[part] + "=="))
        for place in range(0, len(data), 7):
            changed = bytes(data[:place]) + bytes([data[place] ^ 1]) + bytes(data[place + 1 :])
            parts[part] = base64.urlsafe_b64encode(changed).decode().rstrip("=")
            yield ".".join(parts)
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"txntoken+jwt"}').decode().rstrip("=")
    yield f"{none}.{payload}."


def _by_joserfc(keys: bytes, algorithm: str) -> Callable[[str], dict[str, Any]]:
    known = KeySet.import_key_set(json.loads(keys))

    def decode(token: str) -> dict[str, Any]:
        try:
            return dict(joserfc_jwt.decode(token, known, algorithms=[algorithm]).claims)
        except JoseError as error:
            raise ValueError(str(error)) from error

    return decode


def _by_pyjwt(keys: bytes, algorithm: str) -> Callable[[str], dict[str, Any]]:
    jwt = pytest.importorskip("jwt", reason="needs PyJWT, which is no dependency: pip install pyjwt")
    known = {key.key_id: key for key in jwt.PyJWKSet.from_json(keys.decode()).keys}

    def decode(token: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = jwt.decode(
                token,
                known.get(jwt.get_unverified_header(token).get("kid")),
                algorithms=[algorithm],
                audience=DOMAIN,
                issuer=TXN_ISSUER,
                options={"require": ["exp", "iat", "sub"]},
                leeway=5,
            )
        except (jwt.PyJWTError, TypeError) as error:
            # A TypeError for a name without a key.
            raise ValueError(str(error)) from error
        return found

    return decode


# The name of the algorithm is that of RFC 8037, which joserfc calls deprecated; PyJWT knows no other.
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize("verifier_of", [_by_joserfc, _by_pyjwt], ids=["joserfc", "PyJWT"])
@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256"])
def test_other_libraries_verify_it_and_refuse_a_changed_one(
    verifier_of: Callable[[bytes, str], Callable[[str], dict[str, Any]]], algorithm: str
) -> None:
    """The JWK set is all that they need; a changed bit of any part is refused."""
    with running(transaction_tokens={**SETTINGS, "algorithm": algorithm}) as service:
        client = Client(str(service.made.socket), credential_file=service.made.credential_file)
        with client, client.session(subject="agent", ceiling=["read:db/**"]) as session:
            made = client.exchange(session.mint(["read:db/**"], ["gw"]), "read", "db/1", audience="gw")
            keys = client.transaction_keys()
    verify = verifier_of(keys, algorithm)

    assert decoded(made.text)[0]["alg"] == algorithm
    assert b'"d"' not in keys
    assert verify(made.text)["sub"] == "agent"
    mutated = list(_mutations(made.text))
    assert len(mutated) > 60
    accepted = []
    for token in mutated:
        with suppress(ValueError):
            verify(token)
            accepted.append(token)
    assert accepted == []


@pytest.mark.parametrize(
    ("stated", "key"),
    [
        ({"algorithm": "HS256"}, "algorithm"),
        ({"ttl_ms": 60_001}, "ttl_ms"),
        ({"ttl_ms": 999}, "ttl_ms"),
        ({"key_lifetime_ms": DAY_MS}, "key_lifetime_ms"),
        ({"trust_domains": []}, "trust_domains"),
        ({"trust_domains": ["a", "a"]}, "trust_domains"),
        ({"issuer": ""}, "issuer"),
        ({"issuer": "a\nb"}, "issuer"),
    ],
)
def test_settings_out_of_range_name_their_key(stated: dict[str, Any], key: str) -> None:
    """Nothing starts with them."""
    with pytest.raises(ConfigError, match=rf"transaction_tokens\.{key}\b"):
        from_dict({"home": "/nowhere", "transaction_tokens": {**SETTINGS, **stated}})


def test_it_opens_no_session_and_is_no_token_of_one(operator: Client, clock: FixedClock) -> None:
    """Its issuer is unknown; one of that typ from a provider is of a wrong kind; its form is no token's."""
    with operator.session(subject="agent", ceiling=["read:db/**"]) as session:
        made = operator.exchange(session.mint(["read:db/**"], ["gw"]), "read", "db/1", audience="gw")
        checked = operator.check(made.text, "read", "db/1", audience="gw")
        again = operator.exchange(made.text, "read", "db/1", audience="gw")
        with pytest.raises(MalformedToken):
            operator.inspect(made.text)

    assert checked.reason is again.decision.reason is Reason.MALFORMED_TOKEN
    with pytest.raises(IdentityRefused) as unknown:
        operator.open_session(subject="a", ceiling=["read:tickets/**"], identity_token=made.text)
    assert unknown.value.fault == "IDENTITY_UNTRUSTED"
    now = clock.now_ms() // 1000
    as_provider = signed(claims(iat=now, exp=now + 9, auth_time=now), typ="txntoken+jwt")
    with pytest.raises(IdentityRefused) as wrong:
        operator.open_session(subject="a", ceiling=["read:tickets/**"], identity_token=as_provider)
    assert wrong.value.fault == "IDENTITY_WRONG_KIND"


def test_a_key_is_published_for_a_day_before_it_signs_and_after(tmp_path: Path) -> None:
    """Each is in the set as long as a token of it can be valid; files are for their owner alone."""
    clock = FixedClock(1_790_000_000_000)
    folder = tmp_path / "transactions" / "EdDSA"
    keys = TransactionKeys(tmp_path, "EdDSA", 10 * DAY_MS, clock.now_ms)

    def signer() -> str:
        return str(decoded(keys.sign({"n": 1}))[0]["kid"])

    def published() -> list[str]:
        return [key["kid"] for key in json.loads(keys.jwks())["keys"]]

    keys.poll()
    first = signer()
    assert published() == [first]
    assert [file.stat().st_mode & 0o777 for file in folder.iterdir()] == [0o600]
    assert folder.stat().st_mode & 0o777 == 0o700

    clock.advance(10 * DAY_MS)
    keys.poll()
    second = published()[0]
    assert (signer(), published()) == (first, [second, first])
    clock.advance(DAY_MS)
    keys.poll()
    assert (signer(), published()) == (second, [second, first])
    clock.advance(DAY_MS)
    keys.poll()
    assert published() == [second]

    # A start later finds the same keys.
    again = TransactionKeys(tmp_path, "EdDSA", 10 * DAY_MS, clock.now_ms)
    again.poll()
    assert again.jwks() == keys.jwks()


def test_a_key_whose_file_was_removed_signs_nothing_more(tmp_path: Path) -> None:
    """A new one takes its place at once, and the old one leaves the set."""
    clock = FixedClock(1_790_000_000_000)
    keys = TransactionKeys(tmp_path, "EdDSA", 10 * DAY_MS, clock.now_ms)
    keys.poll()
    leaked = json.loads(keys.jwks())["keys"][0]["kid"]
    next(tmp_path.rglob("*.pem")).unlink()
    clock.advance(1_000)
    keys.poll()

    assert leaked not in keys.jwks().decode()
    assert decoded(keys.sign({}))[0]["kid"] != leaked


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256"])
@pytest.mark.parametrize("open_to_others", ["folder", "file"])
def test_a_key_that_others_can_read_is_not_used(tmp_path: Path, open_to_others: str, algorithm: str) -> None:
    """The message has the command that closes it."""
    TransactionKeys(tmp_path, algorithm, 10 * DAY_MS, lambda: 1_790_000_000_000).poll()
    file = next(tmp_path.rglob("*.pem"))
    (file.parent if open_to_others == "folder" else file).chmod(0o755)

    keys = TransactionKeys(tmp_path, algorithm, 10 * DAY_MS, lambda: 1_790_000_000_000)
    with pytest.raises(KeyFolderError, match="chmod"):
        keys.poll()
    with pytest.raises(ServerError):
        keys.sign({})


@pytest.mark.parametrize(("algorithm", "other"), [("ES256", "RS256"), ("RS256", "ES256"), ("EdDSA", "ES256")])
def test_a_file_with_a_key_of_another_algorithm_is_refused(
    tmp_path: Path, algorithm: str, other: str
) -> None:
    """The message says what to do, and has nothing of the key."""
    for name in (algorithm, other):
        TransactionKeys(tmp_path, name, 10 * DAY_MS, lambda: 1_790_000_000_000).poll()
    wrong = next((tmp_path / "transactions" / other).iterdir())
    wrong.rename(next((tmp_path / "transactions" / algorithm).iterdir()))
    with pytest.raises(KeyFolderError, match="the server makes another"):
        TransactionKeys(tmp_path, algorithm, 10 * DAY_MS, lambda: 1_790_000_000_000).poll()


def test_a_server_that_starts_again_signs_with_the_same_key() -> None:
    """Its checks of files take the folder of the keys as it was made."""
    with home_folder() as home:
        initialise(home)
        published = []
        for _ in range(2):
            control = Control(from_dict({"home": str(home), "transaction_tokens": SETTINGS}))
            published.append(control.transaction_keys.jwks())
            control.start()
            control.stop()
    assert published[0] == published[1]
    assert b"kid" in published[0]


def test_the_asyncio_client_exchanges_too() -> None:
    """Its result is that of the other client, for a bound token as well: it makes a proof for each call."""
    holder = HolderKey.generate()

    async def exchanged(service: Service, token: Token) -> list[TransactionToken]:
        made = service.made
        async with AsyncClient(
            str(made.socket), credential_file=made.credential_file, holder=holder
        ) as client:
            return [await client.exchange(token, "read", "db/1", audience="gw") for _ in range(2)]

    with running(transaction_tokens=SETTINGS) as service:
        client = Client(str(service.made.socket), credential_file=service.made.credential_file)
        with client, client.session(subject="agent", ceiling=["read:db/**"]) as session:
            token = session.mint(["read:db/**"], ["gw"], ending="bound", to=holder.public)
            first, second = asyncio.run(exchanged(service, token))
            unproven = client.exchange(token, "read", "db/1", audience="gw")

    assert first and second
    assert first.decision.decision_id != second.decision.decision_id
    assert (unproven.decision.reason, unproven.text) == (Reason.PROOF_REQUIRED, "")


def test_sets_of_two_servers_are_joined_by_the_command(service: Service, tmp_path: Path) -> None:
    """A key in both is there once; a private key, or another document, is refused by the option's name."""
    known = {"kty": "OKP", "crv": "Ed25519", "kid": "other", "x": "AA"}
    other = tmp_path / "other.json"
    where = ("--target", service.made.socket, "--credential-file", service.made.credential_file)

    def joined(*keys: object) -> Result:
        other.write_text(json.dumps({"keys": keys}))
        return CliRunner().invoke(cli, [*map(str, where), "keys", "transactions", "--join", str(other)])

    made = joined(known, known)
    assert made.exit_code == 0, made.output
    assert [key["kid"] == "other" for key in json.loads(made.stdout)["keys"]] == [False, True]
    for wrong in ({**known, "d": "secret"}, "text"):
        refused = joined(wrong)
        assert refused.exit_code == 2
        assert "--join: " in refused.output
        assert "secret" not in refused.output


def test_an_exchange_is_one_recorded_decision_that_replays() -> None:
    """It is recorded as a check is, by the id that is the token's ``txn``; no file has the token."""
    with running(audit={"enabled": True}, transaction_tokens=SETTINGS) as service:
        assert service.control is not None
        folder = service.control._config.audit_dir
        client = Client(str(service.made.socket), credential_file=service.made.credential_file)
        with client, client.session(subject="agent", ceiling=["read:db/**"]) as session:
            token = session.mint(["read:db/** needs uses(1)"], ["gw"])
            made = [client.exchange(token, action, "db/1", audience="gw") for action in ("read", "write")]
        assert wait_until(lambda: len(records(folder, "decision")) == 2)
        found = records(folder, "decision")
        report = replay(folder)
        said = b"".join(path.read_bytes() for path in service.made.home.rglob("*") if path.is_file())

    assert {each["id"] for each in found} == {each.decision.decision_id.hex() for each in made}
    assert decoded(made[0].text)[1]["txn"] == made[0].decision.decision_id.hex()
    assert (report.decisions, report.findings) == (2, [])
    assert made[0].text.rpartition(".")[2].encode() not in said
