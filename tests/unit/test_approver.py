"""The approver: it signs what it was shown, with a key that stays in its file."""

from __future__ import annotations

import copy
import pickle
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sessauth.approvals.approver import Approver, ApproverKey
from sessauth.approvals.request import ApprovalRequest
from sessauth.clock import FixedClock
from sessauth.errors import InvalidApproval, KeyFolderError, UsageError
from sessauth.model.approval import ApprovalFault, ApprovalStatement, ApprovalStatus, check_statement
from sessauth.scopes.scope import Scope
from tests.oracle.crypto import digest
from tests.support.approvals import HOUR_MS, approver, held, record, request_digest, signed, terms
from tests.vectors.world import NOW

FAULT = ApprovalFault


def signer(name: str = "ann", now_ms: int = NOW) -> Approver:
    """An approver whose clock stands still."""
    return Approver(approver(name), FixedClock(now_ms))


def refused(request: ApprovalRequest, name: str = "ann", now_ms: int = NOW) -> str:
    """The fault that an approver refuses with."""
    with pytest.raises(InvalidApproval) as error:
        signer(name, now_ms).grant(request)
    return error.value.fault


def test_what_an_approver_grants_counts() -> None:
    """Its statement is judged right for the call that was shown, for as long as it says."""
    signed = signer().grant(ApprovalRequest(record()), ttl_ms=HOUR_MS)

    stated = check_statement(signed, terms(), NOW, approval_id=record().id)
    assert stated.expires_at_ms == NOW + HOUR_MS


def test_an_approval_never_outlives_its_request() -> None:
    """However long the approver would give it."""
    signed = signer().grant(ApprovalRequest(record()), ttl_ms=30 * 24 * HOUR_MS)

    assert ApprovalStatement.decode(signed.statement).expires_at_ms == record().expires_at_ms


@pytest.mark.parametrize(
    "changes",
    [
        {"action": "read"},
        {"resource": "prod/api2"},
        {"arguments": b'{"version": "1.3"}'},
        {"arguments": b'{"version":"1.2"}'},
        {"arguments": b""},
        {"request_digest": digest(b"another")},
    ],
    ids=["action", "resource", "arguments", "space", "none", "digest"],
)
def test_a_digest_of_something_else_is_not_signed(changes: dict[str, Any]) -> None:
    """The shown call and the call to sign are the same, or nothing is signed."""
    assert refused(ApprovalRequest(record(**changes))) == FAULT.OTHER_REQUEST


@pytest.mark.parametrize(
    ("changes", "name", "fault"),
    [
        ({}, "dan", FAULT.UNKNOWN_KEY),
        ({"keys": ()}, "ann", FAULT.UNKNOWN_KEY),
        ({"statements": held("ann").statements}, "ann", FAULT.DUPLICATE_KEY),
        (
            {"status": ApprovalStatus.GRANTED, "statements": held("bob", "cas").statements},
            "ann",
            FAULT.NOT_WAITING,
        ),
        ({"statements": (replace(signed("bob"), statement=b"\xff"),)}, "ann", FAULT.NOT_CANONICAL),
        ({"status": ApprovalStatus.DENIED}, "ann", FAULT.NOT_WAITING),
        ({"status": ApprovalStatus.USED}, "ann", FAULT.NOT_WAITING),
        ({"status": ApprovalStatus.UNSPECIFIED}, "ann", FAULT.NOT_WAITING),
        ({"expires_at_ms": NOW}, "ann", FAULT.EXPIRED),
        ({"id": b""}, "ann", FAULT.NOT_CANONICAL),
        ({"session_id": bytes(15)}, "ann", FAULT.NOT_CANONICAL),
        ({"block_id": bytes(31)}, "ann", FAULT.NOT_CANONICAL),
    ],
)
def test_what_does_not_fit_is_not_signed(changes: dict[str, Any], name: str, fault: ApprovalFault) -> None:
    """A key that is not asked, an answer that is there already, a request that is over or malformed."""
    assert refused(ApprovalRequest(record(**changes)), name) == fault


@pytest.mark.parametrize(
    "arguments",
    [
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": "\\ud800"}',
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b"[]",
        b"{",
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
    ids=["twice", "nan", "infinity", "surrogate", "utf-8", "bom", "utf-16", "list", "cut", "deep", "deeper"],
)
def test_arguments_that_can_not_be_shown_are_not_signed(arguments: bytes) -> None:
    """Even with the right digest: two readers of these bytes could see two calls, or none."""
    asked = record(arguments=arguments, request_digest=request_digest("deploy", "prod/api", arguments))

    assert refused(ApprovalRequest(asked)) == FAULT.NOT_CANONICAL


@pytest.mark.parametrize("ttl_ms", [0, -1])
def test_a_grant_lasts_some_time(ttl_ms: int) -> None:
    """A time to live that is none is a mistake of the caller's."""
    with pytest.raises(UsageError, match="ttl_ms"):
        signer().grant(ApprovalRequest(record()), ttl_ms=ttl_ms)


def test_a_key_signs_again_once_its_statement_is_over() -> None:
    """The statements of a granted approval may expire before the call comes."""
    granted = held("ann", "bob", status=ApprovalStatus.GRANTED)
    later = NOW + HOUR_MS

    again = signer(now_ms=later).grant(ApprovalRequest(granted))

    assert ApprovalStatement.decode(again.statement).expires_at_ms == granted.expires_at_ms


def test_a_key_lives_in_a_file_of_its_owner(tmp_path: Path) -> None:
    """Saved with mode 0600, read back the same, refused once others may read it, never overwritten."""
    path = tmp_path / "ann.pem"
    key = ApproverKey.generate()
    key.save(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ApproverKey.load(path).public_key == key.public_key
    with pytest.raises(KeyFolderError, match="never overwritten"):
        key.save(path)
    path.chmod(0o640)
    with pytest.raises(KeyFolderError, match="chmod 600"):
        ApproverKey.load(path)


def test_a_file_of_something_else_says_how_to_make_one(tmp_path: Path) -> None:
    """The message names the command."""
    path = tmp_path / "ann.pem"
    path.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    path.chmod(0o600)

    with pytest.raises(KeyFolderError, match="approver-key new"):
        ApproverKey.load(path)


def test_the_key_text_is_what_a_scope_names() -> None:
    """A scope that is written with it names this key."""
    key = approver("ann")
    scope = Scope.parse(f'deploy:prod/** needs approval(1, "{key.text}")')

    assert scope.needs is not None
    assert scope.needs.approval is not None
    assert scope.needs.approval.keys == (key.public_key,)


def test_a_secret_does_not_leak() -> None:
    """Neither key nor approver shows or pickles it."""
    key = ApproverKey(bytes(range(32)))
    for text in (repr(key), repr(Approver(key)), str(key)):
        assert bytes(range(32)).hex() not in text
        assert key.text in text
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            leak(key)  # type: ignore[operator]
    with pytest.raises(UsageError, match="32 bytes"):
        ApproverKey(b"short")


def test_json_holds_all_that_is_read() -> None:
    """Plain values with ids in hex and keys as scope text writes them."""
    asked = ApprovalRequest(held("ann"), "agent", "ticket 7").to_dict()

    assert asked["id"] == record().id.hex()
    assert asked["signed_by"] == [approver("ann").text]
    assert asked["status"] == "PENDING"
    assert (asked["subject"], asked["purpose"]) == ("agent", "ticket 7")


def test_a_request_is_read_again_by_each_approver() -> None:
    """A second approver signs what the first one signed, and both together are enough."""
    first = signer("ann").grant(ApprovalRequest(record()))
    second = signer("bob").grant(ApprovalRequest(replace(record(), statements=(first,))))

    assert ApprovalStatement.decode(first.statement) == ApprovalStatement.decode(second.statement)
