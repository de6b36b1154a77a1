"""Oracle and kernel give the canonical form of each vector, and refuse what has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sessauth.errors import UsageError
from sessauth.scopes.call_arguments import canonical, encode
from tests.oracle import canonical as oracle
from tests.oracle.json_values import BadJson
from tests.support.vector_files import load, read_bytes
from tests.vectors.cases_arguments import read_number

CONTENT = load("arguments.json")
OF_JSON: dict[str, Callable[[bytes], bytes]] = {
    "oracle": oracle.canonical,
    "kernel": canonical,
    "kernel, of a text": lambda data: canonical(data.decode("utf-8", "surrogatepass")),
}
OF_VALUES: dict[str, Callable[[dict[str, Any]], bytes]] = {"oracle": oracle.of_values, "kernel": encode}


def made(make: Callable[[Any], bytes], given: Any) -> bytes | None:
    """The canonical form, or None where there is none."""
    try:
        return make(given)
    except (BadJson, UsageError):
        return None


@pytest.mark.parametrize("by", OF_JSON)
def test_json_has_the_stated_form(by: str) -> None:
    """Each JSON text has the form in the file, or none; the form of a form is itself."""
    for vector in CONTENT["vectors"]:
        given = read_bytes(vector, "arguments")
        if by == "kernel, of a text" and "arguments_hex" in vector:
            continue
        wanted = None if "problem" in vector["expected"] else read_bytes(vector["expected"], "canonical")
        assert made(OF_JSON[by], given) == wanted, vector["name"]
        if wanted is not None:
            assert made(OF_JSON[by], wanted) == wanted, vector["name"]
            assert len(wanted) <= max(len(given), 2)


@pytest.mark.parametrize("by", OF_VALUES)
def test_numbers_are_written_as_stated(by: str) -> None:
    """A whole number, a double and a decimal are written as the file says, or have no form."""
    for vector in CONTENT["numbers"]:
        text = vector["expected"].get("canonical")
        wanted = None if text is None else b'{"n":%s}' % text.encode()
        assert made(OF_VALUES[by], {"n": read_number(vector["value"])}) == wanted, vector


def test_there_are_forms_and_refusals() -> None:
    """At least 25 texts with a form and 25 without, and numbers of each kind of both sorts."""
    expected = ["problem" in vector["expected"] for vector in CONTENT["vectors"]]

    assert expected.count(False) >= 25
    assert expected.count(True) >= 25
    assert {kind for vector in CONTENT["numbers"] for kind in vector["value"]} == {
        "whole",
        "binary64_hex",
        "decimal",
    }
