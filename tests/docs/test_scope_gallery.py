"""Policies of other systems as scopes, in ``examples/scopes``: each admits and refuses its calls."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from typing import Any

import pytest

from sessauth.cli.commands.local.scope import Tried, try_scopes
from sessauth.scopes.scope import Scope
from tests.support.interop_server import ROOT

FOLDER = ROOT / "examples" / "scopes"
POLICIES: list[dict[str, Any]] = [
    policy
    for path in sorted(FOLDER.glob("*.toml"))
    for policy in tomllib.loads(path.read_text(encoding="utf-8"))["policy"]
]
SAID = [policy for policy in POLICIES if "scopes" in policy]


def tried(policy: dict[str, Any], call: str, facts: dict[str, Any], **more: Any) -> list[Tried]:
    """Return the scopes that match a call, which is ACTION RESOURCE JSON."""
    action, resource, *stated = call.split(" ", 2)
    arguments = {**json.loads(stated[0]), **more} if stated else more
    data = json.dumps(arguments).encode() if stated or more else b""
    found, _ = try_scopes(policy["scopes"], action, resource, data, facts)
    return [each for each in found if each.matched]


@pytest.mark.parametrize("policy", SAID, ids=[policy["name"] for policy in SAID])
def test_a_policy_admits_and_refuses_the_calls_beside_it(policy: dict[str, Any]) -> None:
    """An approval is asked for by each scope that matches a call which needs one."""
    facts = policy.get("facts", {})
    assert policy["deny"]
    assert policy.get("allow") or policy["asks"]
    for call in policy.get("allow", ()):
        assert any("approval(" not in each.scope for each in tried(policy, call, facts)), call
    for call in policy.get("asks", ()):
        matched = tried(policy, call, facts)
        assert matched, call
        assert all("approval(" in each.scope for each in matched), call
    for call in policy["deny"]:
        assert not tried(policy, call, facts), call
    otherwise = policy.get("otherwise", {"facts": {}, "deny": ()})
    for call in otherwise["deny"]:
        assert not tried(policy, call, otherwise["facts"]), call


@pytest.mark.parametrize("policy", SAID, ids=[policy["name"] for policy in SAID])
def test_an_argument_that_a_policy_does_not_name_is_refused(policy: dict[str, Any]) -> None:
    """Only a scope that names no argument, or is free in all, takes one more."""
    scopes = [Scope.parse(text) for text in policy["scopes"]]
    is_open = any(each.everything_free or not (each.conditions or each.free_paths) for each in scopes)
    for call in (*policy.get("allow", ()), *policy.get("asks", ())):
        assert is_open or not tried(policy, call, policy.get("facts", {}), unexpected=1), call


def test_most_of_the_kinds_are_said() -> None:
    """Fifty and more; each of the others says what a scope lacks, and what to do instead."""
    assert len(SAID) >= 50
    assert all(policy["missing"] for policy in POLICIES if policy not in SAID)
    assert max(Counter(policy["name"] for policy in POLICIES).values()) == 1
    assert {policy["like"] for policy in POLICIES} >= {
        "AWS IAM", "AgentCore Policy", "Cedar", "GitHub", "OPA for MCP", "Progent", "SQL", "Slack", "egress",
        "money", "tenuo",
    }  # fmt: skip
