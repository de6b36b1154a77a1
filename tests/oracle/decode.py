"""Stage ``decode`` (section 9.1 of the format): from bytes to a well-formed chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .addresses import parse_cidr
from .constants import Ending, Reason
from .crypto import acceptable_key, digest, signed_bytes
from .forms import Record, conditions, distinct, require, scope
from .model import Block, Chain
from .texts import is_text
from .wire import Malformed, decode, read_varint

MAX_TOKEN_BYTES = 8192
MAX_BLOCKS = 16
MAX_TIME_MS = 2**53 - 1


class Refused(Exception):
    """Stage ``decode`` refused the token."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def _texts(items: Sequence[str], what: str) -> tuple[str, ...]:
    require(len(items) <= 16 and distinct(items), f"at most 16 distinct {what}s")
    require(all(map(is_text, items)), f"a {what} is a text")
    return tuple(items)


def _block(signed: Record) -> tuple[Block, Record]:
    """A block by the rules that concern it alone, and its decoded payload."""
    require(len(signed["signature"]) == 64, "a signature has 64 bytes")
    record: dict[str, Any] = decode("Block", signed["payload"])
    require(len(record["scopes"]) <= 64, "at most 64 scopes")
    require(not any(each["exception"] for each in record["scopes"]), "a token has no exceptions")
    require(len(record["source"]) <= 16 and distinct(record["source"]), "at most 16 distinct sources")
    require(all(parse_cidr(s) is not None for s in record["source"]), "a source is a CIDR")
    require(record["max_blocks"] <= MAX_BLOCKS, "max_blocks is 1 to 16")
    require(record["label"] == "" or is_text(record["label"]), "a label is a text")
    for name in ("issued_at_ms", "expires_at_ms", "not_before_ms"):
        require(record[name] <= MAX_TIME_MS, "a time is at most 2^53 - 1")
    _ending(record)
    block = Block(
        signature=signed["signature"],
        payload=signed["payload"],
        issued_at_ms=record["issued_at_ms"],
        expires_at_ms=record["expires_at_ms"],
        not_before_ms=record["not_before_ms"],
        audience=_texts(record["audience"], "audience"),
        scopes=tuple(scope(s) for s in record["scopes"]),
        where=conditions(record["where"]),
        source=tuple(record["source"]),
        peer=_texts(record["peer"], "peer"),
        max_blocks=record["max_blocks"],
        ending=record["ending"],
        next_key=record["next_key"],
        proof_key=record["proof_key"],
    )
    return block, record


def _ending(record: Record) -> None:
    """Validate the fields of an ending (3.2)."""
    ending, next_key, proof_key = record["ending"], record["next_key"], record["proof_key"]
    require(ending in (Ending.SEALED, Ending.OPEN, Ending.BOUND), "the ending is known")
    if ending == Ending.SEALED:
        require(not next_key, "a sealed block has no next_key")
    else:
        require(len(next_key) == 32 and acceptable_key(next_key), "next_key is canonical, not of small order")
    if ending == Ending.BOUND:
        require(len(proof_key) in (0, 32), "proof_key has 32 bytes")
    else:
        require(not proof_key and not record["may_seal"], "only a bound block has proof_key or may_seal")


def _root(record: Record) -> None:
    """Validate the required fields of a root block (4)."""
    root = record["root"]
    require(root is not None, "the first block has a root")
    require(len(root["issuer_key_id"]) == 32, "issuer_key_id has 32 bytes")
    require(len(root["session_id"]) == 16 and len(root["token_id"]) == 16, "ids have 16 bytes")
    require(record["issued_at_ms"] > 0 and record["expires_at_ms"] > 0, "a root states both times")
    if record["ending"] != Ending.BOUND:
        require(bool(record["audience"]), "a bearer root names an audience")


def _order(records: Sequence[Record]) -> None:
    """Rules between blocks: times, max_blocks and endings."""
    issued = expires = not_before = 0
    max_blocks, locked = MAX_BLOCKS, False
    for index, record in enumerate(records):
        require((record["root"] is not None) == (index == 0), "only the first block has a root")
        if record["issued_at_ms"]:
            require(record["issued_at_ms"] >= issued, "issued_at never falls")
            issued = record["issued_at_ms"]
        if record["expires_at_ms"]:
            require(record["expires_at_ms"] > issued, "expires_at is later than issued_at")
            require(not expires or record["expires_at_ms"] <= expires, "expires_at never rises")
            expires = record["expires_at_ms"]
        if record["not_before_ms"]:
            require(record["not_before_ms"] >= not_before, "not_before never falls")
            not_before = record["not_before_ms"]
        if record["max_blocks"]:
            require(record["max_blocks"] <= max_blocks, "max_blocks never rises")
            max_blocks = record["max_blocks"]
        last = index == len(records) - 1
        require(last or record["ending"] != Ending.SEALED, "nothing follows a sealed block")
        if locked:
            require(record["ending"] == Ending.BOUND and not record["may_seal"], "below a bound block: bound")
        locked = locked or (record["ending"] == Ending.BOUND and not record["may_seal"])


def _keys(records: Sequence[Record]) -> None:
    """No key stands twice, and the issuer's is none of them (3.2)."""
    keys = [r[name] for r in records for name in ("next_key", "proof_key") if r[name]]
    require(distinct(keys), "a key appears once")
    issuer = records[0]["root"]["issuer_key_id"]
    named = [digest(r["next_key"]) for r in records if r["next_key"]]
    require(issuer not in named, "next_key is not the issuer's")


def _version_is_other(token: bytes) -> bool:
    if token[:1] != b"\x08":
        return False
    try:
        version, _ = read_varint(token, 1, len(token))
    except Malformed:
        return False
    return version not in (0, 1) and version < 2**32


def parse_chain(token: bytes) -> Chain:
    """A well-formed chain, whatever it ends with. Raises Malformed."""
    outer: dict[str, Any] = decode("Token", token)
    require(outer["version"] == 1, "the version is 1")
    require(1 <= len(outer["blocks"]) <= MAX_BLOCKS, "1 to 16 blocks")
    pairs = [_block(signed) for signed in outer["blocks"]]
    blocks, records = [b for b, _ in pairs], [r for _, r in pairs]
    _root(records[0])
    _order(records)
    _keys(records)
    previous = bytes(64)
    ids = []
    for index, block in enumerate(blocks):
        ids.append(digest(signed_bytes(index, previous, block.payload)))
        previous = block.signature
    root = records[0]["root"]
    return Chain(
        issuer_key_id=root["issuer_key_id"],
        session_id=root["session_id"],
        token_id=root["token_id"],
        min_revision=root["min_revision"],
        blocks=tuple(blocks),
        block_ids=tuple(ids),
    )


def decode_token(token: bytes) -> Chain:
    """Stage ``decode``, whole. Raises Refused."""
    if len(token) > MAX_TOKEN_BYTES:
        raise Refused(Reason.TOKEN_TOO_LARGE, "more than 8192 bytes")
    if _version_is_other(token):
        raise Refused(Reason.UNSUPPORTED_VERSION, "another version")
    try:
        chain = parse_chain(token)
    except Malformed as error:
        raise Refused(Reason.MALFORMED_TOKEN, str(error)) from error
    if any(block.max_blocks and len(chain.blocks) > block.max_blocks for block in chain.blocks):
        raise Refused(Reason.CHAIN_TOO_LONG, "longer than a max_blocks")
    if chain.blocks[-1].ending == Ending.OPEN:
        raise Refused(Reason.OPEN_TOKEN, "the last block is open")
    return chain
