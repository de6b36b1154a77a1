"""The parameters that public functions take by name, as ``help`` and editors without PEP 692 show them."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from sessauth.client import AsyncClient, AsyncLiveSession, Client, LiveSession
from sessauth.client._requests.sessions import OpenTerms
from sessauth.guard import Guard
from sessauth.tokens.token import Issuer, Token

PUBLIC = (AsyncClient, AsyncLiveSession, Client, LiveSession, Guard, Issuer, Token)


def _methods() -> list[Any]:
    return [
        pytest.param(function, id=f"{owner.__name__}.{name}")
        for owner in PUBLIC
        for name, function in inspect.getmembers(owner, inspect.isfunction)
        if not name.startswith("_")
        and any("Unpack" in str(kind) for kind in function.__annotations__.values())
    ]


@pytest.mark.parametrize("function", _methods())
def test_the_signature_names_each_term(function: Any) -> None:
    """No ``**terms`` is left in it, and the docstring says what they are."""
    parameters = inspect.signature(function).parameters.values()
    assert all(each.kind is not inspect.Parameter.VAR_KEYWORD for each in parameters)
    named = [each.name for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY]
    assert len(named) > 5
    (terms,) = re.findall(r"Unpack\[(\w+)\]", str(function.__annotations__))
    assert function.__doc__.endswith(inspect.cleandoc(inspect.unwrap(function).__globals__[terms].__doc__))


def test_a_required_term_has_no_default() -> None:
    """It comes before those that may be left out, whose default is shown as ``...``."""
    text = str(inspect.signature(Client.open_session))
    assert "subject: 'str', ceiling: 'Sequence[Scope | str]', request_id" in text
    assert "lease_ms: 'int' = ...," in text
    assert set(OpenTerms.__annotations__) < set(inspect.signature(Client.open_session).parameters)


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
