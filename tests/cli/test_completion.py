"""Completion in bash, zsh and fish, by the script that ``sessauth completion`` prints."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SHELLS = ("bash", "zsh", "fish")
MISSING = [shell for shell in SHELLS if shutil.which(shell) is None]
if os.environ.get("SESSAUTH_TEST_SHELLS") and MISSING:
    raise RuntimeError(f"not installed: {', '.join(MISSING)}")
PATH = f"{Path(sys.prefix, 'bin')}:{os.environ['PATH']}"


def _bash(words: tuple[str, ...]) -> str:
    typed = " ".join(f"'{word}'" for word in words)
    return (
        f'eval "$(sessauth completion bash)"\nCOMP_WORDS=({typed}) COMP_CWORD={len(words) - 1}\n'
        # Outside of a completion there are no options to set.
        "compopt() { printf '%s\\n' \"$@\"; }\n"
        "complete -p sessauth >/dev/null && _sessauth_completion sessauth\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )


def _zsh(words: tuple[str, ...]) -> str:
    typed = " ".join(f"'{word}'" for word in words)
    return (
        # Functions of zsh's line editor, which runs on a terminal alone.
        "compdef() { : }\ncompadd() { print -rl -- ${(P)${@[-1]}} }\n"
        "_describe() { print -rl -- ${${(P)3}%%:*} }\n_path_files() { print -r -- default }\n"
        f'eval "$(sessauth completion zsh)"\nwords=({typed}) CURRENT={len(words)}\n_sessauth_completion\n'
    )


def _fish(words: tuple[str, ...]) -> str:
    return f"sessauth completion fish | source\ncomplete -C '{' '.join(words)}' | string split -f1 \\t\n"


TYPED: dict[str, tuple[list[str], Callable[[tuple[str, ...]], str]]] = {
    "bash": (["bash", "--norc", "-c"], _bash),
    "zsh": (["zsh", "-f", "-c"], _zsh),
    "fish": (["fish", "--no-config", "-c"], _fish),
}


def _completed(shell: str, folder: Path, *words: str) -> set[str]:
    """Return what a shell offers for the last of ``words``, in ``folder``."""
    command, script = TYPED[shell]
    answer = subprocess.run(
        [*command, script(words)],
        env={**os.environ, "PATH": PATH, "HOME": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.stderr == ""
    return set(answer.stdout.split())


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    """Give each shell in turn."""
    if request.param in MISSING:
        pytest.skip(f"needs {request.param}")
    return str(request.param)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("sessauth", "se"), {"session", "serve"}),
        (("sessauth", "session", "lis"), {"list"}),
        (("sessauth", "session", "list", "--st"), {"--status"}),
        (("sessauth", "session", "list", "--status", ""), {"active", "suspended", "ended"}),
        (("sessauth", "completion", ""), set(SHELLS)),
    ],
    ids=["command", "subcommand", "option", "value", "argument"],
)
def test_words_are_completed(shell: str, words: tuple[str, ...], offered: set[str], tmp_path: Path) -> None:
    """Commands, their subcommands, options and the values of options and arguments are offered."""
    assert _completed(shell, tmp_path, *words) == offered


@pytest.mark.parametrize(
    "words",
    [
        ("sessauth", "token", "inspect", "dep"),
        ("sessauth", "session", "open", "--ceiling-file", "dep"),
        ("sessauth", "state", "backup", "dep"),
    ],
    ids=["argument", "option", "folder"],
)
def test_files_are_completed(shell: str, words: tuple[str, ...], tmp_path: Path) -> None:
    """The shell is told to complete a file where one is read, ``-`` for stdin permitted or not."""
    (tmp_path / "deploy.token").touch()

    # fish answers with the files, the others have a function for that.
    expected = {"deploy.token"} if shell == "fish" else {"default", "-o"} if shell == "bash" else {"default"}
    assert _completed(shell, tmp_path, *words) == expected
