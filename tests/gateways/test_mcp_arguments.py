"""The arguments that ``mcp guard`` stores: those that the log has digests of, for its owner, bounded."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest

from sessauth.audit.layout import ArgumentsKey
from sessauth.audit.replay import read_arguments
from sessauth.errors import UsageError
from sessauth.gateways.mcp_proxy import serve
from sessauth.gateways.mcp_proxy.serve import ArgumentFile
from tests.guard.world import World
from tests.support.mcp_wire import Wire, text_of

OPTION = "--record-arguments"


def test_what_was_judged_is_stored_for_its_owner(world: World, tmp_path: Path) -> None:
    """Allowed and denied calls, once each, in the form that was judged; appended by the next connection."""
    file = tmp_path / "arguments.jsonl"
    for amount in (5, 500):
        with Wire(world, world.token(), OPTION, str(file)) as wire:
            wire.handshake()
            for _ in range(2):
                text_of(wire.call("pay", {"amount": amount}))
            wire.call("drop_tables", {"all": True})
            assert wire.end() == 0

    lines = file.read_text().splitlines()
    assert set(lines) == {'{"all":true}', '{"amount":5}', '{"amount":500}'}
    assert lines.count('{"amount":5}') == 1
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_log_finds_them_by_their_digests(tmp_path: Path) -> None:
    """A line is the argument bytes of a call; text with line feeds is escaped in JSON."""
    key = ArgumentsKey.of_folder(tmp_path)
    file = ArgumentFile(tmp_path / "f", OPTION)
    arguments = ('{"to":"ana"}', '{"text":"a\\nb","x":"\u202e"}', "{}")
    for each in arguments:
        file.record(each)
    file.close()
    found = read_arguments(tmp_path / "f", tmp_path)
    assert found == {key.digest(each.encode()): each.encode() for each in arguments}


def test_tokens_are_left_out(tmp_path: Path) -> None:
    """A call that shows a token, a credential or a part of one; and what would be two lines."""
    file = ArgumentFile(tmp_path / "f", OPTION)
    for each in ('{"t":"sessauth_token_CAESabcd"}', '{"t":"sessauth_key_abcdef"}', '{"a":\n1}'):
        file.record(each)
    file.record('{"t":"sessauth"}')
    file.close()
    assert (tmp_path / "f").read_text() == '{"t":"sessauth"}\n'


def test_the_file_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It stops once, says so, and never cuts a line; the size of before counts."""
    monkeypatch.setattr(serve, "MAX_BYTES", 20)
    for _ in range(2):
        file = ArgumentFile(tmp_path / "f", OPTION)
        with caplog.at_level(logging.WARNING):
            for number in range(10):
                file.record(f'{{"n":{number}}}')
        file.close()
    assert (tmp_path / "f").read_text() == '{"n":0}\n{"n":1}\n'
    assert caplog.text.count("no longer recorded") == 2
    assert '{"n"' not in caplog.text


@pytest.mark.parametrize("kind", ["readable", "link", "folder", "fifo"])
def test_another_kind_of_file_is_refused(tmp_path: Path, kind: str) -> None:
    """Nothing is written to it, and its mode stays."""
    path = tmp_path / "f"
    if kind == "readable":
        path.touch()
        path.chmod(0o644)
    elif kind == "link":
        path.symlink_to(tmp_path / "other")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path, 0o600)
    with pytest.raises(UsageError, match=OPTION):
        ArgumentFile(path, OPTION)
    assert not (tmp_path / "other").exists()
