"""The canonical form: kernel and oracle give the same one, and it is judged as what it was made of."""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
import subprocess
from dataclasses import replace
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from sessauth.conformance.vocabulary import Spelled, render
from sessauth.errors import UsageError
from sessauth.limits import MAX_CONDITIONS
from sessauth.reasons import Reason
from sessauth.scopes.call_arguments import canonical, encode
from sessauth.scopes.parts import Path
from sessauth.scopes.scope import Scope
from tests.oracle import canonical as oracle
from tests.oracle.json_values import BadJson, parse_object
from tests.property.generator import batch
from tests.property.judges import Kernel
from tests.property.mutations import mutate_bytes
from tests.property.random_values import members
from tests.support.cases import CASES
from tests.support.memory_fixture import MemoryFixture, memory_fixture

ROUNDS = CASES // 5
SEED = int(os.environ.get("SESSAUTH_SEED", "1"))
_WIDE = (
    "a",
    "\ud7ff",
    "\ue000",
    "\uffff",
    "\U00010000",
    "\U0010ffff",
    "\x00",
    "\x1f",
    "\x7f",
    '"',
    "\\",
    "/",
)


def spaced(rng: Random, text: str) -> str:
    """The same JSON with white space where some may stand: around the outermost object and its marks."""
    inner = text[1:-1]
    space = rng.choice(("", " ", "\t", "\r\n"))
    return f"{space}{{{space}{inner}{space}}}{space}"


def wide(rng: Random) -> dict[str, Any]:
    """An object with many members, whose names differ late and in every plane."""
    names = {"".join(rng.choices(_WIDE, k=rng.randint(0, 4))) for _ in range(rng.randint(0, 40))}
    return {name: members(rng, 2) for name in names}


def shuffled(rng: Random, value: Any) -> Any:
    """The same values with members in another order."""
    if isinstance(value, dict):
        names = rng.sample(list(value), len(value))
        return {name: shuffled(rng, value[name]) for name in names}
    return [shuffled(rng, each) for each in value] if isinstance(value, list) else value


def form(make: Any, data: bytes) -> bytes | None:
    """A canonical form, or None where there is none."""
    try:
        made: bytes = make(data)
    except (UsageError, BadJson):
        return None
    return made


def test_kernel_and_oracle_make_the_same_form() -> None:
    """Right texts, spellings of one object, and damaged ones, which most often have no form."""
    refused = 0
    for number in range(ROUNDS):
        rng = Random(f"{SEED} {number}")
        tree = wide(rng) if rng.random() < 0.3 else members(rng)
        texts = [spaced(rng, render(rng, shuffled(rng, tree))).encode() for _ in range(3)]
        forms = {form(canonical, text) for text in texts}
        assert forms == {form(oracle.canonical, texts[0])}, (SEED, number)
        damaged = mutate_bytes(rng, texts[0])
        assert form(canonical, damaged) == form(oracle.canonical, damaged), (SEED, number, damaged)
        refused += form(canonical, damaged) is None
        (made,) = forms
        assert made is not None
        assert canonical(made) == made
        assert len(made) <= max(2, *map(len, texts))
        assert parse_object(made) == parse_object(texts[0])
    assert ROUNDS // 10 < refused < ROUNDS


def test_a_canonical_form_is_judged_like_what_it_was_made_of() -> None:
    """Under every generated token, ceiling and view: the same decision, but for which left-over is named."""
    kernel, judged, differ = Kernel(), 0, 0
    number = 0
    while judged < ROUNDS:
        made = batch(Random(f"{SEED} {number}"))
        kernel.load(made)
        for case in made.cases:
            data = form(canonical, case.request.arguments)
            if data is None or data == case.request.arguments:
                continue
            first = kernel(case)
            again = kernel(replace(case, request=replace(case.request, arguments=data)))
            if first.clause == -1:
                differ += first.argument != again.argument
                first, again = replace(first, argument=""), replace(again, argument="")
            assert first == again, (SEED, number, case)
            judged += 1
        number += 1
    assert differ < judged // 10


def number_of(rng: Random) -> Any:
    """A number that a value can be, and that conditions can state."""
    roll = rng.random()
    if roll < 0.3:
        return rng.randint(-(2**63), 2**63 - 1)
    if roll < 0.5:
        return rng.randint(-1000, 1000)
    if roll < 0.75:
        return rng.choice((-1, 1)) * rng.randrange(10**6) / 10.0 ** rng.randint(-9, 6)
    return Decimal(rng.randint(-(10**12), 10**12)).scaleb(-rng.randint(0, 9))


def exact(value: Any) -> Any:
    """Return the value that a condition states: for a double the number of its text."""
    return Decimal(repr(value)) if isinstance(value, float) else value


def in_range(value: Any) -> bool:
    """Return True if a condition can state the value."""
    return not isinstance(value, int | Decimal) or value < 2**63


def values(rng: Random, depth: int = 0) -> dict[str, Any]:
    """Values as a caller has them: texts, truths, numbers of each kind, and objects of those."""
    found: dict[str, Any] = {}
    for _ in range(rng.randint(1, 4)):
        name = rng.choice(("a", "b.c", "\U00010000", "\uffff", '"', "\\n", "args"))
        roll = rng.random()
        if depth < 3 and roll < 0.25:
            found[name] = values(rng, depth + 1)
        elif roll < 0.6:
            found[name] = number_of(rng)
        else:
            found[name] = rng.choice((True, False, "", "x\n\x1f", "\u2028", '"\\/', "\U0001f600"))
    return found


def leaves(members: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Each value that is no object, with its path."""
    found = []
    for name, value in members.items():
        found += leaves(value, (*path, name)) if isinstance(value, dict) else [((*path, name), value)]
    return found


def reads_as(
    memory: MemoryFixture, members: dict[str, Any], wanted: list[tuple[tuple[str, ...], Any]]
) -> Reason:
    """Return the reason for values under a scope that states each of them."""
    scope = Scope.on("read", "x")
    for path, value in wanted[:MAX_CONDITIONS]:
        scope = scope.where(Path.args(*path), "==", exact(value))
    if len(wanted) > MAX_CONDITIONS:
        scope = scope.free_all()
    return Reason(memory.check(memory.mint(scope), "read", "x", members).reason)


def test_the_kernel_reads_the_values_that_were_written() -> None:
    """Each text, truth and number is equal to the one that was given, and to no other."""
    memory = memory_fixture()
    for number in range(ROUNDS // 20):
        rng = Random(f"{SEED} values {number}")
        made = values(rng)
        wanted = leaves(made)
        assert reads_as(memory, made, wanted) is Reason.ALLOWED, (SEED, number)
        (path, value), *others = wanted
        other = (
            not value if isinstance(value, bool) else exact(value) + ("x" if isinstance(value, str) else 1)
        )
        if in_range(other):
            assert reads_as(memory, made, [(path, other), *others]) is Reason.CONDITION_FAILED, (SEED, number)


def test_values_and_json_have_one_form() -> None:
    """Values are written in their canonical form, in any order of members; the oracle writes the same."""
    for number in range(ROUNDS // 4):
        rng = Random(f"{SEED} forms {number}")
        made = values(rng)
        assert encode(made) == encode(shuffled(rng, made)) == oracle.of_values(made), (SEED, number)
        assert canonical(encode(made)) == encode(made)
        spelled = json.loads(encode(made), parse_int=Spelled, parse_float=Spelled)
        assert canonical(render(rng, shuffled(rng, spelled))) == encode(made)


def doubles(count: int) -> list[float]:
    """Doubles of every size, and many that people write."""
    rng = Random(f"{SEED} doubles")
    drawn = [struct.unpack("d", rng.randbytes(8))[0] for _ in range(count)]
    drawn += [rng.randint(-(10**6), 10**6) * 10.0 ** rng.randint(-12, 24) for _ in range(count)]
    return [value for value in drawn if math.isfinite(value)]


def test_doubles_read_back_as_themselves() -> None:
    """Kernel and oracle write the same text for a double, and it reads back as the same one."""
    for value in doubles(ROUNDS):
        text = encode({"n": value})[5:-1].decode()
        assert text == oracle.binary64(value)
        assert float(text) == value


def test_node_writes_the_same_numbers_and_names() -> None:
    """JSON.stringify, with members in the order of JavaScript's sort, gives the same bytes."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: nothing else here writes JSON as ECMAScript does")
    rng = Random(f"{SEED} node")
    objects = [{name: rng.choice(_WIDE) for name in wide(rng)} for _ in range(200)]
    # Names of digits alone would come first in JavaScript.
    given = json.dumps([[value.hex() for value in map(Bits, doubles(ROUNDS))], objects])
    program = """
        const [bits, objects] = JSON.parse(require("fs").readFileSync(0, "utf8"));
        const double = (hex) => Buffer.from(hex, "hex").readDoubleBE(0);
        const pairs = (object) => Object.keys(object).sort().map((name) => [name, object[name]]);
        const sorted = objects.map((each) => Object.fromEntries(pairs(each)));
        const all = [...bits.map((hex) => ({ n: double(hex) })), ...sorted];
        process.stdout.write(all.map((each) => JSON.stringify(each)).join("\\n"));
    """
    told = subprocess.run([node, "-e", program], input=given.encode(), capture_output=True, check=True)

    ours = [encode({"n": value}) for value in doubles(ROUNDS)] + [encode(each) for each in objects]
    assert told.stdout.split(b"\n") == ours


class Bits(float):
    """A double that gives its bits."""

    def hex(self) -> str:
        """Return them, the sign first."""
        return struct.pack(">d", self).hex()
