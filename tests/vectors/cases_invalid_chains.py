"""Chains that no verifier accepts: endings, keys and signatures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.oracle.constants import Reason
from tests.oracle.crypto import digest
from tests.oracle.wire import encode
from tests.support.token_forger import Record, assemble, ending, id16, key, make, sign
from tests.vectors.world import (
    ISSUER,
    SESSION,
    Case,
    at_block,
    case,
    child,
    link,
    refused,
    root,
    signers,
)

MALFORMED = refused(Reason.MALFORMED_TOKEN)
READ = "read:files/*"
_P = 2**255 - 19
_Y8 = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
)


def cases() -> Iterator[Case]:
    """The part of ``invalid.json`` on how blocks hang together."""
    yield from _endings()
    yield from _keys()
    yield from _signatures()


def _endings() -> Iterator[Case]:
    bound = ending("bound", key("next 0"))
    may_seal = ending("bound", key("next 0"), may_seal=True)
    yield case(
        "open root", "An open token is never presented.", refused(Reason.OPEN_TOKEN), root(READ), last="open"
    )
    yield case(
        "open child", "Nor is an open child.", refused(Reason.OPEN_TOKEN), root(READ), child(), last="open"
    )
    yield case(
        "block after sealed",
        "Nothing follows a sealed block.",
        MALFORMED,
        root(READ, **ending("sealed")),
        child(),
    )
    yield case(
        "sealed below bound",
        "A holder cannot make a bearer token of a bound one.",
        MALFORMED,
        root(READ, **bound),
        child(),
    )
    yield case("open below bound", "Nor an open one.", MALFORMED, root(READ, **bound), child(), last="open")
    yield case(
        "sealed two below bound",
        "However far below.",
        MALFORMED,
        root(READ, **bound),
        child(**ending("bound", key("next 1"))),
        child(),
    )
    yield case(
        "may_seal below bound",
        "Nor give itself leave.",
        MALFORMED,
        root(READ, **bound),
        child(**ending("bound", key("next 1"), may_seal=True)),
    )
    yield case(
        "bound again",
        "May_seal ends at the next bound block.",
        MALFORMED,
        root(READ, **may_seal),
        child(**ending("bound", key("next 1"))),
        child(),
    )
    fields: list[tuple[str, Record]] = [
        ("sealed with next_key", {"ending": 1, "next_key": key("n").public}),
        ("sealed with proof_key", {"ending": 1, "proof_key": key("n").public}),
        ("sealed with may_seal", {"ending": 1, "may_seal": True}),
        ("open without next_key", {"ending": 2}),
        ("open with proof_key", {"ending": 2, "next_key": key("n").public, "proof_key": key("p").public}),
        ("open with may_seal", {"ending": 2, "next_key": key("n").public, "may_seal": True}),
        ("bound without next_key", {"ending": 3}),
        ("next_key of 31 bytes", {"ending": 3, "next_key": key("n").public[:31]}),
        ("next_key of 33 bytes", {"ending": 3, "next_key": key("n").public + b"\x00"}),
        ("proof_key of 31 bytes", {"ending": 3, "next_key": key("n").public, "proof_key": bytes(31)}),
        ("proof_key is next_key", {"ending": 3, "next_key": key("n").public, "proof_key": key("n").public}),
    ]
    for name, fields_of in fields:
        yield Case(
            name,
            "Fields that do not go with the ending.",
            make([root(READ, **fields_of)], [ISSUER]),
            MALFORMED,
        )


def _keys() -> Iterator[Case]:
    for name, y in [
        ("0", 0),
        ("1", 1),
        ("p-1", _P - 1),
        ("p", _P),
        ("p+1", _P + 1),
        ("y8", _Y8),
        ("p-y8", _P - _Y8),
    ]:
        for sign_bit in (0, 1):
            data = (y | sign_bit << 255).to_bytes(32, "little")
            yield Case(
                f"next_key of small order: {name}, sign {sign_bit}",
                "One signature would pass for any message.",
                make([root(READ, ending=3, next_key=data)], [ISSUER]),
                MALFORMED,
            )
    for y in (_P + 2, 2**255 - 1):
        yield Case(
            f"next_key not canonical: {hex(y)[-4:]}",
            "y is not below p.",
            make([root(READ, ending=3, next_key=y.to_bytes(32, "little"))], [ISSUER]),
            MALFORMED,
        )
    again: Record = {"ending": 2, "next_key": key("next 0").public}
    yield Case(
        "next_key twice",
        "A key appears once in a chain.",
        make([root(READ, **again), child(**again)], [ISSUER, key("next 0")]),
        MALFORMED,
    )
    yield Case(
        "proof_key of another block as next_key",
        "In either field.",
        make(
            [
                root(READ, ending=3, next_key=key("next 0").public, proof_key=key("p").public),
                child(ending=3, next_key=key("p").public),
            ],
            [ISSUER, key("next 0")],
        ),
        MALFORMED,
    )
    yield Case(
        "next_key of the issuer",
        "An issuer key is never a next_key.",
        make([root(READ, ending=2, next_key=ISSUER.public)], [ISSUER]),
        MALFORMED,
    )


def _signatures() -> Iterator[Case]:
    def wrong(index: int) -> Any:
        return at_block(Reason.BAD_SIGNATURE, index)

    blocks = link(root(READ), child(), child())
    payloads = [encode("Block", block) for block in blocks]
    right = sign(payloads, signers(3))
    for index in range(3):
        flipped = list(right)
        flipped[index] = bytes([flipped[index][0] ^ 1]) + flipped[index][1:]
        yield Case(
            f"signature {index} changed",
            "The first wrong one is named.",
            assemble(payloads, flipped),
            wrong(index),
        )
    edited = [payloads[0].replace(b"gateway", b"gatewaY"), *payloads[1:]]
    yield Case("payload changed", "A payload that nobody signed.", assemble(edited, right), wrong(0))
    yield Case(
        "root of another key",
        "Not the issuer's signature.",
        make(link(root(READ)), [key("forger")]),
        wrong(0),
    )
    yield Case(
        "child of another key",
        "Not signed by next_key.",
        make(link(root(READ), child()), [ISSUER, key("forger")]),
        wrong(1),
    )
    yield Case(
        "child signed by the issuer",
        "The issuer cannot extend a chain either.",
        make(link(root(READ), child()), [ISSUER, ISSUER]),
        wrong(1),
    )
    other = [encode("Block", block) for block in link(root(READ, label="other"), child())]
    yield Case(
        "block of another chain",
        "A block is bound to what stands above it.",
        assemble([payloads[0], other[1]], [right[0], sign(other, signers(2))[1]]),
        wrong(1),
    )
    yield Case(
        "dropped middle block",
        "Nothing can be left out.",
        assemble([payloads[0], payloads[2]], [right[0], right[2]]),
        wrong(1),
    )
    four = [encode("Block", block) for block in link(root(READ), child(), child(label="2"), child())]
    of_four = sign(four, signers(4))
    yield Case(
        "swapped blocks",
        "Nothing can be put in another order.",
        assemble([four[n] for n in (0, 2, 1, 3)], [of_four[n] for n in (0, 2, 1, 3)]),
        wrong(1),
    )
    yield Case(
        "signature over a plain payload",
        "The label is part of what is signed.",
        assemble([payload()], [ISSUER.sign(payload())]),
        wrong(0),
    )
    scalar = (
        int.from_bytes(right_of(payload())[32:], "little") + 2**252 + 27742317777372353535851937790883648493
    )
    yield Case(
        "S not reduced",
        "S is below L.",
        assemble([payload()], [right_of(payload())[:32] + scalar.to_bytes(32, "little")]),
        wrong(0),
    )
    yield Case("all zero signature", "R of small order.", assemble([payload()], [bytes(64)]), wrong(0))
    yield Case(
        "dropped last block",
        "What is left ends open.",
        assemble(payloads[:2], right[:2]),
        refused(Reason.OPEN_TOKEN),
    )
    yield Case(
        "other session id",
        "The session is signed; this one is not in the view.",
        assemble([payload().replace(SESSION, id16("forged"))], [right_of(payload())]),
        refused(Reason.UNKNOWN_SESSION),
    )
    yield Case(
        "other issuer id",
        "The issuer is signed; this one is not in the view.",
        assemble([payload().replace(ISSUER.id, digest(b"forged"))], [right_of(payload())]),
        refused(Reason.UNKNOWN_ISSUER),
    )


def right_of(data: bytes) -> bytes:
    """The issuer's signature of a root payload."""
    return sign([data], [ISSUER])[0]


def payload() -> bytes:
    """The payload of a sealed root block."""
    return encode("Block", link(root(READ))[0])
