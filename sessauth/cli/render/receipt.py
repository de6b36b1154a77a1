"""A closure receipt as JSON and as lines."""

from __future__ import annotations

from typing import Any

from ...model.receipt import Receipt, ReceiptState, SignedReceipt
from ..output import fields, json_fields, moment, printable, table

_MEANS = {
    ReceiptState.CLOSED: "no verifier that was registered can allow a call of it any more",
    ReceiptState.PARTIAL: "not all have acknowledged the end yet, or permits are open; ask again",
    ReceiptState.UNKNOWN: "who was registered when it ended can't be known",
}
_HEADERS = ("VERIFIER", "STATE", "REVISION", "AT")
_HOST_HEADERS = ("HOST", "STATE", "RECORD", "AT")


def to_json(signed: SignedReceipt, receipt: Receipt) -> dict[str, Any]:
    """Return a receipt as JSON values; ``signed`` is its text form."""
    document = json_fields(receipt, issuer_key_id=signed.issuer_key_id.hex(), signed=signed.text)
    del document["version"]
    if not receipt.hosts:
        del document["hosts"], document["record"]
    return document


def summary(receipt: Receipt) -> str:
    """Return one line: the receipt's state, and the verifiers and permits it waits for."""
    waiting = ", ".join(printable(name) for name in receipt.waiting)
    pending = [f"waits for {waiting}"] if waiting else []
    if receipt.open_permits:
        pending.append(f"{receipt.open_permits} permits open")
    line = f"receipt {receipt.state.name}: {'; '.join(pending) or _MEANS[receipt.state]}"
    if receipt.allowed_late_ms:
        line = f"{line}; A CALL WAS ALLOWED {receipt.allowed_late_ms} ms AFTER THE END"
    return f"{line}; it was in observe mode" if receipt.observe else line


def to_lines(receipt: Receipt) -> list[str]:
    """Return a receipt as lines."""
    lines = [
        summary(receipt),
        *fields(
            [
                ("session", receipt.session_id.hex()),
                ("ended", moment(receipt.ended_at_ms)),
                ("cause", receipt.cause.name),
                ("reason", receipt.reason),
                ("revision", receipt.revision),
                ("record", receipt.record or ""),
                ("made", moment(receipt.made_at_ms)),
                ("open permits", receipt.open_permits or ""),
                ("last allowed", moment(receipt.last_allow_ms)),
                (
                    "observe mode",
                    "its ceiling refused nothing, for its life or a part of it" if receipt.observe else "",
                ),
                ("cluster", receipt.cluster_id.hex()),
            ]
        ),
    ]
    rows = [[each.name, each.state.name, each.revision, moment(each.at_ms)] for each in receipt.verifiers]
    if rows:
        lines += table(_HEADERS, rows, max_cell_chars=80)
    hosts = [[each.name, each.state.name, each.record, moment(each.at_ms)] for each in receipt.hosts]
    return [*lines, *table(_HOST_HEADERS, hosts, max_cell_chars=80)] if hosts else lines
