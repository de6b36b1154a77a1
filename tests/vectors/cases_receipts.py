"""Closure receipts: what each says, and which prove nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.oracle.crypto import digest
from tests.oracle.receipts import (
    ACKNOWLEDGED,
    CLOSED,
    LABEL,
    LEFT,
    OUTLIVED,
    PARTIAL,
    UNKNOWN,
    WAITING,
    judge,
)
from tests.oracle.wire import encode
from tests.support.token_forger import Record, id16, key
from tests.vectors.world import NOW, SESSION

CLUSTER = id16("cluster")
SERVICE = "service"
KEYS = [key(name).public for name in (SERVICE, "retired")]
REVISION = 41
RECORD = 7


@dataclass(frozen=True)
class Case:
    """One vector: an encoded SignedReceipt, and what it proves of SESSION in CLUSTER."""

    name: str
    comment: str
    data: bytes
    expected: str
    made_since_ms: int = 0


def verifier(name: str, state: int, revision: int = REVISION) -> Record:
    """Return the record of a verifier in a receipt."""
    return {"name": name, "state": state, "revision": revision, "at_ms": NOW + 3}


CONTROL = verifier("sessauth/control", ACKNOWLEDGED)
STATED: Mapping[str, Any] = {
    "version": 1,
    "cluster_id": CLUSTER,
    "incarnation": id16("incarnation"),
    "session_id": SESSION,
    "epoch": 3,
    "revision": REVISION,
    "ended_at_ms": NOW,
    "cause": 1,
    "reason": "done",
    "made_at_ms": NOW + 5,
    "state": CLOSED,
    "verifiers": [CONTROL],
}


def sign(payload: bytes, name: str = SERVICE, label: bytes = LABEL, **changes: Any) -> bytes:
    """Bytes of a receipt that the key of a name signed."""
    signer = key(name)
    made = {
        "payload": payload,
        "issuer_key_id": digest(signer.public),
        "signature": signer.sign(label + payload),
    }
    return encode("SignedReceipt", {**made, **changes})


def stated(**changes: Any) -> bytes:
    """Return the signed bytes: a closed receipt, with these fields in place of its own."""
    return encode("Receipt", {**STATED, **changes})


def cases() -> Iterator[Case]:
    """Every vector of ``receipts.json``."""
    yield Case("closed", "The control process alone.", sign(stated()), "CLOSED")
    yield Case("closed by all", "Acknowledged, outlived, left.", sign(stated(verifiers=_all())), "CLOSED")
    yield Case("no verifiers", "Nobody was enrolled.", sign(stated(verifiers=[])), "CLOSED")
    yield Case("retired key", "One of the keys given.", sign(stated(), "retired"), "CLOSED")
    late = [verifier("gw-1", WAITING, REVISION - 1), CONTROL]
    yield Case("waiting", "One has not.", sign(stated(state=PARTIAL, verifiers=late)), "PARTIAL")
    yield Case("open permit", "One is open.", sign(stated(state=PARTIAL, open_permits=1)), "PARTIAL")
    yield Case("unknown", "Who was enrolled is not known.", sign(stated(state=UNKNOWN)), "UNKNOWN")
    last = sign(stated(last_allow_ms=NOW - 9))
    yield Case("last allow", "When a call was last allowed.", last, "CLOSED", made_since_ms=NOW + 5)
    yield from _signatures()
    yield from _expectations()
    yield from _contradictions(late)
    yield from _hosts()


def _all() -> list[Record]:
    return [
        verifier("gw-1", OUTLIVED, REVISION - 1),
        verifier("gw-2", LEFT, REVISION - 1),
        verifier("gw-3", ACKNOWLEDGED, REVISION + 9),
        CONTROL,
    ]


def _signatures() -> Iterator[Case]:
    unknown, bad, form = "UNKNOWN_KEY", "BAD_SIGNATURE", "NOT_CANONICAL"
    own = digest(key(SERVICE).public)
    yield Case("stranger", "A key that is none of those.", sign(stated(), "stranger"), unknown)
    yield Case("stranger as service", "Another key.", sign(stated(), "stranger", issuer_key_id=own), bad)
    other_label = sign(stated(), label=b"sessauth/verifier-key/v1\x00")
    yield Case("other label", "Signed as something else.", other_label, bad)
    partial = stated(state=PARTIAL, open_permits=1)
    kept = key(SERVICE).sign(LABEL + partial)
    yield Case("state altered", "PARTIAL's signature under CLOSED.", sign(stated(), signature=kept), bad)
    yield Case("short signature", "63 bytes.", sign(stated(), signature=kept[:63]), bad)
    yield Case("no bytes", "Nothing.", b"", unknown)
    yield Case("trailing byte", "Behind the message.", sign(stated()) + b"\x00", form)
    yield Case("payload cut", "Signed as it is.", sign(stated()[:-1]), form)
    default = stated() + b"\x68\x00"
    yield Case("default stated", "open_permits of 0 is absent.", sign(default), form)
    yield Case("version 2", "Of a later format.", sign(stated(version=2)), "UNSUPPORTED_VERSION")


def _expectations() -> Iterator[Case]:
    cluster = sign(stated(cluster_id=id16("another")))
    yield Case("other cluster", "Of another state.", cluster, "OTHER_CLUSTER")
    session = sign(stated(session_id=id16("another")))
    yield Case("other session", "Of another interaction.", session, "OTHER_SESSION")
    yield Case("replayed", "From before it was asked for.", sign(stated()), "TOO_OLD", made_since_ms=NOW + 6)


def _contradictions(late: list[Record]) -> Iterator[Case]:
    behind, ahead = verifier("gw", ACKNOWLEDGED, REVISION - 1), verifier("gw", WAITING)
    changes: Mapping[str, Mapping[str, Any]] = {
        "closed with one waiting": {"verifiers": late},
        "closed with a permit": {"open_permits": 1},
        "partial with nothing open": {"state": PARTIAL},
        "no state": {"state": 0},
        "state of tomorrow": {"state": 4},
        "no cause": {"cause": 0},
        "cause of tomorrow": {"cause": 6},
        "no epoch": {"epoch": 0},
        "no revision": {"revision": 0},
        "no end": {"ended_at_ms": 0},
        "made before the end": {"made_at_ms": NOW - 1},
        "short session id": {"session_id": SESSION[:15]},
        "short incarnation": {"incarnation": b""},
        "acknowledged too little": {"verifiers": [behind]},
        "waiting for what it has": {"state": PARTIAL, "verifiers": [ahead]},
        "verifier without state": {"verifiers": [verifier("gw", 0)]},
        "verifier state of tomorrow": {"verifiers": [verifier("gw", 5)]},
        "a verifier twice": {"verifiers": [CONTROL, CONTROL]},
        "verifiers out of order": {"verifiers": [CONTROL, verifier("gw", ACKNOWLEDGED)]},
        "verifier without name": {"verifiers": [verifier("", ACKNOWLEDGED)]},
    }
    for name, each in changes.items():
        yield Case(name, "Signed, and contradicts itself.", sign(stated(**each)), "INCONSISTENT")


def host(name: str, state: int, record: int = RECORD) -> Record:
    """Return the record of a host in a receipt of version 2."""
    return {"name": name, "state": state, "record": record, "at_ms": NOW + 4}


def _hosts() -> Iterator[Case]:
    """Receipts of version 2, which name hosts."""
    two = {"version": 2, "record": RECORD}
    holds, late = host("server/one", ACKNOWLEDGED), host("host-1", WAITING, RECORD - 1)
    all_of = [host("host-1", OUTLIVED, 0), host("host-2", ACKNOWLEDGED, RECORD + 5), holds]
    yield Case("hosts", "Each holds the end, or is outlived.", sign(stated(**two, hosts=all_of)), "CLOSED")
    waits = sign(stated(**two, state=PARTIAL, hosts=[late, holds]))
    yield Case("a host waits", "It may lack the end.", waits, "PARTIAL")
    whose = sign(stated(**two, state=UNKNOWN, hosts=[holds]))
    yield Case("hosts, unknown", "Verifiers are not known.", whose, "UNKNOWN")
    changes: Mapping[str, Mapping[str, Any]] = {
        "hosts in version 1": {"record": RECORD, "hosts": [holds]},
        "record in version 1": {"record": RECORD},
        "hosts without a record": {"version": 2, "hosts": [holds]},
        "closed with a host waiting": {**two, "hosts": [late, holds]},
        "a host acknowledged too little": {**two, "hosts": [host("h", ACKNOWLEDGED, RECORD - 1)]},
        "a host waits for what it has": {**two, "state": PARTIAL, "hosts": [host("h", WAITING)]},
        "a host outlived what it has": {**two, "hosts": [host("h", OUTLIVED)]},
        "a host that left": {**two, "hosts": [host("h", LEFT, 0)]},
        "a host without state": {**two, "hosts": [host("h", 0, 0)]},
        "a host twice": {**two, "hosts": [holds, holds]},
        "hosts out of order": {**two, "hosts": [holds, host("host-1", ACKNOWLEDGED)]},
        "a host without name": {**two, "hosts": [host("", ACKNOWLEDGED)]},
    }
    for name, each in changes.items():
        yield Case(name, "Signed, and contradicts itself.", sign(stated(**each)), "INCONSISTENT")


def vector(case: Case) -> Record:
    """A case as it stands in the file; the oracle must agree."""
    found = judge(case.data, KEYS, SESSION, CLUSTER, case.made_since_ms)
    if found != case.expected:
        raise AssertionError(f"{case.name}: expected {case.expected}, the oracle gives {found}")
    record: Record = {"name": case.name, "comment": case.comment, "receipt_hex": case.data.hex()}
    if case.made_since_ms:
        record["made_since_ms"] = case.made_since_ms
    return {**record, "expected": case.expected}


def content() -> Record:
    """The vector file."""
    return {
        "title": "Closure receipts: what each says of a session, and which prove nothing",
        "format": "docs/receipts.md, versions 1 and 2",
        "keys_hex": [public.hex() for public in KEYS],
        "session_hex": SESSION.hex(),
        "cluster_hex": CLUSTER.hex(),
        "vectors": [vector(case) for case in cases()],
    }
