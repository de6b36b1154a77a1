"""Workloads that are denied: what strangers and forgers send, and what good tokens come to."""

from __future__ import annotations

import random
from typing import Final

from benchmarks import tokens
from benchmarks.state_setup import SEED, World
from benchmarks.tokens import ARGUMENTS, HOUR_MS, RESOURCE, eight_scopes
from benchmarks.workloads import Call, Workload, presented
from sessauth.clock import FixedClock, SystemClock
from sessauth.limits import MAX_TOKEN_BYTES
from sessauth.reasons import Reason
from sessauth.tokens.token import Issuer

GARBAGE_BYTES: Final = 600


def garbage(_world: World) -> Workload:
    """Random bytes of a token's size."""
    source = random.Random(SEED)
    calls = tuple(Call(source.randbytes(GARBAGE_BYTES), "read", RESOURCE, ARGUMENTS) for _ in range(64))
    return Workload("garbage", calls, Reason.MALFORMED_TOKEN)


def torn(world: World) -> Workload:
    """A good token without its last byte: the decoder gets as far as it can."""
    token = tokens.chain(world.issuer, world.session_id, 2).data
    return Workload("torn", (Call(token[:-1], "read", RESOURCE, ARGUMENTS),), Reason.MALFORMED_TOKEN)


def oversized(world: World) -> Workload:
    """A good token, padded beyond the largest size."""
    token = tokens.mint(world.issuer, world.session_id, eight_scopes()).data
    padded = token + bytes(MAX_TOKEN_BYTES + 1 - len(token))
    return Workload("oversized", (Call(padded, "read", RESOURCE, ARGUMENTS),), Reason.TOKEN_TOO_LARGE)


def unknown_session(world: World) -> Workload:
    """A well-signed token of a session that the state does not know."""
    token = tokens.mint(world.issuer, world.unknown_session_id, eight_scopes())
    return Workload("unknown-session", presented([token]), Reason.UNKNOWN_SESSION)


def ended_session(world: World) -> Workload:
    """A well-signed token of a session that was ended."""
    token = tokens.mint(world.issuer, world.ended_session_id, eight_scopes())
    return Workload("ended-session", presented([token]), Reason.SESSION_ENDED)


def expired(world: World) -> Workload:
    """A well-signed token of a live session that ended an hour ago by itself."""
    then = FixedClock(SystemClock().now_ms() - 2 * HOUR_MS)
    token = tokens.mint(Issuer(world.key, then), world.session_id, eight_scopes(), ttl_ms=HOUR_MS)
    return Workload("expired", presented([token]), Reason.EXPIRED)


def revoked_deep(world: World) -> Workload:
    """A chain of sixteen blocks whose eighth is revoked: all that descends from it is."""
    return Workload("revoked-deep", (Call(world.revoked, "read", RESOURCE, ARGUMENTS),), Reason.REVOKED)


def forged(world: World) -> Workload:
    """Tokens of a live session and a known key, each with one bit of the signature flipped."""
    data = []
    for _ in range(16):
        token = tokens.mint(world.issuer, world.session_id, eight_scopes())
        signature = token._chain.signatures[0]
        wrong = bytes([signature[0] ^ 1]) + signature[1:]
        data.append(token.data.replace(signature, wrong, 1))
    return Workload(
        "forged", tuple(Call(each, "read", RESOURCE, ARGUMENTS) for each in data), Reason.BAD_SIGNATURE
    )
