"""A session with more authority than it needs, and its calls, for reports and pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sessauth.model.session import EndCause, Session, SessionStatus
from sessauth.reasons import Reason
from sessauth.scopes.scope import Scope
from sessauth.usage import SessionUsage
from sessauth.usage.profile import MINTED, GrantLayer, ceilings

OPENED_MS = 1_800_000_000_000
CEILING = (
    "read:mcp/github/**",
    'write:mcp/github/{create_issue,add_issue_comment} where owner == "acme" free *',
    "write:mcp/github/merge_pull_request needs uses(3)",
    "read:files/**",
    'write:files/reports/** where path under "reports" and size <= 100000',
    "*:mail/**",
    'pay:invoices/* where amount <= 500 and currency in ["EUR", "CHF"] and memo? != ""',
)


def session(ceiling: Sequence[str] = CEILING, **changed: Any) -> Session:
    """A session of an hour, ended after twenty minutes."""
    layers = (tuple(Scope.parse(text).to_record() for text in ceiling),) if ceiling else ()
    stated: dict[str, Any] = {
        "id": b"session-of-tests",
        "subject": "agent",
        "purpose": "weekly report",
        "owner": "orchestrator",
        "parent_id": b"",
        "status": SessionStatus.ENDED,
        "epoch": 2,
        "ceilings": layers,
        "facts": (),
        "labels": {},
        "opened_at_ms": OPENED_MS,
        "expires_at_ms": OPENED_MS + 3_600_000,
        "lease_ms": 0,
        "issuer_key_ids": (),
        "revoked_count": 0,
        "ended_at_ms": OPENED_MS + 1_200_000,
        "end_cause": EndCause.ASKED,
        "reason": "",
        "revision": 9,
    }
    return Session(**(stated | changed))


def observe_calls(
    usage: SessionUsage,
    of: Session,
    calls: Sequence[tuple[str, str, dict[str, Any]]],
    *,
    minted: GrantLayer | None,
) -> None:
    """Observe allowed calls, a minute apart."""
    layers = ceilings([[Scope.from_record(scope) for scope in layer] for layer in of.ceilings])
    for minute, (action, resource, arguments) in enumerate(calls, start=1):
        data = json.dumps(arguments).encode()
        grants = [*layers, *([minted] if minted else [])]
        matched = [
            position for layer in grants for position in layer.matching_positions(action, resource, data)
        ]
        usage.observe(
            action,
            resource,
            data,
            at_ms=of.opened_at_ms + 60_000 * minute,
            block_ids=[b"r" * 32],
            matched=matched,
            minted=minted,
        )


def used_session() -> tuple[Session, SessionUsage]:
    """The session above and its usage: three of six kinds of calls that it was granted."""
    used, usage = session(), SessionUsage()
    minted = GrantLayer(MINTED, [Scope.parse("read:**"), Scope.parse("write:**"), Scope.parse("pay:**")])
    repo = {"owner": "acme", "repo": "app"}
    calls: list[tuple[str, str, dict[str, Any]]] = [
        *(("read", "mcp/github/list_issues", {**repo, "page": page}) for page in (1, 2, 3, 4)),
        *(("read", "mcp/github/get_issue", {**repo, "issue_number": n}) for n in (3, 17, 88)),
        *(("read", f"files/notes/2026-{week}.md", {}) for week in (44, 45, 46)),
        ("write", "mcp/github/add_issue_comment", {**repo, "issue_number": 17, "body": "see the report"}),
        *(("write", "files/reports/week.md", {"path": "reports/week.md", "size": n}) for n in (900, 4100)),
    ]
    observe_calls(usage, used, calls, minted=minted)
    for reason in (Reason.OUT_OF_SCOPE, Reason.OUT_OF_SCOPE, Reason.CONDITION_FAILED):
        usage.observe("delete", "files/notes/2026-44.md", b"", at_ms=OPENED_MS + 800_000, reason=reason)
    usage.observe("\x1b[31m", "<svg onload=x>", b"", at_ms=OPENED_MS + 1_300_000, reason=Reason.SESSION_ENDED)
    return used, usage
