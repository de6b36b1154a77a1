"""Scopes mean what policies of Cedar mean, where both can say it; each difference has its documented reason.

The common part: actions, a resource or all below it, and conditions on arguments and on facts of the session.
A list of scopes is a list of ``permit`` policies. Cedar has no closed world, so each scope here ends in
``free *``. A condition that Cedar has an error for permits nothing there, as here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import pytest

from sessauth.cli.commands.local.scope import try_scopes
from tests.support.cases import examples
from tests.support.interop_server import INSTALLED, ROOT

MODULES: Final = INSTALLED / "node_modules"
REQUIRED: Final = "SESSAUTH_TEST_CEDAR"
ADDRESSES: Final = ("10.0.0.7", "10.1.0.0", "::ffff:10.0.0.7", "fe80::1")
TEXTS: Final = ("", "a", "ab", "a/b", "b*", "é", "A", *ADDRESSES)
NUMBERS: Final = (-5, 0, 1, 100, 2**53)
NAMES: Final = ("to", "amount", "tags", "dry run")
NETWORKS: Final = ("10.0.0.0/8", "10.0.0.7/32", "fe80::/10")
ACTIONS: Final = ("read", "write", "s3.Get")
RESOURCES: Final = ("mail", "mail/send", "mail/send/x", "mailbox", "bank")
# Types play a part in these alone: of another type, Cedar's != holds.
OTHER_TYPE: Final = "a value of another type is not unequal, it has no relation"
TEXT_ORDER: Final = "texts have an order, which is that of their bytes"
MAPPED: Final = "an IPv4-mapped address is the IPv4 address"


@dataclass(frozen=True)
class Condition:
    """A condition as scope text and as an expression of Cedar, and what it reads."""

    text: str
    cedar: str
    source: str
    name: str
    operator: str
    values: tuple[Any, ...] = ()
    fact: str = ""


def literal(value: object) -> str:
    """Return a value in the form that both languages have."""
    return json.dumps(value, ensure_ascii=False)


def has(place: str, name: str) -> str:
    """Return Cedar's test for a member."""
    return f"context.{place} has {literal(name)}"


def condition(rng: Random) -> Condition:
    """Return a random condition in both languages."""
    place, name = rng.choice((("args", rng.choice(NAMES)), ("session", rng.choice(("role", "level")))))
    source = name if place == "args" else f"session.{name}"
    text = literal(name) if name == "dry run" else source
    cedar = f"context.{place}[{literal(name)}]"
    there = has(place, name)
    kind = rng.choice(
        ("==", "!=", "order", "in", "not in", "starts_with", "cidr", "subset_of", "is there", "fact")
    )
    optional = place == "args" and rng.random() < 0.2
    mark = "?" if optional else ""

    def made(relation: str, expression: str, operator: str, *values: Any, fact: str = "") -> Condition:
        whole = f"(!({there}) || {expression})" if optional else f"({there} && {expression})"
        return Condition(f"{text}{mark} {relation}", whole, place, name, operator, values, fact)

    if kind in ("==", "!="):
        value = rng.choice((*TEXTS, *NUMBERS, True, False))
        return made(f"{kind} {literal(value)}", f"{cedar} {kind} {literal(value)}", kind, value)
    if kind == "order":
        operator, value = rng.choice(("<", "<=", ">", ">=")), rng.choice((*NUMBERS, *TEXTS[:3]))
        return made(f"{operator} {literal(value)}", f"{cedar} {operator} {literal(value)}", operator, value)
    if kind in ("in", "not in"):
        values = rng.sample(rng.choice((TEXTS, NUMBERS)), rng.randint(1, 3))
        listed = literal(values)
        held = f"{listed}.contains({cedar})"
        return made(f"{kind} {listed}", held if kind == "in" else f"!({held})", kind, *values)
    if kind == "starts_with":
        value = rng.choice(TEXTS)
        pattern = literal(value).replace("*", "\\*")
        return made(f"starts_with {literal(value)}", f'{cedar} like {pattern[:-1]}*"', kind, value)
    if kind == "cidr":
        value = rng.choice(NETWORKS)
        return made(f'cidr "{value}"', f'ip({cedar}).isInRange(ip("{value}"))', kind, value)
    if kind == "subset_of" and place == "args" and not optional:
        values = rng.sample(TEXTS, rng.randint(1, 3))
        return made(f"subset_of {literal(values)}", f"{literal(values)}.containsAll({cedar})", kind, *values)
    if kind == "fact" and place == "args" and not optional:
        fact = rng.choice(("role", "level"))
        other = f"{has('session', fact)} && {cedar} == context.session[{literal(fact)}]"
        return made(f"== session.{fact}", f"({other})", "==", fact=fact)
    is_there = rng.random() < 0.5
    stated = f"{text} present" if is_there else f"{text} absent"
    return Condition(stated, there if is_there else f"!({there})", place, name, "present")


def policy(rng: Random) -> tuple[str, str, list[Condition]]:
    """Return a scope, the policy of Cedar that says the same, and its conditions."""
    actions = rng.sample(ACTIONS, rng.randint(1, 2))
    resource = rng.choice(RESOURCES)
    below = rng.random() < 0.4
    conditions = [condition(rng) for _ in range(rng.randint(0, 3))]
    where = f" where {' and '.join(each.text for each in conditions)} free *" if conditions else ""
    scope = f"{','.join(actions)}:{resource}{'/**' if below else ''}{where}"
    named = ", ".join(f"Action::{literal(each)}" for each in actions)
    tool = "resource" if below else f"resource == Tool::{literal(resource)}"
    tests = [f"({each.cedar})" for each in conditions]
    if below:
        tests.insert(0, f'(context.resource == {literal(resource)} || context.resource like "{resource}/*")')
    when = f" when {{ {' && '.join(tests)} }}" if tests else ""
    return scope, f"permit(principal, action in [{named}], {tool}){when};", conditions


def value_of(rng: Random) -> Any:
    """Return a random argument: a text, a number, a truth, a list or an object."""
    return rng.choice(
        (
            rng.choice(TEXTS),
            rng.choice(NUMBERS),
            rng.random() < 0.5,
            rng.sample(TEXTS, rng.randint(0, 2)),
            {"a": rng.choice(TEXTS)},
        )
    )


def call_of(rng: Random, conditions: list[Condition]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return random arguments and facts, of which many are near what the conditions ask for."""
    arguments = {name: value_of(rng) for name in NAMES if rng.random() < 0.7}
    facts = {
        name: rng.choice((*TEXTS[1:], *NUMBERS, True)) for name in ("role", "level") if rng.random() < 0.7
    }
    for each in conditions:
        near = ADDRESSES if each.operator == "cidr" else each.values
        if near and rng.random() < 0.5:
            (arguments if each.source == "args" else facts)[each.name] = rng.choice(near)
    return arguments, facts


def reasons(conditions: list[Condition], arguments: Mapping[str, Any], facts: Mapping[str, Any]) -> set[str]:
    """Return the documented reasons for which a scope and its policy may differ on a call."""
    found = set()
    for each in conditions:
        held = arguments if each.source == "args" else facts
        if each.name not in held:
            continue
        value = held[each.name]
        kinds = {type(other) for other in each.values}
        if each.operator in ("!=", "not in") and type(value) not in kinds:
            found.add(OTHER_TYPE)
        if each.operator in ("<", "<=", ">", ">=") and kinds == {str} and type(value) is str:
            found.add(TEXT_ORDER)
        if each.operator == "cidr" and isinstance(value, str) and value.startswith("::ffff:"):
            found.add(MAPPED)
    return found


def test_scopes_and_policies_agree() -> None:
    """Each difference on random requests has one of three documented reasons, and each reason is seen."""
    if not (MODULES / "@cedar-policy" / "cedar-wasm").exists() or shutil.which("node") is None:
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"@cedar-policy/cedar-wasm is not in {MODULES}")
        pytest.skip("needs node and @cedar-policy/cedar-wasm in build/interop; see CONTRIBUTING.md")
    rng = Random(7)
    requests, ours, explained = [], [], []
    for _ in range(examples(20_000)):
        made = [policy(rng) for _ in range(rng.randint(1, 2))]
        action, resource = rng.choice(ACTIONS), rng.choice(RESOURCES)
        arguments, facts = call_of(rng, [each for _, _, found in made for each in found])
        scopes = [scope for scope, _, _ in made]
        tried, _ = try_scopes(scopes, action, resource, json.dumps(arguments).encode(), facts)
        ours.append("allow" if any(each.matched for each in tried) else "deny")
        explained.append(set().union(*(reasons(each, arguments, facts) for _, _, each in made)))
        context = {"args": arguments, "session": facts, "resource": resource}
        policies = "\n".join(text for _, text, _ in made)
        requests.append({"policies": policies, "action": action, "resource": resource, "context": context})
    program = ["node", str(ROOT / "tests" / "interop" / "cedar.js")]
    answered = subprocess.run(
        program, input="\n".join(map(json.dumps, requests)), capture_output=True, text=True, check=True,
        env={**os.environ, "NODE_PATH": str(MODULES)},
    )  # fmt: skip
    theirs = answered.stdout.splitlines()
    assert set(theirs) == {"allow", "deny"}
    assert len(theirs) == len(ours)
    seen: Counter[str] = Counter()
    for request, one, other, why in zip(requests, ours, theirs, explained, strict=True):
        if one != other:
            assert why, (request, one, other)
            seen.update(why)
    assert seen.keys() == {OTHER_TYPE, TEXT_ORDER, MAPPED}
    assert Counter(ours)["allow"] > len(ours) // 20
