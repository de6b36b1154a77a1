"""Approvals are asked for calls that can be paid, and for no others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sessauth.approvals.approver import Approver, ApproverKey
from sessauth.approvals.request import ApprovalRequest
from sessauth.reasons import Reason
from tests.support.writer_fixture import WriterFixture


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[WriterFixture]:
    """A writer with one session."""
    made = WriterFixture(tmp_path / "state")
    yield made
    made.close()


KEY = ApproverKey.generate()
APPROVED = f'approval(1, "{KEY.text}")'
# Scopes of the root block and of a child's, a call that is allowed before (with its approval), the call that
# can't be paid, and the reason that is answered in place of an approval.
UNPAYABLE = {
    "uses": ((f"read:doc/** needs uses(1), {APPROVED}",), b"{}", b"{}", Reason.USES_EXHAUSTED),
    "budget": (
        (f'read:doc/** free * needs budget("b", 10, "EUR", cost), {APPROVED}',),
        b'{"cost": 8}',
        b'{"cost": 8, "other": 1}',
        Reason.BUDGET_EXHAUSTED,
    ),
    "amount": (
        (f'read:doc/** free * needs budget("b", 10, "EUR", cost), {APPROVED}',),
        b"",
        b'{"cost": 80}',
        Reason.BUDGET_EXHAUSTED,
    ),
    "no amount": (
        (f'read:doc/** free * needs budget("b", 10, "EUR", cost), {APPROVED}',),
        b"",
        b'{"cost": "8"}',
        Reason.CONDITION_FAILED,
    ),
    "child": (
        (f"read:doc/** free * needs {APPROVED}", "read:doc/** free * needs uses(1)"),
        b"{}",
        b'{"other": 1}',
        Reason.USES_EXHAUSTED,
    ),
    "parent": (
        ("read:doc/** free * needs uses(1)", f"read:doc/** free * needs {APPROVED}"),
        b"{}",
        b'{"other": 1}',
        Reason.USES_EXHAUSTED,
    ),
}


@pytest.mark.parametrize("case", UNPAYABLE)
def test_nobody_is_asked_to_approve_what_can_not_be_paid(writer: WriterFixture, case: str) -> None:
    """A call is denied for the use, budget or amount that it lacks, whichever block lacks it."""
    (root, *child), before, call, reason = UNPAYABLE[case]
    token = writer.mint(root, ending="open" if child else "sealed")
    for scope in child:
        token = token.attenuate(scopes=[scope])
    if before:
        wanted = writer.check(token, arguments=before)
        assert wanted.decision.reason is Reason.APPROVAL_REQUIRED and wanted.approval
        signed = Approver(KEY, writer.clock).grant(ApprovalRequest(wanted.approval))
        assert writer.check(token, arguments=before, approvals=(signed.encode(),)).decision
    denied = writer.check(token, arguments=call)

    assert denied.decision.reason is reason and denied.approval is None
    assert denied.decision.index == (1 if case == "child" else 0)


def test_nobody_is_asked_while_no_permit_can_be_had(
    writer: WriterFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that wants a permit is refused at the limit of open ones before a person is asked."""
    monkeypatch.setattr("sessauth.limits.MAX_OPEN_PERMITS", 0)
    denied = writer.check(writer.mint(f"read:doc/** needs {APPROVED}"), permit_ms=1000)

    assert denied.decision.reason is Reason.BUDGET_EXHAUSTED and denied.approval is None
