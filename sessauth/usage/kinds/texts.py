"""Kinds of texts: the ones that name something, and the ones that are free writing."""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Final

from ..argument_reader import host_of, is_clean_path

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
    # The root is a name: what is under it is every path.
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
