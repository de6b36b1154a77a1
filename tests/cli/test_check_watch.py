from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from .conftest import COMMAND, Service


def _token(service: Service, folder: Path) -> tuple[str, Path]:
    opened = service("session", "open", "--subject", "agent", "--ceiling", "read:files/**", "--json")
    assert opened.code == 0, opened.err
    session, file = str(opened.json["id"]), folder / "t"
    minted = service(
        "token", "mint", session, "--scope", "read:files/**", "--audience", "gateway", "--out", file
    )
    assert minted.code == 0, minted.err
    return session, file


def _watch(service: Service, token: Path, *more: str) -> subprocess.Popen[str]:
    command = [*COMMAND, "--home", str(service.home), "check", str(token), "read", "files/a"]
    return subprocess.Popen(
        [*command, "--audience", "gateway", "--watch", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("as_json", [False, True])
def test_a_watched_check_stays_until_it_is_withdrawn(service: Service, tmp_path: Path, as_json: bool) -> None:
    """The allow is shown at once; the withdrawal follows when the session ends, and the exit code is 1."""
    session, token = _token(service, tmp_path)
    watching = _watch(service, token, *(["--json"] if as_json else []))
    assert watching.stdout is not None
    first = watching.stdout.readline()
    assert watching.poll() is None

    assert service("session", "end", session).code == 0
    rest, complaints = watching.communicate(timeout=30)

    assert (watching.returncode, complaints) == (1, "")
    if as_json:
        allowed, withdrawn = json.loads(first), json.loads(rest)
        assert (allowed["allowed"], allowed["withdrawn"]) == (True, False)
        assert (withdrawn["allowed"], withdrawn["withdrawn"]) == (False, True)
        assert withdrawn["reason"] == "SESSION_ENDED"
    else:
        assert first == "ALLOWED\n"
        assert "WITHDRAWN at stage session\n" in rest
        assert "SESSION_ENDED" in rest


def test_a_watched_check_that_is_denied_does_not_stay(service: Service, tmp_path: Path) -> None:
    """A denial is shown as ever, with exit code 1."""
    _, token = _token(service, tmp_path)
    ran = service("check", token, "write", "files/a", "--audience", "gateway", "--watch", "--json")

    assert (ran.code, ran.json["reason"], ran.json["withdrawn"]) == (1, "OUT_OF_SCOPE", False)


def test_a_state_folder_can_not_be_watched(service: Service, tmp_path: Path) -> None:
    """--watch is the server's to keep: with --state it is a usage error."""
    _, token = _token(service, tmp_path)
    ran = service("check", token, "read", "files/a", "--state", service.home / "state", "--watch")

    assert ran.code == 2
    assert "--watch" in ran.err
