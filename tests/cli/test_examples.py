from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tree import ROOT

from .conftest import Service

EXAMPLES = sorted(path for path in (ROOT / "examples").iterdir() if path.suffix in (".py", ".sh"))


def _promised(path: Path) -> str:
    """Return what an example says that it prints: the indented lines behind ``Prints:``."""
    text = path.read_text().partition("Prints:\n")[2]
    lines = [
        line.removeprefix("#").removeprefix(" ") if path.suffix == ".sh" else line
        for line in text.splitlines()
    ]
    promised = []
    for line in lines[1:]:
        if not line.startswith("    "):
            break
        promised.append(line[4:])
    return "\n".join(promised) + "\n"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_prints_what_it_says(service: Service, path: Path, tmp_path: Path) -> None:
    """Each example runs as it stands, with nothing configured, and prints what it promises."""
    command = tmp_path / "sessauth"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sessauth.cli.main "$@"\n')
    command.chmod(0o700)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SESSAUTH_")},
        "SESSAUTH_HOME": str(service.home),
        "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    program = ["bash", str(path)] if path.suffix == ".sh" else [sys.executable, str(path)]

    ran = subprocess.run(
        program, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )

    assert (ran.stderr, ran.returncode) == ("", 0)
    assert ran.stdout == _promised(path)
    assert len(ran.stdout.splitlines()) >= 3


def test_every_example_is_listed() -> None:
    """The list of examples names each file, and no other."""
    listed = (ROOT / "examples" / "README.md").read_text()

    assert [path.name for path in EXAMPLES if f"]({path.name})" not in listed] == []
    assert listed.count("](") == len(EXAMPLES)
