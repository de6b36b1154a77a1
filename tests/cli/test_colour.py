"""Verdicts are in colour for people at a terminal, and nowhere else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.newcomer import environment, terminal

from .conftest import COMMAND, Service

GREEN, RED, END = "\x1b[32m\x1b[1m", "\x1b[31m\x1b[1m", "\x1b[0m"
LINES = [
    "ALLOWED",
    "DENIED at stage scope",
    "  allowed     120    1.0    0.5  agent: read x",
    "2026-01-31T12:00:00Z  denied   SESSION_ENDED",
    "yes      read  files/a",
    "no       read  files/b",
    "subject  ALLOWED by nobody",
    "no receipt: the server could not make one yet",
]
SHOWN = [
    f"{GREEN}ALLOWED{END}",
    f"{RED}DENIED{END} at stage scope",
    f"  {GREEN}allowed{END}     120    1.0    0.5  agent: read x",
    f"2026-01-31T12:00:00Z  {RED}denied{END}   SESSION_ENDED",
    f"{GREEN}yes{END}      read  files/a",
    f"{RED}no{END}       read  files/b",
    *LINES[6:],
]
PROGRAM = f"from sessauth.cli.output import show; show({LINES!r})"


@pytest.mark.parametrize(
    ("more", "shown"),
    [({}, SHOWN), ({"NO_COLOR": "1"}, LINES), ({"TERM": "dumb"}, LINES), ({"NO_COLOR": ""}, SHOWN)],
    ids=["terminal", "NO_COLOR", "dumb terminal", "NO_COLOR empty"],
)
def test_verdicts_are_coloured_on_a_terminal(more: dict[str, str], shown: list[str], tmp_path: Path) -> None:
    """The word in front of a line is green or red; the same word within a text is not."""
    env = {**environment(tmp_path), **more}
    with terminal([sys.executable, "-c", PROGRAM], env, tmp_path) as screen:
        assert screen.end() == 0
        assert screen.shown.splitlines() == shown


def test_what_is_piped_has_no_colour(tmp_path: Path) -> None:
    """A file or a program gets plain text."""
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment(tmp_path), capture_output=True, text=True, check=True
    )

    assert answer.stdout.splitlines() == LINES


def test_a_denied_check_is_red_at_a_terminal(service: Service, tmp_path: Path) -> None:
    """``sessauth check`` colours its answer, and still ends with 1."""
    session = service(
        "session", "open", "--subject", "a", "--ceiling", "read:files/**", "--quiet"
    ).out.strip()
    token = tmp_path / "token"
    service("token", "mint", session, "--scope", "read:files/**", "--audience", "g", "--out", token)
    command = [
        *COMMAND,
        "--home",
        str(service.home),
        "check",
        str(token),
        "write",
        "files/a",
        "--audience",
        "g",
    ]
    with terminal(command, environment(tmp_path), tmp_path) as screen:
        assert screen.end() == 1
        assert screen.shown.startswith(f"{RED}DENIED{END} at stage scope")
