"""Any bytes: each way to a decision returns one, the same one, and allows only what was signed.

Run by hand for a number of seconds, from a seed; each round prints what it found by reason:

    python -m tests.fuzz.check_any_bytes --seconds 60 --seed 1
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from sessauth._fast._check import Checker, DecisionQueue
from sessauth._fast._codec import CheckMessage, DecisionText, Survey
from sessauth.decisions.decision import Decision
from sessauth.reasons import Reason, SurveyVerdict
from sessauth.v1 import authorization_service_pb2 as pb
from tests.support import bulk_sessions
from tests.vectors.world import AUDIENCE, NOW, child, root, token

SOURCE = "10.0.0.1"
TEXT = DecisionText(bytes(32), {}, {})
_ARGUMENTS = (
    b"",
    b"{}",
    b'{"n": 1, "path": "/srv/a", "o": {"p": [1, "x", null]}}',
    b'{"u": "https://h.example:8443/x?y#z", "l": ["a/b", "c"], "t": true}',
    b'{"n": -12.5e3, "path": "\\u002fsrv\\/\\ud83d\\ude00"}',
)
_RESOURCES = (b"files/a.txt", b"files/a/b", b"logs/x", b"files")
_SCOPES = (
    'read:files/** where n? <= 9 and path? under "/srv" free *',
    'write:logs/{x,y} where host(u) == "h.example" and l subset_of ["a/b", "c"] free *',
    'write:logs/mail where domain(t) == "h.example" and length(t) <= 9 and path(u) not under "/x" free *',
    'read:files/* where each(l?) glob "a/**" and t? == true and o.p? present free n',
)


@dataclass(frozen=True, slots=True)
class Call:
    """One check's arguments."""

    token: bytes
    action: bytes
    resource: bytes
    arguments: bytes
    tool: bytes


class Broken(Exception):
    """The invariant does not hold for a call."""


@cache
def seeds() -> list[bytes]:
    """The valid tokens that are changed; each permits no more than reading files or writing logs."""
    permitted = [s for s in _SCOPES if "present" not in s]
    return [
        token(root(*permitted)),
        token(root(*permitted, conditions="n? <= 100", source=["10.0.0.0/8"]), child("read:files/*")),
        token(root("read:files/**"), *[child("*:**", label=f"{i}") for i in range(15)]),
        token(root(*permitted), last="open"),
        token(root(*permitted), last="bound"),
    ]


def changed(rng: random.Random, data: bytes) -> bytes:
    """The bytes with a few edits, or others altogether."""
    if rng.random() < 0.03:
        return rng.randbytes(rng.randrange(300))
    edited = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, n = rng.randrange(len(edited) + 1), rng.randint(1, 12)
        edit = rng.randrange(6)
        if edit == 0 and edited:
            edited[at % len(edited)] ^= 1 << rng.randrange(8)
        elif edit == 1:
            del edited[at : at + n]
        elif edit == 2:
            edited[at:at] = rng.randbytes(n)
        elif edit == 3:
            edited[at:at] = edited[max(0, at - n) : at]
        elif edit == 4 and edited:
            edited[at % len(edited)] = rng.choice(b'\x00\x01\x08\x12\x7f\x80\xff"{}[]\\/*.')
        else:
            edited[at : at + n] = rng.randbytes(n)
    return bytes(edited)


def calls(seed: int) -> Iterator[tuple[Call, bool]]:
    """Calls without an end, and whether the token of each is one that was signed."""
    rng = random.Random(seed)
    signed = seeds()
    while True:
        original = rng.choice(signed)
        presented = original if rng.random() < 0.4 else changed(rng, original)
        parts = [rng.choice((b"read", b"write")), rng.choice(_RESOURCES), rng.choice(_ARGUMENTS), b""]
        parts = [changed(rng, part) if rng.random() < 0.3 else part for part in parts]
        yield Call(presented, *parts), presented in signed


def outcomes(checker: Checker, call: Call) -> Iterator[Decision]:
    """The decisions of every way to one: by bytes, known bytes, a handle, a batch, a request in wire form."""
    handle = checker.prepare(call.token)
    for presented in (call.token, call.token, handle):
        yield checker._check(
            presented, call.action, call.resource, call.arguments, tool=call.tool,
            source=SOURCE, audience=AUDIENCE, now_ms=NOW,
        )  # fmt: skip
    parts = (call.action, call.resource, call.arguments, call.tool, b"", SOURCE)
    presented_tokens = (call.token, call.token, handle, bytes(bytearray(call.token)))
    yield from checker._check_batch([(t, *parts) for t in presented_tokens], audience=AUDIENCE, now_ms=NOW)
    if call.action and call.resource:
        item = pb.CheckItem(
            token=call.token, action=call.action, resource=call.resource, arguments=call.arguments,
            tool=call.tool, source=SOURCE,
        )  # fmt: skip
        request = pb.CheckBatchRequest(items=[item] * 4, tokens=[b"", call.token])
        for named in request.items[2:]:
            named.token, named.token_index = b"", 2
        asking = CheckMessage(checker, request.SerializeToString(), "batch")
        asking.judge(AUDIENCE, now_ms=NOW)
        yield from asking
        answer = pb.CheckBatchResponse.FromString(asking.answer(lambda decision, token: "x"))
        if [d.allowed for d in answer.decisions] != [d.allowed for d in asking]:
            raise Broken(f"{call}: another answer than decision")


def check(checker: Checker, call: Call, signed: bool) -> Reason:
    """Judge a call by every way and hold the invariant; raises Broken, naming the call."""
    found = []
    for outcome in outcomes(checker, call):
        reason = Reason(outcome.reason)
        if outcome.fault is not None:
            raise Broken(f"{call}: {outcome.fault!r}")
        if outcome.allowed is not (reason is Reason.ALLOWED) or bool(outcome) is not outcome.allowed:
            raise Broken(f"{call}: allowed is {outcome.allowed} with {reason.name}")
        if outcome.allowed and not (
            signed
            and call.resource.split(b"/")[0] in (b"files", b"logs")
            and call.action == (b"read" if call.resource.startswith(b"files") else b"write")
        ):
            raise Broken(f"{call}: allowed")
        if not outcome.block_ids and reason >= Reason.EXPIRED:
            raise Broken(f"{call}: {reason.name} without a signature")
        found.append((reason, outcome.stage, outcome.level, outcome.index, outcome.scope, outcome.clause))
    if len(set(found)) != 1:
        raise Broken(f"{call}: {found}")
    survey(checker, call, found[0][0])
    record(checker, call, len(found))
    return found[0][0]


def record(checker: Checker, call: Call, count: int) -> None:
    """Raise Broken unless each decision was noted once; and, of some calls, has a record that is JSON."""
    if checker.decision_queue is None:
        return
    notes = checker.decision_queue.drain()
    noted = {note.decision_id.hex() for note in notes}
    if not len(notes) == len(noted) == count:
        raise Broken(f"{call}: {count} decisions, {len(notes)} notes")
    if checker.decision_queue.queued % 8:
        return
    written, _ = TEXT.write(notes)
    records = [json.loads(line) for line in written.decode().splitlines()]
    if noted != {each["id"] for each in records if each["kind"] == "decision"}:
        raise Broken(f"{call}: {written!r}")


def survey(checker: Checker, call: Call, reason: Reason) -> None:
    """Ask a survey about a call that was judged; raises Broken if it says otherwise."""
    surveyed = Survey(checker, call.token, source=SOURCE, audience=AUDIENCE, now_ms=NOW)
    given, whatever = surveyed.verdicts(
        [(call.action, call.resource, arguments, call.tool) for arguments in (call.arguments, None)]
    )
    if surveyed.fault is not None:
        raise Broken(f"{call}: {surveyed.fault!r}")
    if (given == SurveyVerdict.YES) is not (reason is Reason.ALLOWED):
        raise Broken(f"{call}: {reason.name}, and the survey says {given}")
    wrong = SurveyVerdict.NO if reason is Reason.ALLOWED else SurveyVerdict.YES
    if whatever == wrong and reason is not Reason.MALFORMED_REQUEST:
        raise Broken(f"{call}: {reason.name}, and for all arguments the survey says {whatever}")


def ask(checker: Checker, rng: random.Random, call: Call) -> bool:
    """Take a request of the call with a few bytes changed; whether it is one. Allows nothing unsigned."""
    item = pb.CheckItem(
        token=call.token, action=call.action, resource=call.resource, arguments=call.arguments,
        tool=call.tool, source=SOURCE, peer=["a", "b"], proof=b"p", approvals=[b"a", b""], retry_id=b"r",
        permit_ms=rng.choice((0, 0, 1)),
    )  # fmt: skip
    if rng.random() < 0.1:
        item = pb.CheckItem(token=call.token, source=SOURCE, peer=["a", "b"], token_only=True)
    kind, message = rng.choice(
        (
            ("check", pb.CheckRequest(item=item, audience=AUDIENCE, at_least_revision=1)),
            ("batch", pb.CheckBatchRequest(items=[item] * rng.randrange(4), audience=AUDIENCE)),
            ("batch", _by_table(rng, item)),
            (
                "stream",
                pb.CheckStreamRequest(id=rng.getrandbits(64), item=item, audience=AUDIENCE, watch=True),
            ),
            ("commit", pb.CommitRequest(permit=b"x" * 32, item=item, audience=AUDIENCE)),
        )
    )
    data = changed(rng, message.SerializeToString())
    try:
        asking = CheckMessage(checker, data, kind)
    except ValueError:
        return False
    if asking.well_formed():
        asking.judge(asking.audience, now_ms=NOW)
        signed = seeds()
        for at, decision in enumerate(asking):
            if decision.fault is not None or (decision.allowed and asking.token(at) not in signed):
                raise Broken(f"{kind} {data.hex()}: {decision.reason}")
    else:
        for at in range(len(asking)):
            asking.token(at), asking.states(at), asking.peer_count(at), asking.session_bytes(at)
            asking.token_index(at), asking.approvals(at), asking.retry_id(at), asking.permit_ms(at)
    asking.answer(lambda decision, token: "x" * rng.choice((0, 1, 127, 128, 300)))
    return True


def _by_table(rng: random.Random, item: pb.CheckItem) -> pb.CheckBatchRequest:
    """A batch whose items name a token of the request, most of them one that is there."""
    table = [item.token] * rng.randrange(1, 4)
    named = pb.CheckItem()
    named.CopyFrom(item)
    named.token, named.token_index = b"", rng.randrange(1, len(table) + 1)
    return pb.CheckBatchRequest(items=[named] * rng.randrange(4), tokens=table, audience=AUDIENCE)


def run(seed: int, rounds: int, seconds: float) -> Counter[str]:
    """Hold the invariant for so many calls, or seconds of CPU time; gives how often each reason came."""
    checker = bulk_sessions.checker()
    checker.decision_queue = DecisionQueue(1 << 20)
    found: Counter[str] = Counter()
    rng = random.Random(f"{seed} requests")
    until = time.process_time() + seconds
    for number, (call, signed) in enumerate(calls(seed)):
        if number >= rounds or (number % 256 == 0 and time.process_time() > until):
            break
        found[check(checker, call, signed).name] += 1
        found["requests"] += number % 4 == 0 and ask(checker, rng, call)
        checker.decision_queue.drain()
    return found


def main() -> int:
    """Run by hand; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    seed = options.seed
    while time.monotonic() < until:
        found = run(seed, 200_000, until - time.monotonic())
        sys.stdout.write(f"seed {seed}: {dict(found.most_common())}\n")
        seed += 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
