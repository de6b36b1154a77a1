"""Terms of a session that a proven identity gives: who it is for, and what it may do at most."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ...errors import IdentityRefused
from .providers import PLACEHOLDER, IdentityProvider, Literal
from .tokens import IdentityFault, ProvenIdentity, TokenKind

MAX_VALUE_CHARS: Final = 256
MAX_FACT_BYTES: Final = 1_024


@dataclass(frozen=True, slots=True)
class MappedIdentity:
    """The terms of a login's session. ``grants`` are the numbers of those that fit. Times are in ms."""

    subject: str
    ceiling: tuple[str, ...]
    grants: tuple[int, ...]
    labels: Mapping[str, str]
    facts: Mapping[str, str | int | bool]
    ends_at_ms: int
    lease_ms: int


def map_identity(identity: ProvenIdentity) -> MappedIdentity:
    """Return the terms that a provider's settings give to an identity.

    Raises IdentityRefused NOT_GRANTED, which names the rule and no value.
    """
    provider, claims = identity.provider, identity.claims
    for name, literal in provider.require.items():
        if not _has(claims, name, literal):
            raise _not_granted(provider, f"require.{name}: is not what the token says")
    fitting = tuple(
        number
        for number, grant in enumerate(provider.grants)
        if all(_has(claims, name, literal) for name, literal in grant.when.items())
    )
    if not fitting:
        raise _not_granted(provider, "grants: none fits the token")
    scopes = (scope for number in fitting for scope in provider.grants[number].ceiling)
    subject = (
        f"client:{identity.client}"
        if identity.machine
        else _filled(provider, "subject", provider.subject, claims)
    )
    # A login lives on while it is renewed; a workload's token is all that is known of it.
    of_a_login = identity.kind in (TokenKind.ID_TOKEN, TokenKind.ACCESS_TOKEN, TokenKind.ID_JAG)
    ends_at_ms = identity.logged_in_at_ms + provider.max_session_ms
    return MappedIdentity(
        subject=subject,
        ceiling=tuple(dict.fromkeys(scopes)),
        grants=fitting,
        labels={
            name: _filled(provider, f"labels.{name}", text, claims) for name, text in provider.labels.items()
        },
        facts={
            name: _fact(provider, name, claims) for name in provider.facts if _claim(claims, name) is not None
        },
        ends_at_ms=ends_at_ms if of_a_login else min(ends_at_ms, identity.expires_at_ms),
        lease_ms=provider.lease_ms,
    )


def _not_granted(provider: IdentityProvider, detail: str) -> IdentityRefused:
    return IdentityRefused(IdentityFault.NOT_GRANTED, f"the provider {provider.name}, {detail}")


def _claim(claims: Mapping[str, Any], path: str) -> object:
    """Return a claim: of its whole name, else of the names between slashes, each inside the one before."""
    if path in claims:
        return claims[path]
    found: object = claims
    for name in path.split("/"):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _has(claims: Mapping[str, Any], name: str, literal: Literal) -> bool:
    """Return True if a claim is a literal, or a list that has it; true is not 1."""
    found = _claim(claims, name)
    return any(
        type(each) is type(literal) and each == literal
        for each in (found if isinstance(found, list) else [found])
    )


def _filled(provider: IdentityProvider, key: str, template: str, claims: Mapping[str, Any]) -> str:
    """Return a template with its claims in it."""

    def value(path: str) -> str:
        found = _claim(claims, path)
        if not isinstance(found, str) or not found:
            raise _not_granted(provider, f"{key}: the token has no text {path}")
        if len(found) > MAX_VALUE_CHARS or not found.isprintable() or "{" in found or found != found.strip():
            raise _not_granted(
                provider, f"{key}: {path} is no plain text of at most {MAX_VALUE_CHARS} characters"
            )
        return found

    return PLACEHOLDER.sub(lambda match: value(match[1]), template)


def _fact(provider: IdentityProvider, name: str, claims: Mapping[str, Any]) -> str | int | bool:
    """Return a claim as a fact: a text, number or truth as it is, else its JSON."""
    found = _claim(claims, name)
    fact = found if isinstance(found, str | int) else json.dumps(found, separators=(",", ":"), sort_keys=True)
    if len(str(fact).encode()) > MAX_FACT_BYTES:
        raise _not_granted(provider, f"facts: {name} has more than {MAX_FACT_BYTES} bytes")
    return fact
