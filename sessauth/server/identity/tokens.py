"""Tokens of identity providers: what one proves, or a stable word for why it proves nothing.

The order is that of cost and trust: size, form, header, issuer, key, signature, and only then what the claims
say. No text of a token is repeated in an answer. All faults of trust (an unknown issuer or key, a wrong
signature) have one word, so that an answer tells a forger nothing.

:mod:`joserfc` verifies signatures. What it leaves to its callers is here: names twice, ``typ``, key names,
headers that carry or choose keys, times that are no numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

from ..._fast.codec import base64url
from ...errors import IdentityRefused, StateError
from ...state.rules.validation import RuleViolation, require_text
from .key_sets import PublicKeys, read_object
from .providers import IdentityProvider

MAX_TOKEN_BYTES: Final = 16 * 1024
MAX_SKEW_MS: Final = 30_000
MAX_ACTORS: Final = 4
# Headers that would choose a key or change what is signed.
REFUSED_HEADERS: Final = ("crit", "jku", "x5u", "jwk", "x5c", "b64", "zip", "enc")
_ID_TOKEN_CLAIMS: Final = ("nonce", "auth_time", "at_hash")
# A year beyond this has no date; a claim with it is in another unit.
_MAX_SECONDS: Final = 253_402_300_799


class IdentityFault(StrEnum):
    """Stable words for a token that opens nothing."""

    MALFORMED = "IDENTITY_MALFORMED"
    UNTRUSTED = "IDENTITY_UNTRUSTED"
    WRONG_KIND = "IDENTITY_WRONG_KIND"
    EXPIRED = "IDENTITY_EXPIRED"
    PROOF_REQUIRED = "IDENTITY_PROOF_REQUIRED"
    NOT_GRANTED = "IDENTITY_NOT_GRANTED"
    REQUIRED = "IDENTITY_REQUIRED"
    REPLAYED = "IDENTITY_REPLAYED"
    SESSION_ENDED = "IDENTITY_SESSION_ENDED"
    CUT = "IDENTITY_CUT"


class TokenKind(StrEnum):
    """The kinds of tokens that prove an identity."""

    ID_TOKEN = "ID token"
    ACCESS_TOKEN = "access token"
    ID_JAG = "ID-JAG"
    KUBERNETES = "Kubernetes service account"
    CI = "CI job"
    SVID = "JWT-SVID"


@dataclass(frozen=True, slots=True)
class KeyProof:
    """A proof by the key that a token is bound to: it stands, and may have been used before.

    ``id`` is its name, unique for the key. ``issued_at_ms`` is in ms since 1970.
    """

    thumbprint: bytes
    id: str
    issued_at_ms: int


@dataclass(frozen=True, slots=True)
class ProvenIdentity:
    """The statement of a provider whose signature stands. Times are in ms since 1970.

    ``logged_in_at_ms`` is the time of the login: its ``auth_time``, else that of the token. ``actors`` act
    for the subject, the nearest first (RFC 8693). ``machine``: the client itself, and no user of it.
    ``proof`` is that of the key which the token is bound to, and has to be used up; None if there is no such
    key.
    """

    provider: IdentityProvider
    kind: TokenKind
    key: str
    algorithm: str
    subject: str
    client: str
    sid: str
    token_id: str
    logged_in_at_ms: int
    issued_at_ms: int
    expires_at_ms: int
    machine: bool
    actors: tuple[str, ...]
    claims: Mapping[str, Any]
    proof: KeyProof | None = None


KeysOf = Callable[[IdentityProvider, str], PublicKeys]
# Gets claims, token, provider and time: requires all keys that the token is bound to, and returns the proof.
RequirePossession = Callable[[Mapping[str, Any], bytes, IdentityProvider, int], KeyProof | None]


def verify(
    token: str | bytes,
    providers: Sequence[IdentityProvider],
    keys_of: KeysOf,
    now_ms: int,
    possession: RequirePossession | None = None,
) -> ProvenIdentity:
    """Return what a token proves at a time. ``keys_of`` returns a provider's keys; one of them is asked for.

    Without ``possession`` a token that is bound to a key proves nothing. Raises IdentityRefused, and what
    ``keys_of`` raises.
    """
    statement = read_signed(token, providers, keys_of)
    provider, header, claims = statement
    kind = _kind_of(statement)
    _check_parties(claims, provider, kind)
    if "cnf" in claims and possession is None:
        raise IdentityRefused(
            IdentityFault.PROOF_REQUIRED, "cnf: the token is bound to a key that this call does not prove"
        )
    proof = None if possession is None else possession(claims, _bytes(token), provider, now_ms)
    issued_ms, expires_ms = _times(claims, provider, kind, now_ms)
    login_ms = _login_time(claims, provider, kind, issued_ms, now_ms)
    subject, client = text_claim(claims, "sub"), _client(claims)
    token_id = text_claim(claims, "jti", required=kind is TokenKind.ID_JAG)
    machine = bool(client) and subject == client and kind is TokenKind.ACCESS_TOKEN
    if machine and not provider.machines:
        raise IdentityRefused(
            IdentityFault.WRONG_KIND,
            "sub: is the client itself and no user; set machines = true to take these",
        )
    return ProvenIdentity(
        provider=provider,
        kind=kind,
        key=header["kid"],
        algorithm=header["alg"],
        subject=subject,
        client=client,
        sid=text_claim(claims, "sid", required=False),
        token_id=token_id,
        logged_in_at_ms=login_ms,
        issued_at_ms=issued_ms,
        expires_at_ms=expires_ms,
        machine=machine,
        actors=_actors(claims),
        claims=claims,
        proof=proof,
    )


class ProviderStatement(NamedTuple):
    """A JWT whose signature is that of a provider: nothing of its claims was looked at but the issuer."""

    provider: IdentityProvider
    header: Mapping[str, Any]
    claims: Mapping[str, Any]

    @property
    def typ(self) -> str:
        """Its type in lower case, without the ``application/`` that it may have (RFC 7515, section 4.1.9)."""
        text: str = self.header.get("typ", "")
        return text.lower().removeprefix("application/")


def read_signed(
    token: str | bytes, providers: Sequence[IdentityProvider], keys_of: KeysOf
) -> ProviderStatement:
    """Return a token of a provider once its form and its signature are right.

    Raises IdentityRefused, and what ``keys_of`` raises.
    """
    header, claims, signature, signed = read_parts(_bytes(token), MAX_TOKEN_BYTES)
    _check_header(header)
    provider = _provider_of(claims, providers)
    if header["alg"] not in provider.algorithms:
        raise malformed(f"alg: is none of those of the provider {provider.name} (algorithms)")
    _verify_signature(signed, signature, header, keys_of(provider, header["kid"]))
    return ProviderStatement(provider, header, claims)


def _bytes(token: str | bytes) -> bytes:
    return token.encode() if isinstance(token, str) else token


def read_parts(data: bytes, most: int) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    """Return header, claims and signature of a JWT of at most ``most`` bytes, and the text that was signed.

    Nothing of it is verified. Raises IdentityRefused.
    """
    if len(data) > most:
        raise malformed(f"{len(data)} bytes; at most {most}")
    parts = data.split(b".")
    if len(parts) != 3:
        raise malformed(f"a JWT has three parts, not {len(parts)}")
    header, claims = _object(parts[0], "header"), _object(parts[1], "payload")
    return header, claims, _decoded(parts[2], "signature"), data.rpartition(b".")[0]


def malformed(detail: str) -> IdentityRefused:
    """Return the refusal of a token that can't be read."""
    return IdentityRefused(IdentityFault.MALFORMED, detail)


def wrong_kind(detail: str) -> IdentityRefused:
    """Return the refusal of a token that is meant for something else."""
    return IdentityRefused(IdentityFault.WRONG_KIND, detail)


def _decoded(part: bytes, name: str) -> bytes:
    """Return the bytes of a part. Raises IdentityRefused for another text than the one that encodes them."""
    try:
        text = part.decode("ascii")
        data = bytes(base64url.decode(text))
    except ValueError:
        raise malformed(f"{name}: no base64url") from None
    if base64url.encode(data) != text:
        raise malformed(f"{name}: no base64url without padding")
    return data


def _object(part: bytes, name: str) -> dict[str, Any]:
    try:
        return read_object(_decoded(part, name), MAX_TOKEN_BYTES)
    except StateError as error:
        raise malformed(f"{name}: {error}") from None


def _check_header(header: Mapping[str, Any]) -> None:
    for name in REFUSED_HEADERS:
        if name in header:
            raise malformed(f"header: {name} is not taken")
    for name in ("alg", "kid"):
        if not isinstance(header.get(name), str) or not header[name]:
            raise malformed(f"header: {name} is required")
    if not isinstance(header.get("typ", ""), str):
        raise malformed("header: typ must be a text")


def untrusted() -> IdentityRefused:
    """Return the one refusal of all faults of trust."""
    return IdentityRefused(IdentityFault.UNTRUSTED, "no key of a provider of this service signed the token")


def _provider_of(claims: Mapping[str, Any], providers: Sequence[IdentityProvider]) -> IdentityProvider:
    issuer, subject = claims.get("iss"), claims.get("sub")
    for provider in providers:
        if provider.issuer == issuer:
            return provider
    # The trust domain of a JWT-SVID is that of its subject. SPIRE can be told to state an issuer beside it.
    for provider in providers:
        if provider.kind == "spiffe" and str(subject).startswith(f"{provider.issuer}/"):
            return provider
    raise untrusted()


def _verify_signature(signed: bytes, signature: bytes, header: Mapping[str, Any], keys: PublicKeys) -> None:
    from joserfc.jws import JWSRegistry

    key = keys.key(header["kid"], header["alg"])
    # Only the algorithm of the library is asked: it would read the header again, and warn of older names.
    if key is None or not JWSRegistry.algorithms[header["alg"]].verify(signed, signature, key):
        raise untrusted()


def _kind_of(statement: ProviderStatement) -> TokenKind:
    """Return the kind of a token. A security event and a logout token are none."""
    provider, claims, stated = statement.provider, statement.claims, statement.typ
    if "events" in claims or stated in ("secevent+jwt", "logout+jwt"):
        raise wrong_kind("typ: a statement about an identity is none")
    if provider.kind != "oidc":
        if stated not in ("", "jwt", "jose"):
            raise wrong_kind(f"typ: the provider {provider.name} signs tokens of typ JWT")
        return {"kubernetes": TokenKind.KUBERNETES, "ci": TokenKind.CI, "spiffe": TokenKind.SVID}[
            provider.kind
        ]
    kind = {"at+jwt": TokenKind.ACCESS_TOKEN, "oauth-id-jag+jwt": TokenKind.ID_JAG}.get(stated)
    if kind is not None:
        return kind
    # Keycloak's access tokens look like its ID tokens, but for a claim.
    if claims.get("typ", "ID") != "ID":
        raise wrong_kind("claim typ: must be ID: the token is none that proves a login")
    if stated in ("", "jwt") and any(name in claims for name in _ID_TOKEN_CLAIMS):
        return TokenKind.ID_TOKEN
    raise wrong_kind("typ: neither an ID token nor an access token of RFC 9068 (at+jwt) nor an ID-JAG")


def _check_parties(claims: Mapping[str, Any], provider: IdentityProvider, kind: TokenKind) -> None:
    """Require that a token is meant for this service, and was asked for by a client that may."""
    stated = claims.get("aud")
    audience = [stated] if isinstance(stated, str) else stated
    if not isinstance(audience, list) or not audience or not all(isinstance(each, str) for each in audience):
        raise wrong_kind("aud: is required, a text or a list of texts")
    if kind is TokenKind.ID_TOKEN:
        if not set(audience) <= set(provider.clients):
            raise wrong_kind(f"aud: is not of clients of the provider {provider.name}")
        if (len(audience) > 1 or "azp" in claims) and claims.get("azp") not in provider.clients:
            raise wrong_kind(f"azp: is none of the clients of the provider {provider.name}")
        return
    if not provider.audience or provider.audience not in audience:
        raise wrong_kind(f"aud: does not name the audience of the provider {provider.name}")
    if provider.kind == "oidc" and claims.get("client_id") not in provider.clients:
        raise wrong_kind(f"client_id: is none of the clients of the provider {provider.name}")
    if kind is TokenKind.SVID and not text_claim(claims, "sub").startswith(f"{provider.issuer}/"):
        raise wrong_kind(f"sub: is no name of the trust domain of the provider {provider.name}")
    if kind is TokenKind.KUBERNETES and not isinstance(_inner(claims, "kubernetes.io", "pod"), dict):
        raise wrong_kind("kubernetes.io/pod: is required: only tokens that are bound to a pod end with it")


def _inner(claims: Mapping[str, Any], *names: str) -> object:
    found: object = claims
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def expired(detail: str) -> IdentityRefused:
    """Return the refusal of a token whose times don't fit."""
    return IdentityRefused(IdentityFault.EXPIRED, detail)


def time_claim(claims: Mapping[str, Any], name: str) -> int:
    """Return a claim that is a time in seconds as ms; 0 if there is none. Raises IdentityRefused."""
    value = claims.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_SECONDS:
        raise malformed(f"{name}: must be a time in seconds since 1970")
    return int(value * 1000)


def _times(
    claims: Mapping[str, Any], provider: IdentityProvider, kind: TokenKind, now_ms: int
) -> tuple[int, int]:
    issued_ms, expires_ms = time_claim(claims, "iat"), time_claim(claims, "exp")
    if not expires_ms:
        raise expired("exp: is required")
    if not issued_ms:
        if kind is not TokenKind.SVID:
            raise expired("iat: is required")
        # A JWT-SVID need not say it; its life is an hour at most as its makers advise.
        issued_ms = max(0, expires_ms - 3_600_000)
    if expires_ms <= now_ms:
        raise expired("exp: the token has expired")
    if issued_ms > now_ms + MAX_SKEW_MS or time_claim(claims, "nbf") > now_ms + MAX_SKEW_MS:
        raise expired("iat, nbf: the token is of the future; compare the clocks of provider and server")
    return issued_ms, expires_ms


def _login_time(
    claims: Mapping[str, Any], provider: IdentityProvider, kind: TokenKind, issued_ms: int, now_ms: int
) -> int:
    of_a_login = kind in (TokenKind.ID_TOKEN, TokenKind.ACCESS_TOKEN, TokenKind.ID_JAG)
    login_ms = time_claim(claims, "auth_time") if of_a_login else 0
    if of_a_login and not login_ms and provider.require_auth_time:
        raise wrong_kind(
            "auth_time: is required, since a refreshed token has a later iat than its login; have the client "
            "ask for max_age, or set require_auth_time = false"
        )
    login_ms = login_ms or issued_ms
    if login_ms > now_ms + MAX_SKEW_MS:
        raise expired("auth_time: the login is of the future")
    if now_ms - login_ms > provider.max_age_ms:
        raise expired(f"the login is older than max_age_ms of the provider {provider.name}; log in again")
    return login_ms


def text_claim(claims: Mapping[str, Any], name: str, *, required: bool = True) -> str:
    """Return a claim that is a text as the state takes it, or empty. Raises IdentityRefused."""
    value = claims.get(name, "")
    if not isinstance(value, str):
        raise malformed(f"{name}: must be a text")
    try:
        return require_text(name, value, required=required)
    except RuleViolation as violation:
        raise malformed(violation.detail) from None


def _client(claims: Mapping[str, Any]) -> str:
    return text_claim(claims, "azp", required=False) or text_claim(claims, "client_id", required=False)


def _actors(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """Return who acts for the subject, the nearest first. Raises IdentityRefused for more than four."""
    actors: list[str] = []
    actor = claims.get("act")
    while actor is not None:
        if not isinstance(actor, dict) or len(actors) == MAX_ACTORS:
            raise malformed(f"act: must be objects, at most {MAX_ACTORS} inside of each other")
        actors.append(text_claim(actor, "sub"))
        actor = actor.get("act")
    return tuple(actors)
