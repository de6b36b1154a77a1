"""``session open --mint``: a session and its first token, or neither."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from sessauth.tokens.token import Token
from tests.cli.conftest import Service

OPEN = ("session", "open", "--subject", "s", "--ceiling", "read,write:files/**")


def test_both_in_one_call(service: Service, tmp_path: Path) -> None:
    """The token is in a new file that only its owner reads; without scopes it has the ceiling's."""
    file = tmp_path / "agent.token"
    ran = service(*OPEN, "--mint", file, "--audience", "gw", "--token-ttl", "5m", "--quiet")
    token = Token.parse(file.read_text())

    assert ran.code == 0
    assert token.session_id.hex() == ran.out.strip()
    assert [str(scope) for scope in token.inspect().blocks[0].scopes] == ["read,write:files/**"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    narrower = tmp_path / "narrower.token"
    assert service(*OPEN, "--mint", narrower, "--audience", "gw", "--scope", "read:files/a").code == 0
    assert "read:files/a" in str(Token.parse(narrower.read_text()).inspect().blocks[0].scopes[0])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--audience", "gw"], "--mint"),
        (["--mint", "FILE"], "audience"),
        (["--mint", "FILE", "--audience", "gw", "--scope", "delete:x"], "wider"),
        (["--mint", "THERE", "--audience", "gw"], "exists"),
        (["--mint", "NOWHERE", "--audience", "gw"], "--mint: can't create"),
    ],
    ids=["no-mint", "no-audience", "wider", "file-exists", "no-folder"],
)
def test_neither(service: Service, tmp_path: Path, options: list[str], word: str) -> None:
    """An error opens no session and writes no file."""
    (tmp_path / "there").write_text("kept")
    names = {each: str(tmp_path / each.lower()) for each in ("FILE", "THERE")}
    names["NOWHERE"] = str(tmp_path / "none" / "token")
    before = len(service("session", "list", "--all", "--json").json)
    ran = service(*OPEN, *(names.get(each, each) for each in options))

    assert ran.code != 0
    assert word in ran.err
    assert len(service("session", "list", "--all", "--json").json) == before
    assert not (tmp_path / "file").exists()
    assert (tmp_path / "there").read_text() == "kept"
