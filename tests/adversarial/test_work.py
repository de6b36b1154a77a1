"""Requests and tokens made to be expensive: work is counted, and the count ends the check."""

from __future__ import annotations

import json

import pytest

from sessauth._fast._check import Checker
from tests.oracle.check import check as oracle_check
from tests.oracle.constants import Level, Reason, Stage
from tests.oracle.model import OracleDecision
from tests.support import bulk_sessions
from tests.support.compare import kernel_decision
from tests.support.vector_files import read_view
from tests.vectors.world import NOW, VIEWS, ask, child, root, token

_LIMIT = 262_144
_MAX_BYTES = 1_048_576
_BYTES_A_STEP = 16
_WALKED_BYTES_A_STEP = 8
VIEW = read_view(VIEWS["plain"])[0]
OVERWORKED = (Reason.MALFORMED_REQUEST, "arguments")


@pytest.fixture(scope="module")
def checker() -> Checker:
    """A checker that all tests share."""
    return bulk_sessions.checker()


def judged(checker: Checker, chain: bytes, arguments: object) -> OracleDecision:
    """The kernel's decision, after holding that the oracle counts the same."""
    request = ask(arguments=json.dumps(arguments))
    found = kernel_decision(checker, chain, request, NOW)
    assert found == oracle_check(chain, request, VIEW, NOW)
    return found


def globs(count: int, length: int = 2) -> str:
    """So many patterns that a text of `a` matches none of, each after walking all of it."""
    return "[" + ", ".join('"*' + "a" * (length + i) + 'b*"' for i in range(count)) + "]"


def left_for(arguments: object) -> int:
    """The steps that a check of these arguments may take."""
    return _LIMIT - 3 * ((_MAX_BYTES - len(json.dumps(arguments))) // _BYTES_A_STEP)


def longest(steps: int, more: int) -> str:
    """The longest text of `a` in {"p": …} that may be walked so often, and ``more`` steps beside that."""
    blocks = 1
    while steps * (3 + 2 * blocks) + more <= left_for({"p": "a" * (_BYTES_A_STEP * (blocks + 1))}):
        blocks += 1
    return "a" * (_BYTES_A_STEP * blocks)


def test_the_work_grows_with_the_bytes(checker: Checker) -> None:
    """A quarter of the steps is for arguments of few bytes, all of them for a mebibyte."""
    chain = token(root(f"read:files/* where p? glob {globs(64)} free *"))
    assert judged(checker, chain, {"p": "a" * 4_096}).reason is Reason.CONDITION_FAILED
    assert judged(checker, chain, {"p": "a" * 65_536}).reason is Reason.MALFORMED_REQUEST
    assert judged(checker, token(root('read:files/* where p glob "*"')), {"p": "a" * 1_000_000}).allowed


@pytest.mark.parametrize("text_bytes", [15, 16, 1024, 131_072, 1_000_000])
@pytest.mark.parametrize("patterns", [1, 2, 4, 5, 64])
def test_patterns_times_bytes(checker: Checker, text_bytes: int, patterns: int) -> None:
    """A glob costs a step, and one for every 8 bytes of the text, for each pattern; no more may be spent."""
    steps = 1 + (1 + text_bytes // _WALKED_BYTES_A_STEP) * patterns
    arguments = {"p": "a" * text_bytes}
    found = judged(checker, token(root(f"read:files/* where p glob {globs(patterns)}")), arguments)

    if steps > left_for(arguments):
        assert (found.reason, found.argument) == OVERWORKED
    else:
        assert (found.reason, found.argument) == (Reason.CONDITION_FAILED, "p")
    assert (found.stage, found.level, found.index, found.scope, found.clause) == (
        Stage.SCOPE,
        Level.BLOCK,
        0,
        0,
        0,
    )


def test_the_last_step_that_may_be_spent(checker: Checker) -> None:
    """Scopes and blocks share one count, and 16 bytes more for each of their patterns are too many."""
    each = f"read:files/* where p? glob {globs(64)} free *"
    text = longest(128, 2)
    permitted = {"p": text}
    one_more = {"p": text + "a" * _BYTES_A_STEP}
    two_scopes = token(root(each, each))
    two_blocks = token(root(each.replace(globs(64), globs(63).replace("]", ', "*"]'))), child(each))

    assert judged(checker, two_scopes, permitted).reason is Reason.CONDITION_FAILED
    found = judged(checker, two_scopes, one_more)
    assert (found.reason, found.scope) == (Reason.MALFORMED_REQUEST, 1)
    assert judged(checker, token(root(each)), one_more).reason is Reason.CONDITION_FAILED
    found = judged(checker, two_blocks, one_more)
    assert (found.reason, found.index) == (Reason.MALFORMED_REQUEST, 1)


@pytest.mark.parametrize("accessor", ["host", "scheme", "port"])
def test_urls_of_a_megabyte(checker: Checker, accessor: str) -> None:
    """Taking a URL apart costs a step for every 16 bytes, each time a condition does it."""
    operand = "80" if accessor == "port" else '"http"' if accessor == "scheme" else '"h"'
    url = "http://h/" + "a" * (65_536 * _BYTES_A_STEP - 400)
    for count, allowed in ((3, True), (4, True), (5, False)):
        conditions = " and ".join([f"{accessor}(u) == {operand}"] * count)
        found = judged(checker, token(root(f"read:files/* where {conditions}")), {"u": url})
        assert found.allowed is allowed
        if not allowed:
            assert (found.reason, found.argument, found.clause) == (*OVERWORKED, 4)


def test_elements_times_values(checker: Checker) -> None:
    """`each` and `subset_of` cost elements times values, before the first is looked at."""
    values = "[" + ", ".join(map(str, range(64))) + "]"
    for relation in ("each(l) in {}", "l subset_of {}"):
        chain = token(root(f"read:files/* where {relation.format(values)} free *"))
        assert judged(checker, chain, {"l": [1] * 1000}).allowed
        found = judged(checker, chain, {"l": ["x"] + [1] * 1060})
        assert (found.reason, found.argument) == OVERWORKED


def test_patterns_for_each_element(checker: Checker) -> None:
    """Inside `each`, the bytes of every element count, on top of the elements."""
    chain = token(root(f"read:files/* where each(l) glob {globs(8)} free *"))
    matching = "a" * 3191 + "aab" + "a" * 6  # 3,200 bytes
    assert judged(checker, chain, {"l": [matching] * 10}).allowed
    found = judged(checker, chain, {"l": [matching] * 70})
    assert (found.reason, found.argument) == OVERWORKED


def test_members_times_paths(checker: Checker) -> None:
    """The closed world costs members times paths."""
    free = ", ".join(f"k{i}" for i in range(64))
    chain = token(root(f"read:files/* free {free}"))
    assert judged(checker, chain, {f"k{i}": 1 for i in range(64)}).allowed
    found = judged(checker, chain, {f"k{i}": 1 for i in range(1500)})
    assert (found.reason, found.argument, found.clause) == (*OVERWORKED, -1)


@pytest.mark.parametrize(
    ("pattern", "text", "holds"),
    [
        ("*a" * 500 + "*b", "a" * 100_000, False),
        ("*a" * 500 + "*", "a" * 100_000, True),
        ("*" + "ab" * 500 + "c*", "ab" * 50_000, False),
        ("a*" * 500 + "/**", "a" * 100_000 + "/x", True),
        ("*/" * 511 + "*", "/" * 511, True),
        ("*/" * 511 + "b", "a/" * 50_000, False),
    ],
)
def test_patterns_that_blow_up_elsewhere(checker: Checker, pattern: str, text: str, holds: bool) -> None:
    """Patterns that a backtracking matcher never finishes are decided, by the same count as any other."""
    chain = token(root(f'read:files/* where p glob "{pattern}"'))

    assert kernel_decision(checker, chain, ask(arguments=json.dumps({"p": text})), NOW).allowed is holds


def test_the_dearest_token_is_stopped(checker: Checker) -> None:
    """8 KiB of patterns against a megabyte are denied by count at the first scope that matters."""
    scope = f"read:files/* where p glob {globs(64, 1)}"
    shorter = scope.replace("read:files/*", "read:*/*")
    chain = token(root(scope, shorter))
    found = judged(checker, chain, {"p": "a" * 1_000_000})

    assert (found.reason, found.argument, found.scope) == (*OVERWORKED, 0)
