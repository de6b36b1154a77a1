"""Patterns and texts made to be hard to search are matched as plain ones are."""

from __future__ import annotations

import json
import random

import pytest

from sessauth.reasons import Reason
from tests.support import bulk_sessions
from tests.vectors.world import ask, root, token


def matches(pattern: str, text: str) -> bool:
    """Match a pattern without `/` whose first and last character are stars: each piece at its first place."""
    at = 0
    for piece in pattern.strip("*").split("*"):
        found = text.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def near(rng: random.Random, text: str, most: int) -> str:
    """Return a part of a text, or one that differs from it in one character."""
    length = rng.randrange(1, min(most, len(text)) + 1)
    at = rng.randrange(len(text) - length + 1)
    piece = text[at : at + length]
    place = rng.randrange(length)
    return piece if rng.random() < 0.4 else piece[:place] + rng.choice("abc") + piece[place + 1 :]


@pytest.mark.parametrize("most", [4, 16, 17, 63, 64, 65, 128, 129, 192, 193, 256, 257, 600])
def test_a_piece_is_found_where_it_is_first(most: int) -> None:
    """Texts of few letters, periodic ones among them, and pieces of them of up to so many bytes."""
    rng = random.Random(most)
    checker = bulk_sessions.checker()
    results = set()
    for _ in range(80):
        unit = "".join(rng.choices("ab", k=rng.randrange(1, 40)))
        text = (unit * 2000)[: rng.choice((1, 15, 16, 17, 33, 300, 1100, 3000))]
        for _ in range(rng.randrange(3)):
            place = rng.randrange(len(text))
            text = text[:place] + rng.choice("ab") + text[place + 1 :]
        count = rng.randrange(1, 4)
        pieces = [near(rng, text, max(1, min(most, 1000 // count))) for _ in range(count)]
        pattern = f"*{'*'.join(pieces)}*"
        request = ask(arguments=json.dumps({"p": text}))
        decision = bulk_sessions.judge(
            checker, token(root(f'read:files/* where p glob "{pattern}"')), request
        )
        expected = matches(pattern, text)
        assert (decision.reason is Reason.ALLOWED) is expected, (pattern, text)
        results.add(expected)
    assert results == {True, False}
