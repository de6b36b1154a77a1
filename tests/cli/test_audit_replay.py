"""``sessauth audit replay``: what it prints, and how it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sessauth.crypto.keys import KeyStatus
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


def test_another_ceiling_is_tried(folder: Path, tmp_path: Path) -> None:
    """It counts what the ceiling would have done, and leaves with 1 if it refuses a call that was allowed."""
    kept, file = tmp_path / "kept", tmp_path / "next.scopes"
    kept.write_bytes(b'{"owner":"acme"}\n')
    file.write_text('read:files/** where owner == "umbrella"\n')
    run = ("audit", "replay", "--dir", folder, "--ceiling-file", file)

    ran = invoke(*run, "--arguments", kept)
    assert ran.code == 1
    assert ran.out.splitlines()[-7:] == [
        "nothing was found",
        "by the ceiling, of the allowed calls of 1 session(s):",
        "       0 admitted",
        "       1 refused",
        "       0 undecided",
        "  CALLS  ACTION  RESOURCE  REFUSED",
        "  1      read    files/a   CONDITION_FAILED by scope 0, condition 0, argument owner",
    ]
    assert invoke(*run, "--arguments", kept, "--json").json["trial"]["refused_calls"] == [
        {
            **{"calls": 1, "action": "read", "resource": "files/a", "reason": "CONDITION_FAILED"},
            **{"scope": 0, "clause": 0, "argument": "owner"},
        }
    ]
    without = invoke(*run)
    assert (without.code, without.out.splitlines()[-1]) == (0, "       1 undecided: 1 arguments")
    other = invoke(*run, "--arguments", kept, "--purpose", "another")
    assert (other.code, "of 0 session(s)" in other.out) == (0, True)


@pytest.mark.parametrize(
    ("options", "content", "why"),
    [
        (["--purpose", "triage"], None, "--purpose: is for --ceiling-file"),
        ([], "read:** needs uses(1)\n", "a ceiling carries no needs"),
        ([], "# nothing\n", "holds no scope"),
    ],
)
def test_a_ceiling_that_can_not_be_tried_is_refused(
    folder: Path, tmp_path: Path, options: list[str], content: str | None, why: str
) -> None:
    """Nothing is replayed then; the message names the option."""
    if content is not None:
        file = tmp_path / "next.scopes"
        file.write_text(content)
        options = [*options, "--ceiling-file", str(file)]
    ran = invoke("audit", "replay", "--dir", folder, *options)
    assert (ran.code, ran.out) == (2, "")
    assert why in ran.err
    assert "--ceiling-file" in ran.err


def test_no_name_of_a_trial_moves_a_cursor(tmp_path: Path) -> None:
    """Arguments are named by agents."""
    play = Play(tmp_path / "audit")
    play.do(add_key("1", ISSUER.public, status=KeyStatus.ACTIVE), NOW)
    scopes: list[Any] = [Scope.parse("read:** free *").to_record()]
    play.do(open_session("2", SESSION, scopes, subject="s", ttl_ms=3_600_000), NOW)
    arguments = b'{"\\u001b[2J":1}'
    assert play.check(token(root("read:** free *")), ask(resource=b"files/a", arguments=arguments))
    play.close()
    kept, file = tmp_path / "kept", tmp_path / "next.scopes"
    kept.write_bytes(arguments + b"\n")
    file.write_text("read:files/** where owner absent\n")
    ran = invoke(
        *("audit", "replay", "--dir", tmp_path / "audit", "--ceiling-file", file, "--arguments", kept)
    )
    assert ran.code == 1
    assert "\x1b" not in ran.out
    assert "argument \\u001b[2J" in ran.out
