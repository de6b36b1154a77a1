"""Small vocabularies, so that random scopes, conditions and arguments match often."""

from __future__ import annotations

import json
from random import Random
from typing import Any, Final

ACTIONS: Final = ("read", "write", "list", "a.b-c_d")
SEGMENTS: Final = ("files", "logs", "a", "ab", "a.txt", "x y", "\u00e9")
FACTS: Final = {"case": '"C-7"', "level": "2", "home": '"/srv/data"', "open": "true", "hidden": '"h"'}
_NAMES: Final = ("a", "b", "owner", "session", "a.b", "\u00e9")
_TEXTS: Final = (
    *("", "a", "ab", "b", "C-7", "\u00e9", "e\u0301", "\U00010000"),
    *("\uffff", "a/b", "/srv/data", "/srv/data/x"),
    *("/srv/database", "/", "a//b", "../a", "a*b", "src/x.txt", "10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1"),
    *("10.0.0.01", "https://Acme.example/x", "http://10.0.0.1:8080/", "http://[::1]:80/?q", "HTTP://x_y.z:0"),
    *("https://u@acme.example/", "ftp://acme.example", "http://acme.example:99999/", "https://a..b/", "%2e"),
)
_NUMBERS: Final = (
    *("0", "-0", "1", "1.0", "10e-1", "2", "-1", "-1.5", "0.000000001", "1e-10", "1e300", "100", "1E2"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775808.5"),
    *("48.858370148123", "-1e-10", "1e1000000000"),
)
_GLOBS: Final = ("*", "**", "a*", "*b", "a/*", "a/**", "src/**", "/srv/*", "*a*b*", "C-*")
_CIDRS: Final = ("10.0.0.0/8", "0.0.0.0/0", "10.0.0.1/32", "2001:db8::/32", "::/0", "11.0.0.0/8")
_PATHS: Final = ("/", "/srv", "/srv/data", "a", "a/b", "src/x.txt")
_HOSTS: Final = ('"acme.example"', '"10.0.0.1"', '"::1"', '"x_y.z"')


class Spelled(str):
    """A JSON number in its spelling."""

    __slots__ = ()


def tree(rng: Random, depth: int = 0) -> Any:
    """Return a random JSON value; numbers keep their spelling."""
    roll = rng.random()
    if roll < 0.45:
        return rng.choice(_TEXTS)
    if roll < 0.7:
        return Spelled(rng.choice(_NUMBERS))
    if roll < 0.8:
        return rng.random() < 0.5
    if roll < 0.83:
        return None
    if depth >= 2:
        return []
    if roll < 0.92:
        return [tree(rng, depth + 1) for _ in range(rng.randint(0, 3))]
    return members(rng, depth + 1)


def members(rng: Random, depth: int = 0) -> dict[str, Any]:
    """Return a random JSON object."""
    return {rng.choice(_NAMES): tree(rng, depth) for _ in range(rng.choice((0, 1, 1, 2, 2, 3)))}


def render(rng: Random, value: Any) -> str:
    """Return the JSON text of a tree, now and then with white space and escapes."""
    if isinstance(value, Spelled):
        return str(value)
    if isinstance(value, dict):
        items = [f"{render(rng, name)}:{render(rng, each)}" for name, each in value.items()]
        return "{" + (" ,\n" if rng.random() < 0.1 else ",").join(items) + "}"
    if isinstance(value, list):
        return "[" + ",".join(render(rng, each) for each in value) + "]"
    return json.dumps(value, ensure_ascii=rng.random() < 0.3)


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _value(rng: Random, near: Any) -> str:
    """Return a value in scope text, often ``near``."""
    if rng.random() < 0.6:
        if isinstance(near, bool):
            return "true" if near else "false"
        if isinstance(near, Spelled) and len(near) < 9 and near not in ("1e-10", "1e300"):
            return str(near)
        if isinstance(near, str) and not isinstance(near, Spelled):
            return _quote(near)
    return rng.choice(
        (_quote(rng.choice(_TEXTS)), rng.choice(("0", "1", "2", "100", "0.5")), "true", "false")
    )


def _list(rng: Random, items: tuple[str, ...] | list[str]) -> str:
    return "[" + ", ".join(rng.sample(items, rng.randint(1, min(3, len(items))))) + "]"


def condition(rng: Random, arguments: dict[str, Any]) -> str:
    """Return the text of a condition, which may hold for the arguments, or break a rule of the format."""
    name = rng.choice(list(arguments) or ["a"])
    value, path = arguments.get(name), _quote(name)
    while isinstance(value, dict) and value and rng.random() < 0.7:
        name = rng.choice(list(value))
        value, path = value[name], f"{path}.{_quote(name)}"
    if rng.random() < 0.15:
        path = rng.choice(
            ("session.case", "session.level", "session.hidden", "session.none", "tool.safe", "zzz")
        )
    if rng.random() < 0.15:
        return f"{path} {rng.choice(('present', 'absent'))}"
    term = path + ("?" if rng.random() < 0.2 else "")
    if isinstance(value, list | dict | None) and rng.random() < 0.25:
        return f"{term} {rng.choice(('==', '!='))} {render(rng, value)}"
    if isinstance(value, list) and rng.random() < 0.3:
        return _of_elements(rng, path, value)
    if isinstance(value, list) and rng.random() < 0.7:
        if rng.random() < 0.3:
            return f"{path} subset_of {_list(rng, list({_value(rng, each): 0 for each in [*value, 'a']}))}"
        if rng.random() < 0.4:
            return f"count({term}) {rng.choice(('==', '<=', '>', '!='))} {rng.randint(0, 3)}"
        term, value = f"{rng.choice(('each', 'any'))}({term})", value[0] if value else "a"
    if isinstance(value, str) and not isinstance(value, Spelled) and rng.random() < 0.5:
        return _text_condition(rng, term, value)
    operand = _value(rng, value)
    if rng.random() < 0.15:
        operand = f"session.{rng.choice(list(FACTS))}"
    if rng.random() < 0.3 and not operand.startswith("session."):
        return (
            f"{term} {rng.choice(('in', 'not in'))} {_list(rng, list({operand: 0, _value(rng, value): 0}))}"
        )
    return f"{term} {rng.choice(('==', '!=', '==', '<', '<=', '>', '>='))} {operand}"


def _of_elements(rng: Random, path: str, elements: list[Any]) -> str:
    """Return the text of a condition on each element of a list, or on a member of each."""
    element, path = rng.choice(elements) if elements else None, f"{path}[]"
    if isinstance(element, dict) and element:
        name = rng.choice(list(element))
        element, path = element[name], f"{path}.{_quote(name)}"
    if rng.random() < 0.2:
        return f"{path} {rng.choice(('present', 'absent'))}"
    operands = list(dict.fromkeys((_value(rng, element), _value(rng, element), "null")))
    return f"{path}{rng.choice(('', '', '?'))} {rng.choice(('in', 'not in'))} {_list(rng, operands)}"


def _text_condition(rng: Random, term: str, value: str) -> str:
    roll = rng.randrange(7)
    no = rng.choice(("", "", "not "))
    if roll == 0:
        return f"{term} {no}starts_with {_list(rng, [_quote(value[:1]), _quote('/srv')])}"
    if roll == 1:
        return f"{term} {no}glob {_list(rng, [_quote(each) for each in _GLOBS])}"
    if roll == 2:
        return f"{term} {no}under {_list(rng, [_quote(each) for each in _PATHS])}"
    if roll == 3:
        return f"{term} {no}cidr {_list(rng, [_quote(each) for each in _CIDRS])}"
    inner = term.removeprefix("each(").removeprefix("any(").rstrip(")")
    wrapped = "{}" if inner == term else term[: term.index("(")] + "({})"
    if roll == 4:
        return f"{wrapped.format(f'host({inner})')} in {_list(rng, _HOSTS)}"
    of_url = (
        'scheme({}) == "https"',
        "port({}) >= 80",
        "port({}) in [80, 443]",
        'path({}) under ["/srv", "/x"]',
    )
    of_text = ('domain({}) == "acme.example"', f"length({{}}) <= {len(value)}", "length({}) > 2")
    operand = rng.choice(of_url if roll == 5 else of_text).split(" ", 1)
    return f"{wrapped.format(operand[0].format(inner))} {operand[1]}"


def pattern(rng: Random, segments: tuple[str, ...]) -> str:
    """Return the text of a resource pattern that very likely matches the segments."""
    parts: list[str] = []
    for text in segments:
        roll = rng.random()
        if roll < 0.15:
            return "/".join([*parts, "**"])
        if roll < 0.3:
            parts.append("*")
        elif roll < 0.4:
            parts.append(_quote(text[:1]) + "*")
        elif roll < 0.5:
            parts.append("{" + ",".join(map(_quote, dict.fromkeys((text, rng.choice(SEGMENTS), "z")))) + "}")
        else:
            parts.append(_quote(text if rng.random() < 0.97 else rng.choice(SEGMENTS)))
    return "/".join(parts)


def scope(rng: Random, action: str, segments: tuple[str, ...], arguments: dict[str, Any]) -> str:
    """Return the text of a scope that may well permit the call."""
    actions = rng.choice(("*", action, f"{action},other", action, rng.choice(ACTIONS)))
    text = f"{actions}:{pattern(rng, segments)}"
    conditions = [condition(rng, arguments) for _ in range(rng.choice((0, 0, 1, 1, 2)))]
    if conditions:
        text += " where " + " and ".join(conditions)
    roll = rng.random()
    if roll < 0.5:
        text += " free *"
    elif roll < 0.85 and arguments:
        text += " free " + ", ".join(map(_quote, arguments if roll < 0.8 else list(arguments)[1:] or ["zz"]))
    if rng.random() < 0.04:
        text += rng.choice((" needs uses(2)", ' needs budget("b", 5, a)'))
    return text
