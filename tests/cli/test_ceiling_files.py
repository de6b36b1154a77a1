"""``session open`` with ceilings from files: one file, or a folder with a file for each purpose."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Ran, Service

SCOPES = ["read:mcp/mail/** free *", 'write:mcp/mail/send where to == "ana" and body present']


@pytest.fixture
def opens(service: Service) -> object:
    """Run ``session open`` and return what it printed."""

    def run(*options: object, stdin: str | None = None) -> Ran:
        return service("session", "open", "--subject", "s", *options, "--json", stdin=stdin)

    return run


def ceiling(ran: Ran) -> list[str]:
    """Return the one layer of the session that was opened."""
    (layer,) = ran.json["ceilings"]
    return list(layer)


def test_a_ceiling_is_read_from_a_file(opens, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """One scope a line; empty lines and comments are none; options come first; stdin is a file."""
    file = tmp_path / "mail.scopes"
    file.write_text(f"# learnt from 15 sessions\n\n{SCOPES[0]}\n  {SCOPES[1]}\n")

    assert ceiling(opens("--ceiling-file", file)) == SCOPES
    assert ceiling(opens("--ceiling", "read:x", "--ceiling-file", file)) == ["read:x", *SCOPES]
    assert ceiling(opens("--ceiling-file", "-", stdin=SCOPES[1])) == SCOPES[1:]


def test_a_purpose_has_its_ceiling_in_a_folder(  # type: ignore[no-untyped-def]
    opens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``PURPOSE.scopes``; the folder can be set once for all; a given ceiling goes before it."""
    (tmp_path / "triage of tickets.scopes").write_text(SCOPES[1])

    assert ceiling(opens("--purpose", "triage of tickets", "--ceilings", tmp_path)) == SCOPES[1:]
    assert opens("--purpose", "another", "--ceilings", tmp_path).code == 2
    monkeypatch.setenv("SESSAUTH_CEILINGS", str(tmp_path))
    assert ceiling(opens("--purpose", "triage of tickets")) == SCOPES[1:]
    assert ceiling(opens("--purpose", "triage of tickets", "--ceiling", "read:x")) == ["read:x"]


@pytest.mark.parametrize("purpose", ["", "../secret", "a/b", ".hidden", "a\\b", "x.", "é", "a" * 200])
def test_a_purpose_that_names_no_file_is_refused(opens, tmp_path: Path, purpose: str) -> None:  # type: ignore[no-untyped-def]
    """No path leads out of the folder."""
    (tmp_path / "secret.scopes").write_text(SCOPES[0])
    (tmp_path / "in").mkdir()
    ran = opens("--purpose", purpose, "--ceilings", tmp_path / "in")

    assert (ran.code, "file's name" in ran.err) == (2, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no scope"),
        ("# only words\n", "holds no scope"),
        ("read:a\nread a\n", "line 2"),
        ("\n".join(f"read:a{n}" for n in range(65)), "more than 64"),
    ],
)
def test_a_bad_file_opens_nothing(opens, tmp_path: Path, text: str, words: str) -> None:  # type: ignore[no-untyped-def]
    """The message names the file and the line."""
    file = tmp_path / "bad.scopes"
    file.write_text(text)
    ran = opens("--ceiling-file", file)

    assert (ran.code, words in ran.err) == (2, True)
    assert opens("--ceiling-file", tmp_path / "missing").code == 2
    assert opens().code == 2


def test_new_calls_by_approval_need_somebody_to_ask(service: Service) -> None:
    """``--new approval`` and ``--approver`` belong together."""
    assert service("session", "report", "--purpose", "x", "--new", "approval").code == 2
    assert service("session", "report", "--purpose", "x", "--approver", "A" * 43).code == 2
    assert service("session", "report", "--purpose", "nobody's", "--scopes-only").code == 2
