"""Seeded values for the arguments of a tool, as its JSON schema admits them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Final

WORDS: Final = (
    *("main", "open", "updated", "desc", "src/app.py", "fix the build", "2026-11-01", "crash on start"),
    *("https://example.org/a/b?c=1", "Zürich", "en-GB", "invoice 2291", "alice@example.org", "v2.14.0"),
)
# Arguments that carry a document where the others carry a word, and how many words it has.
LONG: Final = ("body", "content", "code", "html", "markdown", "text")
LONG_WORDS: Final = 80
# Schemas can refer to themselves; a call does not.
DEEPEST: Final = 5


def value(name: str, schema: Mapping[str, Any], source: random.Random, depth: int = 0) -> Any:
    """Return a value for the argument ``name`` that ``schema`` admits, drawn from ``source``.

    Of alternatives the first that is not null is taken. What has no schema, or lies too deep, is a text.
    """
    if schema.get("enum"):
        return source.choice(schema["enum"])
    alternatives = schema.get("anyOf") or schema.get("oneOf")
    if alternatives:
        real = [each for each in alternatives if each.get("type") != "null"]
        return value(name, real[0], source, depth) if real else None
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    if depth < DEEPEST and kind == "array":
        items = schema.get("items") or {}
        return [value(name, items, source, depth + 1) for _ in range(source.randint(1, 3))]
    if depth < DEEPEST and kind == "object":
        inner = schema.get("properties") or {}
        return {each: value(each, inner[each], source, depth + 1) for each in inner}
    return _scalar(name, kind, source)


def _scalar(name: str, kind: object, source: random.Random) -> Any:
    if kind == "integer":
        return source.randrange(1, 100)
    if kind == "number":
        return source.randrange(1, 4000) / 4
    if kind == "boolean":
        return source.random() < 0.5
    if kind == "null":
        return None
    if name.lower() in LONG:
        return " ".join(source.choices(WORDS, k=LONG_WORDS))
    return source.choice(WORDS)
