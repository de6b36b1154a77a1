"""The entry points that people and CI use."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.tree import ROOT

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = sorted(set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.M)))
# Targets that the project promises.
PROMISED = {
    "demo",
    "demo-cluster",
    "serve",
    "test",
    "test-long",
    "lint",
    "bench",
    "bench-quick",
    "proto",
    "vectors",
    "clean",
}


def test_the_promised_targets_exist() -> None:
    """The Makefile has every target that the documents promise."""
    assert set(TARGETS) >= PROMISED


def test_every_target_is_phony() -> None:
    """A file or folder named like a target, such as build/, does not stop the target from running."""
    phony = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)$", MAKEFILE, re.M)
    assert phony is not None

    assert set(phony[1].replace("\\", " ").split()) == set(TARGETS)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("target", TARGETS)
def test_every_target_can_be_planned(target: str) -> None:
    """``make -n`` knows how to make each target from this tree."""
    answer = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)

    assert answer.returncode == 0, answer.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(("version", "said"), [("old", "is no Python >= 3.11"), ("new", "made again")])
def test_make_names_a_python_that_is_too_old_and_mends_an_environment_without_pip(
    version: str, said: str, tmp_path: Path
) -> None:
    """A Python that is named is looked at; what a venv without ensurepip left is made again."""
    named, left = tmp_path / "python", tmp_path / "venv" / "bin" / "python"
    named.write_text(f'#!/bin/sh\ncase "$1" in -c) [ {version} = new ];; *) echo made again >&2;; esac\n')
    left.parent.mkdir(parents=True)
    left.write_text("#!/bin/sh\nexit 1\n")
    for each in (named, left):
        each.chmod(0o755)

    answer = subprocess.run(
        ["make", "install", f"PYTHON={named}", f"VENV={left.parents[1]}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert answer.returncode != 0
    assert said in answer.stderr


def test_ci_fails_when_a_section_fails() -> None:
    """.ci/run exits non-zero and names the section when one fails; an unknown section fails."""
    answer = subprocess.run([str(ROOT / ".ci" / "run"), "no-such-section"], capture_output=True, text=True)

    assert answer.returncode == 1
    assert "FAILED: no-such-section" in answer.stdout


def test_ci_sections_are_defined() -> None:
    """Each section that .ci/run lists has its function, and .ci/run reads nothing from its caller."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    listed = re.search(r"^SECTIONS=\((.*)\)$", script, re.M)
    assert listed is not None
    defined = set(re.findall(r"^([a-z_0-9]+)\(\) \{$", script, re.M))
    renamed = dict(re.findall(r"\[([\w.]+)\]=(\w+)", script))

    assert {renamed.get(name, name) for name in listed[1].split()} <= defined
    assert "exec </dev/null" in script
