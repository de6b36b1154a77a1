"""Records as events of the Open Cybersecurity Schema Framework, version 1.6.0.

A decision is API Activity (6003) with the profile ``security_control``. The opening of a session is Authorize
Session (3003), every other change Entity Management (3004). Fields without a place there are under
``unmapped`` (docs/audit.md has the table). Records about the log itself are no events.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from ...reasons import Reason
from ..read.logged_decision import LoggedDecision
from ..read.reader import Entry
from .ocsf_changes import change_event, local_event
from .ocsf_common import INFORMATIONAL, LOW, MEDIUM, VERSION, Event, classified, unmapped

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
        "product": {"name": "sessauth", "vendor_name": "sessauth", "version": _product_version()},
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


def _product_version() -> str:
    try:
        return version("sessauth")
    except PackageNotFoundError:
        return ""
