"""Oracle and kernel give each vector's outcome; the files are what the generator writes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from sessauth._fast.check import Checker
from sessauth._fast.view import View
from sessauth.errors import MalformedToken
from sessauth.token import Token
from tests.oracle.check import check
from tests.oracle.words import Reason, Stage
from tests.support.compare import kernel_decision
from tests.support.vector_files import VECTORS, load, read_decision, read_request, read_view
from tests.support.view_source import MemorySource
from tests.vectors import cases_text, generate

CHECKS = ("valid.json", "invalid.json", "conditions.json")


@pytest.mark.parametrize("name", CHECKS)
def test_oracle_gives_each_outcome(name: str) -> None:
    """The oracle judges the bytes in the file, not those the generator holds, and agrees."""
    content = load(name)
    views = {key: read_view(view)[0] for key, view in content["views"].items()}
    wrong = []
    for vector in content["vectors"]:
        token, request = bytes.fromhex(vector["token_hex"]), read_request(vector["request"])
        found = check(token, request, views[vector["view"]], vector["now_ms"])
        if found != read_decision(vector["expected"]):
            wrong.append((vector["name"], found))

    assert wrong == []


@pytest.mark.parametrize("name", CHECKS)
def test_kernel_gives_each_outcome(name: str) -> None:
    """The kernel gives reason, stage, position and match of each vector, but for a suspect clock."""
    content = load(name)
    wrong = []
    checkers: dict[str, Checker] = {}
    for vector in content["vectors"]:
        # The kernel's own clock decides whether it is suspect; a given time never is.
        if content["views"][vector["view"]].get("clock_suspect"):
            continue
        if vector["view"] not in checkers:
            source = MemorySource()
            source.load(*read_view(content["views"][vector["view"]]))
            checkers[vector["view"]] = Checker(View(source))
        token, request = bytes.fromhex(vector["token_hex"]), read_request(vector["request"])
        # Twice: a chain from the cache is judged like one that is new.
        for turn in ("first", "again"):
            found = kernel_decision(checkers[vector["view"]], token, request, vector["now_ms"])
            if found != read_decision(vector["expected"]):
                wrong.append((vector["name"], turn, found, vector["expected"]))

    assert wrong == []


def test_text_forms_decode_as_stated() -> None:
    """Oracle and ``Token.parse`` read each text form, or refuse it."""
    for vector in load("text_forms.json")["vectors"]:
        assert cases_text.decode(vector["text"]) == vector["expected"], vector["name"]
        if "problem" in vector["expected"]:
            with pytest.raises(MalformedToken):
                Token.parse(vector["text"])
        else:
            assert Token.parse(vector["text"]).data.hex() == vector["expected"]["token_hex"], vector["name"]


def test_files_are_freshly_generated() -> None:
    """A fresh generation gives the committed files, byte for byte."""
    for name, text in generate.contents().items():
        assert (VECTORS / name).read_text(encoding="utf-8") == text, f"{name} is not what generate.py writes"


def test_every_reason_has_a_vector() -> None:
    """Each reason and each stage of the format is the outcome of a vector."""
    found: Counter[Any] = Counter()
    for name in CHECKS:
        found.update(v["expected"]["reason"] for v in load(name)["vectors"])
        found.update(v["expected"]["stage"] for v in load(name)["vectors"])

    assert [word.name for word in (*Reason, *Stage) if not found[word.name]] == []


def test_there_are_many_of_each() -> None:
    """At least 150 invalid vectors, and at least 60 that allow and 60 that conditions deny."""
    reasons = Counter(v["expected"]["reason"] for name in CHECKS for v in load(name)["vectors"])

    assert len(load("invalid.json")["vectors"]) >= 150
    assert reasons["ALLOWED"] >= 60
    assert reasons["CONDITION_FAILED"] >= 60
