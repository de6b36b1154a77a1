"""Verifies closure receipts by docs/receipts.md."""

from __future__ import annotations

import zlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from . import wire
from .crypto import RECEIPT_LABEL, base64url, verify

PREFIX: Final = "sessauth_receipt_"
MAX_BYTES: Final = 262_145
STATES: Final = {1: "CLOSED", 2: "PARTIAL", 3: "UNKNOWN"}
_PARTIAL, _UNKNOWN = 2, 3
_ACKNOWLEDGED, _OUTLIVED, _WAITING, _LEFT = 1, 2, 3, 4


class BadReceipt(ValueError):
    """A receipt proves nothing; the text says why."""


@dataclass(frozen=True, slots=True)
class ReceiptReading:
    """The proof of a receipt: the state's word, and the end. Ids are hex, times ms since 1970."""

    session: str
    cluster: str
    incarnation: str
    state: str
    revision: int
    ended_at_ms: int
    made_at_ms: int
    # The last allowed call that the service knew of; 0: it knew of none.
    last_allow_ms: int
    observe: bool
    waiting: tuple[str, ...]
    hosts: tuple[str, ...]


def judge(data: bytes, keys: Mapping[bytes, bytes]) -> ReceiptReading:
    """Return the content of a receipt's text, verified by the service's keys. Raises BadReceipt."""
    try:
        signed = wire.decode("SignedReceipt", _body(data))
        payload = signed["payload"]
        key = keys.get(signed["issuer_key_id"])
        if key is None:
            raise BadReceipt("it is signed by none of the service's keys")
        if not verify(key, RECEIPT_LABEL + payload, signed["signature"]):
            raise BadReceipt("its signature is wrong")
        receipt = wire.decode("Receipt", payload)
    except wire.Malformed as error:
        raise BadReceipt(f"it is not in the format: {error}") from None
    wrong = _contradiction(receipt)
    if wrong:
        raise BadReceipt(f"it contradicts itself: {wrong}")
    both = [*receipt["verifiers"], *receipt["hosts"]]
    return ReceiptReading(
        receipt["session_id"].hex(),
        receipt["cluster_id"].hex(),
        receipt["incarnation"].hex(),
        STATES[receipt["state"]],
        receipt["revision"],
        receipt["ended_at_ms"],
        receipt["made_at_ms"],
        receipt["last_allow_ms"],
        bool(receipt["observe"]),
        tuple(each["name"] for each in both if each["state"] == _WAITING),
        tuple(host["name"] for host in receipt["hosts"]),
    )


def _body(data: bytes) -> bytes:
    """Return the bytes between prefix and checksum of a line. Raises BadReceipt."""
    if not data.endswith(b"\n") or not data.isascii():
        raise BadReceipt("it is no line of text")
    covered, dot, check = data[:-1].decode("ascii").partition(".")
    if not covered.startswith(PREFIX) or not dot:
        raise BadReceipt("it is no receipt")
    crc = urlsafe_b64encode(zlib.crc32(covered.encode("ascii")).to_bytes(4, "big")).rstrip(b"=")
    if crc.decode("ascii") != check:
        raise BadReceipt("its checksum is wrong")
    try:
        return base64url(covered.removeprefix(PREFIX))
    except ValueError as error:
        raise BadReceipt(f"it is not in the format: {error}") from None


def _contradiction(receipt: Mapping[str, Any]) -> str:
    """Return the contradiction between fields; "" if there is none."""
    if receipt["version"] not in (1, 2) or (receipt["version"] == 2 and not receipt["hosts"]):
        return f"version {receipt['version']} is not known"
    if any(len(receipt[name]) != 16 for name in ("cluster_id", "incarnation", "session_id")):
        return "an id has not 16 bytes"
    if receipt["cause"] not in range(1, 6) or receipt["state"] not in STATES:
        return "cause or state is unknown"
    if not (receipt["epoch"] and receipt["revision"] and receipt["ended_at_ms"]):
        return "it names no end"
    if receipt["made_at_ms"] < receipt["ended_at_ms"]:
        return "it was made before the end"
    for verifier in receipt["verifiers"]:
        reached = verifier["revision"] >= receipt["revision"]
        if verifier["state"] not in (_ACKNOWLEDGED, _OUTLIVED, _WAITING, _LEFT):
            return "a verifier has no state"
        if (verifier["state"] == _ACKNOWLEDGED and not reached) or (
            verifier["state"] == _WAITING and reached
        ):
            return "a verifier's state is not that of its revision"
    wrong = _in_order(receipt["verifiers"]) or _hosts(receipt)
    if wrong:
        return wrong
    waits = any(each["state"] == _WAITING for each in [*receipt["verifiers"], *receipt["hosts"]])
    state = _PARTIAL if waits or receipt["open_permits"] else 1
    return "" if receipt["state"] in (_UNKNOWN, state) else "its state is not that of what it names"


def _hosts(receipt: Mapping[str, Any]) -> str:
    if receipt["version"] == 1:
        return "version 1 names no hosts" if receipt["hosts"] or receipt["record"] else ""
    if not receipt["record"]:
        return "it names no record of the end"
    for host in receipt["hosts"]:
        if host["state"] not in (_ACKNOWLEDGED, _OUTLIVED, _WAITING):
            return "a host has no state"
        if (host["state"] == _ACKNOWLEDGED) != (host["record"] >= receipt["record"]):
            return "a host's state is not that of its record"
    return _in_order(receipt["hosts"])


def _in_order(named: Sequence[Mapping[str, Any]]) -> str:
    names = [each["name"] for each in named]
    return "" if names == sorted(set(names)) and "" not in names else "names are not in order"
