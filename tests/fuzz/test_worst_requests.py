"""A short run of the generator of expensive requests."""

from __future__ import annotations

import pytest

from tests.fuzz import worst_requests as generator


@pytest.mark.parametrize("name", generator.KINDS)
def test_kernel_and_oracle_count_alike(name: str) -> None:
    """Requests that are made to be expensive are decided by both alike, and refused at the same condition."""
    assert generator.agree(1, name, 3) == {"CONDITION_FAILED", "MALFORMED_REQUEST"}
