"""Terms of the client's calls that do not exist."""

from __future__ import annotations

from typing import Any

import pytest

from sessauth.client import Client


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("mint", (bytes(16), ["read:a"], ["gateway"])),
        ("open_session", ()),
        ("list_sessions", ()),
    ],
)
def test_a_misspelt_term_is_an_error(method: str, given: tuple[Any, ...]) -> None:
    """Left out silently it would restrict nothing."""
    with Client("/nowhere.sock") as client, pytest.raises(TypeError, match="sources"):
        getattr(client, method)(*given, sources=["10.0.0.0/8"])
