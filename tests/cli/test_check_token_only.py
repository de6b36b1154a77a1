"""``check --token-only``: whether a token itself stands, by a server and by a state folder."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from .conftest import COMMAND, Service


@pytest.fixture
def token(service: Service, tmp_path: Path) -> tuple[str, Path]:
    """A session and the file of a token for it."""
    opened = service("session", "open", "--subject", "agent", "--ceiling", "read:files/**", "--json")
    session, file = str(opened.json["id"]), tmp_path / "token"
    minted = service(
        "token", "mint", session, "--scope", "read:files/a", "--audience", "gateway", "--out", file
    )
    assert minted.code == 0, minted.err
    return session, file


@pytest.mark.parametrize("by_state", [False, True])
def test_it_stands_until_its_session_ends(service: Service, token: tuple[str, Path], by_state: bool) -> None:
    """Allowed by no scope, with the session, until the session ends."""
    session, file = token
    state = ("--state", service.home / "state") if by_state else ()
    ask = ("check", file, "--token-only", "--audience", "gateway", *state)

    stands = service(*ask)
    assert (stands.code, stands.out.splitlines()[:2]) == (
        *(0, ["ALLOWED", "  by no scope: the token stands, and no call was judged"]),
    )
    assert session in stands.out
    document = service(*ask, "--json").json
    assert (document["allowed"], document["matched"]) == (True, None)

    assert service("session", "end", session).code == 0
    ended = service(*ask, "--json")
    assert (ended.code, ended.json["reason"]) == (1, "SESSION_ENDED")


@pytest.mark.parametrize(
    "more",
    [
        *(("read",), ("read", "files/a"), ("--arguments", "{}"), ("--tool", "{}"), ("--retry-id", "r")),
        *(("--permit-ms", "100"), ("--proof", "p")),
    ],
)
def test_a_call_beside_it_is_a_usage_error(
    service: Service, token: tuple[str, Path], more: tuple[str, ...]
) -> None:
    """It judges no call, so none may be given."""
    ran = service("check", token[1], *more, "--token-only", "--audience", "gateway")

    assert ran.code == 2
    assert "--token-only checks no call" in ran.err


@pytest.mark.parametrize("call", [(), ("read",), ("read", ""), ("", "files/a")])
def test_without_it_a_call_is_required(
    service: Service, token: tuple[str, Path], call: tuple[str, ...]
) -> None:
    """A script whose variables are empty does not ask about the token alone by accident."""
    ran = service("check", token[1], *call, "--audience", "gateway")

    assert ran.code == 2
    assert "--token-only" in ran.err


def test_it_can_be_watched(service: Service, token: tuple[str, Path]) -> None:
    """The end of the session withdraws it, for a connection that stays open."""
    session, file = token
    command = [*COMMAND, "--home", str(service.home), "check", str(file), "--token-only"]
    watching = subprocess.Popen(
        [*command, "--audience", "gateway", "--watch", "--json"], stdout=subprocess.PIPE, text=True
    )
    assert watching.stdout is not None
    assert json.loads(watching.stdout.readline())["allowed"] is True
    assert service("session", "end", session).code == 0
    rest, _ = watching.communicate(timeout=30)

    assert (watching.returncode, json.loads(rest)["reason"]) == (1, "SESSION_ENDED")
