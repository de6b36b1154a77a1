"""Members of arguments that a tool's schema names.

JSON Schema permits members that it does not name, unless it says otherwise. Definitions of tools mean the
opposite: hardly one closes its schema, and its function takes the arguments that are named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

_BRANCHES: Final = ("allOf", "anyOf", "oneOf")
_REFERENCE: Final = "$ref"
_OPENING: Final = ("additionalProperties", "patternProperties", "unevaluatedProperties")


def has_members(schema: Any, value: Any) -> bool:
    """Return True if a schema names each member of a value, those of objects within it too.

    An object whose schema names no properties, or says that there may be others, may have any.
    """
    return _has(schema, [schema], value)


def _has(root: Any, schemas: Iterable[Any], value: Any) -> bool:
    if not isinstance(value, dict | list):
        return True
    parts = list(_parts(root, schemas))
    if isinstance(value, list):
        return all(_has(root, [_item(part, at) for part in parts], each) for at, each in enumerate(value))
    if any(part.get(name, False) is not False for part in parts for name in _OPENING):
        return True
    named: dict[str, list[Any]] = {}
    for part in parts:
        for name, inner in _object(part.get("properties")).items():
            named.setdefault(name, []).append(inner)
    if not any("properties" in part or "additionalProperties" in part for part in parts):
        return True
    return all(name in named and _has(root, named[name], each) for name, each in value.items())


def _parts(root: Any, schemas: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Iterate over schemas with their branches and the schemas they refer to, each once."""
    waiting, seen = list(schemas), set()
    while waiting:
        schema = waiting.pop()
        if not isinstance(schema, dict) or id(schema) in seen:
            continue
        seen.add(id(schema))
        yield schema
        for branch in _BRANCHES:
            waiting += _listed(schema.get(branch))
        if _REFERENCE in schema:
            waiting.append(_referred(root, schema[_REFERENCE]))


def _referred(root: Any, reference: Any) -> Any:
    """Return the schema at a pointer into the same document (RFC 6901); None for another reference."""
    head, *steps = reference.split("/") if isinstance(reference, str) else [""]
    if head != "#":
        return None
    for step in steps:
        root = _object(root).get(step.replace("~1", "/").replace("~0", "~"))
    return root


def _item(schema: dict[str, Any], at: int) -> Any:
    """Return the schema of the element of a list."""
    first = _listed(schema.get("prefixItems", []))
    return first[at] if at < len(first) else schema.get("items")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
