"""Each vector file has the form that the schema states, and each file has a schema."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.support.vector_files import VECTORS, load

SCHEMA = load("schema.json")
FILES = sorted(path.name for path in VECTORS.glob("*.json") if path.name != "schema.json")


def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator({**SCHEMA, "$ref": f"#/$defs/{name}"})


def _faults(name: str, content: Any) -> list[str]:
    return [
        f"{list(fault.absolute_path)}: {fault.message[:200]}"
        for fault in _validator(name).iter_errors(content)
    ]


def test_the_schema_names_every_file_and_no_other() -> None:
    """A file that is added has its definition, and a definition its file."""
    Draft202012Validator.check_schema(SCHEMA)
    assert sorted(name for name in SCHEMA["$defs"] if name.endswith(".json")) == FILES


@pytest.mark.parametrize("name", FILES)
def test_each_file_follows_the_schema(name: str) -> None:
    """No member is missing, unknown or of another form, and each view that is named is there."""
    content = load(name)

    assert _faults(name, content) == []
    named = {vector["view"] for vector in content["vectors"] if "view" in vector}
    assert named == set(content.get("views", ()))
    names = [vector["name"] for vector in content["vectors"]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", FILES)
def test_the_schema_refuses_what_it_does_not_know(name: str) -> None:
    """A member that nobody described, or one that is missing, is a fault in each file."""
    content = load(name)
    more = copy.deepcopy(content)
    more["vectors"][0]["surprise"] = 1
    less = copy.deepcopy(content)
    del less["vectors"][0]["name"]

    assert _faults(name, more)
    assert _faults(name, less)
