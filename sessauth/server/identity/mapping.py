"""Terms of a session that a proven identity gives: who it is for, and what it may do at most.

Claims that change later take terms away and give none: a scope stays if a grant gives it that still fits. A
grant that names no changed claim is as it was, but which of them fitted is not stored. So a scope that a
grant lost goes, unless what changed proves another grant that gives it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ...errors import IdentityRefused
from ...model.session import Fact, ScopeRecord, Session
from ...scopes.containment import contains
from ...scopes.scope import Scope
from .providers import CLIENT_SUBJECT, PLACEHOLDER, IdentityProvider, Literal
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
        PLACEHOLDER.sub(lambda _: identity.client, CLIENT_SUBJECT)
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


@dataclass(frozen=True, slots=True)
class ChangedTerms:
    """Changes of a login's session by claims that changed; an empty ``ceiling`` stays as it is."""

    ceiling: tuple[ScopeRecord, ...]
    set_facts: tuple[Fact, ...]
    removed_facts: tuple[str, ...]

    def __bool__(self) -> bool:
        """Return True if anything changes."""
        return bool(self.ceiling or self.set_facts or self.removed_facts)


def names_claims(provider: IdentityProvider, claims: Mapping[str, Any]) -> bool:
    """Return True if a provider's settings name one of the claims."""
    templates = (provider.subject, *provider.labels.values())
    named = {name for template in templates for name in PLACEHOLDER.findall(template)}
    named |= {*provider.require, *provider.facts}
    named |= {name for grant in provider.grants for name in grant.when}
    return any(_is_stated(claims, name) for name in named)


def changed_terms(
    provider: IdentityProvider, claims: Mapping[str, Any], session: Session, *, is_late: bool
) -> ChangedTerms | None:
    """Return the changes of a login's session by the new values of some claims; None if it is to end.

    It ends if no scope is left, or if its subject, a label or what the provider requires is another now.
    ``is_late``: another change is newer, so nobody knows which value a fact has. It is removed, and
    conditions on it deny.
    """
    if not all(_has(claims, name, it) for name, it in provider.require.items() if _is_stated(claims, name)):
        return None
    templates = {"subject": (provider.subject, session.subject)}
    templates |= {
        f"labels.{name}": (text, session.labels.get(name, "")) for name, text in provider.labels.items()
    }
    facts = {fact.name: fact for fact in session.facts}
    updates, removed = [], []
    try:
        for key, (template, value) in templates.items():
            stated = any(_is_stated(claims, name) for name in PLACEHOLDER.findall(template))
            if stated and _filled(provider, key, template, claims) != value:
                return None
        for name in provider.facts:
            if not _is_stated(claims, name):
                continue
            fact = facts.get(name)
            if _claim(claims, name) is not None:
                visible = fact is not None and fact.visible
                made = Fact(name, _fact(provider, name, claims), visible)
                if fact is not None and made.to_record() == fact.to_record():
                    continue
                if not is_late:
                    updates.append(made)
                    continue
            if fact is not None:
                removed.append(name)
    except IdentityRefused:
        return None
    ceiling = _remaining(provider, claims, session)
    if ceiling in session.ceilings:
        return ChangedTerms((), tuple(updates), tuple(removed))
    # Of what an operator's layers leave: no layer may have a scope that lies apart from the others.
    ceiling = tuple(
        scope
        for scope in ceiling
        if all(
            contains(layer, [scope], same_facts=True, same_session=True)[0] >= 0 for layer in session.ceilings
        )
    )
    return ChangedTerms(ceiling, tuple(updates), tuple(removed)) if ceiling else None


def _remaining(
    provider: IdentityProvider, claims: Mapping[str, Any], session: Session
) -> tuple[ScopeRecord, ...]:
    """Return the scopes of a login's ceiling that remain with the new values of some claims."""
    proven: set[str] = set()
    lost: set[str] = set()
    as_before: set[str] = set()
    for grant in provider.grants:
        stated = {name: literal for name, literal in grant.when.items() if _is_stated(claims, name)}
        fits = all(_has(claims, name, literal) for name, literal in stated.items())
        found = lost if not fits else proven if len(stated) == len(grant.when) else as_before
        found.update(str(Scope.parse(text)) for text in grant.ceiling)
    kept = proven | (as_before - lost)
    # The last layer that an earlier change of claims left; an operator's are not of the settings.
    login, *later = [{str(Scope.from_record(scope)): scope for scope in layer} for layer in session.ceilings]
    for layer in later:
        if layer.keys() <= login.keys():
            login = layer
    return tuple(scope for text, scope in login.items() if text in kept)


def _is_stated(claims: Mapping[str, Any], path: str) -> bool:
    """Return True if claims state a claim: itself, or the outermost object that it is in."""
    return path in claims or path.split("/")[0] in claims


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
