"""Reads docs/prometheus/sessauth.rules.yml as far as tests need it; promtool judges that it is YAML."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tests.support.tree import ROOT

RULES_FILE: Final = ROOT / "docs" / "prometheus" / "sessauth.rules.yml"
_RULE = re.compile(
    r"- alert: (\w+)\n(?: +#.*\n)? +expr: (.+)\n +for: (\w+)\n +labels: \{severity: (\w+)\}\n"
    r" +annotations:\n +summary: '(.+)'\n +action: '(.+)'\n"
)


@dataclass(frozen=True, slots=True)
class Alarm:
    """One rule: its query, how long that has to hold, who is told, and what."""

    name: str
    expr: str
    held_for: str
    severity: str
    summary: str
    action: str


RULES: Final = [
    Alarm(*(part.replace("''", "'") for part in found))
    for found in _RULE.findall(RULES_FILE.read_text("utf-8"))
]
