"""Suggests fewer and narrower scopes that would have admitted the observed calls.

A :class:`Suggestion` replaces one granted layer, with a :class:`SuggestionPart` for each of its scopes. The
kernel proves that it lies inside the grant. With the fits LOOSE and EXACT it allows each observed allowed
call again, in the same place, by the same facts, at the same price. With KINDS it leaves out what too few
sessions brought, and names it.

For a report, :func:`opened` names the arguments that a suggestion leaves open, and :func:`verdict` sums it up
in one line: its price, and what it leaves open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Final

from .. import limits
from ..model.notebook import html_table
from ..scopes.parts import Approval
from ..scopes.scope import Scope
from . import records
from .argument_reader import ELEMENT, scope_path
from .argument_reader import Path as Names
from .kinds.holds import Rules
from .kinds.observed import Observed, SessionPrice, is_for, least_sessions, tools, used_layers
from .kinds.scopes import CROWDED_CALLS, KindScopes, KindSuggester, room_plans
from .profile import NOTHING, CallGroup, GrantLayer
from .session_usage import SessionUsage
from .tighten import MAX_PARTS, Evidence, Fit, is_inside, joined, opens, tighten, work_of
from .value_summary import PROGRAM, READ, is_language

LEFT_OPEN = "it is left open"


def opened(scopes: Sequence[Scope], evidence: Sequence[tuple[str, str, CallGroup]], fit: Fit) -> list[str]:
    """Return a line for each argument of the calls that the scopes for them leave open; programs first.

    With the exact fit, arguments that are held by a common part of their values also get one.
    """
    lines: dict[str, None] = {}
    for action, resource, group in evidence:
        fitting = [scope for scope in scopes if is_for(scope, action, resource)]
        for path in _leaves(group):
            summary = group.paths[path]
            many = f"more than {records.MAX_VALUES} values; " if summary.values is None else ""
            why = ""
            if any(opens(scope, path) for scope in fitting):
                program = action != READ and is_language(path, [summary])
                why = (f"{PROGRAM}; " if program else many if fit is Fit.EXACT else "") + LEFT_OPEN
            elif fit is Fit.EXACT and many:
                why = f"{many}only what they share is held"
            if why:
                lines[f"{action}:{resource or '**'} {scope_path(path)}: {why}"] = None
    return sorted(lines, key=lambda line: PROGRAM not in line)


def _leaves(group: CallGroup) -> Iterator[Names]:
    """Yield the paths that have no members of their own; lists count as wholes."""
    for path in sorted(group.paths):
        below = any(other[:-1] == path and other[-1] != ELEMENT for other in group.paths)
        if ELEMENT not in path and not below:
            yield path


# A token has at most 8 KiB, and a suggestion must be short enough to be read.
MAX_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class SuggestionPart:
    """The suggestion for one granted scope: ``tightened``, ``kept``, or ``dropped`` as never used.

    ``is_open``: some of its arguments are open, although the fit is to hold all of them: then it is kept.
    """

    index: int
    granted: Scope
    scopes: tuple[Scope, ...]
    is_open: bool = False

    @property
    def outcome(self) -> str:
        """``tightened``, ``kept`` or ``dropped``."""
        if not self.scopes:
            return "dropped"
        return "kept" if self.is_open or self.scopes == (self.granted,) else "tightened"


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Scopes to replace one granted layer; ``why``: the cause if they could not be tightened.

    ``notes``: the arguments that are not held, and why. ``once``: values of one session only; they are left
    out if there were enough sessions (``left_out``).
    """

    layer: str
    fit: Fit
    parts: tuple[SuggestionPart, ...]
    why: str = ""
    notes: tuple[str, ...] = ()
    once: tuple[str, ...] = ()

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """The scopes of all parts, in order; none if none was used."""
        return tuple(dict.fromkeys(scope for part in self.parts for scope in part.scopes))

    def with_approval(self, approval: Approval) -> tuple[Scope, ...]:
        """Return scopes for tokens: the suggested ones are free, the rest of the grant needs an approval.

        A granted scope that has needs of its own stays as suggested. Ceilings carry no needs: the session's
        ceiling stays as granted.
        """
        granted = [part.granted for part in self.parts if not part.granted.exception]
        rest = [scope.needing(approval=approval) for scope in granted if scope.needs is None]
        suggested = [scope for scope in self.scopes if not scope.exception]
        return tuple(dict.fromkeys((*suggested, *rest)))

    def _repr_html_(self) -> str:
        """Return a table for a notebook: each granted scope, and what is suggested for it."""
        rows = [(part.granted, part.outcome, part.scopes) for part in self.parts]
        return html_table(f"suggested, {self.fit}", rows, ("granted", "outcome", "suggested"))

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON, scopes as text."""
        return {
            "fit": self.fit.value,
            "scopes": [str(scope) for scope in self.scopes],
            "parts": [
                {
                    "granted": str(part.granted),
                    "outcome": part.outcome,
                    "scopes": [str(scope) for scope in part.scopes],
                }
                for part in self.parts
            ],
            "why": self.why,
            "not_tightened": list(self.notes),
            "left_out": list(self.once),
        }


def suggest(
    layer: GrantLayer,
    usage: SessionUsage,
    fit: Fit = Fit.KINDS,
    *,
    sessions: Sequence[Observed] = (),
    max_bytes: int = MAX_BYTES,
) -> Suggestion:
    """Return scopes to replace ``layer``, by the usage of one session, or merged from several.

    KINDS is the default: the next session of a purpose writes other texts than the last, to the same
    recipients. For it, ``sessions`` are the usage of each session by itself; all count as one if empty.
    Beyond ``max_bytes`` of all scopes together, encoded, they are coarser.
    """
    if any(scope.exception for scope in layer.scopes):
        return _with_exceptions(layer, usage, fit, sessions, max_bytes)
    crowded = ""
    if fit is Fit.KINDS and usage.profiles[layer.kind].level == NOTHING:
        usage, sessions, crowded = _without_the_largest(layer, usage, sessions)
    if usage.profiles[layer.kind].level == NOTHING:
        return _as_granted(layer, fit, CROWDED_CALLS)
    if usage.uses[layer.id, -1].calls:
        return _as_granted(layer, fit, "for some calls the scope that admitted them is not known")
    evidence = [evidence_of(layer, index, usage) for index in range(len(layer.scopes))]
    if fit is Fit.KINDS:
        suggestion = _by_kind(layer, sessions or (Observed(usage),), evidence, max_bytes)
        return replace(suggestion, once=(*suggestion.once, crowded)) if crowded else suggestion
    for most in (MAX_PARTS, 4, 1):
        parts = tuple(
            SuggestionPart(index, scope, tuple(tighten(scope, calls, fit, most)) if calls else ())
            for index, (scope, calls) in enumerate(zip(layer.scopes, evidence, strict=True))
        )
        suggestion = _with_notes(Suggestion(layer.id, fit, parts), evidence)
        why = _fault(suggestion, _largest(group for calls in evidence for _, _, group in calls), max_bytes)
        if not why:
            return suggestion
    used = tuple(
        SuggestionPart(index, scope, (scope,) if calls else ())
        for index, (scope, calls) in enumerate(zip(layer.scopes, evidence, strict=True))
    )
    return _with_notes(Suggestion(layer.id, fit, used, why), evidence)


def _with_exceptions(
    layer: GrantLayer, usage: SessionUsage, fit: Fit, sessions: Sequence[Observed], max_bytes: int
) -> Suggestion:
    """Suggest for what a layer permits; its exceptions are kept as they are."""
    number = sum(not scope.exception for scope in layer.scopes)
    if not number:
        return _as_granted(layer, fit, "the layer has exceptions alone")
    found = suggest(layer.permitting(), usage, fit, sessions=sessions, max_bytes=max_bytes)
    if not found.scopes:
        # Alone, exceptions would permit all else.
        return found
    kept = [SuggestionPart(at, scope, (scope,)) for at, scope in enumerate(layer.scopes[number:], number)]
    return replace(found, parts=(*found.parts, *kept))


def _with_notes(suggestion: Suggestion, evidence: Sequence[Evidence]) -> Suggestion:
    """Name the arguments that a suggestion leaves open, and mark the parts of the exact fit that do."""
    found = [
        opened(part.scopes, calls, suggestion.fit)
        for part, calls in zip(suggestion.parts, evidence, strict=True)
    ]
    exact = suggestion.fit is Fit.EXACT
    parts = tuple(
        replace(part, is_open=exact and any(line.endswith(LEFT_OPEN) for line in lines))
        for part, lines in zip(suggestion.parts, found, strict=True)
    )
    return replace(suggestion, parts=parts, notes=tuple(line for lines in found for line in lines))


def _without_the_largest(
    layer: GrantLayer, usage: SessionUsage, sessions: Sequence[Observed]
) -> tuple[SessionUsage, Sequence[Observed], str]:
    """Leave out the session with the most kinds of call, and name it, if the others have few enough.

    So one session that floods its record does not open the grant. Of fewer sessions each one counts.
    """
    if least_sessions(len(sessions)) < 2:
        return usage, sessions, ""

    def kinds_of_call(session: Observed) -> tuple[int, int]:
        profile = session.usage.profiles[layer.kind]
        return profile.level, len(profile.groups)

    largest = max(sessions, key=kinds_of_call)
    others = [session for session in sessions if session is not largest]
    rest = merged(others)
    if rest.profiles[layer.kind].level == NOTHING:
        return usage, sessions, ""
    name = f"session {largest.name}" if largest.name else "one session"
    return rest, others, f"{name}: {CROWDED_CALLS}"


def _by_kind(
    layer: GrantLayer, sessions: Sequence[Observed], evidence: list[Evidence], max_bytes: int
) -> Suggestion:
    """Return the suggestion by kinds; if not all of it fits, the rarest tools are held less closely."""
    active = sum(layer.id in used_layers(each.usage) for each in sessions)
    least = least_sessions(active)
    largest = _largest_of(layer, sessions, least)
    split = [n for n, each in enumerate(layer.scopes) if each.needs is None and not each.has_unknown_kind]
    granted = [layer.scopes[index] for index in split]
    found = [tools(layer, index, sessions) for index in split]
    suggester = KindSuggester(granted, found, sessions, Rules(least=least))
    whole = {
        index: KindScopes(tighten(layer.scopes[index], calls, Fit.LOOSE) if calls else [])
        for index, calls in enumerate(evidence)
        if index not in split
    }
    number, cause = sum(map(len, found)), ""
    for plan in room_plans(number):
        results = whole | dict(zip(split, suggester.make(plan), strict=True))
        suggestion = Suggestion(
            layer.id,
            Fit.KINDS,
            tuple(
                SuggestionPart(index, scope, tuple(joined(results[index].scopes)))
                for index, scope in enumerate(layer.scopes)
            ),
            notes=tuple(note for index in sorted(results) for note in results[index].notes),
            once=tuple(words for index in sorted(results) for words in results[index].once),
        )
        why = _fault(suggestion, largest, max_bytes)
        if not why:
            bare = f"{plan.bare} of {number} tools, since {cause}" if plan.bare else ""
            return replace(suggestion, why=bare)
        cause = cause or why
    return replace(suggestion, why=why)


def merged(observed: Iterable[Observed]) -> SessionUsage:
    """Return the usage of all sessions together."""
    whole = SessionUsage()
    for each in observed:
        whole.merge(each.usage)
    return whole


def _as_granted(layer: GrantLayer, fit: Fit, why: str) -> Suggestion:
    parts = tuple(SuggestionPart(index, scope, (scope,)) for index, scope in enumerate(layer.scopes))
    return Suggestion(layer.id, fit, parts, why)


def evidence_of(layer: GrantLayer, index: int, usage: SessionUsage) -> Evidence:
    """Return the calls that a scope may have admitted, in order of action and resource."""
    return [
        (action, resource, group)
        for (positions, action), buckets in sorted(
            usage.profiles[layer.kind].groups.items(), key=itemgetter(0)
        )
        if (layer.id, index) in positions
        for resource, group in sorted(buckets.items(), key=itemgetter(0))
    ]


def _fault(suggestion: Suggestion, largest: CallGroup, max_bytes: int) -> str:
    scopes = suggestion.scopes
    if len(scopes) > limits.MAX_SCOPES or sum(len(scope.encode()) for scope in scopes) > max_bytes:
        return "the suggestion would be too long"
    # Half of what such a check may cost: the other layers and blocks need the rest.
    if 2 * sum(work_of(scope, largest) for scope in scopes) > limits.MIN_WORK + 3 * largest.weight // 16:
        return "arguments are so large that judging them by more conditions could be too much work"
    proven = all(is_inside([part.granted], part.scopes) for part in suggestion.parts)
    return "" if proven else "the suggestion is not proven to lie inside the grant"


def _largest(groups: Iterator[CallGroup]) -> CallGroup:
    largest = CallGroup()
    for group in groups:
        largest.size, largest.weight = max(largest.size, group.size), max(largest.weight, group.weight)
    return largest


def _largest_of(layer: GrantLayer, sessions: Sequence[Observed], least: int) -> CallGroup:
    """Return the largest calls of a layer that ``least`` sessions made; of one alone they are left out."""
    each = [
        _largest(
            group
            for (positions, _), buckets in session.usage.profiles[layer.kind].groups.items()
            if any(name == layer.id for name, _ in positions)
            for group in buckets.values()
        )
        for session in sessions
    ]
    shared = CallGroup()
    if len(each) >= least:
        shared.size = sorted((group.size for group in each), reverse=True)[least - 1]
        shared.weight = sorted((group.weight for group in each), reverse=True)[least - 1]
    return shared


# From this percentage of denied calls on, a suggestion is not for enforcement.
_MOST_DENIED: Final = 5
_NAMED: Final = 3


def verdict(suggestion: Suggestion, prices: Sequence[SessionPrice], *, by_approval: bool = False) -> str:
    """Return the facts that an operator must know before using a suggestion for a list of scopes.

    ``prices`` are those of each session by a suggestion made from the others; none for one session alone.
    ``by_approval``: new calls need a person's approval and are not denied.
    """
    if not suggestion.scopes:
        return "nothing is suggested: no call was allowed, or by too few sessions"
    calls, denied = sum(each.calls for each in prices), sum(each.denied for each in prices)
    running = open_programs(suggestion)
    facts = [f"as granted where used: {suggestion.why}"] if suggestion.why else []
    if calls:
        verb = "asks about" if by_approval else "denies"
        share = f"{100 * denied / calls:.0f} % of these sessions' calls, each judged by the others"
        facts.append(f"{verb} {share}")
    else:
        facts.append("of one session alone: what it denies is not known")
    if running:
        facts.append(f"runs any program: {_named(running)}")
    if others := len(suggestion.notes) - len(running):
        facts.append(f"{others} not tightened")
    if suggestion.once:
        facts.append(f"{len(suggestion.once)} left out")
    if not by_approval and (running or suggestion.why or not calls or 100 * denied > _MOST_DENIED * calls):
        facts.append("not to be enforced as it is: observe more sessions, or use --new approval")
    return "; ".join(facts)


def open_programs(suggestion: Suggestion) -> list[str]:
    """Return the calls and arguments with which a suggestion permits any program."""
    return [note.rpartition(":")[0] for note in suggestion.notes if PROGRAM in note and LEFT_OPEN in note]


def _named(places: Sequence[str]) -> str:
    more = len(places) - _NAMED
    return ", ".join(places[:_NAMED]) + (f" and {more} more" if more > 0 else "")
