"""Approvals are asked for calls that can be paid, and for no others; they say out of which budgets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sessauth.approvals.approver import Approver, ApproverKey
from sessauth.approvals.request import ApprovalRequest
from sessauth.reasons import Reason
from sessauth.state.writer.group import Group
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


def test_an_approver_is_told_the_scope_and_the_budgets_of_all_blocks(writer: WriterFixture) -> None:
    """The record has the text of the scope that lacks the approval, and each block's charge."""
    paid = 'read:doc/** free * needs budget("trip", 10, "EUR", cost)'
    asking = f'read:doc/** free * needs {APPROVED}, budget("day", 9.5, cost)'
    token = writer.mint(paid, ending="open").attenuate(scopes=["read:doc/9 free *", asking])
    asked = writer.check(token, arguments=b'{"cost": 4}').approval

    assert asked is not None and (asked.block, asked.scope, asked.scope_text) == (1, 1, asking)
    shown = [(each.name, each.unit, str(each.amount), str(each.limit)) for each in asked.charges]
    assert shown == [("trip", "EUR", "4", "10"), ("day", "", "4", "9.5")]
    before = writer.state_writer.remaining(asked.session_id, asked.charges)
    assert writer.check(writer.mint(paid), arguments=b'{"cost": 8}').decision
    after = writer.state_writer.remaining(asked.session_id, asked.charges)
    assert [list(map(str, each)) for each in (before, after)] == [["10", "9.5"], ["2", "9.5"]]


def test_a_scope_with_a_text_that_is_too_long_is_asked_for_without_it(writer: WriterFixture) -> None:
    """Escapes make it six times as long as its token; the call can be approved all the same."""
    notes = ", ".join('"' + f"{number:02}" + "\\u0001" * 200 + '"' for number in range(16))
    token = writer.mint(f"read:doc/** where note in [{notes}] needs {APPROVED}")
    note = b'{"note": "00' + b"\\u0001" * 200 + b'"}'
    asked = writer.check(token, arguments=note).approval

    assert asked is not None and asked.scope_text == ""


def test_a_cluster_of_an_earlier_format_asks_without_them(
    writer: WriterFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts that can't read the scope and the budgets of an approval are not sent any."""
    monkeypatch.setattr(Group, "writes", 1)
    asked = writer.check(writer.mint(UNPAYABLE["budget"][0][0]), arguments=b'{"cost": 4}').approval

    assert asked is not None and (asked.scope_text, asked.charges) == ("", ())
