"""Security event tokens (RFC 8417) as transmitters of SSF 1.0 make them, and the same with one lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, get_args
from uuid import uuid4

from tests.support.identity_tokens import part, signed

YEAR_S: Final = 366 * 86_400
_EVENT: Final = "https://schemas.openid.net/secevent/"
# The claims that an event must have, with values that `emit` may replace.
REQUIRED: Final[Mapping[str, Mapping[str, Any]]] = {
    "caep/event-type/session-revoked": {},
    "caep/event-type/token-claims-change": {"claims": {"role": "none"}},
    "caep/event-type/credential-change": {"credential_type": "password", "change_type": "revoke"},
    "caep/event-type/assurance-level-change": {
        "namespace": "NIST-AAL",
        "current_level": "nist-aal1",
        "previous_level": "nist-aal2",
        "change_direction": "decrease",
    },
    "caep/event-type/device-compliance-change": {
        "previous_status": "compliant",
        "current_status": "not-compliant",
    },
    "caep/event-type/risk-level-change": {"principal": "USER", "current_level": "HIGH"},
    "risc/event-type/account-disabled": {},
    "risc/event-type/account-enabled": {},
    "risc/event-type/account-purged": {},
    "risc/event-type/identifier-recycled": {},
    "risc/event-type/sessions-revoked": {},
    "risc/event-type/credential-compromise": {"credential_type": "password"},
    "ssf/event-type/verification": {},
    "ssf/event-type/stream-updated": {"status": "paused"},
}
# The URI of each event by its short name.
EVENTS: Final = {path.rpartition("/")[2]: _EVENT + path for path in REQUIRED}

Subject = dict[str, Any]
Lie = Literal[
    "signature",  # with one letter changed
    "unsigned",  # alg none
    "unknown key",
    "no typ",
    "typ",  # that of an ID token
    "iss",
    "aud",
    "no jti",
    "other jti",  # than the name under which a poll lists it
    "no events",
    "two events",
    "sub",  # which SSF forbids, as it does exp
    "exp",
    "no subject",
    "subject in event",  # the place before SSF 1.0
    "old",  # more than a year
    "future",
]
LIES: Final[tuple[Lie, ...]] = get_args(Lie)


def iss_sub(issuer: str, subject: str) -> Subject:
    """Return a user by the issuer and subject of its ID tokens."""
    return {"format": "iss_sub", "iss": issuer, "sub": subject}


def opaque(identifier: str) -> Subject:
    """Return a subject by an identifier that both sides know, as a session's."""
    return {"format": "opaque", "id": identifier}


def email(address: str) -> Subject:
    """Return a user by an address."""
    return {"format": "email", "email": address}


def complex_subject(**members: Subject) -> Subject:
    """Return the subject that all members describe: user, session, tenant, device, group and others."""
    return {"format": "complex", **members}


def aliases(*identifiers: Subject) -> Subject:
    """Return one subject by several identifiers."""
    return {"format": "aliases", "identifiers": list(identifiers)}


def security_event_token(
    event: str,
    subject: Subject | None,
    claims: Mapping[str, Any],
    *,
    issuer: str,
    audience: str | list[str],
    jti: str,
    now: int,
    algorithm: str = "RS256",
    lie: Lie | None = None,
) -> str:
    """Return a SET of one event, a short name of EVENTS or any URI, which is true but for a lie."""
    uri = EVENTS.get(event, event)
    content = {**REQUIRED.get(uri.removeprefix(_EVENT), {}), **claims}
    if "/caep/" in uri:
        content.setdefault("event_timestamp", now)
    payload: dict[str, Any] = {"iss": issuer, "aud": audience, "iat": now, "jti": jti}
    payload |= {"sub_id": subject, "events": {uri: content}}
    second = next(each for each in EVENTS.values() if each != uri)
    lies: dict[Lie, dict[str, Any]] = {
        "iss": {"iss": "https://other.example"},
        "aud": {"aud": "https://other.example"},
        "no jti": {"jti": None},
        "other jti": {"jti": uuid4().hex},
        "no events": {"events": {}},
        "two events": {"events": {uri: content, second: {}}},
        "sub": {"sub": "ann"},
        "exp": {"exp": now + 600},
        "no subject": {"sub_id": None},
        "subject in event": {"sub_id": None, "events": {uri: {"subject": subject, **content}}},
        "old": {"iat": now - YEAR_S, "events": {uri: {**content, "event_timestamp": now - YEAR_S}}},
        "future": {"iat": now + 3_600, "events": {uri: {**content, "event_timestamp": now + 3_600}}},
    }
    payload |= lies.get(lie, {}) if lie else {}
    payload = {name: value for name, value in payload.items() if value is not None}
    header: dict[str, Any] = {"typ": {"no typ": None, "typ": "JWT"}.get(lie or "", "secevent+jwt")}
    if lie == "unknown key":
        header["kid"] = "unknown"
    if lie == "unsigned":
        return f"{part({'typ': 'secevent+jwt', 'alg': 'none'})}.{part(payload)}."
    text = signed(payload, algorithm, **header)
    if lie == "signature":
        head, _, signature = text.rpartition(".")
        text = f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    return text
