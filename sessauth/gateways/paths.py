"""Paths and queries of plain HTTP APIs: read in one way, or refused."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Final
from urllib.parse import unquote_to_bytes

from .._fast._check import canonical, require_distinct_names
from .._fast.codec.errors import FormError
from ..errors import UsageError
from ..guard.services.routes import MARK
from ..limits import MAX_RESOURCE_BYTES, MAX_SEGMENTS
from ..scopes.scope import Scope
from .arguments import of_values
from .mapped import Fault, Refused

# Segments without an escape: those that RFC 3986 permits, but for `;` and `*`. None begins with a dot.
_PLAIN: Final = re.compile(r"(?:/[A-Za-z0-9_~!$&'()+,=:@-][A-Za-z0-9._~!$&'()+,=:@-]*)+")
_SEGMENT: Final = re.compile(r"(?:[A-Za-z0-9._~!$&'()+,=:@-]|%[0-9A-Fa-f]{2})+")
# Characters that a server may take for the end of a segment, or for another escape.
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f/\\%;?#*]")
_QUERY_NAME: Final = re.compile(r"[A-Za-z0-9_$-]+")
_QUERY_VALUE: Final = re.compile(r"(?:[A-Za-z0-9._~!$'()*,:@/?=-]|%[0-9A-Fa-f]{2})*")
# Each byte may be written as an escape.
_MAX_RAW_BYTES: Final = 3 * MAX_RESOURCE_BYTES
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
# Some servers and frameworks take their value for the request's method. In JSON it is a member at any depth.
_OVERRIDES: Final = frozenset({"_method", "x-http-method-override", "x-http-method", "x-method-override"})
_OVERRIDE: Final = re.compile(rb'"_method":', re.IGNORECASE)
_MARKED: Final = b'"?'


def path_of(raw: str) -> str | None:
    """Return a path, decoded once; None for one that readers decode or normalise differently, or too long."""
    # No resource is longer, and a stranger's path is read before the token is.
    if len(raw) > _MAX_RAW_BYTES or raw.count("/") > MAX_SEGMENTS:
        return None
    if _PLAIN.fullmatch(raw) or raw == "/":
        return raw
    segments = []
    for part in raw.split("/"):
        if part and not _SEGMENT.fullmatch(part):
            return None
        try:
            segments.append(unquote_to_bytes(part).decode())
        except UnicodeDecodeError:
            return None
    first, *rest = segments
    if first or not rest or not all(rest):
        return None
    return None if any(map(_is_unsafe, rest)) else "/".join(segments)


def _is_unsafe(segment: str) -> bool:
    """Return True for a segment that a server may take for several, or for none."""
    # Some servers take a character for its compatible one: U+FF0F for a slash.
    for form in (segment, "" if segment.isascii() else unicodedata.normalize("NFKC", segment)):
        if form in (".", "..") or _UNSAFE.search(form):
            return True
    return False


def resource_of(base: str, path: str) -> str:
    """Return the resource of a decoded path below ``base``."""
    return base if path == "/" else base + path


def is_resource(text: str) -> bool:
    """Return True if ``text`` can be a resource."""
    try:
        Scope.on("read", *text.split("/"))
    except UsageError:
        return False
    return True


def query_of(query: str | None, body: bytes, *, bare: bool) -> bytes:
    """Return the arguments of a call in their canonical form: the query's names, and the body's members.

    A value of the query is a text. Its name begins with ``?`` unless the method is one whose servers read no
    body: which place an upstream takes a name from is not known here. Raises Refused, also for a name that
    both have.
    """
    try:
        pairs = _pairs(query) if query else {}
        arguments = canonical(pairs if bare else {MARK + name: value for name, value in pairs.items()})
        if not body:
            return arguments
        members = canonical(body)
        require_distinct_names(members)
        if _OVERRIDE.search(members):
            raise Refused(Fault.BODY_FORM, "a member that some servers take for the method")
        if members == b"{}":
            return arguments
        if not pairs and _MARKED not in members:
            return of_values(members)
        # A number may have more digits than Python reads.
        of_body = list(json.loads(members, parse_int=float))
        if any(name.startswith(MARK) for name in of_body):
            raise Refused(Fault.BODY_FORM, "a member with the name of an argument of the query")
        if not pairs:
            return of_values(members)
        names = [*pairs, *of_body]
        if len({name.casefold() for name in names}) < len(names):
            raise Refused(Fault.QUERY_FORM, "a name that the body has too")
        return of_values(canonical(arguments[:-1] + b"," + members[1:]))
    except FormError as error:
        raise Refused(Fault.BODY_FORM, error.detail) from None


def _pairs(query: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    folded = set()
    for part in query.split("&"):
        name, mark, value = part.partition("=")
        if not mark or not _QUERY_NAME.fullmatch(name) or not _QUERY_VALUE.fullmatch(value):
            raise Refused(Fault.QUERY_FORM, "a pair that is not name=value in plain characters")
        # Some servers ignore the case of names.
        if name.casefold() in folded:
            raise Refused(Fault.QUERY_FORM, "a name that is there twice")
        folded.add(name.casefold())
        if name.casefold() in _OVERRIDES:
            raise Refused(Fault.QUERY_FORM, "a name that some servers take for the method")
        try:
            text = unquote_to_bytes(value).decode()
        except UnicodeDecodeError:
            raise Refused(Fault.QUERY_FORM, "a value that is not UTF-8") from None
        if _CONTROL.search(text):
            raise Refused(Fault.QUERY_FORM, "a control character")
        pairs[name] = text
    return pairs
