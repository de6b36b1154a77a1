"""A request for approval as an approver reads it, and the statement that it signs.

A scope may need approvals: signed statements by persons that one request may happen, once. The verifier
denies such a call with APPROVAL_REQUIRED, and the server keeps the request until it expires.

Parts:

- ``request.py``: the request in full, with its arguments, and the lines that a person reads.
- ``approver.py``: an approver's key. It signs a request only if the statement follows from what was shown.
- ``safe_text.py``: text that an agent wrote, made safe to read: no hidden, steering or look-alike characters.

Order of events:

1. A gateway's call is denied, and its request is asked for with the arguments of the call.
2. The approver's program reads the request and computes the digest itself, from the text that it shows.
3. The person signs, or denies. The signature covers the session, its epoch, the scope and the digest.
4. The gateway repeats the call with the signature. The writer uses the approval up with the call.

What must never happen: a person signs something that the screen did not show; one signature admits two
calls; a signature of an earlier epoch counts.

Read next: ``approver.py``, then docs/decisions.md, 11.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

from .._fast._check import request_digest
from ..errors import InvalidApproval
from ..model.approval import ApprovalCharge, ApprovalFault, ApprovalRecord, ApprovalStatement, ApprovalStatus
from ..scopes.parts import key_text
from ..scopes.safe_text import (
    is_plain,
    is_right_to_left,
    json_lines,
    moment_text,
    read_arguments,
    texts_in,
    visible,
)
from ..scopes.value import Number

_SIZES = (("id", 16), ("session_id", 16), ("block_id", 32), ("request_digest", 32))


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """A requested approval with facts of its session, for a person to decide by.

    ``subject`` and ``purpose`` are the session's, and ``remaining`` has the remaining budget for each of the
    record's charges, as the server says. The record may come from anywhere: :meth:`statement` trusts no part
    that it can compute.
    """

    record: ApprovalRecord
    subject: str = ""
    purpose: str = ""
    remaining: tuple[Number, ...] = ()

    def digest(self) -> bytes:
        """Return the request digest of action, resource and arguments, as :meth:`render` shows them."""
        record = self.record
        return request_digest(record.action, record.resource, record.arguments)

    def statement(self, public_key: bytes, expires_at_ms: int, now_ms: int) -> ApprovalStatement:
        """Return the statement for ``public_key`` (32 bytes) to sign.

        It counts until ``expires_at_ms``, or until the request's own end if that is earlier; times are ms
        since 1970. Raises InvalidApproval if it must not be signed: the digest is not that of the shown call,
        the key is not named or has signed, it is answered, used up or over, or a part of it can't be shown.
        """
        self.render()
        record = self.record
        for name, size in _SIZES:
            if len(getattr(record, name)) != size:
                raise InvalidApproval(f"{name}: must be {size} bytes", ApprovalFault.NOT_CANONICAL)
        if self.digest() != record.request_digest:
            raise InvalidApproval(
                "the digest to sign is not that of the call that is shown: don't trust where this came from",
                ApprovalFault.OTHER_REQUEST,
            )
        if public_key not in record.keys:
            raise InvalidApproval(
                f"the scope does not name {key_text(public_key)}", ApprovalFault.UNKNOWN_KEY
            )
        if any(signed.public_key == public_key for signed in record.standing(now_ms)):
            raise InvalidApproval(f"{key_text(public_key)} has signed already", ApprovalFault.DUPLICATE_KEY)
        ends_at_ms = min(expires_at_ms, record.expires_at_ms)
        if ends_at_ms <= now_ms:
            raise InvalidApproval("it is over: the call must be asked for again", ApprovalFault.EXPIRED)
        if not record.waits(now_ms):
            raise InvalidApproval(
                f"it is {record.status.name.lower()}, and waits for nobody", ApprovalFault.NOT_WAITING
            )
        stated = {name: getattr(record, name) for name in ApprovalStatement.__slots__}
        return ApprovalStatement(**{**stated, "expires_at_ms": ends_at_ms})

    def budget_texts(self) -> list[str]:
        """Return a line for each charge: budget, amount and rest; it says if that is too little."""
        return [_budget_text(charge, remaining) for charge, remaining in self._charges()]

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON: ids in hex, keys as scope text writes them, arguments as text."""
        record = self.record
        values = {name: getattr(record, name) for name in record.__slots__ if name != "statements"}
        return {
            **{name: value.hex() if isinstance(value, bytes) else value for name, value in values.items()},
            "subject": self.subject,
            "purpose": self.purpose,
            "charges": [
                {
                    "budget": charge.name,
                    "unit": charge.unit,
                    "amount": str(charge.amount),
                    "limit": str(charge.limit),
                    "remaining": None if remaining is None else str(remaining),
                }
                for charge, remaining in self._charges()
            ],
            "arguments": record.arguments.decode("utf-8", "backslashreplace"),
            "labels": list(record.labels),
            "keys": [key_text(key) for key in record.keys],
            "signed_by": [key_text(signed.public_key) for signed in record.statements],
            "status": record.status.name,
        }

    def render(self) -> str:
        """Return the signed parts, the caller and the session as lines for a person.

        Texts are in quotes, and all in them that could mislead is escaped (:func:`.safe_text.visible`). Texts
        that run from right to left are shown once more on lines of their own. Raises InvalidApproval if a
        part can't be shown exactly.
        """
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        record = self.record
        try:
            arguments = read_arguments(record.arguments)
            texts = [
                *(record.action, record.resource, *texts_in(arguments)),
                *(*record.labels, record.gateway, self.subject, self.purpose, record.scope_text),
                *(text for charge in record.charges for text in (charge.name, charge.unit)),
            ]
            for text in texts:
                text.encode()
        except ValueError as error:
            raise InvalidApproval(
                f"the call can't be shown as what it is: {error}", ApprovalFault.NOT_CANONICAL
            ) from None
        yield f"action     {visible(record.action)}"
        yield f"resource   {visible(record.resource)}"
        yield f"arguments  {'' if arguments else '{}'}".rstrip()
        yield from json_lines(arguments, "  ") if arguments else ()
        turned = [text for text in texts if is_right_to_left(text)]
        if turned:
            yield "right to left, as written:"
            yield from (f"  | {_as_written(text)}" for text in turned)
        yield f"asked by   gateway {visible(record.gateway)}"
        if record.labels:
            yield f"for        {' > '.join(map(visible, record.labels))}"
        yield f"session    {record.session_id.hex()}, epoch {record.epoch}"
        if self.subject:
            yield f"subject    {visible(self.subject)}"
        if self.purpose:
            yield f"purpose    {visible(self.purpose)}"
        yield f"scope      block {record.block}, scope {record.scope} of token {record.block_id.hex()}"
        if record.scope_text:
            text = record.scope_text
            yield f"           {text if is_plain(text) else visible(text)}"
        yield from (f"budget     {text}" for text in self.budget_texts())
        yield f"signed     {len(record.statements)} of {record.threshold}; it is {record.status.name.lower()}"
        yield from (f"key        {key_text(key)}{self._signed_by(key)}" for key in record.keys)
        yield f"asked      {moment_text(record.requested_at_ms)}"
        yield f"until      {moment_text(record.expires_at_ms)}"
        if record.status is ApprovalStatus.DENIED:
            yield f"denied by  {visible(record.denied_by)}: {visible(record.reason)}"
        yield f"digest     {self.digest().hex()}"
        yield f"approval   {record.id.hex()}"

    def _charges(self) -> Iterator[tuple[ApprovalCharge, Number | None]]:
        """Yield each charge, and the remaining budget if the server said so."""
        return zip_longest(self.record.charges, self.remaining[: len(self.record.charges)])

    def _signed_by(self, key: bytes) -> str:
        return " (signed)" if any(signed.public_key == key for signed in self.record.statements) else ""


def _budget_text(charge: ApprovalCharge, remaining: Number | None) -> str:
    unit = f" {visible(charge.unit)}" if charge.unit else ""
    text = f"{visible(charge.name)}: {charge.amount}{unit} for this call"
    if remaining is None:
        return f"{text}, of {charge.limit} in all"
    too_little = ": too little" if remaining.to_decimal() < charge.amount.to_decimal() else ""
    return f"{text}, {remaining} of {charge.limit} left{too_little}"


def _as_written(text: str) -> str:
    """Return a text without characters that move, hide or pad: to be read beside its escaped form."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
