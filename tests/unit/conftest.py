"""Fixtures of these tests."""

from __future__ import annotations

import pytest

from tests.support.memory_fixture import MemoryFixture, memory_fixture


@pytest.fixture
def memory() -> MemoryFixture:
    """A session to mint for and check in, at revision 1."""
    return memory_fixture()
