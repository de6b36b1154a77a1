"""Oracle and package give each receipt vector's outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from sessauth._fast import _check as kernel
from sessauth.crypto.armor import RECEIPT_PREFIX, checked_text
from sessauth.errors import InvalidReceipt
from sessauth.evidence.reader import receipts as evidence
from sessauth.evidence.reader.crypto import by_id
from sessauth.model.receipt import ReceiptFault, ReceiptState, SignedReceipt, verify
from tests.oracle import receipts as oracle
from tests.support.vector_files import load

FILE = "receipts.json"


def judged(data: bytes, keys: list[bytes], session_id: bytes, cluster_id: bytes, made_since_ms: int) -> str:
    """Return the package's fault of the bytes, and of their text form."""
    try:
        signed = SignedReceipt(**kernel.decode_message("SignedReceipt", data))
    except kernel.WireError:
        with pytest.raises(InvalidReceipt) as caught:
            SignedReceipt.from_text(checked_text(RECEIPT_PREFIX, data))
        return caught.value.fault
    try:
        found = verify(
            signed, keys, session_id=session_id, cluster_id=cluster_id, made_since_ms=made_since_ms
        )
    except InvalidReceipt as error:
        return error.fault
    assert SignedReceipt.from_text(signed.text) == signed and found.encode() == signed.payload
    return found.state.name


@pytest.mark.parametrize("judge", [oracle.judge, judged], ids=["oracle", "package"])
def test_each_vector_has_its_outcome(judge: Callable[..., str]) -> None:
    """The bytes in the file give the outcome."""
    file = load(FILE)
    keys = [bytes.fromhex(each) for each in file["keys_hex"]]
    expected = (bytes.fromhex(file["session_hex"]), bytes.fromhex(file["cluster_hex"]))

    wrong = []
    for vector in file["vectors"]:
        found = judge(bytes.fromhex(vector["receipt_hex"]), keys, *expected, vector.get("made_since_ms", 0))
        if str(found) != vector["expected"]:
            wrong.append((vector["name"], found))

    assert wrong == []


def test_the_reader_of_evidence_proves_what_they_prove() -> None:
    """The reader of packs gives the state of each good receipt, by its text, and refuses the others.

    It leaves cluster, session and time to the pack.
    """
    file = load(FILE)
    keys = by_id(bytes.fromhex(each) for each in file["keys_hex"])
    elsewhere = {"OTHER_CLUSTER", "OTHER_SESSION", "TOO_OLD"}
    states = {"CLOSED", "PARTIAL", "UNKNOWN"}

    wrong = []
    for vector in file["vectors"]:
        text = checked_text(RECEIPT_PREFIX, bytes.fromhex(vector["receipt_hex"]))
        try:
            found = evidence.judge(text.encode() + b"\n", keys).state
        except evidence.BadReceipt:
            found = ""
        expected = vector["expected"]
        good = found in states if expected in elsewhere else found == (expected if expected in states else "")
        if not good:
            wrong.append((vector["name"], found))

    assert wrong == []


def test_every_outcome_has_vectors() -> None:
    """Each state and each fault; the contradictions most."""
    found = Counter(vector["expected"] for vector in load(FILE)["vectors"])
    states = {state.name for state in ReceiptState} - {"UNSPECIFIED"}

    assert set(found) == states | {fault.value for fault in ReceiptFault}
    assert found["INCONSISTENT"] >= 20
