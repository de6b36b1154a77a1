"""Exported events against the schema: OCSF 1.6.0, as far as our events use it.

The tables below state for each class and object which attributes are required and which there are; they are
taken from the tag 1.6.0 of github.com/ocsf/ocsf-schema.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sessauth.audit import layout, ocsf
from sessauth.audit.read.query import Entry, FolderReader
from sessauth.model.change import ChangeKind, ban_sessions, narrow_session
from sessauth.model.session import SessionSelector
from tests.support.audit_log import SESSION, change, decision
from tests.support.changes import scopes

from .conftest import SampleLog

_BASE = {"activity_id", "category_uid", "class_uid", "metadata", "severity_id", "time", "type_uid"}
_BASE_OPTIONAL = {
    *("activity_name", "category_name", "class_name", "type_name", "severity", "message", "status"),
    *("status_code", "status_detail", "status_id", "unmapped"),
}
_SECURITY = {"action", "action_id", "disposition", "disposition_id"}
_CLASSES: dict[int, tuple[set[str], set[str], set[int]]] = {
    3003: ({"user"}, {"actor", "session", "privileges"}, {1, 2}),
    3004: ({"entity"}, {"actor", "comment", "entity_result"}, set(range(1, 14))),
    6003: ({"actor", "api", "src_endpoint"}, {"resources", *_SECURITY}, {1, 2, 3, 4}),
}
_OBJECTS: dict[str, tuple[set[str], set[str]]] = {
    "metadata": (
        {"product", "version"},
        {
            *("correlation_uid", "log_name", "log_provider", "profiles", "sequence", "tenant_uid", "uid"),
        },
    ),
    "metadata.product": (set(), {"name", "vendor_name", "version"}),
    "actor": (set(), {"app_name", "app_uid", "session", "user"}),
    "actor.session": (set(), {"uid"}),
    "actor.user": (set(), {"name", "uid"}),
    "user": (set(), {"name", "uid"}),
    "session": (set(), {"uid", "created_time"}),
    "api": ({"operation"}, {"request", "response", "service"}),
    "api.request": ({"uid"}, set()),
    "api.response": (set(), {"message"}),
    "api.service": (set(), {"name"}),
    "src_endpoint": (set(), {"ip", "name"}),
    "resources": (set(), {"name", "role", "role_id"}),
    "entity": (set(), {"name", "uid", "type", "type_id", "data"}),
}
# At least one attribute of these objects must be there.
_NOT_EMPTY = {"actor", "user", "actor.user", "src_endpoint", "entity", "metadata.product", "resources"}


def _check(path: str, value: Mapping[str, Any]) -> None:
    required, optional = _OBJECTS[path]
    assert required <= set(value) <= required | optional, path
    assert value or path not in _NOT_EMPTY, path
    for name, inner in value.items():
        if f"{path}.{name}" in _OBJECTS:
            _check(f"{path}.{name}", inner)


def assert_valid(event: Mapping[str, Any]) -> None:
    """Assert that an event has the structure of its class."""
    required, optional, activities = _CLASSES[event["class_uid"]]
    assert _BASE | required <= set(event) <= _BASE | _BASE_OPTIONAL | required | optional
    assert event["category_uid"] == event["class_uid"] // 1000
    assert event["activity_id"] in activities | {0, 99}
    assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
    assert event["severity_id"] in range(1, 7)
    assert event["status_id"] in (1, 2)
    assert isinstance(event["time"], int)
    assert event["metadata"]["version"] == "1.6.0"
    assert ("action_id" in event) == (event["metadata"].get("profiles") == ["security_control"])
    if event["class_uid"] == 3003:
        assert event["privileges"]
    if event["activity_id"] == 99:
        assert event["activity_name"]
    for name, value in event.items():
        if name == "resources":
            for resource in value:
                _check(name, resource)
        elif name in _OBJECTS:
            _check(name, value)
    assert json.loads(json.dumps(event)) == event


@pytest.fixture(scope="module")
def events(sample: SampleLog) -> dict[str, dict[str, Any]]:
    """Give the events of the log by the id of what they tell."""
    begin = {"process": "worker-0", "cluster": "63" * 16}
    made = [ocsf.event(entry, begin) for entry in FolderReader(sample.folder).entries()]
    return {event["metadata"]["uid"]: event for event in made if event is not None}


def test_every_event_has_the_structure_of_its_class(events: dict[str, dict[str, Any]]) -> None:
    """Required attributes are there, and none that the class has not; decisions and changes are events."""
    assert len(events) == 11
    for event in events.values():
        assert_valid(event)


def test_a_decision_is_api_activity(events: dict[str, dict[str, Any]]) -> None:
    """Caller, call, source and answer have their places; other fields are under unmapped."""
    allowed, denied = events[f"{5:032x}"], events[f"{6:032x}"]

    assert (allowed["class_uid"], allowed["type_uid"], allowed["severity_id"]) == (6003, 600302, 1)
    assert (allowed["action_id"], allowed["disposition_id"], allowed["status_id"]) == (1, 1, 1)
    assert allowed["actor"] == {"session": {"uid": "000102030405060708090a0b0c0d0e0f"}}
    assert allowed["src_endpoint"] == {"ip": "10.0.0.1"}
    assert allowed["api"]["service"] == {"name": "mcp"}
    assert allowed["unmapped"]["blocks"]
    assert (denied["action_id"], denied["disposition_id"], denied["status_id"]) == (2, 2, 2)
    assert (denied["status_code"], denied["status_detail"]) == ("CONDITION_FAILED", "stage scope")
    assert denied["unmapped"]["at"]["argument"] == "repo"
    assert events[f"{7:032x}"]["activity_id"] == 3


def test_what_a_forged_token_claims_is_no_actor(events: dict[str, dict[str, Any]]) -> None:
    """A call whose signature does not stand is told by the token's digest; its claim is only unmapped."""
    forged = events[f"{8:032x}"]

    assert "session" not in forged["actor"]
    assert forged["severity_id"] == 3
    assert forged["unmapped"]["claimed"] == "000102030405060708090a0b0c0d0e0f"


def test_changes_are_sessions_and_entities(events: dict[str, dict[str, Any]], sample: SampleLog) -> None:
    """An opening assigns privileges; the rest is what happened to an entity."""
    opened, revoked, refused = events["open"], events["revoke"], events["suspend"]

    assert (opened["class_uid"], opened["privileges"], opened["user"]) == (
        3003,
        ["*:mcp/**"],
        {"name": "agent"},
    )
    assert revoked["entity"]["uid"] == sample.blocks[1]
    assert (revoked["activity_name"], revoked["comment"]) == ("Disable", "leak")
    assert events["end"]["activity_name"] == "Delete"
    assert (refused["activity_id"], refused["status_id"], refused["status_code"]) == (12, 2, "EPOCH_MISMATCH")


@pytest.mark.parametrize(
    ("enforce", "outcome", "detail"),
    [
        (True, "APPLIED", "its ceiling is enforced from now on"),
        (True, "WRONG_STATUS", "to enforce its ceiling"),
        (False, "APPLIED", None),
    ],
)
def test_a_narrowing_that_ends_observe_mode_says_so(enforce: bool, outcome: str, detail: str | None) -> None:
    """A plain narrowing says nothing; one that was refused enforces nothing."""
    narrowed = narrow_session("narrow", SESSION, scopes("read:mcp/**"), actor="ops", enforce=enforce)
    record = {"n": 1, "kind": "change", "chain": "c", **change(2, narrowed, 3, outcome)}
    event = ocsf.event(Entry(bytes(16), Path("f"), 1, record), {})

    assert event is not None
    assert_valid(event)
    assert event.get("status_detail") == detail


@pytest.mark.parametrize(("for_ms", "name"), [(1000, "Disable"), (0, "Enable")])
def test_a_ban_says_what_it_selects(for_ms: int, name: str) -> None:
    """Its entity is the selection; lifted, it is enabled again."""
    selector = SessionSelector("agent:a", labels=(("team", "x"),))
    change = ban_sessions("b", selector, for_ms, "leak", actor="op").stamped(1)
    record = {"n": 1, "kind": "change", "at_ms": 1, "id": "b", "change": "BAN_SESSIONS", "outcome": "APPLIED"}
    record |= {"actor": "op", "body": base64.b64encode(change.encode()).decode()}
    event = ocsf.event(Entry(bytes(16), Path("x"), 1, record), {})

    assert event is not None
    assert_valid(event)
    assert (event["activity_name"], event["comment"]) == (name, "leak")
    assert event["entity"]["name"] == "subject agent:a, label team=x"


@pytest.mark.parametrize("kind", ChangeKind, ids=lambda kind: kind.name)
def test_every_kind_of_change_is_an_event(kind: ChangeKind) -> None:
    """A change whose body this version can't read is an event too, by its kind."""
    record = {"n": 1, "kind": "change", "at_ms": 1, "id": "x", "change": kind.name, "outcome": "APPLIED"}
    record["body"] = base64.b64encode(b"what else").decode()
    event = ocsf.event(Entry(bytes(16), Path("x"), 1, record), {})

    assert event is not None
    assert_valid(event)
    assert "Unknown" not in event["activity_name"]


@pytest.mark.parametrize(
    "changed", [{"source": "unix"}, {"source": ""}, {"audience": ""}, {"action": ""}, {"action": "deploy"}]
)
def test_odd_decisions_are_events(changed: dict[str, str]) -> None:
    """Missing or unusual fields leave a valid event."""
    event = ocsf.event(Entry(bytes(16), Path("x"), 1, {"kind": "decision", **decision(1, **changed)}), {})

    assert event is not None
    assert_valid(event)


def test_records_about_the_log_are_no_events(sample: SampleLog) -> None:
    """Begins, ends, checkpoints, chains and losses are not exported."""
    for entry in FolderReader(sample.folder).entries():
        if entry.kind not in ("decision", "change"):
            assert ocsf.event(entry, {}) is None
    assert layout.FORMAT == 1


def test_a_call_that_observe_mode_alone_allowed() -> None:
    """It is allowed, of low severity, and says why."""
    at = {"level": "CEILING", "index": 0, "scope": -1, "clause": -1, "argument": ""}
    record = decision(1, at=at)
    event = ocsf.event(
        Entry(bytes(16), Path("f"), 1, record | {"n": 3, "kind": "decision", "chain": "c"}), {}
    )

    assert event is not None
    assert (event["action"], event["severity"], event["status_detail"]) == ("Allowed", "Low", "observe mode")
    assert event["message"].startswith("allowed in observe mode read mcp/github/repos/1")
    assert event["unmapped"]["at"] == at


def test_a_check_of_a_token_alone_is_no_call() -> None:
    """It has an operation and a resource of its own, and the mark under ``unmapped``."""
    record = decision(1, action="", resource="", matched=None, token_only=True)
    entry = Entry(bytes(16), Path("f"), 1, record | {"n": 3, "kind": "decision", "chain": "c"})
    event = ocsf.event(entry, {})

    assert event is not None
    assert (event["activity_id"], event["activity_name"]) == (99, "check_token")
    assert (event["api"]["operation"], event["resources"][0]["name"]) == ("check_token", "token")
    assert event["message"] == "allowed check_token token: ALLOWED"
    assert event["unmapped"]["token_only"] is True
