"""The demo is a promise: what it shows is what happens."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def test_the_demo_plays_six_stories_to_their_end() -> None:
    """Every decision is the expected one, by both verifiers, and no token is accepted at the end."""
    answer = subprocess.run(
        [sys.executable, "-m", "sessauth.cli.main", "demo", "--json"],
        capture_output=True,
        text=True,
        timeout=90,
    )

    assert answer.returncode == 0, answer.stdout + answer.stderr
    report = json.loads(answer.stdout)
    assert len({call["story"] for call in report["calls"]}) == 6
    assert [
        call for call in report["calls"] if not call["remote"] == call["embedded"] == call["expected"]
    ] == []
    assert {call["remote"] for call in report["calls"]} >= {
        *("ALLOWED", "APPROVAL_REQUIRED", "LEASE_LAPSED"),
        *("PROOF_REQUIRED", "REPLAYED", "BAD_PROOF"),
    }
    assert report["tokens_presented_again"] >= 6
    assert report["accepted"] == []
    evidence = report["evidence"]
    assert evidence["holds"]
    assert evidence["receipts"] >= 6
    assert set(evidence["verifiers"]) == {
        *("gateway", "sessauth/control", "sessauth/worker-0", "sessauth/worker-1"),
    }
    assert evidence["tokens_refused"] == report["tokens_presented_again"]
    assert evidence["decisions"] > len(report["calls"])
    assert evidence["enough"] != evidence["granted"] != []


def test_the_demo_of_identity_stops_all_agents_of_a_login() -> None:
    """Each step comes out as expected at three gateways, and every session is proven closed."""
    pytest.importorskip("joserfc")
    answer = subprocess.run(
        [sys.executable, "-m", "sessauth.cli.main", "demo", "--identity", "--json"],
        capture_output=True,
        text=True,
        timeout=90,
    )

    assert answer.returncode == 0, answer.stdout + answer.stderr
    report = json.loads(answer.stdout)
    assert [each["step"] for each in report["steps"] if each["expected"] != each["result"]] == []
    assert {each["result"] for each in report["steps"]} == {
        *("opened", "ALLOWED", "SESSION_SUSPENDED", "SESSION_ENDED", "IDENTITY_REQUIRED", "IDENTITY_CUT"),
    }
    assert all(each["ms"] > 0 for each in report["steps"] if each["step"].startswith("risk"))
    assert (report["sessions"], report["not_closed"]) == (4, [])
