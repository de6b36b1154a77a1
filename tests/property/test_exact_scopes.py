"""Every change of an argument of a call is denied by the exact scope that was made from the call."""

from __future__ import annotations

import os
from collections import Counter
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from sessauth._fast import _codec as codec
from sessauth.conformance.vocabulary import Spelled, render
from sessauth.scopes.scope import Scope
from sessauth.usage.profile import CEILING, GrantLayer
from sessauth.usage.session_usage import SessionUsage
from sessauth.usage.suggest import suggest
from sessauth.usage.tighten import Fit
from tests.oracle.canonical import NoForm, form
from tests.oracle.json_values import parse_object
from tests.support.cases import CASES

SEED = int(os.environ.get("SESSAUTH_SEED", "1"))
GRANT = Scope.parse("pay:x")
NAMES = ("a", "b", "to", "items", "note", "\u00e9", "a.b", "[]", "x y", "no", "_", "args")
TEXTS = (
    "",
    "a",
    "ann@example.org",
    "src/a.py",
    "https://a.example/x",
    "null",
    "1",
    "x" * 300,
    "y" * 1100,
    "\u202e",
)
NUMBERS = ("0", "1", "1.0", "-3", "48.858370148123", "1e300", "5e-324", "0.1", "9223372036854775808", "100")


def value(rng: Random, depth: int = 0) -> Any:
    """Return a JSON value of any shape; numbers keep their spelling."""
    roll = rng.random()
    if depth < 4 and roll < 0.2:
        return [value(rng, depth + 1) for _ in range(rng.choice((0, 1, 1, 2, 3)))]
    if depth < 4 and roll < 0.45:
        return {rng.choice(NAMES): value(rng, depth + 1) for _ in range(rng.choice((0, 1, 2, 2, 3)))}
    if roll < 0.7:
        return rng.choice(TEXTS)
    if roll < 0.88:
        return Spelled(rng.choice(NUMBERS))
    return rng.choice((True, False, None))


def changed(rng: Random, given: Any) -> Any:
    """Return a value that differs in one place: in a value, a name, an order, or by one more or less."""
    if isinstance(given, dict) and given and rng.random() < 0.85:
        name = rng.choice(list(given))
        roll = rng.random()
        if roll < 0.15:
            return {other: each for other, each in given.items() if other != name}
        if roll < 0.3:
            return {**given, rng.choice(("zz", "", "a", "x" * 1025, *NAMES)): value(rng, 2)}
        if roll < 0.4:
            return {(other + "x" if other == name else other): each for other, each in given.items()}
        return {**given, name: changed(rng, given[name])}
    if isinstance(given, list) and given and rng.random() < 0.85:
        at = rng.randrange(len(given))
        choices = (
            [*given[:at], changed(rng, given[at]), *given[at + 1 :]],
            given[:at] + given[at + 1 :],
            [*given, rng.choice(given)],
            given[::-1],
            [*given, value(rng, 3)],
        )
        return rng.choice(choices)
    if isinstance(given, Spelled) and rng.random() < 0.6:
        return Spelled(str(Decimal(given) + rng.choice((Decimal("1e-13"), 1, -1))).lower())
    if isinstance(given, str) and rng.random() < 0.6:
        return rng.choice((given + "x", given[:-1], given.upper(), " " + given))
    return rng.choice((value(rng, 3), [given], {"a": given}, None, [], {}))


def respelled(rng: Random, given: Any) -> Any:
    """Return the same values, with members in another order and other spellings of numbers."""
    if isinstance(given, dict):
        return {name: respelled(rng, given[name]) for name in rng.sample(list(given), len(given))}
    if isinstance(given, list):
        return [respelled(rng, each) for each in given]
    return Spelled(f"{given}e0") if isinstance(given, Spelled) and "e" not in given else given


def form_of(text: str) -> str | None:
    """Return the equality form of arguments by the oracle, or None if they have none."""
    try:
        return form(parse_object(text.encode()))
    except NoForm:
        return None


def exact_scopes(text: str) -> list[bytes]:
    """Return the scopes that the exact fit suggests after one call."""
    layer, usage = GrantLayer(CEILING, [GRANT]), SessionUsage()
    data = text.encode()
    usage.observe("pay", "x", data, at_ms=1, matched=layer.matching_positions("pay", "x", data))
    return [scope.encode() for scope in suggest(layer, usage, Fit.EXACT).scopes]


def permits(scopes: list[bytes], text: str) -> bool:
    """Ask the kernel."""
    return any(codec.matches(scope, b"pay", b"x", text.encode())[0] for scope in scopes)


@pytest.mark.timeout(1800)
def test_every_change_of_an_argument_is_denied() -> None:
    """The call itself is permitted, in other spellings too; no change of it is, whatever the shape."""
    seen: Counter[str] = Counter()
    number = 0
    while seen["changes"] < CASES:
        rng = Random(f"{SEED} {number}")
        number += 1
        arguments = {rng.choice(NAMES): value(rng) for _ in range(rng.choice((0, 1, 2, 3, 4)))}
        text = render(rng, arguments)
        scopes = exact_scopes(text)
        assert permits(scopes, text), (SEED, number, text)
        assert permits(scopes, render(rng, respelled(rng, arguments))), (SEED, number, text)
        for _ in range(12):
            other = render(rng, changed(rng, arguments))
            if not other.startswith("{") or form_of(other) == form_of(text):
                continue
            seen["changes"] += 1
            assert not permits(scopes, other), (SEED, number, text, other, scopes)
    assert seen["changes"] >= CASES
