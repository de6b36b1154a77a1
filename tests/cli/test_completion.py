from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.markdown import Document
from tests.support.tree import ROOT

SOURCE = next(block for block in Document(ROOT / "docs" / "cli.md").blocks("sh") if "bash_source" in block)


def _completed(*words: str) -> set[str]:
    """Return what bash offers for the last of ``words``, after the line that docs/cli.md names."""
    typed = " ".join(f"'{word}'" for word in words)
    script = (
        f"{SOURCE}\nCOMP_WORDS=({typed}) COMP_CWORD={len(words) - 1}\n"
        "complete -p sessauth >/dev/null && _sessauth_completion sessauth\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    answer = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "PATH": f"{Path(sys.prefix, 'bin')}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.stderr == ""
    return set(answer.stdout.split())


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("sessauth", "se"), {"session", "serve"}),
        (("sessauth", "session", "lis"), {"list"}),
        (("sessauth", "session", "list", "--st"), {"--status"}),
        (("sessauth", "session", "list", "--status", ""), {"active", "suspended", "ended"}),
    ],
    ids=["command", "subcommand", "option", "value"],
)
def test_bash_completes(words: tuple[str, ...], offered: set[str]) -> None:
    """Commands, their subcommands, options and the values of an option are completed in bash."""
    assert _completed(*words) == offered
