"""The common part of OCSF events: class, activity, severity and time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

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
