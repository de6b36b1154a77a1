"""Approvals that a running server's own log asks for, as a check that needs one does."""

from __future__ import annotations

import secrets
from typing import Any

from sessauth.model import change as changes
from sessauth.model.approval import ApprovalRecord
from tests.support.approvals import record
from tests.support.service import Service


def ask(service: Service, session: Any, **given: Any) -> ApprovalRecord:
    """Ask for an approval in a session (its message), and return what the log holds of it."""
    assert service.control is not None
    asked = record(
        **{
            "id": secrets.token_bytes(16),
            "session_id": session.id,
            "block_id": secrets.token_bytes(32),
            "epoch": session.epoch,
            "requested_at_ms": 0,
            "expires_at_ms": 0,
            **given,
        }
    )
    log = service.control.writer
    log.submit(changes.request_approval(secrets.token_hex(8), asked)).result(10).raise_if_rejected()
    found = log.approval(session.id, asked.id)
    assert found is not None
    return found
