"""The entry points that people and CI use."""

from __future__ import annotations

import re
import shutil
import subprocess

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
