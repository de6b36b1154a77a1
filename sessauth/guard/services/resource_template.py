"""Resources with places for the values of a call: ``orders/{order_id}``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ...errors import UsageError

# A place is a whole segment, so that no value can end its segment or begin another.
_PLACE: Final = re.compile(r"\{([A-Za-z_][\w]*(?:\.[A-Za-z_][\w]*)*)(\*?)\}", re.ASCII)


class ResourceTemplate:
    """A resource whose segments may be places: ``{name}`` is one segment, ``{name*}`` one or more.

    A name with dots reads a member of an object: ``{order.id}``.
    """

    __slots__ = ("_parts", "text")

    def __init__(self, text: str) -> None:
        """Read a template.

        Raises:
            UsageError: for an empty segment, or a brace that is not the end of a place.
        """
        self.text = text
        self._parts: list[tuple[str, tuple[str, ...], bool]] = []
        for segment in text.split("/"):
            place = _PLACE.fullmatch(segment)
            if place is not None:
                self._parts.append(("", tuple(place[1].split(".")), bool(place[2])))
            elif not segment or "{" in segment or "}" in segment:
                raise UsageError(f"{text!a}: a resource has no empty segment, and a place is a whole segment")
            else:
                self._parts.append((segment, (), False))

    def fill(self, values: Mapping[str, Any]) -> str:
        """Return the resource with ``values`` in its places.

        Raises:
            UsageError: for a value that is missing, is no text and no whole number, or would be more than
                its place.
        """
        return "/".join(
            literal or self._value(values, path, several) for literal, path, several in self._parts
        )

    def _value(self, values: Mapping[str, Any], path: tuple[str, ...], several: bool) -> str:
        value: Any = values
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        name = ".".join(path)
        if not isinstance(value, str):
            raise UsageError(f"{self.text}: the call has no {name} that can be part of a resource")
        segments = value.split("/")
        if (len(segments) > 1 and not several) or not all(map(_is_segment, segments)):
            raise UsageError(f"{self.text}: {name} can't stand in a resource")
        return value

    def __repr__(self) -> str:
        """Show the text."""
        return f"ResourceTemplate({self.text!r})"


def _is_segment(text: str) -> bool:
    """Return True unless the segment is empty or a step in a path. The check refuses other characters."""
    return text not in ("", ".", "..")
