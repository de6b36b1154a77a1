"""Notes as records: every field, any text, arguments only as a digest, a share that can be told again."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest

from sessauth._fast._check import Chain
from sessauth._fast._codec import DecisionText
from sessauth.reasons import Reason, Stage
from tests.support.recorded import RecordedVerifier, bodies
from tests.vectors.world import AUDIENCE, NOW, SESSION, child, root, token

KEY = bytes(range(32))
VALID = token(root("read:files/**"), child("*:**"))
REASONS = {int(reason): reason.name for reason in Reason}
STAGES = {int(stage): stage.name for stage in Stage}


def text(share: float = 1.0) -> DecisionText:
    """A writer of records."""
    return DecisionText(KEY, REASONS, STAGES, sample_allows=share)


def one(tapped: RecordedVerifier) -> dict[str, Any]:
    """The record of the one decision that waits."""
    data, count = text().write(tapped.decision_queue.drain())
    assert count == 1
    return bodies(data)[-1]


def test_the_record_of_an_allow() -> None:
    """Each field stands there, in its order, behind a record with the chain's blocks."""
    tapped = RecordedVerifier()
    decision = tapped.check(VALID, arguments=b'{"a":"secret"}', source="192.0.2.1")
    data, count = text().write(tapped.decision_queue.drain())
    chain, record = bodies(data)

    assert count == 1
    assert data.startswith(b'{"kind":"chain","at_ms":') and data.endswith(b"}\n")
    assert [base64.b64decode(block["payload"]) for block in chain["blocks"]] == list(
        Chain.parse(VALID).payloads
    )
    assert [bytes.fromhex(block["id"]) for block in chain["blocks"]] == list(decision.block_ids)
    assert b"secret" not in data
    assert record == {
        "kind": "decision",
        "at_ms": NOW,
        "id": decision.decision_id.hex(),
        "allowed": True,
        "reason": "ALLOWED",
        "stage": "NONE",
        "session": SESSION.hex(),
        "epoch": 1,
        "revision": 100,
        "blocks": [block_id.hex() for block_id in decision.block_ids],
        "action": "read",
        "resource": "files/a",
        "arguments": hashlib.blake2b(b'{"a":"secret"}', key=KEY, digest_size=16).hexdigest(),
        "audience": AUDIENCE,
        "source": "192.0.2.1",
        "matched": [decision.matched_index, decision.matched_scope],
        "at": None,
        "token": hashlib.blake2b(VALID, digest_size=32).hexdigest()[:32],
        "sampled": 1,
    }


def test_the_record_of_a_denial() -> None:
    """The record has the refused position: the path of the argument, never its value."""
    tapped = RecordedVerifier()
    tapped.check(token(root('read:files/** where path == "x"')), arguments=b'{"path":"hidden"}')
    record = one(tapped)

    assert (record["allowed"], record["reason"], record["stage"]) == (False, "CONDITION_FAILED", "SCOPE")
    assert record["at"] == {"level": "BLOCK", "index": 0, "scope": 0, "clause": 0, "argument": "path"}
    assert record["matched"] is None
    assert "hidden" not in json.dumps(record)


def test_the_record_of_what_is_unverified() -> None:
    """Without a valid signature the record has only the token's claims and a digest of it."""
    tapped = RecordedVerifier()
    tapped.check(VALID, session=bytes(16))
    record = one(tapped)

    assert record["claimed"] == SESSION.hex()
    assert {"session", "epoch", "blocks"} & set(record) == set()
    tapped.check(b"garbage")
    record = one(tapped)
    assert "claimed" not in record
    assert record["token"] == hashlib.blake2b(b"garbage", digest_size=32).hexdigest()[:32]


@pytest.mark.parametrize(
    "resource",
    [
        'files/"},{"kind":"decision',
        "files/\\\\\\",
        "files/\n\r\t\x00\x1f\x7f\x85\x9b\u2028\u2029",
        "files/größe/日本/🎉/\u0600",
        "files/" + "\u0085" * 600,
        "",
    ],
)
def test_any_text_is_a_text(resource: str) -> None:
    """Quotes, control characters and line ends of a text end neither string nor line."""
    tapped = RecordedVerifier()
    tapped.check(VALID, resource)
    data, _ = text().write(tapped.decision_queue.drain())
    record = json.loads(data.splitlines()[-1])

    assert record["resource"] == resource.encode()[:1024].decode(errors="replace")
    assert len(data.decode().splitlines()) == data.count(b"\n") == 2


@pytest.mark.parametrize(
    "raw", [b"\xff", b"a\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xc3(\xf0\x9f"]
)
def test_what_is_not_utf8_is_replaced(raw: bytes) -> None:
    """Bytes that are no text become replacement characters, and the line stays UTF-8."""
    tapped = RecordedVerifier()
    tapped.verifier._check(VALID, "read", raw, now_ms=NOW)
    data, _ = text().write(tapped.decision_queue.drain())
    found = json.loads(data.splitlines()[-1])["resource"]

    assert "\N{REPLACEMENT CHARACTER}" in found
    assert found.replace("\N{REPLACEMENT CHARACTER}", "") == raw.decode(errors="ignore")


def test_blocks_are_written_once() -> None:
    """A chain's blocks stand before its first decision alone, and again once they were forgotten."""
    tapped, writer = RecordedVerifier(), text()
    for _ in range(2):
        tapped.check(VALID)
    tapped.check(token(root("read:files/**")))
    kinds = [record["kind"] for record in bodies(writer.write(tapped.decision_queue.drain())[0])]
    assert kinds == ["chain", "decision", "decision", "chain", "decision"]
    tapped.check(VALID)
    assert len(bodies(writer.write(tapped.decision_queue.drain())[0])) == 1
    writer.forget_chains()
    tapped.check(VALID)
    assert len(bodies(writer.write(tapped.decision_queue.drain())[0])) == 2


def test_a_share_of_the_allows() -> None:
    """A decision's id shows if it had to be recorded. All denials are recorded."""
    tapped = RecordedVerifier()
    made = [tapped.check(VALID).decision_id.hex() for _ in range(400)]
    denied = [tapped.check(VALID, "other").decision_id.hex() for _ in range(20)]
    notes = tapped.decision_queue.drain()
    kept = {share: bodies(text(share).write(notes)[0]) for share in (0.0, 0.25, 0.75, 1.0)}
    found = {share: [each for each in of if each["kind"] == "decision"] for share, of in kept.items()}
    ids = {share: {each["id"] for each in of} for share, of in found.items()}

    assert ids[0.0] == set(denied)
    assert ids[0.0] < ids[0.25] < ids[0.75] < ids[1.0] == {*made, *denied}
    assert 60 < len(ids[0.25]) - 20 < 140
    assert {each["sampled"] for each in found[0.25] if each["allowed"]} == {0.25}
    assert {each["sampled"] for each in found[0.25] if not each["allowed"]} == {1}
    assert bodies(text(0.25).write(notes)[0])[1:] == kept[0.25][1:]


def test_an_allow_that_is_taken_back() -> None:
    """A withdrawal says that it is one."""
    tapped = RecordedVerifier()
    batch = tapped.verifier._check_batch([(VALID, "read", "x")], now_ms=NOW, record=False)
    tapped.verifier.record_batch_item(batch, 0, watched=True)
    assert one(tapped)["watched"] is True
    tapped.check(VALID)
    assert "watched" not in one(tapped)


def test_a_writer_is_made_of_what_it_needs() -> None:
    """A key of another length and a share beyond 0 to 1 are refused."""
    with pytest.raises(ValueError, match="32 bytes"):
        DecisionText(b"short", REASONS, STAGES)
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="sample_allows"):
            text(share)
    assert text().write([]) == (b"", 0)


@pytest.mark.parametrize("other", [None, object()])
def test_other_objects_are_refused(other: object) -> None:
    """Only records are written. A refused call writes nothing, so the blocks come with the next one."""
    tapped, writer = RecordedVerifier(), text()
    tapped.check(VALID)
    records = tapped.decision_queue.drain()
    with pytest.raises(TypeError):
        writer.write([*records, other])  # type: ignore[list-item]
    kinds = [record["kind"] for record in bodies(writer.write(records)[0])]
    assert kinds == ["chain", "decision"]
