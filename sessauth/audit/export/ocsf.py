"""Records as events of the Open Cybersecurity Schema Framework, version 1.6.0.

A decision is API Activity (6003) with the profile ``security_control``. The opening of a session is Authorize
Session (3003), every other change Entity Management (3004). What has no place there is under ``unmapped``
(docs/audit.md has the table). Records about the log itself are no events.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from ...reasons import Reason
from ..read.reader import Entry
from .ocsf_changes import change_event, local_event
from .ocsf_common import INFORMATIONAL, LOW, MEDIUM, VERSION, Event, classified, unmapped

# What an action usually means; any other is told by its name.
_ACTIVITIES: Final = {"create": 1, "read": 2, "get": 2, "list": 2, "update": 3, "write": 3, "delete": 4}
_CAPTIONS: Final = {1: "Create", 2: "Read", 3: "Update", 4: "Delete"}
# Nothing that a holder who keeps to its token comes by.
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
_MAPPED: Final = frozenset(
    {"n", "kind", "at_ms", "id", "allowed", "reason", "stage", "session", "action", "resource", "audience"}
    | {"source", "chain"}
)


def event(entry: Entry, begin: Mapping[str, Any]) -> Event | None:
    """Return a record as an OCSF event, None for one that is about the log itself.

    ``begin`` is the begin of the record's file: it says for which cluster and process.
    """
    if entry.kind == "decision":
        made = _decision(entry.record)
    elif entry.kind == "change":
        made = change_event(entry.record)
    elif entry.kind == "local":
        made = local_event(entry.record)
    else:
        return None
    made["metadata"] |= {
        "version": VERSION,
        "product": {"name": "sessauth", "vendor_name": "sessauth", "version": _product_version()},
        "log_name": "audit",
        "log_provider": str(begin.get("process", "")),
        "sequence": entry.record.get("n", 0),
        "tenant_uid": str(begin.get("cluster", "")),
    }
    made["unmapped"] |= {"stream": entry.stream.hex(), "chain": entry.record.get("chain", "")}
    return made


def _decision(record: Mapping[str, Any]) -> Event:
    allowed = record.get("allowed") is True
    reason, action = str(record.get("reason", "")), str(record.get("action", ""))
    activity = _ACTIVITIES.get(action, 99)
    severity = INFORMATIONAL if allowed else MEDIUM if reason in _SUSPICIOUS else LOW
    made = classified(6003, activity, _CAPTIONS.get(activity, action or "unknown"), severity, record)
    session = record.get("session")
    made |= {
        "message": f"{'allowed' if allowed else 'denied'} {action} {record.get('resource', '')}: {reason}",
        "status_id": 1 if allowed else 2,
        "status": "Success" if allowed else "Failure",
        "status_code": reason,
        "status_detail": f"stage {str(record.get('stage', '')).lower()}",
        "action_id": 1 if allowed else 2,
        "action": "Allowed" if allowed else "Denied",
        "disposition_id": 1 if allowed else 2,
        "disposition": "Allowed" if allowed else "Blocked",
        "actor": {"session": {"uid": session}}
        if session
        # Nothing that such a token says of itself is proved.
        else {"app_name": "unverified token", "app_uid": str(record.get("token", ""))},
        "api": {
            "operation": action or "unknown",
            "request": {"uid": str(record.get("id", ""))},
            "response": {"message": reason},
            "service": {"name": str(record.get("audience", "")) or "unknown"},
        },
        "resources": [{"name": str(record.get("resource", "")), "role_id": 1, "role": "Target"}],
        "src_endpoint": _endpoint(str(record.get("source", ""))),
    }
    made["metadata"] |= {"uid": str(record.get("id", "")), "profiles": ["security_control"]}
    if session:
        made["metadata"]["correlation_uid"] = session
    made["unmapped"] = unmapped(record, _MAPPED)
    return made


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
