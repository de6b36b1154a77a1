"""Seeded random questions: views, chains right and wrong, requests. The same seed gives the same questions.

The package compares any implementation of the token format with the kernel (docs/conformance.md).

Parts:

- ``questions.py``: a question and an answer, and their lines of JSON.
- ``vocabulary.py``: random scopes, conditions and arguments, drawn from few words so that they often meet.
- ``generator.py``: chains of blocks, views of a state, requests about them, and the right answers.
- ``kernel.py``: the kernel's answer. The view becomes rows of a state in memory.
- ``program.py``: another program as a judge, and the differences between its answers and the right ones.

Order of events:

1. A seed gives a view: sessions, issuer keys, revocations and a time.
2. The chains of that view follow, right ones and ones with a fault, and then requests for each of them.
3. The kernel answers each question. About a fifth is allowed; the rest spreads over the stages.
4. The other program reads the same questions, and its answers are compared one by one.

What must never happen: two runs with one seed differ, on any machine and at any time of day.

Read next: ``kernel.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any, Final

from .._fast import _check as kernel
from ..errors import ScopeError
from ..scopes.scope import Condition, Scope
from ..scopes.value import operand_to_record
from ..tokens.block_draft import Ending
from . import vocabulary
from .kernel import KernelJudge
from .questions import Question

Record = dict[str, Any]
_KINDS: Final = (6, 16, 77, 2**31 - 1)


@dataclass(frozen=True, slots=True)
class Key:
    """An Ed25519 key with the digest of its name as its seed: for tests only."""

    seed: bytes
    public: bytes
    id: bytes


@cache
def key(name: str) -> Key:
    """Return the key of a name."""
    seed = kernel.digest(b"sessauth conformance key " + name.encode())
    public = kernel.public_key(seed)
    return Key(seed, public, kernel.digest(public))


def name16(name: str) -> bytes:
    """Return the id of a name, 16 bytes."""
    return kernel.digest(b"sessauth conformance id " + name.encode())[:16]


@dataclass(frozen=True, slots=True)
class BuiltChain:
    """A chain with its payloads and signers, to sign it again after a change."""

    blocks: tuple[Record, ...]
    payloads: tuple[bytes, ...]
    signers: tuple[Key, ...]

    @classmethod
    def linked(cls, rng: Random, blocks: Sequence[Record], issuer: Key) -> BuiltChain:
        """Give each block an ending and a key for the next, mostly as the format permits."""
        linked, signers, bound = [], [issuer], False
        for index, block in enumerate(blocks):
            following = key(f"holder {rng.randrange(40)} {index}")
            last = index == len(blocks) - 1
            ending = Ending.SEALED if last and rng.random() < 0.93 else Ending.OPEN
            if bound or rng.random() < 0.03:
                ending, bound = Ending.BOUND, bound or rng.random() < 0.5
            record = {**block, "ending": int(ending)}
            if ending is not Ending.SEALED:
                record["next_key"] = following.public
            if ending is Ending.BOUND and not bound:
                record["may_seal"] = True
            linked.append(record)
            signers.append(following)
        payloads = tuple(kernel.encode_message("Block", record) for record in linked)
        return cls(tuple(linked), payloads, tuple(signers[:-1]))

    @property
    def token(self) -> bytes:
        """The chain, signed."""
        return sign_chain(self.payloads, self.signers)

    @property
    def block_ids(self) -> list[bytes]:
        """The id of each block, 32 bytes."""
        ids, before = [], b""
        for index, (payload, signer) in enumerate(zip(self.payloads, self.signers, strict=True)):
            covered = kernel.signed_bytes(index, before, payload)
            ids.append(kernel.digest(covered))
            before = kernel.sign(signer.seed, covered)
        return ids


def sign_chain(payloads: Sequence[bytes], signers: Sequence[Key]) -> bytes:
    """Return the token of payloads, each signed by its signer."""
    blocks, before = [], b""
    for index, (payload, signer) in enumerate(zip(payloads, signers, strict=True)):
        before = kernel.sign(signer.seed, kernel.signed_bytes(index, before, payload))
        blocks.append({"signature": before, "payload": payload})
    return kernel.encode_message("Token", {"version": 1, "blocks": blocks})


def damage(rng: Random, chain: BuiltChain) -> bytes:
    """Return a token with one fault: in bytes, a kind, a signature or the order of its blocks."""
    return rng.choice(_WAYS)(rng, chain)


def _changed(rng: Random, data: bytes) -> bytes:
    """Return the data with some bytes changed, removed or doubled."""
    at = rng.randrange(len(data))
    return rng.choice(
        (
            data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :],
            data[:at] + data[at + 1 :],
            data[:at] + rng.randbytes(1) + data[at:],
            data[: at + 9] + data[at:],
            data[:at],
        )
    )


def _changed_payload(rng: Random, chain: BuiltChain) -> bytes:
    payloads = list(chain.payloads)
    at = rng.randrange(len(payloads))
    payloads[at] = _changed(rng, payloads[at])
    return sign_chain(payloads, chain.signers)


def _forged(rng: Random, chain: BuiltChain) -> bytes:
    signers = list(chain.signers)
    signers[rng.randrange(len(signers))] = key("forger")
    return sign_chain(chain.payloads, signers)


def _unknown_kind(rng: Random, chain: BuiltChain) -> bytes:
    """Return a token with an unknown kind, and right signatures."""
    payloads = list(chain.payloads)
    at = rng.randrange(len(payloads))
    record = kernel.decode_message("Block", payloads[at])
    places = [(segment, "kind") for scope in record["scopes"] for segment in scope["resource"]]
    places += [(path, "source") for scope in record["scopes"] for path in scope["free"]]
    for part in (record, *record["scopes"]):
        for condition in part["where"]:
            places += [(condition, "operator"), (condition, "accessor"), (condition["path"], "source")]
    if places:
        inner, name = rng.choice(places)
        inner[name] = rng.choice(_KINDS)
    payloads[at] = kernel.encode_message("Block", record)
    return sign_chain(payloads, chain.signers)


def _reordered(rng: Random, chain: BuiltChain) -> bytes:
    blocks = kernel.decode_message("Token", chain.token)["blocks"]
    if rng.random() < 0.5:
        blocks.append(rng.choice(blocks))
    else:
        rng.shuffle(blocks)
    return kernel.encode_message("Token", {"version": rng.choice((1, 1, 1, 2)), "blocks": blocks})


_WAYS: Final[tuple[Callable[[Random, BuiltChain], bytes], ...]] = (
    lambda rng, chain: _changed(rng, chain.token),
    *(_changed_payload, _changed_payload, _forged, _unknown_kind, _unknown_kind, _reordered),
)


NOW_MS: Final = 1_800_000_000_000
_HOUR_MS: Final = 3_600_000
_SOURCES: Final = ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7", "11.1.1.1", "not an address", "")
_PEERS: Final = ("spiffe://x/a", "spiffe://x/b")
_BAD_ACTIONS: Final = ("", "*", "a b", "x" * 65, "\u00e9")
_BAD_RESOURCES: Final = ("", "/a", "a//b", "..", "a/*", "a\\b", "a%2Fb", "a\0", "a" * 1025, "a/" * 32 + "a")
_STATUSES: Final = ("ACTIVE", "SUSPENDED", "ENDED", "ENDED", 9)
_CAUSES: Final = ("ASKED", "LEASE_LAPSED", "EXPIRED", "PARENT_ENDED", "RESTORED")


def generate_questions(seed: int, count: int) -> Iterator[Question]:
    """Yield ``count`` questions, with the kernel's decisions as the right answers."""
    judge = KernelJudge()
    try:
        total = 0
        for number in range(count):
            for content in _batch(Random(f"{seed} {number}")):
                if total == count:
                    return
                total += 1
                yield Question("generated", f"{seed}/{total}", content, judge.answer(content))
    finally:
        judge.close()


def _batch(rng: Random) -> Iterator[dict[str, Any]]:
    """Yield the questions of one view: some requests for each of its tokens."""
    action, segments = (
        rng.choice(vocabulary.ACTIONS),
        tuple(rng.choices(vocabulary.SEGMENTS, k=rng.randint(1, 3))),
    )
    arguments = vocabulary.members(rng)
    chains = [_chain(rng, action, segments, arguments) for _ in range(2)]
    view = _view(rng, chains, action, segments, arguments)
    tokens = [chain.token for chain in chains for _ in range(3)] + [damage(rng, rng.choice(chains))]
    for token in tokens:
        for _ in range(2):
            yield {
                "token_hex": token.hex(),
                "request": _request(rng, action, segments, arguments),
                "view": view,
                "now_ms": NOW_MS
                if rng.random() < 0.9
                else NOW_MS + rng.choice((-60_001, 999, 1000, _HOUR_MS)),
            }


def _scopes(rng: Random, *call: Any) -> list[dict[str, Any]]:
    """Return the records of one to three scopes."""
    records: list[dict[str, Any]] = []
    wanted = rng.choice((1, 1, 2, 3))
    while len(records) < wanted:
        try:
            records.append(Scope.parse(vocabulary.scope(rng, *call)).to_record())
        except ScopeError:
            continue
    if rng.random() < 0.5:
        # Permits the call in any case, so that another stage decides.
        records.append(Scope.parse(f"*:{vocabulary.pattern(rng, call[1])}").to_record())
    return records


def _where(rng: Random, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the record of a condition, or none if its text is malformed."""
    try:
        return [Condition.parse(vocabulary.condition(rng, arguments)).to_record()]
    except ScopeError:
        return []


def _chain(rng: Random, action: str, segments: tuple[str, ...], arguments: dict[str, Any]) -> BuiltChain:
    """Return a chain of one to four blocks, nearly always well-formed."""
    issuer = key("issuer" if rng.random() < 0.95 else "second issuer")
    ids = {"issuer_key_id": issuer.id, "session_id": name16("session"), "token_id": rng.randbytes(16)}
    first: dict[str, Any] = {
        "root": {**ids, "min_revision": rng.choice((100, 101)) if rng.random() < 0.05 else 0},
        "issued_at_ms": NOW_MS - rng.choice((60_000, 60_000, -30_000, -30_001))
        if rng.random() < 0.1
        else NOW_MS,
        "expires_at_ms": NOW_MS + rng.choice((_HOUR_MS, _HOUR_MS, _HOUR_MS, 1000)),
        "audience": ["gateway"] if rng.random() < 0.9 else ["gateway-2", "gateway"],
        "scopes": _scopes(rng, action, segments, arguments),
    }
    blocks = [first]
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        block: dict[str, Any] = {}
        if rng.random() < 0.6:
            block["scopes"] = _scopes(rng, action, segments, arguments)
        if rng.random() < 0.3:
            block["where"] = _where(rng, arguments)
        blocks.append(block)
    for block in blocks:
        _narrow(rng, block)
    return BuiltChain.linked(rng, blocks, issuer)


def _narrow(rng: Random, block: dict[str, Any]) -> None:
    if rng.random() < 0.06:
        block["source"] = rng.sample(("10.0.0.0/8", "2001:db8::/32", "11.0.0.0/8"), 2)
    if rng.random() < 0.06:
        block["peer"] = [rng.choice(_PEERS)]
    if rng.random() < 0.04:
        block["not_before_ms"] = NOW_MS + rng.choice((-1, 0, 1))
    if rng.random() < 0.04:
        block["max_blocks"] = rng.randint(1, 4)
    if rng.random() < 0.1:
        block["label"] = "planner"


def _view(rng: Random, chains: list[BuiltChain], *call: Any) -> dict[str, Any]:
    """Return a state in which the tokens' session mostly lives, with up to two ancestors."""
    names = ["session", "ancestor 1", "ancestor 2"][: rng.choice((1, 1, 1, 2, 3))]
    sessions = [
        _session(rng, name, parent, *call) for name, parent in zip(names, [*names[1:], ""], strict=True)
    ]
    keys = []
    for name in ("issuer", "second issuer"):
        of, status = key(name), "ACTIVE" if rng.random() < 0.97 else rng.choice(("PREPARED", "DISTRUSTED", 9))
        keys.append({"id_hex": of.id.hex(), "public_key_hex": of.public.hex(), "status": status})
    view: dict[str, Any] = {"revision": 100, "sessions": sessions, "keys": keys}
    if rng.random() < 0.05:
        view["revoked_hex"] = [rng.choice(rng.choice(chains).block_ids).hex()]
    if rng.random() < 0.01:
        view["braked"] = True
    return view


def _session(rng: Random, name: str, parent: str, *call: Any) -> dict[str, Any]:
    session: dict[str, Any] = {"id_hex": name16(name).hex(), "status": "ACTIVE"}
    session["expires_at_ms"] = NOW_MS + 2 * _HOUR_MS
    if parent:
        session["parent_id_hex"] = name16(parent).hex()
    if rng.random() < 0.03:
        session["status"] = rng.choice(_STATUSES)
        if session["status"] == "ENDED":
            session["end_cause"] = rng.choice(_CAUSES)
    if rng.random() < 0.05:
        session["lease_deadline_ms"] = NOW_MS + rng.choice((0, 1, 60_000))
    if rng.random() < 0.1:
        session["observe"] = True
    session["facts"] = [_fact(name, text) for name, text in vocabulary.FACTS.items() if rng.random() < 0.8]
    layers = [_scopes(rng, *call) for _ in range(rng.choice((0, 0, 0, 1, 2)))]
    session["ceilings"] = [
        [{"encoded_hex": kernel.encode_message("Scope", {**scope, "needs": None}).hex()} for scope in layer]
        for layer in layers
    ]
    return session


def _fact(name: str, text: str) -> dict[str, Any]:
    """Return a fact; its value is that of the text as an operand."""
    (operand,) = Condition.parse(f"x == {text}").values
    value = operand_to_record(operand)
    return {
        "name": name,
        "value_hex": kernel.encode_message("Value", value).hex(),
        "visible": name != "hidden",
    }


def _request(
    rng: Random, action: str, segments: tuple[str, ...], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the call that the scopes were made for, or one that differs in one part."""
    request: dict[str, Any] = {
        "action": action,
        "resource": "/".join(segments),
        "arguments": vocabulary.render(rng, arguments),
        "audience": "gateway",
        "source": "10.1.2.3",
        "peer": list(_PEERS),
    }
    roll = rng.randrange(20)
    if roll == 0:
        request["action"] = rng.choice((*vocabulary.ACTIONS, *_BAD_ACTIONS))
    elif roll == 1:
        request["resource"] = rng.choice(("files/a", "logs", *_BAD_RESOURCES))
    elif roll <= 5:
        request["arguments"] = vocabulary.render(rng, {**arguments, **vocabulary.members(rng)})
    elif roll == 6:
        cut = request.pop("arguments").encode()
        at = rng.randrange(len(cut))
        request["arguments_hex"] = (cut[:at] + rng.randbytes(rng.randint(0, 2)) + cut[at + 1 :]).hex()
    elif roll == 7:
        request["tool"] = rng.choice(('{"safe":true}', '{"safe":false}', "[]", "{"))
    elif roll == 8:
        request["source"] = rng.choice(_SOURCES)
    elif roll == 9:
        request["peer"] = rng.choice(([], [_PEERS[0]], ["other"]))
    elif roll == 10:
        request["audience"] = rng.choice(("gateway-2", ""))
    elif roll == 11:
        request["session_hex"] = name16(rng.choice(("session", "other"))).hex()
    elif roll == 12:
        request["at_least_revision"] = rng.choice((100, 101))
    elif roll == 13:
        request = {name: request[name] for name in ("audience", "source", "peer")} | {"token_only": True}
    return request
