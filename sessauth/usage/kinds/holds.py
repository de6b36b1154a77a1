"""Holds: the conditions on one argument, by the kind of its values, as far as sessions agree on them.

:func:`hold` returns the ways to hold the argument at a :class:`Place`; a call must fit one of them. The file
has the parts in this order:

- the ways of an argument, and the paths that stay open (:class:`Way`, :class:`ArgumentHold`);
- kinds of texts: those that name something (a name, a path, a URL), and free writing, which is not held;
- the names, folders and hosts that texts are held to, and programs word for word;
- numbers: the range that enough sessions reached;
- lists: their scalars, or the members of the objects in them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import IntEnum
from typing import Final

from ...scopes.parts import Accessor, Operator, Path
from ...scopes.scope import Condition
from ...scopes.value import Exact, Json, Number, Operand, Value, operands_of
from ..argument_reader import ELEMENT, host_of, is_clean_path, scope_path
from ..argument_reader import Path as Names
from ..tighten import ArgumentTree, outward
from ..value_summary import PROGRAM, ValueSummary, is_language, ordered
from .observed import ENOUGH_SESSIONS, ToolEvidence, support

Once = tuple[Names, Operand | None]
"""A value that too few sessions brought, with its path; None: all that is there."""


@dataclass(frozen=True, slots=True)
class Way:
    """Conditions that must hold together, and paths that stay open; ``required`` ones must be given."""

    conditions: tuple[Condition, ...] = ()
    free: tuple[Path, ...] = ()
    required: tuple[Path, ...] = ()

    def then(self, other: Way) -> Way:
        """Return both together."""
        return Way(
            (*self.conditions, *other.conditions),
            (*self.free, *other.free),
            (*self.required, *other.required),
        )


@dataclass(slots=True)
class ArgumentHold:
    """Ways to hold one argument.

    ``notes``: paths that are not held, and why. ``once``: values of too few sessions, which are left out.
    """

    names: Names
    ways: list[Way] = field(default_factory=list)
    notes: list[tuple[Path, str]] = field(default_factory=list)
    once: list[Once] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """Its path, as conditions have it."""
        return scope_path(self.names)

    def hold(self, *conditions: Condition) -> None:
        """Add a way of conditions."""
        self.ways.append(Way(conditions))

    def leave_open(self, why: str, *, required: bool) -> None:
        """Add the way that holds nothing, with its reason."""
        self.ways.append(Way((), (self.path,), (self.path,) if required else ()))
        self.notes.append((self.path, why))


MAX_NAME_BYTES: Final = 64
_SITE: Final = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}/\S*", re.I)
# Dates, times, and both: 2024-05-21, 21.5.2024, 2024-05-21T10:00:00Z, 10:30.
_DATE: Final = re.compile(
    r"(?:\d{4}-\d{1,2}(?:-\d{1,2})?|\d{1,4}[./]\d{1,2}[./]\d{1,4})?"
    r"(?:(?:^|[T ])\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?(?: ?(?:Z|UTC|[+-]\d{2}:?\d{2}))?"
)
# The first part of a name, with the mark that ends it: ``credit_card_``, ``#W``.
_STEM: Final = re.compile(r"\W*[^\W\d]+(?:[_.-][^\W\d]+)*[_.:#-]?(?=.)|\W+(?=.)")


class TextKind(IntEnum):
    """Kinds of a text, from the one that is held closest to the one that is not held."""

    NAME = 0
    PATH = 1
    SITE = 2
    URL = 3
    LABEL = 4
    DATE = 5
    PROSE = 6


def text_kind(text: str) -> TextKind:
    """Return the kind of a text.

    A name has no white space and at most 64 bytes: an address, an account, an id, a channel. A label is one
    line with spaces, of at most 64 bytes.
    """
    if host_of(text):
        return TextKind.URL
    if text and _DATE.fullmatch(text):
        return TextKind.DATE
    spaced = any(char.isspace() for char in text)
    if not spaced and _SITE.fullmatch(text):
        return TextKind.SITE
    if not spaced and _is_path(text):
        return TextKind.PATH
    if len(text.encode()) > MAX_NAME_BYTES or "\n" in text or "\r" in text:
        return TextKind.PROSE
    return TextKind.LABEL if spaced else TextKind.NAME


def _is_path(text: str) -> bool:
    # Two names with a slash between them are one name: acme/web, Europe/Berlin.
    pair = text.count("/") == 1 and not text.startswith("/") and "." not in text.rpartition("/")[2]
    # The root is a name too: every path is below it.
    return "/" in text and text != "/" and not pair and is_clean_path(text)


def site_of(text: str) -> str:
    """Return the host of a URL without a scheme, with the slash that ends it."""
    return text.partition("/")[0] + "/"


def folder_of(text: str) -> str:
    """Return the folder of a clean path; the path itself if that would be the root."""
    return text.rpartition("/")[0] or text


def domain_of(text: str) -> str:
    """Return the domain of an address with its ``@``; "" for another text."""
    at = text.rfind("@")
    return text[at:] if 0 < at < len(text) - 1 else ""


def stem_of(text: str) -> str:
    """Return the beginning that names of one family share, such as ``credit_card_``; "" for none."""
    match = _STEM.match(text)
    return match[0] if match and any(char.isdigit() for char in text[match.end() :]) else ""


MAX_NAMES: Final = 24
MAX_FOLDERS: Final = 8
MAX_HOSTS: Final = 8
_MAX_FAMILIES: Final = 4
# The share of sessions, in percent, whose values came again elsewhere: below it an argument is not listed.
# A model may choose other words as labels, so nearly all of them must have come again.
_NAMES_AGAIN: Final = 50
_LABELS_AGAIN: Final = 90


@dataclass(frozen=True, slots=True)
class Rules:
    """Bounds of evidence.

    ``least``: sessions that must have brought a value that stays free. ``proves``: sessions from which on one
    value counts as constant, and labels as words. ``names``: values of one argument that are listed.
    ``bare``: of a tool that changes something no argument is held, since there is no space.
    """

    least: int = 1
    proves: int = 3
    names: int = MAX_NAMES
    bare: bool = False


@dataclass(slots=True)
class TextHold:
    """Texts to hold an argument to. ``open_why``: it is left open.

    ``notes``: it is held, but widely, or some of what sessions share found no space. ``once``: texts that too
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
    """Return the hold of texts; ``values``: of each session, None if there were too many to know."""
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


Range = tuple[Number | Exact, Number | Exact]


def add_texts(
    result: ArgumentHold, names: Names, held: TextHold, conditions: Sequence[Condition], *, required: bool
) -> None:
    """Add the ways of held texts, and their notes."""
    result.once += [(names, text) for text in held.once]
    result.notes += [(result.path, note) for note in held.notes]
    if held.open_why:
        result.leave_open(held.open_why, required=required)
    for condition in conditions:
        result.hold(condition)


def text_conditions(argument: Path, held: TextHold, optional: bool, *, each: bool = False) -> list[Condition]:
    """Return a condition for each way to hold texts."""

    def condition(operator: Operator, values: Sequence[str], accessor: Accessor = Accessor.NONE) -> Condition:
        return Condition(argument, operator, tuple(values), accessor=accessor, each=each, optional=optional)

    ways = []
    # Beside folders a name is one too, if it is a clean path and not the root.
    names = [name for name in held.names if not held.folders or name == "/" or not is_clean_path(name)]
    if held.folders:
        ways.append(condition(Operator.UNDER, sorted({*held.names, *held.folders}.difference(names))))
    if names:
        ways.append(condition(Operator.EQUAL if len(names) == 1 else Operator.IN, names))
    if held.hosts:
        ways.append(condition(Operator.IN, held.hosts, Accessor.HOST))
    if held.stems:
        ways.append(condition(Operator.STARTS_WITH, held.stems))
    if held.domains:
        ways.append(condition(Operator.GLOB, [f"*{domain}" for domain in held.domains]))
    return ways


def held_range(ranges: Sequence[Range], rules: Rules) -> tuple[Range | None, list[Number | Exact]]:
    """Return the range that enough sessions reached, rounded, and the extremes beyond it.

    An extreme that one session alone brought counts only as far as rounding reaches. The range is None if no
    number lies in a range that enough sessions reached, as with two sessions whose numbers differ.
    """
    lows = sorted((low for low, _ in ranges), key=decimal)
    highs = sorted((high for _, high in ranges), key=decimal, reverse=True)
    low, high = outward(lows[rules.least - 1], highs[rules.least - 1])
    if decimal(low) > decimal(high):
        return None, [lows[0], highs[0]]
    return (low, high), [n for n in (lows[0], highs[0]) if not decimal(low) <= decimal(n) <= decimal(high)]


def add_range(
    result: ArgumentHold, argument: Path, ranges: Sequence[Range], rules: Rules, *, optional: bool, each: bool
) -> None:
    """Add the way of a range, if enough sessions share one."""
    bounds, once = held_range(ranges, rules)
    result.once += [(result.names, number) for number in once]
    if bounds is not None:
        operators = (Operator.GREATER_EQUAL, Operator.LESS_EQUAL)
        result.hold(
            *(
                Condition(argument, operator, (bound,), each=each, optional=optional)
                for operator, bound in zip(operators, bounds, strict=True)
            )
        )


def decimal(number: Number | Exact) -> Decimal:
    """Return a number to compare."""
    return number.to_decimal()


_SEVERAL: Final = "lists of several kinds of elements"


@dataclass(frozen=True, slots=True)
class Place:
    """The place of an argument: the calls, its path, the arguments that sessions share, their facts."""

    tool: ToolEvidence
    path: Names
    tree: ArgumentTree
    facts: Sequence[Mapping[str, Value]]
    rules: Rules

    def at(self, path: Names) -> Place:
        """Return another place of the same calls."""
        return Place(self.tool, path, self.tree, self.facts, self.rules)


Hold = Callable[[Place], ArgumentHold]


def hold_list(
    result: ArgumentHold, place: Place, by_session: Mapping[int, ValueSummary], hold: Hold, *, required: bool
) -> None:
    """Add ways to hold lists: one for lists of scalars, and one for lists of objects or of lists.

    ``by_session`` are the summaries at ``place``, by the number of the session. ``hold`` holds a member of an
    element. ``required``: each call had a list there.
    """
    rules = place.rules
    scalars = [summary.elements for summary in by_session.values() if summary.elements is not None]
    nested = len(by_session) - len(scalars)
    if nested >= rules.least:
        if place.tree.is_hidden(place.path):
            result.leave_open("lists of too many values, or of several kinds", required=required)
            return
        _hold_elements(result, place, hold, required)
        # An empty list is admitted by the way above.
        scalars = [elements for elements in scalars if elements]
    elif nested:
        result.once.append(((*place.path, ELEMENT), None))
    if len(scalars) >= rules.least:
        _hold_scalars(result, place, scalars, required)


def _hold_elements(result: ArgumentHold, place: Place, hold: Hold, required: bool) -> None:
    """Add one way for all elements: there is no "or" for each of them."""
    inside, rules = (*place.path, ELEMENT), place.rules
    kinds = support(summary.kinds for summary in place.tool.at(inside).values())
    often = [kind for kind, sessions in kinds.items() if sessions >= rules.least]
    result.once += [(inside, kind) for kind in kinds if kind not in often]
    if often and place.tree.is_hidden(inside):
        result.leave_open("elements that are not known completely", required=required)
        return
    if often == ["object"] and place.tree.members(inside):
        holds = [hold(place.at(path)) for path in place.tree.members(inside)]
    elif often == ["list"]:
        holds = [hold(place.at(inside))]
    else:
        result.leave_open(_SEVERAL, required=required)
        return
    whole = Way()
    for held in holds:
        result.once += held.once
        result.notes += held.notes
        held.ways = _as_one(held.ways)
        if len(held.ways) > 1:
            held.ways.clear()
            nulls = sum("null" in each.kinds for each in place.tool.at(held.names).values())
            always = place.tool.always(held.names, rules.least) and nulls < rules.least
            held.leave_open("elements of several kinds", required=always)
            result.notes += held.notes[-1:]
        if not held.ways and place.tool.always(held.names, rules.least):
            # No value of a member that every element has is free: neither is the list.
            return
        for way in held.ways:
            whole = whole.then(way)
    if whole != Way():
        result.ways.append(whole)


def _as_one(ways: list[Way]) -> list[Way]:
    """Return one way if all of them list values, such as names and null; else the ways as they are."""
    listing = (Operator.EQUAL, Operator.IN)
    listed = [
        each
        for way in ways
        for each in way.conditions
        if each.operator in listing and not (each.accessor or each.fact)
    ]
    if len(ways) < 2 or any(way.conditions not in [(each,) for each in listed] for way in ways):
        return ways
    values = operands_of(ordered(value for each in listed for value in each.values), equality=True)
    return [Way((replace(listed[0], operator=Operator.IN, values=values),))]


def _hold_scalars(
    result: ArgumentHold, place: Place, elements: Sequence[frozenset[Operand]], required: bool
) -> None:
    """Add a way for lists of texts, of numbers or of truths."""
    argument, rules = scope_path(place.path), place.rules
    optional = not place.tool.always(place.path, rules.least)
    types = support({_kind(value) for value in of_session} for of_session in elements)
    if len([sessions for sessions in types.values() if sessions >= rules.least]) > 1:
        result.leave_open("lists of several types", required=required)
        return
    rare = {value for of_session in elements for value in of_session if types[_kind(value)] < rules.least}
    result.once += [(place.path, value) for value in ordered(rare)]
    texts = [frozenset(v for v in of_session if isinstance(v, str)) for of_session in elements]
    numbers = [[v for v in of_session if isinstance(v, Number | Exact)] for of_session in elements]
    if any(texts):
        filled = [each for each in texts if each]
        run = not place.tool.reads and is_language(place.path, place.tool.at(place.path).values())
        if run:
            held = held_programs(filled, rules)
        else:
            held = held_texts(filled, [ValueSummary() for _ in filled], rules)
        if held.names and not (held.folders or held.hosts or held.stems or held.domains):
            conditions = [Condition(argument, Operator.SUBSET_OF, tuple(held.names), optional=optional)]
        else:
            conditions = text_conditions(argument, held, optional, each=True)
        if len(conditions) > 1:
            # One condition holds for all elements of a list: there is no "or" for each of them.
            result.leave_open("lists of several kinds of texts", required=required)
            conditions = []
        add_texts(result, place.path, held, conditions, required=required)
    elif any(numbers):
        ranges = [(min(each, key=decimal), max(each, key=decimal)) for each in numbers if each]
        if len(ranges) >= rules.least:
            add_range(result, argument, ranges, rules, optional=optional, each=True)
    elif any(elements):
        result.hold(Condition(argument, Operator.SUBSET_OF, (False, True), optional=optional))
    else:
        empty = (Number(0),)
        result.hold(Condition(argument, Operator.EQUAL, empty, accessor=Accessor.COUNT, optional=optional))


def _kind(value: object) -> str:
    return Number.__name__ if isinstance(value, Exact) else type(value).__name__


_SCALARS: Final = ("text", "number", "truth")
_NULL: Final = Json("null")


def hold(place: Place) -> ArgumentHold:
    """Return the ways to hold the argument at a place; an object's members are held at their own paths."""
    tool, path, rules = place.tool, place.path, place.rules
    argument, by_session, optional = scope_path(path), tool.at(path), not tool.always(path, rules.least)
    result = ArgumentHold(path)
    if len(by_session) < rules.least:
        result.once.append((path, None))
        return result
    fact = _fact(by_session, place.facts)
    if fact:
        result.hold(Condition(argument, Operator.EQUAL, fact=fact, optional=optional))
        return result
    kinds = support(summary.kinds for summary in by_session.values())
    # `present` does not hold for null, so where null was given nothing must be.
    required = not optional and kinds.get("null", 0) < rules.least
    for kind in [kind for kind, sessions in kinds.items() if sessions >= rules.least]:
        of_kind = {n: summary for n, summary in by_session.items() if kind in summary.kinds}
        if kind == "text":
            texts = [_text_values(summary) for summary in of_kind.values()]
            summaries = list(of_kind.values())
            run = not tool.reads and is_language(path, summaries)
            held = held_programs(texts, rules) if run else held_texts(texts, summaries, rules)
            if run and None in texts:
                result.once.append((path, None))
            add_texts(result, path, held, text_conditions(argument, held, optional), required=required)
        elif kind == "number":
            _numbers(result, argument, of_kind, rules, optional)
        elif kind == "truth":
            result.hold(Condition(argument, Operator.IN, (False, True), optional=optional))
        elif kind == "list":
            hold_list(result, place, of_kind, hold, required=required)
        elif kind == "null":
            result.hold(Condition(argument, Operator.EQUAL, (_NULL,), optional=optional))
        else:
            why = "a number that no condition can hold" if kind == "other" else "an object"
            result.leave_open(why, required=required)
    result.once += [(path, kind) for kind, sessions in kinds.items() if sessions < rules.least]
    return result


def _text_values(summary: ValueSummary) -> frozenset[str] | None:
    """Return the texts; None if some of them are not known, such as long ones."""
    if summary.values is None or any(map(_is_long_text, summary.values)):
        return None
    return frozenset(value for value in summary.values if isinstance(value, str))


def _is_long_text(value: Operand) -> bool:
    # A digest can be that of a list or an object, too: then the texts beside it count as unknown.
    return isinstance(value, Json) and (not value.form or value.form.startswith('"'))


def _numbers(
    result: ArgumentHold, argument: Path, by_session: Mapping[int, ValueSummary], rules: Rules, optional: bool
) -> None:
    ranges = [(s.low, s.high) for s in by_session.values() if s.low is not None and s.high is not None]
    if len(ranges) < rules.least:
        return
    if len({bound for bounds in ranges for bound in bounds}) == 1 and len(ranges) >= rules.proves:
        result.hold(Condition(argument, Operator.EQUAL, ranges[0][:1], optional=optional))
        return
    add_range(result, argument, ranges, rules, optional=optional, each=False)


def _fact(by_session: Mapping[int, ValueSummary], facts: Sequence[Mapping[str, Value]]) -> str:
    """Return the session fact that the argument was equal to in each session, if its values differ."""
    values = {n: summary.values for n, summary in by_session.items()}
    if len(by_session) < 2 or any(len(v or ()) != 1 for v in values.values()):
        return ""
    if any(set(summary.kinds) - set(_SCALARS) for summary in by_session.values()):
        return ""
    single = {n: next(iter(v or ())) for n, v in values.items()}
    if len(set(single.values())) < 2:
        return ""
    names = sorted(set.intersection(*(set(facts[n]) for n in single)))
    return next((name for name in names if all(facts[n][name] == v for n, v in single.items())), "")
