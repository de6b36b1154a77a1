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
from tests.vectors.world import NOW, VIEWS, ask, root, token

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


def test_patterns_for_each_element(checker: Checker) -> None:
    """Inside `each`, the bytes of every element count, on top of the elements."""
    chain = token(root(f"read:files/* where each(l) glob {globs(8)} free *"))
    matching = "a" * 3191 + "aab" + "a" * 6  # 3,200 bytes
    assert judged(checker, chain, {"l": [matching] * 10}).allowed
    found = judged(checker, chain, {"l": [matching] * 70})
    assert (found.reason, found.argument) == OVERWORKED


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
