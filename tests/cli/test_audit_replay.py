"""``sessauth audit replay``: what it prints, and how it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sessauth.crypto.issuer_key import KeyStatus
from sessauth.model.change import add_key, open_session
from sessauth.scopes.scope import Scope
from tests.support.audit_play import Play
from tests.support.resigned_log import reseal
from tests.vectors.world import ISSUER, NOW, SESSION, ask, root, token

from .conftest import invoke

READ = token(root('read:files/** where owner == "acme"', "read:free/**"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with two decisions that were right."""
    folder = tmp_path_factory.mktemp("log") / "audit"
    play = Play(folder)
    play.do(add_key("1", ISSUER.public, status=KeyStatus.ACTIVE), NOW)
    scopes: list[Any] = [Scope.parse("read:**").to_record()]
    play.do(open_session("2", SESSION, scopes, subject="s", ttl_ms=3_600_000), NOW)
    assert play.check(READ, ask(resource=b"files/a", arguments=b'{"owner":"acme"}'))
    assert not play.check(READ, ask(resource=b"other"))
    play.close()
    return folder


@pytest.fixture(scope="module")
def forged(folder: Path) -> Path:
    """The log with a denial turned into an allow, and a text that would move a cursor."""
    lie = {"allowed": True, "reason": "ALLOWED", "stage": "NONE", "at": None, "matched": [0, 0]}

    def edit(record: dict[str, Any]) -> dict[str, Any]:
        if record["kind"] != "decision" or record["allowed"]:
            return record
        return {**record, **lie, "id": "00\x1b[2J"}

    to = folder.with_name("forged")
    reseal(folder, to, edit)
    return to


def test_a_clean_log_leaves_with_0(folder: Path) -> None:
    """It says how many decisions stand, and what the rest depends on."""
    ran = invoke("audit", "replay", "--dir", folder)

    assert ran.code == 0
    assert ran.out.splitlines() == [
        "2 decisions, 2 changes, 1 chains",
        "       1 confirmed",
        "       0 on trust",
        "       1 undecided: 1 arguments",
        "       0 undecidable",
        "nothing was found",
    ]


def test_arguments_come_from_a_file(folder: Path, tmp_path: Path) -> None:
    """Decisions that are undecided without arguments are decided with them; a missing file is reported."""
    kept = tmp_path / "kept"
    kept.write_bytes(b'{"owner":"acme"}\n')

    ran = invoke("audit", "replay", "--dir", folder, "--arguments", kept, "--json")
    assert (ran.code, ran.json["confirmed"], ran.json["undecided"]) == (0, 2, 0)
    missing = invoke("audit", "replay", "--dir", folder, "--arguments", tmp_path / "none")
    assert missing.code == 2
    assert "none" in missing.err


def test_what_was_found_leaves_with_1(forged: Path) -> None:
    """The record, what it says and what comes out; nothing of it moves a cursor."""
    ran = invoke("audit", "replay", "--dir", forged)

    assert ran.code == 1
    assert "FOUND: 1" in ran.out
    assert "recorded   ALLOWED" in ran.out
    assert "comes out  OUT_OF_SCOPE at stage scope, block 0" in ran.out
    assert "\x1b" not in ran.out


def test_another_session_has_nothing_to_say(forged: Path) -> None:
    """Only decisions of the session that is asked for are made again."""
    ran = invoke("audit", "replay", "--dir", forged, "--session", "11" * 16, "--json")

    assert (ran.code, ran.json["decisions"], ran.json["found"]) == (0, 0, 0)


def test_a_folder_that_is_not_there_leaves_with_5(tmp_path: Path) -> None:
    """The exit code is that of a folder that can't be verified."""
    ran = invoke("audit", "replay", "--dir", tmp_path / "none")

    assert ran.code == 5
    assert "none" in ran.err
