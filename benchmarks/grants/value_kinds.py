"""The kind of an argument, from a value of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sessauth.usage.kinds.holds import TextKind, text_kind

_KINDS: Final[Mapping[TextKind, str]] = {
    TextKind.NAME: "name",
    TextKind.PATH: "path",
    TextKind.SITE: "url",
    TextKind.URL: "url",
    TextKind.LABEL: "label",
    TextKind.DATE: "date",
    TextKind.PROSE: "prose",
}


def kind_of(value: Any) -> str:
    """Return the kind, as :class:`~benchmarks.grants.calls.Argument` has it."""
    if isinstance(value, str):
        return _KINDS[text_kind(value)]
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "objects"
    return "names" if isinstance(value, list) else "prose"
