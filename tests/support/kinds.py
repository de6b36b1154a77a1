"""Sessions of a mail server's agent, for the fit by kinds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sessauth._fast import _codec as codec
from sessauth.scopes.scope import Scope
from sessauth.usage import SessionUsage
from sessauth.usage.kinds.observed import Observed
from sessauth.usage.profile import CEILING, GrantLayer
from sessauth.usage.suggest import Suggestion, suggest
from sessauth.usage.tighten import Fit

Call = tuple[str, str, dict[str, Any]]
GRANT = "read,write:mcp/** free *"


def layer_of(*scopes: str) -> GrantLayer:
    """Return a ceiling with these scopes."""
    return GrantLayer(CEILING, map(Scope.parse, scopes or (GRANT,)))


def send(**arguments: Any) -> Call:
    """Return a call of the tool that sends."""
    return ("write", "mcp/mail/send", arguments)


def observed(layer: GrantLayer, calls: Sequence[Call], name: str = "", **facts: Any) -> Observed:
    """Return what a report knows of a session with these calls."""
    usage = SessionUsage()
    for at_ms, (action, resource, arguments) in enumerate(calls, start=1):
        data = json.dumps(arguments).encode()
        matched = layer.matching_positions(action, resource, data)
        usage.observe(action, resource, data, at_ms=at_ms, matched=matched)
    return Observed(usage, facts, name)


def learnt(sessions: Sequence[Sequence[Call]], *scopes: str, fit: Fit = Fit.KINDS) -> Suggestion:
    """Return the suggestion after these sessions."""
    layer = layer_of(*scopes)
    return learnt_from(layer, [observed(layer, calls, f"s{n}") for n, calls in enumerate(sessions)], fit)


def learnt_from(layer: GrantLayer, sessions: Sequence[Observed], fit: Fit = Fit.KINDS) -> Suggestion:
    """Return the suggestion of a fit after observed sessions."""
    whole = SessionUsage()
    for session in sessions:
        whole.merge(session.usage)
    return suggest(layer, whole, fit, sessions=sessions)


def texts(sessions: Sequence[Sequence[Call]], *scopes: str) -> list[str]:
    """Return the scopes of a suggestion, without that for reading tools that were not used."""
    return [text for text in map(str, learnt(sessions, *scopes).scopes) if "tool.open_world" not in text]


def permits(scopes: Sequence[Scope], call: Call, facts: Sequence[dict[str, Any]] = ()) -> bool:
    """Ask the kernel whether a list of scopes permits a call."""
    action, resource, arguments = call
    data = json.dumps(arguments).encode()
    request = (action.encode(), resource.encode(), data)
    return any(codec.matches(scope.encode(), *request, facts=list(facts))[0] for scope in scopes)
