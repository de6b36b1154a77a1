"""Among many sessions that agree, one that differs in a single place frees nothing for the next."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from tests.support.kinds import layer_of, learnt_from, observed, permits, send

CASES = 400
NAMES = ("to", "items", "cc", "meta", "a.b", "x y")
VALUES = ("ana", "ben", "main", "acme/web", "src/a.py")
OTHERS = ("mallory", "etc/x.py", None, 7, True, ["mallory"], {"to": "mallory"}, [{"to": "mallory"}], {})


def value(rng: Random, depth: int = 0) -> Any:
    """Return names, in objects and lists, all of which the fit can hold."""
    roll = rng.random()
    if depth < 3 and roll < 0.25:
        one = value(rng, depth + 1)
        return [one, *([one] if rng.random() < 0.5 else [])]
    if depth < 3 and roll < 0.6:
        return {name: value(rng, depth + 1) for name in rng.sample(NAMES, rng.choice((1, 2, 3)))}
    return rng.choice(VALUES)


def changed(rng: Random, given: Any) -> Any:
    """Return a value with one value, name, member or element changed, added or left out."""
    if isinstance(given, dict) and rng.random() < 0.85:
        name, roll = rng.choice(list(given)), rng.random()
        if roll < 0.15:
            return {other: each for other, each in given.items() if other != name}
        if roll < 0.3:
            return {**given, rng.choice(("new", "", "x" * 1025)): rng.choice(OTHERS)}
        return {**given, name: changed(rng, given[name])}
    if isinstance(given, list) and rng.random() < 0.85:
        at = rng.randrange(len(given))
        if rng.random() < 0.3:
            return [*given, rng.choice(OTHERS)]
        return [*given[:at], changed(rng, given[at]), *given[at + 1 :]]
    return rng.choice(OTHERS)


def _one_more_or_less(rng: Random, given: dict[str, Any]) -> dict[str, Any]:
    if rng.random() < 0.5:
        return {**given, rng.choice(("new", "")): rng.choice(OTHERS)}
    dropped = rng.choice(list(given))
    return {name: each for name, each in given.items() if name != dropped}


def test_one_session_that_differs_frees_nothing() -> None:
    """The next session may make the call of the others, and not the one that one alone made."""
    rng, tried = Random("one session alone"), Counter[str]()
    for _ in range(CASES):
        honest = {name: value(rng) for name in rng.sample(NAMES, 3)}
        name = rng.choice(list(honest))
        bad = (
            {**honest, name: changed(rng, honest[name])}
            if rng.random() < 0.8
            else _one_more_or_less(rng, honest)
        )
        calls = [honest] * 7
        calls.insert(rng.randrange(8), bad)
        layer = layer_of("write:mcp/** free *")
        sessions = [observed(layer, [send(**each)], f"s{n}") for n, each in enumerate(calls)]
        suggestion = learnt_from(layer, sessions)

        assert permits(suggestion.scopes, send(**honest)), (honest, bad)
        if suggestion.notes:
            # Lists of lists and such, which the agreeing sessions gave as well.
            tried["said to be open"] += 1
            continue
        tried["held"] += 1
        assert not permits(suggestion.scopes, send(**bad)), (honest, bad, suggestion.scopes)
        assert suggestion.once, (honest, bad)
    assert tried["held"] > 0.8 * CASES, tried
