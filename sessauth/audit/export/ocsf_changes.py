"""Changes of the state as OCSF events: Authorize Session for an opening, else Entity Management."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

from ..._fast._check import WireError
from ...crypto.issuer_key import KeyStatus
from ...errors import UsageError
from ...model.ban import SessionSelector
from ...model.change import Change, ChangeKind
from ...scopes.scope import Scope
from .ocsf_common import INFORMATIONAL, LOW, MEDIUM, Event, classified, unmapped

# The activity of Entity Management and the type of the entity. 99: not in the schema.
_KINDS: Final[Mapping[ChangeKind, tuple[int, str, str]]] = {
    ChangeKind.OPEN_SESSION: (1, "Create", "Session"),
    ChangeKind.NARROW_SESSION: (3, "Update", "Session"),
    ChangeKind.UPDATE_FACTS: (3, "Update", "Session"),
    ChangeKind.SUSPEND_SESSION: (12, "Suspend", "Session"),
    ChangeKind.RESUME_SESSION: (13, "Resume", "Session"),
    ChangeKind.END_SESSION: (4, "Delete", "Session"),
    ChangeKind.REVOKE: (9, "Disable", "Token block"),
    ChangeKind.ADD_KEY: (1, "Create", "Issuer key"),
    ChangeKind.SET_KEY_STATUS: (3, "Update", "Issuer key"),
    ChangeKind.PURGE_SESSION: (99, "Purge", "Session"),
    ChangeKind.NEW_INCARNATION: (99, "New incarnation", "State"),
    ChangeKind.CONSUME: (99, "Consume", "Session"),
    ChangeKind.SETTLE_PERMIT: (99, "Settle permit", "Permit"),
    ChangeKind.REQUEST_APPROVAL: (1, "Create", "Approval"),
    ChangeKind.ANSWER_APPROVAL: (3, "Update", "Approval"),
    ChangeKind.ADD_CREDENTIAL: (1, "Create", "API key"),
    ChangeKind.REMOVE_CREDENTIAL: (4, "Delete", "API key"),
    ChangeKind.BAN_SESSIONS: (9, "Disable", "Opening of sessions"),
}
_KEY_STATUS: Final[Mapping[object, tuple[int, str]]] = {
    KeyStatus.ACTIVE: (10, "Activate"),
    KeyStatus.RETIRED: (11, "Deactivate"),
    KeyStatus.DISTRUSTED: (9, "Disable"),
}
# Changes beside the log, in the same words.
_LOCAL: Final[Mapping[str, tuple[int, str, str]]] = {
    "credential_added": (1, "Create", "API key"),
    "credential_changed": (3, "Update", "API key"),
    "credential_removed": (4, "Delete", "API key"),
    "identity_added": (1, "Create", "Certificate"),
    "identity_changed": (3, "Update", "Certificate"),
    "identity_removed": (4, "Delete", "Certificate"),
    "brake_set": (8, "Enable", "Brake"),
    "brake_cleared": (9, "Disable", "Brake"),
    "cluster_brake_set": (8, "Enable", "Brake of the cluster"),
    "cluster_brake_cleared": (9, "Disable", "Brake of the cluster"),
}
_LOCAL_MAPPED: Final = frozenset({"n", "kind", "at_ms", "what", "name", "reason", "actor", "chain"})
_MAPPED: Final = frozenset({"n", "kind", "at_ms", "id", "session", "actor", "outcome", "chain"})


def change_event(record: Mapping[str, Any]) -> Event:
    """Return the event of a change. Without a readable body it has the name of its kind alone."""
    kind, body = _decoded(record)
    applied = record.get("outcome") == "APPLIED"
    severity = INFORMATIONAL if applied else LOW
    session = str(record.get("session", ""))
    if kind is ChangeKind.OPEN_SESSION and applied and body:
        result = classified(3003, 1, "Assign Privileges", severity, record)
        result |= {
            "user": {"name": str(body.get("subject") or "unknown")},
            "session": {"uid": session, "created_time": record.get("at_ms", 0)},
            "privileges": _scopes(body),
        }
        if body.get("observe"):
            result["status_detail"] = "observe mode: its ceiling refuses nothing"
    else:
        activity, name, entity = (
            _KINDS.get(kind, (99, "Unknown change", "State")) if kind else (99, "Unknown", "State")
        )
        if kind is ChangeKind.SET_KEY_STATUS:
            activity, name = _KEY_STATUS.get(body.get("status"), (activity, name))
        elif kind is ChangeKind.BAN_SESSIONS and body and not body.get("for_ms"):
            activity, name = 8, "Enable"
        result = classified(3004, activity, name, severity, record)
        result["entity"] = {"type_id": 99, "type": entity, **_named(kind, body, session)}
        if kind is ChangeKind.NARROW_SESSION and body.get("enforce"):
            detail = "its ceiling is enforced from now on" if applied else "to enforce its ceiling"
            result["status_detail"] = detail
        if body.get("reason"):
            result["comment"] = str(body["reason"])
    actor = str(record.get("actor", ""))
    result |= {
        "actor": {"user": {"name": actor}} if actor else {"app_name": "sessauth"},
        "status_id": 1 if applied else 2,
        "status": "Success" if applied else "Failure",
        "status_code": str(record.get("outcome", "")),
        "message": f"{record.get('change', '')} {session}: {record.get('outcome', '')}",
    }
    result["metadata"] |= {"uid": str(record.get("id", ""))}
    if session:
        result["metadata"]["correlation_uid"] = session
    result["unmapped"] = unmapped(record, _MAPPED)
    return result


def local_event(record: Mapping[str, Any]) -> Event:
    """Return the event of a change beside the log."""
    what, actor = str(record.get("what", "")), str(record.get("actor", ""))
    activity, name, entity = _LOCAL.get(what, (99, what or "Unknown", "Machine"))
    result = classified(3004, activity, name, MEDIUM if what.endswith("brake_set") else LOW, record)
    result |= {
        "entity": {"type_id": 99, "type": entity, "name": str(record.get("name") or entity)},
        "actor": {"user": {"name": actor}} if actor else {"app_name": "unknown"},
        "status_id": 1,
        "status": "Success",
        "message": f"{what} {record.get('name', '')}".strip(),
    }
    if record.get("reason"):
        result["comment"] = str(record["reason"])
    result["unmapped"] = unmapped(record, _LOCAL_MAPPED)
    return result


def _decoded(record: Mapping[str, Any]) -> tuple[ChangeKind | None, Mapping[str, Any]]:
    """Return the kind of a change and its body, {} if that can't be read."""
    try:
        change = Change.decode(base64.b64decode(str(record.get("body", "")), validate=True))
    except (WireError, binascii.Error, ValueError):
        name = str(record.get("change", "")).upper()
        return ChangeKind.__members__.get(name), {}
    return change.kind, change.body


def _named(kind: ChangeKind | None, body: Mapping[str, Any], session: str) -> dict[str, Any]:
    if kind is ChangeKind.REVOKE:
        ids = [block.hex() for block in body.get("block_ids") or () if isinstance(block, bytes)]
        return {"uid": ids[0] if ids else session, "data": {"blocks": ids, "session": session}}
    if kind is ChangeKind.SET_KEY_STATUS and isinstance(body.get("key_id"), bytes):
        return {"uid": body["key_id"].hex()}
    if kind is ChangeKind.ADD_KEY and isinstance(body.get("public_key"), bytes):
        return {"name": body["public_key"].hex()}
    if kind is ChangeKind.ANSWER_APPROVAL and isinstance(body.get("approval_id"), bytes):
        return {"uid": body["approval_id"].hex()}
    if kind in (ChangeKind.ADD_CREDENTIAL, ChangeKind.REMOVE_CREDENTIAL) and body.get("name"):
        return {"name": str(body["name"])}
    if kind is ChangeKind.BAN_SESSIONS and body.get("selector"):
        return {"name": str(SessionSelector.from_record(body["selector"]))}
    return {"uid": session} if session else {"name": "state"}


def _scopes(body: Mapping[str, Any]) -> list[str]:
    found = (body.get("ceiling") or {}).get("scopes") or ()
    try:
        return [str(Scope.from_record(scope)) for scope in found]
    except UsageError:
        return []
