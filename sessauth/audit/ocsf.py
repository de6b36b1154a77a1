"""Records of an audit log as events of the Open Cybersecurity Schema Framework, version 1.6.0.

A decision is API Activity (6003) with the profile ``security_control``. The opening of a session is Authorize
Session (3003), every other change Entity Management (3004). Fields without a place in an event are under
``unmapped`` (docs/audit.md has the table). Records about the log itself have no event.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Mapping
from typing import Any, Final

from .. import __version__
from .._fast._check import WireError
from ..crypto.keys import KeyStatus
from ..errors import UsageError
from ..model.change import Change, ChangeKind
from ..model.session import SessionSelector
from ..reasons import Reason
from ..scopes.scope import Scope
from .read.query import Entry, LoggedDecision

VERSION: Final = "1.6.0"
INFORMATIONAL: Final = 1
LOW: Final = 2
MEDIUM: Final = 3

Event = dict[str, Any]

_CLASSES: Final = {
    3003: ("Authorize Session", "Identity & Access Management"),
    3004: ("Entity Management", "Identity & Access Management"),
    6003: ("API Activity", "Application Activity"),
}
_SEVERITIES: Final = {INFORMATIONAL: "Informational", LOW: "Low", MEDIUM: "Medium"}


def classified(
    class_uid: int, activity: int, activity_name: str, severity: int, record: Mapping[str, Any]
) -> Event:
    """Return an event with its classification. ``activity`` 99 has its name alone."""
    name, category = _CLASSES[class_uid]
    return {
        "category_uid": class_uid // 1000,
        "category_name": category,
        "class_uid": class_uid,
        "class_name": name,
        "activity_id": activity,
        "activity_name": activity_name,
        "type_uid": class_uid * 100 + activity,
        "type_name": f"{name}: {'Other' if activity == 99 else activity_name}",
        "severity_id": severity,
        "severity": _SEVERITIES[severity],
        "time": record.get("at_ms", 0),
        "metadata": {},
        "unmapped": {},
    }


def unmapped(record: Mapping[str, Any], mapped: frozenset[str]) -> dict[str, Any]:
    """Return the fields of a record that have no place in an event."""
    return {name: value for name, value in record.items() if name not in mapped}


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
    ChangeKind.CUT_LOGINS: (9, "Disable", "Login"),
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
_MAPPED_CHANGES: Final = frozenset({"n", "kind", "at_ms", "id", "session", "actor", "outcome", "chain"})


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
    result["unmapped"] = unmapped(record, _MAPPED_CHANGES)
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
    if kind is ChangeKind.CUT_LOGINS and body.get("issuer"):
        stated = (str(body[name]) for name in ("issuer", "subject", "sid") if body.get(name))
        return {"name": " ".join(stated)}
    return {"uid": session} if session else {"name": "state"}


def _scopes(body: Mapping[str, Any]) -> list[str]:
    found = (body.get("ceiling") or {}).get("scopes") or ()
    try:
        return [str(Scope.from_record(scope)) for scope in found]
    except UsageError:
        return []


# The usual meaning of actions; others have their name as the activity.
_ACTIVITIES: Final = {"create": 1, "read": 2, "get": 2, "list": 2, "update": 3, "write": 3, "delete": 4}
_CAPTIONS: Final = {1: "Create", 2: "Read", 3: "Update", 4: "Delete"}
# Reasons that an honest holder of a token does not cause.
_SUSPICIOUS: Final = frozenset(
    {
        Reason.BAD_SIGNATURE.name,
        Reason.REVOKED.name,
        Reason.REPLAYED.name,
        Reason.BAD_PROOF.name,
        Reason.SESSION_ENDED.name,
        Reason.ISSUER_DISTRUSTED.name,
    }
)
# The action and resource of a check of the token alone, whose record has `token_only` under `unmapped`.
_TOKEN_CHECK: Final = ("check_token", "token")
_MAPPED: Final = frozenset(
    {"n", "kind", "at_ms", "id", "allowed", "reason", "stage", "session", "action", "resource", "audience"}
    | {"source", "chain"}
)


def event(entry: Entry, begin: Mapping[str, Any]) -> Event | None:
    """Return a record as an OCSF event, None for one that is about the log itself.

    ``begin`` is the begin of the record's file, with its cluster and process.
    """
    if entry.kind == "decision":
        result = _decision(entry.record)
    elif entry.kind == "change":
        result = change_event(entry.record)
    elif entry.kind == "local":
        result = local_event(entry.record)
    else:
        return None
    result["metadata"] |= {
        "version": VERSION,
        "product": {"name": "sessauth", "vendor_name": "sessauth", "version": __version__},
        "log_name": "audit",
        "log_provider": str(begin.get("process", "")),
        "sequence": entry.record.get("n", 0),
        "tenant_uid": str(begin.get("cluster", "")),
    }
    result["unmapped"] |= {"stream": entry.stream.hex(), "chain": entry.record.get("chain", "")}
    return result


def _decision(record: Mapping[str, Any]) -> Event:
    allowed = record.get("allowed") is True
    reason, action, resource = (str(record.get(name, "")) for name in ("reason", "action", "resource"))
    if record.get("token_only") is True:
        action, resource = _TOKEN_CHECK
    activity = _ACTIVITIES.get(action, 99)
    observed = LoggedDecision.of(record).observed
    severity = MEDIUM if reason in _SUSPICIOUS else LOW if observed or not allowed else INFORMATIONAL
    result = classified(6003, activity, _CAPTIONS.get(activity, action or "unknown"), severity, record)
    session = record.get("session")
    result |= {
        "message": f"{_words(allowed, observed)} {action} {resource}: {reason}",
        "status_id": 1 if allowed else 2,
        "status": "Success" if allowed else "Failure",
        "status_code": reason,
        "status_detail": "observe mode" if observed else f"stage {str(record.get('stage', '')).lower()}",
        "action_id": 1 if allowed else 2,
        "action": "Allowed" if allowed else "Denied",
        "disposition_id": 1 if allowed else 2,
        "disposition": "Allowed" if allowed else "Blocked",
        "actor": {"session": {"uid": session}}
        if session
        # Claims of an unverified token prove nothing.
        else {"app_name": "unverified token", "app_uid": str(record.get("token", ""))},
        "api": {
            "operation": action or "unknown",
            "request": {"uid": str(record.get("id", ""))},
            "response": {"message": reason},
            "service": {"name": str(record.get("audience", "")) or "unknown"},
        },
        "resources": [{"name": resource, "role_id": 1, "role": "Target"}],
        "src_endpoint": _endpoint(str(record.get("source", ""))),
    }
    result["metadata"] |= {"uid": str(record.get("id", "")), "profiles": ["security_control"]}
    if session:
        result["metadata"]["correlation_uid"] = session
    result["unmapped"] = unmapped(record, _MAPPED)
    return result


def _words(allowed: bool, observed: bool) -> str:
    return "allowed in observe mode" if observed else "allowed" if allowed else "denied"


def _endpoint(source: str) -> dict[str, str]:
    try:
        return {"ip": str(ipaddress.ip_address(source))}
    except ValueError:
        return {"name": source or "unknown"}
