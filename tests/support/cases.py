"""Rounds of generated tests, by SESSAUTH_CASES: 2,000 at home, 20,000 in CI, 200,000 in the long form."""

from __future__ import annotations

import os

CASES = int(os.environ.get("SESSAUTH_CASES", "2000"))


def examples(count: int) -> int:
    """Return ``count`` in CI, a quarter of it at home and ten times as many in the long form."""
    return max(count // 4, count * CASES // 20_000)
