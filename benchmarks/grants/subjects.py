"""Subjects that are judged: the grant itself, names of tools only, and each fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from benchmarks.grants.calls import Call, Server, Session
from sessauth.scopes.scope import Scope
from sessauth.usage.kinds.holds import Rules
from sessauth.usage.kinds.observed import Observed, tools
from sessauth.usage.kinds.scopes import KindSuggester, RoomPlan
from sessauth.usage.profile import CEILING, GrantLayer
from sessauth.usage.session_usage import SessionUsage
from sessauth.usage.suggest import suggest
from sessauth.usage.tighten import Fit, joined

GRANT: Final = "grant"
NAMES: Final = "names"
KINDS: Final = Fit.KINDS.value
# What one session brought is free: not a fit of the product, but the measure of what its rule costs.
ONCE: Final = "kinds, one session"
SUBJECTS: Final = (GRANT, NAMES, *(fit.value for fit in (Fit.LOOSE, Fit.EXACT, Fit.KINDS)))


def granted(server: Server) -> GrantLayer:
    """Return what sessions of a server are granted while they are observed: all of it."""
    return GrantLayer(CEILING, [Scope.parse(f"read,write:mcp/{server.name}/** free *")])


def place(server: Server, call: Call) -> tuple[str, str]:
    """Return the action and the resource of a call, by the pinned catalogue."""
    return server.catalogue.request(call.tool)


def usage_of(server: Server, layer: GrantLayer, session: Session) -> Observed:
    """Return what a report knows of a session."""
    usage = SessionUsage()
    for at_ms, call in enumerate(session.calls, start=1):
        action, resource = place(server, call)
        matched = layer.matching_positions(action, resource, call.encoded)
        usage.observe(action, resource, call.encoded, at_ms=at_ms, matched=matched)
    return Observed(usage, dict(session.facts), session.task)


def suggestions(
    server: Server, sessions: Sequence[Session], wanted: Sequence[str] = SUBJECTS
) -> Mapping[str, Sequence[Scope]]:
    """Return the scopes that each subject gives the next session."""
    layer = granted(server)
    observed = [usage_of(server, layer, session) for session in sessions]
    whole = SessionUsage()
    for each in observed:
        whole.merge(each.usage)
    makers: Mapping[str, Callable[[], Sequence[Scope]]] = {
        GRANT: lambda: layer.scopes,
        NAMES: lambda: _names(server, sessions),
        ONCE: lambda: _once(layer, observed),
        **{
            fit.value: lambda fit=fit: suggest(layer, whole, fit, sessions=observed).scopes  # type: ignore[misc]
            for fit in Fit
        },
    }
    return {name: makers[name]() for name in wanted}


def _once(layer: GrantLayer, observed: Sequence[Observed]) -> Sequence[Scope]:
    suggester = KindSuggester(layer.scopes[:1], [tools(layer, 0, observed)], observed, Rules(least=1))
    return joined(suggester.make(RoomPlan())[0].scopes)


def _names(server: Server, sessions: Sequence[Session]) -> list[Scope]:
    places = {place(server, call) for session in sessions for call in session.calls}
    return [Scope.parse(f"{action}:{resource} free *") for action, resource in sorted(places)]
