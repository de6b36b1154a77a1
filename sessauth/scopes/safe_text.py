"""Display of untrusted texts for a person to decide by: every character shows.

``scopes.value.quoted`` keeps a terminal from harm. Here a person must also not be misled: no text hides, runs
together, reorders its surroundings, or looks like a line of ours.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any, Final

from ..clock import utc_text
from ..errors import UsageError
from .call_arguments import canonical
from .value import escaped

# Printable by their category, but invisible.
_BLANK: Final = frozenset(
    map(chr, (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, 0x16FE4, 0x1D159))
) | frozenset(map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
# Marks that lie on the character before them; many have no combining class.
_MARKS: Final = frozenset({"Mn", "Me"})
_RIGHT_TO_LEFT: Final = frozenset({"R", "AL", "AN"})
_INDENT: Final = "  "
_WORD: Final = re.compile(r"[^\W\d_]+")
# Scripts with letters that look like those of another one, by the first words of their letters' names.
_ALIKE: Final = frozenset({"LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "CHEROKEE"})


def visible(text: str) -> str:
    """Return ``text`` in double quotes, as JSON, with everything escaped that could mislead a reader.

    These are invisible characters, letters that run from right to left, marks that pile up on others, and the
    third space of a row.
    """
    shown = ['"']
    for place, char in enumerate(text):
        plain = char not in '"\\' and not _misleads(char, text[max(0, place - 2) : place])
        shown.append(char if plain else escaped(char))
    return "".join([*shown, '"'])


def is_plain(text: str) -> bool:
    """Return True if a text may be shown without quotes: nothing of it misleads, and it begins with none."""
    if text.startswith('"') or text != " ".join(text.split()):
        return False
    return not any(_misleads(char, text[max(0, place - 2) : place]) for place, char in enumerate(text))


def mixes_scripts(text: str) -> bool:
    """Return True if a word has letters of several scripts that look alike, as Latin and Cyrillic."""
    return any(len(_scripts(word)) > 1 for word in _WORD.findall(text))


def _scripts(word: str) -> set[str]:
    return {unicodedata.name(char, "").partition(" ")[0] for char in word} & _ALIKE


def _misleads(char: str, before: str) -> bool:
    if char == " ":
        return before == "  "
    if char.isascii():
        return not char.isprintable()
    if _is_mark(char) and (not before or unicodedata.combining(before[-1]) or all(map(_is_mark, before))):
        return True
    # An enclosing mark hides its character.
    encloses = unicodedata.category(char) == "Me"
    return encloses or not char.isprintable() or char in _BLANK or is_right_to_left(char)


def _is_mark(char: str) -> bool:
    return unicodedata.category(char) in _MARKS


def is_right_to_left(text: str) -> bool:
    """Return True if a letter or digit of ``text`` runs from right to left: a screen may reorder it."""
    return any(unicodedata.bidirectional(char) in _RIGHT_TO_LEFT for char in text)


class _Numeral(str):
    """A number of a JSON text, as it was written."""

    __slots__ = ()


def read_arguments(arguments: bytes) -> dict[str, Any]:
    """Return a request's arguments as values; numbers as they were written. Empty is an empty object.

    Raises ValueError if a check would deny them as malformed, so that nothing is shown that another reader
    could take for something else.
    """
    try:
        canonical(arguments)
    except UsageError as error:
        raise ValueError(str(error)) from None
    value: dict[str, Any] = json.loads(arguments or b"{}", parse_int=_Numeral, parse_float=_Numeral)
    return value


def json_lines(value: Any, indent: str = "") -> list[str]:
    """Return a value of :func:`read_arguments` as lines, one member or element each, in their order."""
    if isinstance(value, dict) and value:
        return _nested("{", "}", [(f"{visible(name)}: ", each) for name, each in value.items()], indent)
    if isinstance(value, list) and value:
        return _nested("[", "]", [("", each) for each in value], indent)
    if isinstance(value, _Numeral):
        return [indent + str(value)]
    return [indent + (visible(value) if isinstance(value, str) else json.dumps(value))]


def _nested(left: str, right: str, items: list[tuple[str, Any]], indent: str) -> list[str]:
    lines = [indent + left]
    for place, (name, value) in enumerate(items):
        inner = json_lines(value, indent + _INDENT)
        inner[0] = indent + _INDENT + name + inner[0].lstrip(" ")
        if place < len(items) - 1:
            inner[-1] += ","
        lines += inner
    return [*lines, indent + right]


def texts_in(value: Any) -> list[str]:
    """Return every text of a value of :func:`read_arguments`, names of members too, in their order."""
    if isinstance(value, dict):
        return [text for name, each in value.items() for text in (name, *texts_in(each))]
    if isinstance(value, list):
        return [text for each in value for text in texts_in(each)]
    return [value] if isinstance(value, str) and not isinstance(value, _Numeral) else []


def moment_text(at_ms: int) -> str:
    """Return a time in ms since 1970 as UTC to the second; beyond the year 9999 the number."""
    return utc_text(at_ms, "%Y-%m-%d %H:%M:%S UTC")
