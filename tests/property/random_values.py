"""Random arguments, requests' parts and conditions, from small vocabularies so that they meet often."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from random import Random
from typing import Any

from sessauth.conformance.vocabulary import Spelled
from tests.oracle.addresses import mail_domain, parse_ip, parse_url
from tests.oracle.canonical import NoForm, form, form_digest
from tests.oracle.constants import Accessor, Operator
from tests.oracle.forms import type_of
from tests.oracle.json_values import parse_object
from tests.oracle.model import BILLION, NO_VALUE, JsonOperand
from tests.oracle.texts import is_clean_path, is_glob
from tests.support.token_forger import Record, value_record

NAMES = ("a", "b", "c", "owner", "a.b", "session", "args", "", "\u00e9")
FACT_NAMES = ("case_id", "level", "present", "home", "hidden")
TEXTS = (
    "",
    "a",
    "ab",
    "abc",
    "b",
    "C-7",
    "acme",
    "web",
    "\u00e9",
    "e\u0301",
    "\U00010000",
    "\uffff",
    "a/b",
    "/srv/data",
    "/srv/data/x",
    "/srv/database",
    "/",
    "srv/./x",
    "a//b",
    "../a",
    "a*b",
    "x.txt",
    "src/x.txt",
    "10.0.0.1",
    "::ffff:10.0.0.1",
    "2001:db8::1",
    "10.0.0.01",
    "11.1.1.1",
    "https://Acme.example/x",
    "http://10.0.0.1:8080/",
    "http://[::1]:80/?q",
    "https://u@acme.example/",
    "ftp://acme.example",
    "https://acme.example:443",
    "HTTP://x_y.z:0",
    "http://acme.example:99999/",
    "https://acme..example/",
    "%2e",
    "a%2fb",
    "http://[::ffff:10.0.0.1]/srv/data?a",
    "https://acme.example/srv/../a",
    "https://acme.example/srv;x",
    "Ada.L@Acme.example",
    "a@b@acme.example",
    ".a@acme.example",
    "a@10.0.0.1",
)
NUMBERS = (
    "0",
    "-0",
    "1",
    "1.0",
    "10e-1",
    "2",
    "-1",
    "-1.5",
    "0.000000001",
    "1e-10",
    "1e300",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775808.5",
    "1.25",
    "100",
    "1E2",
    "3.000000000",
    "0e999",
    "48.858370148123",
    "4885837014812.3e-11",
    "-1e-10",
    "1e999999999",
    "1e1000000000",
    "9223372036854775808.0",
)
GLOBS = (
    "*",
    "**",
    "a*",
    "*b",
    "a/*",
    "a/**",
    "*.txt",
    "src/**",
    "/srv/*",
    "*a*b*",
    "C-*",
    "",
    "../a",
    "a//b",
)
CIDRS = ("10.0.0.0/8", "0.0.0.0/0", "10.0.0.1/32", "2001:db8::/32", "::/0", "::1/128", "11.0.0.0/8")
CLEAN_PATHS = ("/", "/srv", "/srv/data", "a", "a/b", "srv", "src/x.txt")


def tree(rng: Random, depth: int = 0) -> Any:
    """A random JSON value; numbers keep their spelling."""
    roll = rng.random()
    if roll < 0.42:
        return rng.choice(TEXTS)
    if roll < 0.66:
        return Spelled(rng.choice(NUMBERS))
    if roll < 0.74:
        return rng.random() < 0.5
    if roll < 0.77:
        return None
    if roll < 0.90 or depth >= 3:
        return [tree(rng, depth + 1) for _ in range(rng.choice((0, 1, 2, 2, 3)))] if depth < 3 else []
    return members(rng, depth + 1)


def members(rng: Random, depth: int = 0) -> dict[str, Any]:
    """Return a random JSON object."""
    return {rng.choice(NAMES): tree(rng, depth) for _ in range(rng.choice((0, 1, 1, 2, 2, 3)))}


def render(rng: Random, value: Any) -> str:
    """Return the JSON text of a tree, now and then with white space and escapes."""
    if isinstance(value, Spelled):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=rng.random() < 0.3)
    if isinstance(value, dict):
        items = (f"{render(rng, name)}:{render(rng, item)}" for name, item in value.items())
        return "{" + (" , " if rng.random() < 0.1 else ",").join(items) + "}"
    if isinstance(value, list):
        return "[" + ",".join(render(rng, item) for item in value) + "]"
    return {None: "null", True: "true", False: "false"}[value]


def _near_text(rng: Random, text: str) -> Any:
    return rng.choice(
        (text + "x", text[:-1], text.upper(), "/" + text, text + "/", text + "/x", rng.choice(TEXTS))
    )


def _near_number(rng: Random, spelled: str) -> Any:
    more = spelled if "e" in spelled.lower() else spelled + ("0" if "." in spelled else ".0")
    tenth = spelled + "0e-1" if spelled.lstrip("-").isdigit() and spelled.strip("-0") else spelled
    return rng.choice((Spelled(more), Spelled(tenth), Spelled(rng.choice(NUMBERS)), spelled + "", True))


def near(rng: Random, value: Any) -> Any:
    """A value that differs a little, in spelling, type or content."""
    if isinstance(value, Spelled):
        return _near_number(rng, str(value))
    if isinstance(value, str):
        return _near_text(rng, value)
    if isinstance(value, bool):
        return rng.choice((not value, Spelled("1"), Spelled("0"), "true", [value]))
    if isinstance(value, dict) and value:
        name = rng.choice(list(value))
        return {**value, name: near(rng, value[name])}
    if isinstance(value, list) and value:
        at = rng.randrange(len(value))
        return [*value[:at], near(rng, value[at]), *value[at + rng.randint(0, 1) :]]
    return tree(rng, 2)


def scalar(rng: Random, *, decimals: bool = False) -> Any:
    """A text, a truth or a number in billionths; with ``decimals`` also one that ``Number`` can't hold."""
    roll = rng.random()
    if roll < 0.5:
        return rng.choice(TEXTS)
    if roll < 0.58 and decimals:
        return Decimal(rng.choice(_DECIMALS))
    if roll < 0.9:
        return rng.choice((0, 1, 2, -1, 100, 3)) * BILLION + rng.choice((0, 0, 0, 250_000_000))
    return rng.random() < 0.5


_DECIMALS = ("48858370148.123", "0.1", "-0.1", "1e309", "9223372036854775808e9")


def leaves(arguments: dict[str, Any]) -> list[tuple[tuple[str, ...], Any]]:
    """Each member that a path can name, with its value."""
    found: list[tuple[tuple[str, ...], Any]] = []
    queue: list[tuple[tuple[str, ...], Any]] = [((), arguments)]
    while queue:
        path, value = queue.pop()
        if path and path[-1]:
            found.append((path, value))
        if type(value) is dict and (not path or path[-1]):
            queue.extend(((*path, name), item) for name, item in value.items())
    return [(path, value) for path, value in found if all(path)]


def condition(
    operator: int, source: int, path: Sequence[str], values: Sequence[Any] = (), **rest: Any
) -> Record:
    """A condition record with plain values."""
    where = {"source": source, "segments": list(path)}
    return {"path": where, "operator": int(operator), "values": [value_record(v) for v in values], **rest}


def true_condition(rng: Random, arguments: dict[str, Any]) -> Record:
    """A condition that very likely holds for the arguments (parsed by the oracle)."""
    found = leaves(arguments)
    if found and rng.random() < 0.25:
        return _true_of_json(rng, *rng.choice(found))
    if not found or rng.random() < 0.1:
        if rng.random() < 0.5:
            return condition(Operator.ABSENT, 1, ("zzz",))
        return random_condition(rng, ("zzz",), optional=True)
    path, value = rng.choice(found)
    optional = rng.random() < 0.1
    if value is None or value is NO_VALUE:
        return condition(Operator.ABSENT, 1, ("none", "such"))
    if type(value) in (str, bool, int, Decimal):
        return {**_true_of_scalar(rng, path, value), "optional": optional}
    if type(value) is dict or rng.random() < 0.2:
        return condition(Operator.PRESENT, 1, path)
    if rng.random() < 0.4:
        return condition(Operator.EQUAL, 1, path, [len(value) * BILLION], accessor=int(Accessor.COUNT))
    elements = list({(type(v), v): v for v in value if type(v) in (str, bool, int)}.values())
    kinds = {type(v) for v in value}
    if not elements or len(kinds) != 1:
        return condition(Operator.LESS_EQUAL, 1, path, [5 * BILLION], accessor=int(Accessor.COUNT))
    if rng.random() < 0.5:
        return condition(Operator.SUBSET_OF, 1, path, elements)
    if rng.random() < 0.5:
        return condition(Operator.EQUAL, 1, path, [rng.choice(elements)], any=True)
    return condition(Operator.IN, 1, path, elements, each=True)


def _true_of_json(rng: Random, path: tuple[str, ...], value: Any) -> Record:
    """Equality with a JSON value, or a condition on the elements of a list."""
    segments = tuple("." + name for name in path)
    while type(value) is list and value and rng.random() < 0.7:
        segments, value = (*segments, "[]"), rng.choice(value)
        while type(value) is dict and value and rng.random() < 0.7:
            name = rng.choice(list(value))
            segments, value = (*segments, "." + name), value[name]
    source, where = (8, segments[:8]) if "[]" in segments[:8] else (1, path)
    operand = json_operand(value)
    optional = rng.random() < 0.2
    if type(value) in (str, bool, int) and source == 8 and rng.random() < 0.3:
        return condition(Operator.EQUAL, 8, where, [value], any=True)
    if type(value) in (str, bool, int, Decimal) and source == 8 and rng.random() < 0.7:
        return {**_true_of_scalar(rng, where, value, source), "optional": optional}
    if rng.random() < 0.1:
        return condition(rng.choice((Operator.PRESENT, Operator.ABSENT)), source, where)
    if operand is None:
        return random_condition(rng, where, source=source)
    operator = rng.choice((Operator.EQUAL, Operator.EQUAL, Operator.IN, Operator.NOT_EQUAL))
    values = [operand]
    if operator == Operator.IN:
        values = [*_json_operands(rng), operand]
    elif type(value) is list and rng.random() < 0.3:
        elements = [json_operand(element) for element in value]
        operator, values = Operator.SUBSET_OF, [*_json_operands(rng), *(e for e in elements if e is not None)]
    if len(values) == 1 and operand.form[:1] not in ("[", "{", "n", ""):
        return random_condition(rng, where, source=source)
    return condition(operator, source, where, list(dict.fromkeys(values)), optional=optional)


def json_operand(value: Any) -> JsonOperand | None:
    """The operand for a value of the oracle's, now and then as its digest; None if it has no form."""
    try:
        text = form(value)
    except NoForm:
        return None
    if len(text.encode()) > 1024 or len(text) % 5 == 0:
        return JsonOperand("", form_digest(text))
    return JsonOperand(text)


def _json_operands(rng: Random) -> list[JsonOperand]:
    """One to three operands, of which the first is no text, number or truth."""
    made = [json_operand(parsed(render(rng, {"v": tree(rng, 1)}))["v"]) for _ in range(rng.randint(0, 2))]
    return [JsonOperand(rng.choice(("null", "[]", "{}"))), *(each for each in made if each is not None)]


def _true_of_scalar(rng: Random, path: tuple[str, ...], value: Any, source: int = 1) -> Record:
    made = _true_of_argument(rng, path, value)
    return {**made, "path": {"source": source, "segments": list(path)}}


def _true_of_argument(rng: Random, path: tuple[str, ...], value: Any) -> Record:
    if type(value) is Decimal:
        operator = rng.choice((Operator.EQUAL, Operator.LESS_EQUAL, Operator.GREATER_EQUAL, Operator.IN))
        return condition(operator, 1, path, [value])
    other = next(v for v in iter(lambda: scalar(rng), None) if type(v) is type(value) and v != value)
    roll = rng.random()
    if roll < 0.3:
        return condition(Operator.EQUAL, 1, path, [value])
    if roll < 0.4:
        return condition(Operator.IN, 1, path, rng.sample([value, other], 2))
    if roll < 0.5:
        return condition(rng.choice((Operator.NOT_IN, Operator.NOT_EQUAL)), 1, path, [other])
    if type(value) is bool:
        return condition(Operator.NOT_EQUAL, 1, path, [not value])
    if roll < 0.65:
        return condition(rng.choice((Operator.LESS_EQUAL, Operator.GREATER_EQUAL)), 1, path, [value])
    if type(value) is int:
        return condition(Operator.LESS, 1, path, [value + 1])
    return _true_of_text(rng, path, value)


def _true_of_text(rng: Random, path: tuple[str, ...], text: str) -> Record:
    choices = [condition(Operator.STARTS_WITH, 1, path, [text[: rng.randint(0, len(text))]])]
    if is_glob(text):
        choices.append(
            condition(Operator.GLOB, 1, path, [text.replace("a", "*", 1) if "**" not in text else text])
        )
    if is_clean_path(text):
        choices.append(condition(Operator.UNDER, 1, path, [text.rpartition("/")[0] or text]))
    if parse_ip(text) is not None:
        choices.append(condition(Operator.CIDR, 1, path, rng.sample(CIDRS, 3)))
    choices.append(condition(Operator.EQUAL, 1, path, [len(text) * BILLION], accessor=int(Accessor.LENGTH)))
    for operator, pool in ((20, GLOBS), (21, CLEAN_PATHS), (22, CIDRS)):
        choices.append(condition(operator, 1, path, [rng.choice([each for each in pool if each])]))
    domain = mail_domain(text)
    if domain is not None:
        choices.append(condition(Operator.EQUAL, 1, path, [domain], accessor=int(Accessor.DOMAIN)))
    url = parse_url(text)
    if url is not None:
        under = [url.path] if is_clean_path(url.path) else ["/"]
        choices.append(condition(Operator.UNDER, 1, path, under, accessor=int(Accessor.PATH)))
        choices.append(condition(Operator.EQUAL, 1, path, [url.host], accessor=int(Accessor.HOST)))
        choices.append(condition(Operator.EQUAL, 1, path, [url.scheme], accessor=int(Accessor.SCHEME)))
        choices.append(condition(Operator.GREATER_EQUAL, 1, path, [0], accessor=int(Accessor.PORT)))
    picked = rng.choice(choices)
    return (
        picked
        if all(is_glob(v["text"]) for v in picked["values"] if picked["operator"] == Operator.GLOB)
        else choices[0]
    )


_POOLS: dict[int, tuple[str, ...]] = {
    **{Operator.GLOB: GLOBS, Operator.UNDER: CLEAN_PATHS, Operator.CIDR: CIDRS},
    **{Operator.NOT_GLOB: GLOBS, Operator.NOT_UNDER: CLEAN_PATHS, Operator.NOT_CIDR: CIDRS},
}


def random_condition(
    rng: Random, path: Sequence[str] = (), optional: bool | None = None, source: int = 1
) -> Record:
    """Any well-formed condition."""
    operator = rng.choice((*range(1, 16), 19, 20, 21, 22))
    if not path:
        source = rng.choice((1, 1, 1, 2, 3, 8, 8))
        path = (rng.choice(FACT_NAMES),) if source == 2 else _path(rng)
        if source == 8:
            path = _through_lists(rng, path)
    if operator in (Operator.PRESENT, Operator.ABSENT):
        return condition(operator, source, path)
    rest: Record = {"optional": rng.random() < 0.3 if optional is None else optional}
    if source != 2 and operator in (1, 2, 3, 4, 13) and rng.random() < 0.2:
        rest |= _quantifier(rng) if operator != Operator.SUBSET_OF else {}
        values = _json_operands(rng)
        return condition(
            operator, source, path, list(dict.fromkeys(values if operator > 2 else values[:1])), **rest
        )
    if operator != Operator.SUBSET_OF:
        rest |= _quantifier(rng)
        rest["accessor"] = rng.choice((0, 0, 0, 0, 0, 1, 2, 3, 4, 10, 11, 12))
    fact_allowed = operator in (1, 2, 5, 6, 7, 8, 9, 11, 19, 21)
    if fact_allowed and rng.random() < 0.25:
        return condition(operator, source, path, fact=rng.choice(FACT_NAMES), **rest)
    return condition(operator, source, path, _operands(rng, operator), **rest)


def _quantifier(rng: Random) -> Record:
    word = rng.choice(("each", "any", *[""] * 6))
    return {word: True} if word else {}


def _operands(rng: Random, operator: int) -> list[Any]:
    if operator in _POOLS:
        return rng.sample([text for text in _POOLS[operator] if text], rng.randint(1, 3))
    if operator in (Operator.STARTS_WITH, Operator.NOT_STARTS_WITH):
        return rng.sample(TEXTS, rng.randint(1, 3))
    first = scalar(rng, decimals=True)
    while operator in (5, 6, 7, 8) and type(first) is bool:
        first = scalar(rng, decimals=True)
    if operator in (Operator.IN, Operator.NOT_IN, Operator.SUBSET_OF):
        more = [v for v in (scalar(rng, decimals=True) for _ in range(4)) if type_of(v) is type_of(first)]
        return list(dict.fromkeys([first, *more]))
    return [first]


def _path(rng: Random) -> tuple[str, ...]:
    return tuple(rng.choice(NAMES[:7]) for _ in range(rng.choice((1, 1, 1, 2, 3))))


def _through_lists(rng: Random, path: Sequence[str]) -> tuple[str, ...]:
    segments = ["." + name for name in path]
    for _ in range(rng.choice((1, 1, 1, 2))):
        segments.insert(rng.randint(1, len(segments)), "[]")
    if rng.random() < 0.5:
        segments.append("." + rng.choice(NAMES))
    return tuple(segments)


def parsed(text: str) -> dict[str, Any]:
    """The arguments as the oracle reads them."""
    return parse_object(text.encode("utf-8"))
