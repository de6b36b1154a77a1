"""Mutated security events, key proofs and transaction tokens say nothing that was not signed for it."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from sessauth.errors import IdentityRefused
from sessauth.server.identity.key_proofs import Possession
from sessauth.server.identity.statements import Signal, verify_event
from sessauth.server.identity.tokens import MAX_SKEW_MS, IdentityFault, KeyProof, ProvenIdentity, verify
from tests.property.test_statements_of_providers import (
    CORP,
    HEADERS,
    KEYS,
    ORDER_P256,
    OTHER,
    VALUES,
    altered,
    flipped,
    is_twin,
    logout,
    revocation,
)
from tests.support.cases import examples
from tests.support.identity_tokens import (
    ISSUER,
    NOW,
    NOW_MS,
    SERVICE,
    bound_to,
    claims,
    key_proof,
    part,
    provider,
    signed,
)

CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
RISC = "https://schemas.openid.net/secevent/risc/event-type/"
SUBJECT = {"format": "iss_sub", "iss": ISSUER, "sub": "ann"}
CONTENTS: dict[str, dict[str, Any]] = {
    f"{CAEP}session-revoked": {"event_timestamp": NOW - 9},
    f"{CAEP}credential-change": {"change_type": "revoke"},
    f"{CAEP}device-compliance-change": {"current_status": "not-compliant"},
    f"{CAEP}risk-level-change": {"current_level": "LOW"},
    f"{CAEP}token-claims-change": {"claims": {"groups": []}},
    f"{RISC}account-disabled": {},
    f"{RISC}account-enabled": {},
}
BOUND = provider(proof_origin=SERVICE)
TOKEN = signed(claims(cnf=bound_to("ES256")), "ES256")
PATH = "/sessauth.v1.SessionService/OpenSession"
SUBJECTS: tuple[Any, ...] = (
    SUBJECT, {**SUBJECT, "sub": "bob"}, {**SUBJECT, "iss": OTHER.issuer}, {"format": "opaque", "id": "s1"},
    {"format": "complex", "user": SUBJECT, "session": {"format": "opaque", "id": "s1"}, "tenant": {}},
    {"user": SUBJECT}, {"format": "aliases", "identifiers": [SUBJECT, {"format": "email", "email": "a@b"}]},
    {"format": "email", "email": "ann@corp"}, {"format": "aliases", "identifiers": [5]}, *VALUES,
)  # fmt: skip
NAMES = ("iss", "aud", "iat", "jti", "sub_id", "events", "toe", "txn", "exp", "nbf", "sub")
Said = Signal | KeyProof | ProvenIdentity


def event(token: str) -> Said:
    """Return what a security event says."""
    return verify_event(token, "corp", (CORP, OTHER), lambda *_: KEYS, NOW_MS)


def proof(text: str) -> Said:
    """Return the proof of the key that a token is bound to."""
    shown = Possession("", text, PATH).require({"cnf": bound_to("ES256")}, TOKEN.encode(), BOUND, NOW_MS)
    assert shown is not None
    return shown


def identity(token: str) -> Said:
    """Return the login that a token proves."""
    return verify(token, (CORP, OTHER), lambda *_: KEYS, NOW_MS)


def event_claims(kind: str, **changed: Any) -> dict[str, Any]:
    """Return the claims of an event of a type."""
    stated = {"iss": ISSUER, "aud": SERVICE, "iat": NOW - 5, "jti": "e1", "sub_id": SUBJECT}
    return {**stated, "events": {kind: CONTENTS[kind]}, **changed}


def outcome_of(door: Callable[[str], Said], token: str) -> Said | str:
    """Return what a token says, or the word that refuses it; any other exception is a fault."""
    try:
        return door(token)
    except IdentityRefused as refused:
        word, text = IdentityFault(refused.fault), str(refused)
    assert text.isprintable()
    return word


def mutated(rng: Random, token: str, other: str) -> str:
    """Return a token with changed bytes, with a part of another's, or with the twin of its signature."""
    parts, roll = token.split("."), rng.random()
    if roll < 0.45:
        return flipped(rng, token.encode()).decode("latin-1")
    if roll < 0.7:
        at = rng.randrange(3)
        parts[at] = part(flipped(rng, urlsafe_b64decode(parts[at] + "==")))
    elif roll < 0.85:
        parts = [rng.choice(pair) for pair in zip(parts, other.split("."), strict=True)]
    elif roll < 0.92:
        header = json.loads(urlsafe_b64decode(parts[0] + "=="))
        parts[0] = part(json.dumps({**header, rng.choice(HEADERS): rng.choice(VALUES)}).encode())
    else:
        signature = urlsafe_b64decode(parts[2] + "==")
        if len(signature) == 64:
            s = (ORDER_P256 - int.from_bytes(signature[32:], "big")) % 2**256
            parts[2] = part(signature[:32] + s.to_bytes(32, "big"))
    return ".".join(parts)


def test_bytes_that_were_not_signed_are_no_event_and_no_proof() -> None:
    """Only the twin of an ECDSA signature counts, which is the same statement."""
    rng, seen = Random("unsigned events and proofs"), Counter[str]()
    pool: list[tuple[Callable[[str], Said], str, str]] = [
        (event, signed(event_claims(kind, jti=f"e{number}"), algorithm, typ="secevent+jwt"), algorithm)
        for number, kind in enumerate(CONTENTS)
        for algorithm in ("ES256", "RS256", "EdDSA")
    ]
    pool += [(proof, key_proof(TOKEN, jti=f"p{number}"), "ES256") for number in range(len(pool))]
    genuine = {token for _, token, _ in pool}
    for _ in range(examples(8_000)):
        door, token, algorithm = rng.choice(pool)
        made = mutated(rng, token, rng.choice(pool)[1])
        said = outcome_of(door, made)
        if not isinstance(said, str) and made not in genuine:
            assert algorithm == "ES256" and is_twin(token, made), made
            seen[f"twin at {door.__name__}"] += 1
        seen["said" if not isinstance(said, str) else said] += 1
    assert seen["twin at event"] and seen["twin at proof"] and seen["IDENTITY_UNTRUSTED"]
    assert seen["IDENTITY_PROOF_REQUIRED"] and seen["IDENTITY_MALFORMED"]


def test_an_event_that_a_provider_signs_amiss_is_refused_or_says_what_it_names() -> None:
    """An accepted event names who is in its subject, at a moment that clocks permit."""
    rng, seen = Random("events signed amiss"), Counter[str]()
    sign = {name: partial(signed, algorithm=name) for name in ("ES256", "EdDSA")}
    for _ in range(examples(6_000)):
        kind = rng.choice(list(CONTENTS))
        stated = event_claims(kind, sub_id=rng.choice(SUBJECTS) if rng.random() < 0.5 else SUBJECT)
        if rng.random() < 0.4:
            members = (*CONTENTS[kind], "event_timestamp", "claims", "subject", "change_direction")
            stated["events"] = {kind: altered(rng, CONTENTS[kind], members)}
        for _ in range(rng.choice((0, 1, 1, 2))):
            stated = altered(rng, stated, NAMES)
        header: dict[str, Any] = {"typ": "secevent+jwt"}
        if rng.random() < 0.2:
            header = {**header, **altered(rng, {}, HEADERS)}
        payload = json.dumps(stated).encode()
        if rng.random() < 0.15:
            payload = flipped(rng, payload)
        said = outcome_of(event, sign[rng.choice(("ES256", "EdDSA"))](payload, **header))
        if isinstance(said, Signal):
            read = json.loads(payload)
            assert (read["iss"], read["jti"]) == (ISSUER, said.token_id) and SERVICE in read["aud"]
            assert header["typ"] == "secevent+jwt" and 0 < said.moment_ms <= NOW_MS + MAX_SKEW_MS
            text = json.dumps([read.get("sub_id"), *read["events"].values()])
            assert all(json.dumps(each.subject or each.sid) in text for each in said.named)
            if said.named and "iss" in (named := read.get("sub_id", {})):
                assert named["iss"] == ISSUER
        seen["said" if isinstance(said, Signal) else str(said)] += 1
    assert seen.keys() >= {"said", "IDENTITY_MALFORMED", "IDENTITY_WRONG_KIND", "IDENTITY_UNTRUSTED"}, seen


def test_a_proof_that_its_holder_signs_amiss_proves_nothing() -> None:
    """It stands only with each claim as the call has it, once within its window."""
    rng, seen = Random("proofs signed amiss"), Counter[str]()
    names = ("jti", "htm", "htu", "iat", "ath", "nonce", "exp")
    for _ in range(examples(4_000)):
        changed = {}
        for _ in range(rng.choice((0, 1, 1, 2))):
            changed[rng.choice(names)] = rng.choice((*VALUES, NOW - 31, NOW + 29, "POST", "GET", None))
        headers = (
            {rng.choice(("typ", "jwk", "kid", "crit")): rng.choice(VALUES)} if rng.random() < 0.2 else {}
        )
        said = outcome_of(proof, key_proof(TOKEN, headers=headers, **changed))
        if isinstance(said, KeyProof):
            assert not {"htm", "htu", "ath"} & changed.keys() or changed.get("htm") == "POST"
            assert said.id == changed.get("jti", said.id) and abs(said.issued_at_ms - NOW_MS) <= 30_000
        seen["said" if isinstance(said, KeyProof) else str(said)] += 1
    assert seen.keys() == {"said", "IDENTITY_PROOF_REQUIRED"}, seen


def test_a_transaction_token_is_taken_nowhere() -> None:
    """Signed by a provider's own key, with any claims: its type is that of no statement and no login."""
    rng, seen = Random("transaction tokens"), Counter[str]()
    doors: tuple[Callable[[str], Said], ...] = (
        event, identity, proof, lambda token: logout(token, b""), lambda token: revocation(token, b"{}"),
    )  # fmt: skip
    call = {"txn": "AA", "scope": "read", "tctx": {"resource": "mail"}, "rctx": {}, "req_wl": "gateway"}
    for _ in range(examples(4_000)):
        stated = {**rng.choice((claims(), event_claims(f"{CAEP}session-revoked"))), **call}
        for _ in range(rng.choice((0, 1, 2))):
            stated = altered(rng, stated, (*NAMES, *call))
        token = signed(
            stated, rng.choice(("ES256", "EdDSA")), typ=rng.choice(("txntoken+jwt", "TXNTOKEN+JWT"))
        )
        said = outcome_of(rng.choice(doors), token)
        assert isinstance(said, str), token
        seen[said] += 1
    assert seen["IDENTITY_WRONG_KIND"] > sum(seen.values()) // 4
