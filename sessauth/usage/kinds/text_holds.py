"""Names, folders and hosts that the texts in one place are held to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ...scopes.value import Value
from ..argument_reader import host_of
from ..value_summary import ValueSummary
from .languages import PROGRAM
from .observed import ENOUGH_SESSIONS, support
from .texts import TextKind, domain_of, folder_of, site_of, stem_of, text_kind

MAX_NAMES: Final = 24
MAX_FOLDERS: Final = 8
MAX_HOSTS: Final = 8
_MAX_FAMILIES: Final = 4
# The share of sessions, in percent, whose values came again elsewhere: below it an argument is not listed.
# Labels are words that a model may choose anew, so nearly all of them must have come again.
_NAMES_AGAIN: Final = 50
_LABELS_AGAIN: Final = 90


@dataclass(frozen=True, slots=True)
class Rules:
    """Bounds of evidence.

    ``least``: sessions that must have brought what stays free. ``proves``: sessions from which on one value
    counts as constant, and labels as words. ``names``: values of one argument that are listed. ``bare``: of a
    tool that changes something no argument is held, since there is no room.
    """

    least: int = 1
    proves: int = 3
    names: int = MAX_NAMES
    bare: bool = False


@dataclass(slots=True)
class TextHold:
    """Texts to hold an argument to. ``open_why``: it is left open.

    ``notes``: it is held, but widely, or some of what sessions share found no room. ``once``: texts that too
    few sessions brought.
    """

    names: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    stems: list[str] = field(default_factory=list)
    domains: list[str] = field(default_factory=list)
    open_why: str = ""
    notes: list[str] = field(default_factory=list)
    once: list[Value] = field(default_factory=list)


def held_texts(
    values: Sequence[frozenset[str] | None], summaries: Sequence[ValueSummary], rules: Rules
) -> TextHold:
    """Return what to hold texts to; ``values``: of each session, None if there were too many to know."""
    held = TextHold()
    kinds = support(_kinds(v, s) for v, s in zip(values, summaries, strict=True))
    found = {kind for kind, sessions in kinds.items() if sessions >= rules.least}
    known = [value or frozenset() for value in values]
    if TextKind.PROSE in found:
        held.open_why = "free text"
    elif TextKind.DATE in found:
        held.open_why = "dates and times"
    elif TextKind.LABEL in found and len(known) >= rules.proves and is_own(known, _LABELS_AGAIN):
        held.open_why = "labels that did not come again"
    if held.open_why:
        return held
    by_kind = {kind: [frozenset(v for v in each if text_kind(v) == kind) for each in known] for kind in found}
    named = (TextKind.NAME, TextKind.LABEL)
    names = [frozenset(v for v in each if text_kind(v) in named) for each in known]
    held.once += sorted(
        {v for each in known for v in each if text_kind(v) not in found and text_kind(v) not in named}
    )
    _hold_names(held, [each for each in names if each], rules)
    _hold_folders(held, by_kind.get(TextKind.PATH, []), summaries, rules)
    _hold_hosts(held, by_kind, summaries, rules)
    return held


def held_programs(values: Sequence[frozenset[str] | None], rules: Rules) -> TextHold:
    """Return the programs that enough sessions ran, word for word: any other one is not permitted."""
    names, once = _often([value or frozenset() for value in values], rules)
    held = TextHold(names=sorted(names[: rules.names]), once=[*names[rules.names :], *once])
    held.notes.append(f"{PROGRAM}: only those that were run are held, {len(held.names)} of them")
    return held


def _kinds(values: frozenset[str] | None, summary: ValueSummary) -> Iterable[TextKind]:
    """Return the kinds of one session's texts."""
    if values is not None:
        return {text_kind(value) for value in values}
    if summary.hosts:
        return {TextKind.URL}
    clean = summary.clean and "/" in (summary.prefix or "").strip("/")
    return {TextKind.PATH if clean else TextKind.PROSE}


def is_own(values: Sequence[frozenset[str]], again_percent: int = _NAMES_AGAIN) -> bool:
    """Return True if too few sessions brought only values that another brought, too.

    One session alone never makes it so: it would open the argument for the next.
    """
    counts = support(values)
    alone = sum(any(counts[value] == 1 for value in each) for each in values)
    return alone > 1 and 100 * alone > (100 - again_percent) * len(values)


def names_hosts(summaries: Iterable[ValueSummary]) -> bool:
    """Return True if an argument names hosts: URLs, with or without a scheme, in most sessions."""
    sites = (TextKind.URL, TextKind.SITE)
    found = [
        bool(summary.hosts)
        or any(
            isinstance(value, str) and text_kind(value) in sites
            for value in (*(summary.values or ()), *(summary.elements or ()))
        )
        for summary in summaries
    ]
    return any(found) and 2 * sum(found) >= len(found)


def _often(values: Sequence[Iterable[str]], rules: Rules) -> tuple[list[str], list[str]]:
    """Return texts that enough sessions brought, most frequent first, and the others."""
    counts = support(values)
    ranked = sorted(counts, key=lambda text: (-counts[text], str(text)))
    often = [str(text) for text in ranked if counts[text] >= rules.least]
    return often, [str(text) for text in ranked if counts[text] < rules.least]


def _hold_names(held: TextHold, values: Sequence[frozenset[str]], rules: Rules) -> None:
    names, once = _often(values, rules)
    # Few sessions don't prove that names differ: a list that is too short asks, an open argument does not.
    own = len(values) >= ENOUGH_SESSIONS and is_own(values)
    if len(names) <= rules.names and not own:
        held.names = sorted(names)
        held.once += once
        return
    for families, slot in ((domain_of, "domains"), (stem_of, "stems")):
        parts, _ = _often([{families(value) for value in each} - {""} for each in values], rules)
        covered = sum(all(families(value) in parts for value in each) for each in values)
        if parts and len(parts) <= _MAX_FAMILIES and 10 * covered >= 9 * len(values):
            setattr(held, slot, sorted(parts))
            held.notes.append(f"{_too_varied(rules, own=own)}: only {', '.join(sorted(parts))} is held")
            return
    held.open_why = _too_varied(rules, own=own)


def _too_varied(rules: Rules, *, own: bool) -> str:
    if own:
        return "names that differ in every session"
    return f"more than {rules.names} names" if rules.names else "no room for its names"


def _hold_folders(
    held: TextHold, values: Sequence[frozenset[str]], summaries: Sequence[ValueSummary], rules: Rules
) -> None:
    folders = [{folder_of(value) for value in each} for each in values]
    folders += [{folder_of(s.prefix)} for s in summaries if s.values is None and s.clean and s.prefix]
    often, once = _often([each for each in folders if each], rules)
    tops = [folder for folder in often if not any(_is_below(folder, other) for other in often)]
    if len(tops) > MAX_FOLDERS:
        tops = sorted({_top(folder) for folder in tops} - {""})
    held.folders = _with_room(held, tops, MAX_FOLDERS, "folders")
    held.once += once


def _with_room(held: TextHold, texts: Sequence[str], most: int, word: str) -> list[str]:
    """Return the first ``most`` of texts, sorted; the others are named in a note."""
    if len(texts) > most:
        held.notes.append(f"only {most} {word} are held, not {', '.join(sorted(texts[most:]))}")
    return sorted(texts[:most])


def _is_below(folder: str, other: str) -> bool:
    return folder != other and folder.startswith(f"{other}/")


def _top(folder: str) -> str:
    head = folder.lstrip("/").partition("/")[0]
    return f"/{head}" if folder.startswith("/") else head


def _hold_hosts(
    held: TextHold,
    by_kind: dict[TextKind, list[frozenset[str]]],
    summaries: Sequence[ValueSummary],
    rules: Rules,
) -> None:
    hosts = [frozenset(map(host_of, each)) for each in by_kind.get(TextKind.URL, [])]
    hosts += [summary.hosts for summary in summaries if summary.values is None and summary.hosts]
    often, once = _often([each for each in hosts if each], rules)
    held.hosts = _with_room(held, often, MAX_HOSTS, "hosts")
    sites, others = _often([{site_of(v) for v in each} for each in by_kind.get(TextKind.SITE, [])], rules)
    held.stems += _with_room(held, sites, MAX_HOSTS, "hosts")
    held.once += [*once, *others]
