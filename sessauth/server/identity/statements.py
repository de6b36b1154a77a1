"""Statements of identity providers about logins: logout tokens, global revocations, security events.

A statement is verified where the change is made, by keys of the provider. Whoever carries it can keep it
back and nothing else. It is a moment: whatever logged in up to then is over. So a statement that comes twice,
late, or in another order does nothing wrong.

* OpenID Connect Back-Channel Logout 1.0, sections 2.4 to 2.6: a logout token.
* draft-parecki-oauth-global-token-revocation: a JWT of the provider, and the user it names (RFC 9493).
* RFC 8417: a security event token, of the types of CAEP 1.0 and RISC 1.0, about a subject of RFC 9493.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

from ...errors import StateError
from .key_sets import read_object
from .mapping import names_claims
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


class LoginEffect(StrEnum):
    """The effect of a statement on the sessions of the logins that it names."""

    END = "end"
    SUSPEND = "suspend"
    RESUME = "resume"
    NARROW = "narrow"
    NOTHING = "nothing"


class Named(NamedTuple):
    """Logins that a statement names: those of a user, or one, or of the user those that have no ``sid``."""

    subject: str = ""
    sid: str = ""
    without_sid: bool = False


@dataclass(frozen=True, slots=True)
class Signal:
    """The statement of a provider: its effect on the logins that it names, and the moment it is of.

    ``moments`` are those that it moves (:data:`sessauth.model.session.MOMENTS`), to ``moment_ms``, in ms
    since 1970. ``token_id`` is the statement's ``jti``.
    """

    provider: IdentityProvider
    event: str
    named: tuple[Named, ...]
    moment_ms: int
    token_id: str = ""
    effect: LoginEffect = LoginEffect.END
    moments: tuple[str, ...] = ("up_to_ms",)
    # That of a verification event, by which its stream is proven to come through.
    state: str = ""
    # The status of a stream-updated event by which the stream stops; else empty.
    stopped: str = ""
    # The new values of claims that changed; those that a token no longer has are None.
    claims: Mapping[str, Any] = field(default_factory=dict)


def logins_of(subject: str, sid: str) -> tuple[Named, ...]:
    """Return the logins of a statement that names a user, a login, or both.

    A provider that names a login says nothing of the user's others. One that has no name may be that one.
    """
    if sid and subject:
        return Named(sid=sid), Named(subject=subject, without_sid=True)
    return (Named(subject, sid),) if sid or subject else ()


def verify_logout(
    token: str, name: str, providers: Sequence[IdentityProvider], keys_of: KeysOf, now_ms: int
) -> Signal:
    """Return what a logout token says, that was sent to the address of the provider ``name``.

    Raises IdentityRefused, and what ``keys_of`` raises.
    """
    statement = _of_provider(read_signed(token, providers, keys_of), name)
    claims = statement.claims
    if statement.typ not in _LOGOUT_TYPES:
        raise wrong_kind("typ: is not that of a logout token")
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(_LOGOUT_EVENT), dict):
        raise wrong_kind("events: has no back-channel logout")
    if "nonce" in claims:
        raise wrong_kind("nonce: a logout token has none, so that no ID token is taken for one")
    if not set(_audience(claims)) & set(statement.provider.clients):
        raise wrong_kind(f"aud: is none of the clients of the provider {name}")
    issued_ms = _fresh(claims, now_ms)
    # Older releases of Keycloak state none. A late statement does nothing wrong: it is of its own moment.
    if "exp" in claims and time_claim(claims, "exp") <= now_ms:
        raise expired("exp: the logout token has expired")
    subject, sid = text_claim(claims, "sub", required=False), text_claim(claims, "sid", required=False)
    if not subject and not sid:
        raise malformed("sub, sid: one of them is required")
    named = logins_of(subject, sid)
    return Signal(statement.provider, LOGOUT, named, _end_of_second(issued_ms), text_claim(claims, "jti"))


def verify_revocation(
    bearer: str, body: bytes, name: str, providers: Sequence[IdentityProvider], keys_of: KeysOf, now_ms: int
) -> Signal:
    """Return what a request for a global revocation says, that was sent to the address of ``name``.

    Raises IdentityRefused, and what ``keys_of`` raises.
    """
    statement = _of_provider(read_signed(bearer, providers, keys_of), name)
    provider, claims = statement.provider, statement.claims
    if statement.typ != _REVOCATION_TYPE:
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
        logins_of(text_claim(named, "sub"), ""),
        _end_of_second(issued_ms),
        text_claim(claims, "jti"),
    )


_CAEP: Final = "https://schemas.openid.net/secevent/caep/event-type/"
_RISC: Final = "https://schemas.openid.net/secevent/risc/event-type/"
_SSF: Final = "https://schemas.openid.net/secevent/ssf/event-type/"
_Outcome = tuple[LoginEffect, tuple[str, ...]]
_END: Final[_Outcome] = (LoginEffect.END, ("up_to_ms",))
_ENABLED: Final[_Outcome] = (LoginEffect.NOTHING, ("enabled_ms",))
# An account that is disabled ends what is there, and refuses every token until it is enabled.
_DISABLED: Final[_Outcome] = (LoginEffect.END, ("up_to_ms", "disabled_ms"))
_IGNORED: Final[_Outcome] = (LoginEffect.NOTHING, ())
_EFFECTS: Final[Mapping[str, _Outcome]] = {
    f"{_CAEP}session-revoked": _END,
    f"{_RISC}sessions-revoked": _END,
    "https://schemas.openid.net/secevent/oauth/event-type/tokens-revoked": _END,
    f"{_RISC}credential-compromise": _END,
    # Nobody logs in to an account that is gone; who gets its name later is somebody else.
    f"{_RISC}account-purged": _END,
    f"{_RISC}identifier-recycled": _END,
    f"{_RISC}account-disabled": _DISABLED,
    f"{_RISC}account-enabled": _ENABLED,
    # No claim says how an assurance level maps to the terms of a login: the next one states it again.
    f"{_CAEP}assurance-level-change": _END,
}
# Events whose effect depends on a member: its name, and the effect by its value.
_BY_VALUE: Final[Mapping[str, tuple[str, Mapping[str, _Outcome]]]] = {
    f"{_CAEP}credential-change": ("change_type", dict.fromkeys(("revoke", "delete", "update"), _END)),
    f"{_CAEP}device-compliance-change": (
        "current_status",
        {
            "not-compliant": (LoginEffect.SUSPEND, ("noncompliant_ms",)),
            "compliant": (LoginEffect.RESUME, ("compliant_ms",)),
        },
    ),
    f"{_CAEP}risk-level-change": (
        "current_level",
        {
            "HIGH": (LoginEffect.SUSPEND, ("high_risk_ms",)),
            "MEDIUM": _IGNORED,
            "LOW": (LoginEffect.RESUME, ("low_risk_ms",)),
        },
    ),
}
_CLAIMS_CHANGE: Final = f"{_CAEP}token-claims-change"
_NARROWED: Final[_Outcome] = (LoginEffect.NARROW, ("claims_ms",))
SUSPENDING: Final = ("device-compliance-change", "risk-level-change")
VERIFICATION: Final = "verification"
STREAM_UPDATED: Final = "stream-updated"
_STOPPED: Final = ("paused", "disabled")
OTHER: Final = "other"
# Names of events, which are labels of a metric: whatever a provider sends, there are no more.
_NAMES: Final = {
    event: event.rpartition("/")[2]
    for event in (
        *_EFFECTS,
        *_BY_VALUE,
        _CLAIMS_CHANGE,
        f"{_SSF}{VERIFICATION}",
        f"{_RISC}{VERIFICATION}",
        f"{_SSF}{STREAM_UPDATED}",
    )
}
# Members of a complex subject that say which logins it is about.
_MEMBERS: Final = ("user", "session")
# Some transmitters state ms: a time in seconds has been below this for three thousand years.
_MAX_SECONDS: Final = 10**11


def verify_event(
    token: str, name: str, providers: Sequence[IdentityProvider], keys_of: KeysOf, now_ms: int
) -> Signal:
    """Return what a security event token says that came by the stream of the provider ``name``.

    An event of another type, or about somebody whom no login could be of, names nobody and has no effect.
    Raises IdentityRefused, and what ``keys_of`` raises.
    """
    addressed = [each for each in providers if each.name == name]
    statement = read_signed(token, [each.transmitter for each in addressed], keys_of)
    (provider,), claims = addressed, statement.claims
    # A transmitter with a name of its own signs nothing else by it. Google's has no type, and names a client.
    has_own_name = provider.transmitter.issuer != provider.issuer
    if statement.typ not in (("secevent+jwt", "jwt", "") if has_own_name else ("secevent+jwt",)):
        raise wrong_kind("typ: must be secevent+jwt")
    receivers = {provider.audience, *(provider.clients if has_own_name else ())} - {""}
    if not receivers & {*_audience(claims)}:
        raise wrong_kind(f"aud: does not name the audience of the provider {name}")
    token_id = text_claim(claims, "jti")
    issued_ms = time_claim(claims, "iat")
    if not issued_ms:
        raise malformed("iat: is required")
    events = claims.get("events")
    if not isinstance(events, dict) or len(events) != 1:
        raise malformed("events: must have one event")
    ((event, content),) = events.items()
    if not isinstance(content, dict):
        raise malformed("events: the event must be an object")
    shown = _NAMES.get(event, OTHER)
    effect, moments = _stated_outcome(provider.on.get(shown, ""), _outcome(provider, event, content))
    named: tuple[Named, ...] = ()
    if moments:
        # Drafts had the subject inside of the event.
        named = _named(claims.get("sub_id", content.get("subject")), provider)
    at_ms = _event_time(claims, content, issued_ms, now_ms)
    state = content.get("state", "") if shown == VERIFICATION else ""
    status = content.get("status") if shown == STREAM_UPDATED else ""
    return Signal(
        provider,
        shown,
        named,
        at_ms,
        token_id,
        effect if named else LoginEffect.NOTHING,
        moments,
        state if isinstance(state, str) else "",
        status if isinstance(status, str) and status in _STOPPED else "",
        content["claims"] if effect is LoginEffect.NARROW else {},
    )


def _outcome(provider: IdentityProvider, event: str, content: Mapping[str, Any]) -> _Outcome:
    """Return the effect of an event, and the moments that it moves."""
    if event in _BY_VALUE:
        member, effects = _BY_VALUE[event]
        stated = content.get(member)
        return effects.get(stated, _IGNORED) if isinstance(stated, str) else _IGNORED
    if event == _CLAIMS_CHANGE:
        claims = content.get("claims")
        if not isinstance(claims, dict):
            # Any of them may have changed.
            return _END
        return _NARROWED if names_claims(provider, claims) else _IGNORED
    if content.get("change_direction") == "increase" and event.endswith("/assurance-level-change"):
        return _IGNORED
    return _EFFECTS.get(event, _IGNORED)


def _stated_outcome(stated: str, outcome: _Outcome) -> _Outcome:
    """Return the outcome of an event as the settings state it. What resumes logins does so in any case."""
    effect, _ = outcome
    if effect is LoginEffect.RESUME:
        return outcome
    if stated == "ignore":
        return _IGNORED
    ends = stated == LoginEffect.END and effect in (LoginEffect.SUSPEND, LoginEffect.NARROW)
    return _END if ends else outcome


def _event_time(claims: Mapping[str, Any], content: Mapping[str, Any], issued_ms: int, now_ms: int) -> int:
    """Return when an event was: as it says, else when the token was issued.

    A whole number of seconds is the end of that second; a fraction, or ms, are exact. A provider's clock may
    be ahead: its event is later than now then, as its logins are.
    """
    latest_ms = now_ms + MAX_SKEW_MS
    stated = content.get("event_timestamp")
    if stated is None:
        at_ms = time_claim(claims, "toe") or issued_ms
    elif isinstance(stated, bool) or not isinstance(stated, int | float) or not 0 < stated < 10**14:
        raise malformed("event_timestamp: must be a time since 1970")
    elif stated > _MAX_SECONDS or isinstance(stated, float):
        return min(int(stated if stated > _MAX_SECONDS else stated * 1000), latest_ms)
    else:
        at_ms = stated * 1000
    return min(_end_of_second(at_ms), latest_ms)


def _named(subject: object, provider: IdentityProvider) -> tuple[Named, ...]:
    """Return the logins of a subject (RFC 9493; SSF 1.0, section 3). None, for one that names no login.

    Raises IdentityRefused for one that is no subject.
    """
    names = _names(subject, provider, "") or ()
    return tuple(dict.fromkeys(names))


def _names(subject: object, provider: IdentityProvider, member: str) -> Sequence[Named] | None:
    """Return the logins of a subject, or of a member of a complex one: none of another provider's.

    None stands for a form that says nothing here, as an e-mail address, which may be anybody's later.
    """
    if not isinstance(subject, dict):
        raise malformed("sub_id: is required, an object")
    # Drafts, and Google still, say subject_type, and iss-sub.
    form = subject.get("format", subject.get("subject_type", "complex"))
    if not isinstance(form, str):
        raise malformed("sub_id.format: must be a text")
    match form.replace("-", "_"):
        case "iss_sub" | "id_token_claims":
            # One provider can end nobody of another's.
            ours = subject.get("iss") in (provider.issuer, provider.transmitter.issuer)
            return logins_of(text_claim(subject, "sub"), "") if ours else ()
        case "opaque":
            name = text_claim(subject, "id")
            by_member = {"user": (Named(subject=name),), "session": (Named(sid=name),)}
            # Alone it may be either.
            return by_member.get(member, (Named(sid=name), Named(subject=name)))
        case "aliases":
            return _of_aliases(subject, provider, member)
        case "complex" if not member:
            return _of_members(subject, provider)
    return None


def _of_aliases(
    subject: Mapping[str, Any], provider: IdentityProvider, member: str
) -> Sequence[Named] | None:
    """Return the logins of each name that says something here."""
    listed = subject.get("identifiers")
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise malformed("sub_id.identifiers: must be a list of subjects")
    found = [_names(each, provider, member) for each in listed if each.get("format") != "aliases"]
    known = [each for each in found if each is not None]
    return [name for names in known for name in names] if known else None


def _of_members(subject: Mapping[str, Any], provider: IdentityProvider) -> Sequence[Named] | None:
    """Return the logins of a complex subject."""
    for member in provider.critical_subject_members:
        if member in subject and member not in _MEMBERS:
            raise malformed(f"sub_id: its member {member} is critical, and is not known here")
    users, sessions = (
        _names(subject[member], provider, member) if member in subject else None for member in _MEMBERS
    )
    if users is not None and not users:
        # It is another provider's user, whose session this may be.
        return ()
    # Beside both a member that is not known here narrows them, so it is left out: that ends more, never less.
    sids = [each for each in sessions or () if each.sid]
    if users and sids:
        return [*sids, *(each._replace(without_sid=True) for each in users)]
    return [*(users or ()), *(sessions or ())]


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


def _end_of_second(issued_ms: int) -> int:
    """Return the end of the second of issue, as times in seconds say no more."""
    return issued_ms - issued_ms % 1000 + 999
