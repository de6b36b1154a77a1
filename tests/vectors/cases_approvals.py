"""Signed approvals: which count for a call, and when they are enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.oracle.approvals import LABEL, Held, Verdict, Wanted, judge
from tests.oracle.crypto import digest
from tests.oracle.proofs import request_digest
from tests.oracle.wire import encode
from tests.support.token_forger import Record, id16, key
from tests.vectors.world import EXPIRES, NOW, SESSION

ACTION, RESOURCE, ARGUMENTS = b"deploy", b"prod/api", b'{"version": "1.2"}'
APPROVAL = id16("approval")
OTHER = id16("another approval")
# The identity point: what a lax verifier accepts one signature of for every message.
SMALL_ORDER = bytes([1]) + bytes(31)
NAMES = ("ann", "bob", "cas")
WANTED = Wanted(
    SESSION,
    digest(b"last block"),
    1,
    2,
    7,
    request_digest(ACTION, RESOURCE, ARGUMENTS),
    2,
    tuple(key(name).public for name in NAMES),
)


@dataclass(frozen=True)
class Case:
    """One vector: what came, what is held, what was used up, and what must come out."""

    name: str
    comment: str
    given: Sequence[bytes]
    expected: Verdict
    held: Held | None = None
    used: Sequence[bytes] = ()
    wanted: Wanted = WANTED
    now_ms: int = NOW


def statement(**changes: Any) -> bytes:
    """Return the signed bytes: the terms of the call, under an id, for an hour, unless changed."""
    stated = {
        "id": APPROVAL,
        "session_id": WANTED.session_id,
        "block_id": WANTED.block_id,
        "block": WANTED.block,
        "scope": WANTED.scope,
        "epoch": WANTED.epoch,
        "request_digest": WANTED.request_digest,
        "expires_at_ms": EXPIRES,
    }
    return encode("ApprovalStatement", {**stated, **changes})


def sign(name: str, stated: bytes, label: bytes = LABEL, **changes: Any) -> bytes:
    """Bytes of a statement, signed by the key of a name."""
    signer = key(name)
    made = {"public_key": signer.public, "signature": signer.sign(label + stated), "statement": stated}
    return encode("SignedApproval", {**made, **changes})


def by(*names: str, **changes: Any) -> list[bytes]:
    """The statement, signed by keys of these names."""
    return [sign(name, statement(**changes)) for name in names]


def held(*names: str, **changes: Any) -> Held:
    """Return the record of the state, with statements of these names."""
    return replace(Held(APPROVAL, EXPIRES, statements=by(*names)), **changes)


def cases() -> Iterator[Case]:
    """Every vector of ``approvals.json``."""
    yield from _enough()
    yield from _fields()
    yield from _forms()
    yield from _held()


def _enough() -> Iterator[Case]:
    allowed, required, bad = Verdict.ALLOWED, Verdict.APPROVAL_REQUIRED, Verdict.BAD_APPROVAL
    yield Case("two of three", "As many as the threshold.", by("ann", "cas"), allowed)
    yield Case("two in another order", "Order says nothing.", by("cas", "ann"), allowed)
    yield Case("none", "Nothing came, nothing is held.", [], required)
    yield Case("one of two", "Too few.", by("ann"), required)
    yield Case("three where two are needed", "More than are needed.", by(*NAMES), bad)
    yield Case("a key twice", "The same statement again.", by("ann", "ann"), bad)
    again = [*by("ann"), *by("ann", expires_at_ms=EXPIRES - 1)]
    yield Case("a key twice, two statements", "One statement a key.", again, bad)
    two_ids = [*by("ann"), *by("bob", id=OTHER)]
    yield Case("two ids", "All are of one approval.", two_ids, bad)
    one = replace(WANTED, threshold=1)
    yield Case("one of one", "A threshold of one.", by("bob"), allowed, wanted=one)
    yield Case("two of one", "One too many.", by("ann", "bob"), bad, wanted=one)
    yield Case("one right, one foreign", "Each must count.", by("ann", "dan"), bad)
    yield Case("used up", "The id allowed a call before.", by("ann", "bob"), bad, used=[APPROVAL])
    yield Case("another is used up", "Another id.", by("ann", "bob"), allowed, used=[OTHER])


def _fields() -> Iterator[Case]:
    bad = Verdict.BAD_APPROVAL
    for name, comment, changes in (
        ("another session", "Of another interaction.", {"session_id": id16("another")}),
        ("another last block", "Of another token.", {"block_id": digest(b"another")}),
        ("another block", "Another block's scope.", {"block": 0}),
        ("another scope", "Another scope of the block.", {"scope": 1}),
        ("an earlier epoch", "The session moved since.", {"epoch": 6}),
        ("a later epoch", "Not yet.", {"epoch": 8}),
        (
            "another request",
            "Other arguments.",
            {"request_digest": request_digest(ACTION, RESOURCE, b'{"version":"1.2"}')},
        ),
        ("no expiry", "The default.", {"expires_at_ms": 0}),
        ("expired", "Ends now: no leeway.", {"expires_at_ms": NOW}),
        ("an expiry that is no time", "Above the largest time.", {"expires_at_ms": 2**53}),
        ("no id", "Of no approval.", {"id": b""}),
        ("a short id", "15 bytes.", {"id": APPROVAL[:15]}),
        ("a long id", "17 bytes.", {"id": APPROVAL + b"\x01"}),
    ):
        yield Case(name, comment, by("ann", "bob", **changes), bad)
    last = by("ann", "bob", expires_at_ms=NOW + 1)
    yield Case("the last millisecond", "Ends after now.", last, Verdict.ALLOWED)
    farthest = by("ann", "bob", expires_at_ms=2**53 - 1)
    yield Case("the last time there is", "The largest time.", farthest, Verdict.ALLOWED)


def _forms() -> Iterator[Case]:
    bad = Verdict.BAD_APPROVAL
    right, stated = by("ann")[0], statement()
    for name, comment, one in (
        ("empty", "No bytes.", b""),
        ("cut", "The last byte is missing.", right[:-1]),
        ("a field more", "An unknown field.", right + b"\x20\x01"),
        (
            "fields out of order",
            "The statement first.",
            right[-len(stated) - 3 :] + right[: -len(stated) - 3],
        ),
        ("a changed signature", "One bit.", sign("ann", stated, signature=bytes(63) + b"\x01")),
        ("no signature", "Absent.", sign("ann", stated, signature=b"")),
        ("a label that is none", "Signed as something else.", sign("ann", stated, b"sessauth/block/v1\x00")),
        ("no label", "The bare statement is signed.", sign("ann", stated, b"")),
        (
            "another's key",
            "Signed by bob, said to be ann's.",
            sign("bob", stated, public_key=key("ann").public),
        ),
        ("a key that is not named", "By nobody that the scope knows.", by("dan")[0]),
        ("a short key", "31 bytes.", sign("ann", stated, public_key=key("ann").public[:31])),
        ("a statement with a field more", "Rightly signed.", sign("ann", stated + b"\x48\x01")),
        ("a statement twice", "Rightly signed.", sign("ann", stated + stated)),
        ("an explicit default", "Field 4 with 0, rightly signed.", sign("ann", _explicit_default())),
        ("a longer varint", "The epoch in two bytes, rightly signed.", sign("ann", _longer_epoch())),
        ("an empty statement", "Rightly signed.", sign("ann", b"")),
    ):
        yield Case(name, comment, [one, *by("bob")], bad)
    small = replace(WANTED, threshold=1, keys=(SMALL_ORDER,))
    forged = encode(
        "SignedApproval",
        {"public_key": SMALL_ORDER, "signature": SMALL_ORDER + bytes(32), "statement": stated},
    )
    yield Case("a key of small order", "Named by the scope, and never good.", [forged], bad, wanted=small)


def _explicit_default() -> bytes:
    whole = statement(block=0)
    place = whole.index(encode("ApprovalStatement", {"scope": WANTED.scope}))
    return whole[:place] + b"\x20\x00" + whole[place:]


def _longer_epoch() -> bytes:
    short = encode("ApprovalStatement", {"epoch": WANTED.epoch})
    return statement().replace(short, short[:1] + bytes([WANTED.epoch | 0x80, 0]), 1)


def _held() -> Iterator[Case]:
    allowed, required = Verdict.ALLOWED, Verdict.APPROVAL_REQUIRED
    bad, denied = Verdict.BAD_APPROVAL, Verdict.APPROVAL_DENIED
    yield Case("both are held", "The state has enough.", [], allowed, held("ann", "bob"))
    yield Case("one came, one is held", "They count together.", by("bob"), allowed, held("ann"))
    yield Case("one is held", "Too few.", [], required, held("ann"))
    yield Case("it waits", "Asked for, and nobody signed.", [], required, held())
    yield Case("came and is held", "The key was there already.", by("ann"), bad, held("ann"))
    yield Case("another than is held", "The id of what waits.", by("bob", id=OTHER), bad, held("ann"))
    yield Case(
        "enough of another", "An approval waits, not this one.", by("ann", "bob", id=OTHER), bad, held()
    )
    yield Case("bad beside enough", "Each that came must count.", by("dan"), bad, held("ann", "bob"))
    yield Case("surplus beside enough", "Within the threshold.", by("cas"), allowed, held("ann", "bob"))
    old = held("ann", statements=[*by("ann"), *by("bob", expires_at_ms=NOW)])
    yield Case("one that is held expired", "It does not count.", [], required, old)
    yield Case("signed again after expiry", "The key is not there any more.", by("bob"), allowed, old)
    over = held("ann", "bob", expires_at_ms=NOW)
    yield Case("what is held is over", "As if it were not there.", [], required, over)
    yield Case("came, what is held is over", "Of any id.", by("ann", "bob", id=OTHER), allowed, over)
    yield Case("what is held is used up", "It allowed a call.", [], required, held("ann", "bob"), [APPROVAL])
    yield Case("came, and is used up", "Once.", by("ann", "bob"), bad, held("ann"), [APPROVAL])
    no = held("ann", denied=True)
    yield Case("denied", "An approver said no.", [], denied, no)
    yield Case("denied, enough signed", "However many signed.", by("bob"), denied, no)
    yield Case("denied, and a bad one came", "What came is judged first.", by("dan"), bad, no)
    over = replace(no, expires_at_ms=NOW)
    yield Case("the denial is over", "It may be asked for again.", [], required, over)


def vector(case: Case) -> Record:
    """A case as JSON, after the oracle agreed."""
    found, used = judge(case.given, case.held, case.used, case.wanted, case.now_ms)
    if found is not case.expected:
        raise AssertionError(f"{case.name}: expected {case.expected}, the oracle gives {found}")
    record: Record = {
        "name": case.name,
        "comment": case.comment,
        "wanted": _plain(case.wanted),
        "given_hex": [each.hex() for each in case.given],
        "now_ms": case.now_ms,
        "expected": {"verdict": found.value},
    }
    if case.held is not None:
        record["held"] = _plain(case.held)
    if case.used:
        record["used_hex"] = [each.hex() for each in case.used]
    if used:
        record["expected"]["uses_up_hex"] = used.hex()
    return record


def _plain(value: Wanted | Held) -> Record:
    """The fields of a value, bytes as hex under a name with ``_hex``."""
    record: Record = {}
    for name in value.__slots__:
        part = getattr(value, name)
        if isinstance(part, bytes):
            record[name + "_hex"] = part.hex()
        elif isinstance(part, (list, tuple)):
            record[name + "_hex"] = [each.hex() for each in part]
        else:
            record[name] = part
    return record


def content() -> Record:
    """The vector file."""
    digests = [
        {
            "action": action.decode(),
            "resource": resource.decode(),
            "arguments": arguments.decode(),
            "digest_hex": request_digest(action, resource, arguments).hex(),
        }
        for action, resource, arguments in (
            (ACTION, RESOURCE, ARGUMENTS),
            (ACTION, RESOURCE, b""),
            (ACTION, RESOURCE, b"{}"),
            (b"deployp", b"rod/api", b""),
        )
    ]
    return {
        "title": "Signed approvals: which count, and when they are enough",
        "format": "docs/token-format.md, version 1, sections 8.1 and 9.10",
        "digests": digests,
        "vectors": [vector(case) for case in cases()],
    }
