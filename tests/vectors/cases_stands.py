"""Checks of the token alone: what stands without a call, and what is refused before one is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.oracle.constants import Reason
from tests.oracle.decode import parse_chain
from tests.oracle.model import OracleDecision, OracleRequest
from tests.support.token_forger import Record, id16, key, make
from tests.vectors.world import (
    AUDIENCE,
    NOW,
    SESSION,
    VIEWS,
    Case,
    at_block,
    case,
    child,
    link,
    refused,
    revoking,
    root,
    token,
)

READ = "read:files/*"
STANDS = OracleDecision(Reason.ALLOWED)


def alone(**parts: Any) -> OracleRequest:
    """A request that asks about the token alone."""
    return OracleRequest(b"", b"", token_only=True, **{"audience": AUDIENCE, **parts})


def cases() -> Iterator[Case]:
    """All vectors of ``stands.json``."""
    yield from _standing()
    yield from _refused_by_bytes()
    yield from _refused_by_state()
    yield from _refused_by_terms()


def _case(name: str, comment: str, expected: OracleDecision, *blocks: Record, **parts: Any) -> Case:
    return case(name, comment, expected, *blocks, **{"request": alone(), **parts})


def _standing() -> Iterator[Case]:
    yield _case("sealed root", "An allow names no scope: it is of no call.", STANDS, root(READ))
    yield _case("chain", "Every block is judged.", STANDS, root("*:**"), child(READ), child(label="planner"))
    yield _case("root without scopes", "It permits no call, and stands.", STANDS, root())
    yield _case(
        "where that nothing meets", "No condition is read.", STANDS, root(READ, conditions="n < 1 and n > 2")
    )
    yield _case("ceiling empty", "No ceiling is read.", STANDS, root(READ), view="ceiling_empty")
    yield _case(
        "bound without a proof", "A proof is of a call. None is needed.", STANDS, root(READ), last="bound"
    )
    yield _case(
        "needs",
        "What calls cost is not asked.",
        STANDS,
        root(f'read:files/* needs approval(1, "{"A" * 43}")', "write:files/* needs uses(1)"),
    )
    yield _case(
        "all that can be stated",
        "Session, source, peer and revision are met.",
        STANDS,
        root(READ, source=["10.0.0.0/8"], peer=["a"]),
        request=alone(session=SESSION, source="10.1.2.3", peer=("a",), at_least_revision=100),
    )
    yield _case("ancestors", "A session with three ancestors.", STANDS, root(READ), view="three_ancestors")
    yield _case("lease later", "The lease holds for 1 ms more.", STANDS, root(READ), view="lease_later")
    yield _case("last millisecond", "Before its expiry.", STANDS, root(READ, expires_at_ms=NOW + 1))


def _refused_by_bytes() -> Iterator[Case]:
    good = token(root(READ))
    malformed = refused(Reason.MALFORMED_TOKEN)
    yield Case("no bytes", "No token.", b"", malformed, alone())
    yield Case("a byte more", "Behind the last block.", good + b"\x00", malformed, alone())
    yield Case("too large", "8193 bytes.", bytes(8193), refused(Reason.TOKEN_TOO_LARGE), alone())
    version = refused(Reason.UNSUPPORTED_VERSION)
    yield Case("version 2", "A later format.", b"\x08\x02" + good[2:], version, alone())
    yield _case(
        "open", "An open token is not presented.", refused(Reason.OPEN_TOKEN), root(READ), last="open"
    )
    too_long = refused(Reason.CHAIN_TOO_LONG)
    yield _case("too long", "Two blocks where one is permitted.", too_long, root(READ, max_blocks=1), child())
    forged = make(link(root(READ)), [key("nobody")])
    wrong = at_block(Reason.BAD_SIGNATURE, 0)
    yield Case("forged", "Signed by another key.", forged, wrong, alone(), blocks=(root(READ),))
    blocks = (root(READ), child())
    swapped = make(link(*blocks), [key("issuer"), key("nobody")])
    wrong = at_block(Reason.BAD_SIGNATURE, 1)
    yield Case("child forged", "The root's holder did not sign it.", swapped, wrong, alone(), blocks=blocks)


def _refused_by_state() -> Iterator[Case]:
    for view, reason in [
        ("braked", Reason.STATE_BRAKED),
        ("no_session", Reason.UNKNOWN_SESSION),
        ("ended", Reason.SESSION_ENDED),
        ("ended_lease", Reason.LEASE_LAPSED),
        ("ended_expired", Reason.SESSION_EXPIRED),
        ("session_expires_now", Reason.SESSION_EXPIRED),
        ("lease_now", Reason.LEASE_LAPSED),
        ("suspended", Reason.SESSION_SUSPENDED),
        ("parent_ended", Reason.SESSION_ENDED),
        ("four_ancestors", Reason.UNKNOWN_SESSION),
        ("no_key", Reason.UNKNOWN_ISSUER),
        ("key_distrusted", Reason.ISSUER_DISTRUSTED),
        ("key_prepared", Reason.ISSUER_PREPARED),
        ("key_retired_before", Reason.ISSUER_RETIRED),
        ("key_not_listed", Reason.ISSUER_NOT_OF_SESSION),
        ("clock_suspect", Reason.CLOCK_SUSPECT),
    ]:
        yield _case(f"view {view}", "As for any call.", refused(reason), root(READ), view=view)
    for parts, reason in [
        ({"session": id16("another")}, Reason.WRONG_SESSION),
        ({"at_least_revision": 101}, Reason.STALE_STATE),
    ]:
        name = f"another {next(iter(parts))}"
        yield _case(name, "Stated by the gateway.", refused(reason), root(READ), request=alone(**parts))
    blocks = (root(READ), child())
    VIEWS["stands_revoked"] = revoking(parse_chain(token(*blocks)).block_ids[1])
    revoked = at_block(Reason.REVOKED, 1)
    yield _case("revoked", "The child's block.", revoked, *blocks, view="stands_revoked")


def _refused_by_terms() -> Iterator[Case]:
    expired, early = at_block(Reason.EXPIRED, 0), at_block(Reason.NOT_YET_VALID, 0)
    yield _case("expired", "At its expiry.", expired, root(READ, expires_at_ms=NOW))
    yield _case("not yet", "Before it begins.", early, root(READ, not_before_ms=NOW + 1))
    audience = at_block(Reason.WRONG_AUDIENCE, 0)
    yield _case("audience", "Another verifier's.", audience, root(READ, audience=["gateway-2"]))
    yield _case("no audience", "None is stated.", audience, root(READ), request=alone(audience=""))
    source = at_block(Reason.WRONG_SOURCE, 1)
    yield _case("source", "None is stated.", source, root(READ), child(source=["10.0.0.0/8"]))
    yield _case("peer", "None is stated.", at_block(Reason.WRONG_PEER, 0), root(READ, peer=["a"]))
    yield _case(
        "unknown kind",
        "What a later version demands is not known, so nothing stands on it.",
        at_block(Reason.UNKNOWN_KIND, 1, -1, 0),
        root(READ),
        child(
            conditions=[{"path": {"source": 9, "segments": ["a"]}, "operator": 1, "values": [{"text": "x"}]}]
        ),
    )
