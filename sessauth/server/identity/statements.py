"""Statements of identity providers that logins are over: logout tokens and global revocations.

A statement is verified where the change is made, by the keys that its tokens are verified by. Whoever carries
it can keep it back and nothing else. It is a moment: whatever logged in up to then is over. So a statement
that comes twice, late, or in another order does nothing wrong.

* OpenID Connect Back-Channel Logout 1.0, sections 2.4 to 2.6: a logout token.
* draft-parecki-oauth-global-token-revocation: a JWT of the provider, and the user it names (RFC 9493).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ...errors import StateError
from .key_sets import read_object
from .providers import IdentityProvider
from .tokens import (
    MAX_SKEW_MS,
    KeysOf,
    ProviderStatement,
    expired,
    malformed,
    read_signed,
    text_claim,
    time_claim,
    untrusted,
    wrong_kind,
)

LOGOUT: Final = "logout"
REVOCATION: Final = "global-token-revocation"
_LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
_LOGOUT_TYPES: Final = ("", "jwt", "logout+jwt")
_REVOCATION_TYPE: Final = "global-token-revocation+jwt"
MAX_BODY_BYTES: Final = 16 * 1024
# A revocation has no identifier of its own request, so the JWT beside it must be a fresh one.
MAX_BEARER_AGE_MS: Final = 300_000


@dataclass(frozen=True, slots=True)
class Signal:
    """Logins of a provider that are over: those of ``subject``, or the one of ``sid``, or both.

    ``moment_ms`` is the moment up to which, in ms since 1970. ``token_id`` is the statement's ``jti``.
    """

    provider: IdentityProvider
    event: str
    subject: str
    sid: str
    moment_ms: int
    token_id: str


def verify_logout(
    token: str, name: str, providers: Sequence[IdentityProvider], keys_of: KeysOf, now_ms: int
) -> Signal:
    """Return what a logout token says, that was sent to the address of the provider ``name``.

    Raises IdentityRefused, and what ``keys_of`` raises.
    """
    statement = _of_provider(read_signed(token, providers, keys_of), name)
    claims = statement.claims
    if statement.header.get("typ", "").lower().removeprefix("application/") not in _LOGOUT_TYPES:
        raise wrong_kind("typ: is not that of a logout token")
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(_LOGOUT_EVENT), dict):
        raise wrong_kind("events: has no back-channel logout")
    if "nonce" in claims:
        raise wrong_kind("nonce: a logout token has none, so that no ID token is taken for one")
    if not set(_audience(claims)) & set(statement.provider.clients):
        raise wrong_kind(f"aud: is none of the clients of the provider {name}")
    issued_ms = _fresh(claims, now_ms)
    if time_claim(claims, "exp") <= now_ms:
        raise expired("exp: is required, and not past")
    subject, sid = text_claim(claims, "sub", required=False), text_claim(claims, "sid", required=False)
    if not subject and not sid:
        raise malformed("sub, sid: one of them is required")
    return Signal(statement.provider, LOGOUT, subject, sid, _moment(issued_ms), text_claim(claims, "jti"))


def verify_revocation(
    bearer: str, body: bytes, name: str, providers: Sequence[IdentityProvider], keys_of: KeysOf, now_ms: int
) -> Signal:
    """Return what a request for a global revocation says, that was sent to the address of ``name``.

    Raises IdentityRefused, and what ``keys_of`` raises.
    """
    statement = _of_provider(read_signed(bearer, providers, keys_of), name)
    provider, claims = statement.provider, statement.claims
    if statement.header.get("typ", "").lower().removeprefix("application/") != _REVOCATION_TYPE:
        raise wrong_kind(f"typ: must be {_REVOCATION_TYPE}")
    if not provider.audience or not {provider.audience, f"{provider.audience}/revoke/{name}"} & set(
        _audience(claims)
    ):
        raise wrong_kind(f"aud: does not name the audience of the provider {name}")
    issued_ms = _fresh(claims, now_ms)
    if issued_ms < now_ms - MAX_BEARER_AGE_MS or ("exp" in claims and time_claim(claims, "exp") <= now_ms):
        raise expired(f"iat: the JWT is older than {MAX_BEARER_AGE_MS // 1000} seconds, or has expired")
    try:
        named = read_object(body, MAX_BODY_BYTES).get("sub_id")
    except StateError as error:
        raise malformed(f"body: {error}") from None
    if not isinstance(named, dict) or named.get("format") != "iss_sub":
        raise malformed("sub_id: must be an object of the format iss_sub")
    if named.get("iss") != provider.issuer:
        raise wrong_kind(f"sub_id.iss: is not the issuer of the provider {name}")
    return Signal(
        provider,
        REVOCATION,
        text_claim(named, "sub"),
        "",
        _moment(issued_ms),
        text_claim(claims, "jti"),
    )


def _of_provider(statement: ProviderStatement, name: str) -> ProviderStatement:
    """Require that a provider says it which the address is for: no other one's counts there."""
    if statement.provider.name != name:
        raise untrusted()
    return statement


def _audience(claims: Mapping[str, Any]) -> list[str]:
    stated = claims.get("aud")
    audience = [stated] if isinstance(stated, str) else stated
    if not isinstance(audience, list) or not all(isinstance(each, str) for each in audience):
        raise wrong_kind("aud: is required, a text or a list of texts")
    return audience


def _fresh(claims: Mapping[str, Any], now_ms: int) -> int:
    """Return the time of issue in ms. Raises IdentityRefused for none, and for one of the future."""
    issued_ms = time_claim(claims, "iat")
    if not issued_ms:
        raise expired("iat: is required")
    if issued_ms > now_ms + MAX_SKEW_MS:
        raise expired("iat: is of the future; compare the clocks of provider and server")
    return issued_ms


def _moment(issued_ms: int) -> int:
    """Return the end of the second of issue, as times in seconds say no more."""
    return issued_ms - issued_ms % 1000 + 999
