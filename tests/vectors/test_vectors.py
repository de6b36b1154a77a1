"""Oracle and kernel give each vector's outcome; the files are what the generator writes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from sessauth.crypto.armor import read_text
from sessauth.errors import MalformedToken, ScopeError
from sessauth.scopes.scope import Scope
from sessauth.tokens.token import Token
from sessauth.verifier.verifier import Verifier
from tests.oracle.check import check
from tests.oracle.constants import Reason, Stage
from tests.support.check_entry_points import PATHS, TimedCall
from tests.support.commit_id_source import CommitIdSource
from tests.support.decision_fields import by_object
from tests.support.proof_forger import proof_keys
from tests.support.vector_files import VECTORS, load, read_decision, read_request, read_view
from tests.vectors import cases_scope_texts, cases_text, generate
from tests.vectors.world import AUDIENCE, NOW

# What a message says of a problem that does not stand in it by its name.
_SAID = {
    "prefix": "not a token",
    "too large": "more than 10945",
    "malformed": "malformed|format|together|seed",
}
# Made elsewhere, and kept as they came.
FOREIGN = ("ed25519.json", "second_implementation.json")
CHECKS = (
    "valid.json",
    "invalid.json",
    "conditions.json",
    "elements.json",
    "proofs.json",
    "stands.json",
    *FOREIGN,
)


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


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", CHECKS)
def test_kernel_gives_each_outcome(name: str, path: str, tmp_path: Path) -> None:
    """The kernel gives reason, stage, position and match of each vector by each path to a decision.

    But for a suspect clock: the kernel's own clock decides whether it is; a given time never is.
    """
    content = load(name)
    wrong: list[object] = []
    judged = 0
    for view, record in content["views"].items():
        vectors = [v for v in content["vectors"] if v["view"] == view and not record.get("clock_suspect")]
        calls = [
            TimedCall(bytes.fromhex(v["token_hex"]), read_request(v["request"]), v["now_ms"]) for v in vectors
        ]
        source = CommitIdSource()
        view_of_it, ceilings = read_view(record)
        source.load(view_of_it, ceilings)
        judge = PATHS[path](source, Random(f"{name} {view}"))
        judge.prepare([vector.token for vector in calls[:1]])
        # Twice: a chain from the cache is judged like one that is new.
        for turn in ("first", "again"):
            judge.use(proof_keys(view_of_it.host, tmp_path, NOW))
            for vector, told in zip(vectors, judge.judge(calls), strict=True):
                judged += told is not None
                if told is not None and told.outcome != read_decision(vector["expected"]):
                    wrong.append((vector["name"], turn, told, vector["expected"]))

    assert wrong == []
    # Some requests can't be made on the wire, and cold paths take their share.
    assert judged >= len(content["vectors"]) * (0.3 if path == "cold" else 1.8)


def test_text_forms_decode_as_stated() -> None:
    """Oracle and ``Token.parse`` read each text form, or refuse it."""
    for vector in load("text_forms.json")["vectors"]:
        text, expected = vector["text"], dict(vector["expected"])
        reason = expected.pop("verifier", "")
        assert cases_text.decode(text) == expected, vector["name"]
        assert cases_text.refused(text) == reason, vector["name"]
        if "problem" in expected:
            with pytest.raises(MalformedToken, match=_SAID.get(expected["problem"], expected["problem"])):
                Token.parse(text)
        else:
            assert read_text(text)[0].hex() == expected["token_hex"], vector["name"]


@pytest.mark.parametrize("form", ["str", "bytes"])
def test_a_verifier_refuses_a_text_as_stated(form: str) -> None:
    """A text of no token has its reason at stage ``decode``; a token's text is judged as its bytes are."""
    source = CommitIdSource()
    source.load(*read_view(load("valid.json")["views"]["plain"]))
    verifier = Verifier(source, audience=AUDIENCE)
    for vector in load("text_forms.json")["vectors"]:
        text, expected = vector["text"], vector["expected"]
        shown = text if form == "str" else text.encode()
        found = verifier._check(shown, "read", "files/a.txt", now_ms=NOW)
        if "verifier" in expected:
            assert (found.reason.name, found.stage.name) == (expected["verifier"], "DECODE"), vector["name"]
        else:
            by_bytes = verifier._check(
                bytes.fromhex(expected["token_hex"]), "read", "files/a.txt", now_ms=NOW
            )
            assert by_object(found) == by_object(by_bytes), vector["name"]


def test_scope_texts_read_and_print_as_stated() -> None:
    """Oracle and ``Scope.parse`` read each text to the same bytes and print them alike, or refuse it."""
    for vector in load("scope_texts.json")["vectors"]:
        text, expected = vector["text"], vector["expected"]
        assert cases_scope_texts.read(text) == expected, text
        if "problem" in expected:
            with pytest.raises(ScopeError):
                Scope.parse(text)
        else:
            found = Scope.parse(text)
            assert (found.encode().hex(), str(found)) == (expected["encoded_hex"], expected["printed"]), text
            assert str(Scope.parse(expected["printed"])) == expected["printed"]


@pytest.mark.slow
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
