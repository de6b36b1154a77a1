"""Cables that are pulled, short: tests/cluster/cuts.py has all cases."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support.etcd_cluster import program
from tests.support.namespaces import refusal
from tests.support.tree import ROOT

BOUND_SECONDS = 3.0


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """The cases that are run here; skipped, with the kernel's own words, where it gives no namespaces."""
    program()
    problem = refusal()
    if problem:
        pytest.skip(f"needs network namespaces: {problem}")
    command = [sys.executable, "-m", "tests.cluster.cuts", "--json", "leader", "follower"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=300)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_a_leader_that_is_cut_off(found: dict[str, Any]) -> None:
    """Its host allows nothing behind the bound, and nothing that it acknowledged is lost."""
    row = found["leader"]
    assert row["last allow"] < BOUND_SECONDS
    assert row["ends acknowledged"] >= 5
    assert row["ends lost"] == 0


def test_a_follower_that_is_cut_off(found: dict[str, Any]) -> None:
    """It allows nothing behind the bound and allows again, and the servers notice nothing."""
    row = found["follower"]
    assert row["last allow"] < BOUND_SECONDS
    assert row["others that denied"] == 0
