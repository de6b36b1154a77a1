"""Well-formed chains: what allows, and the stages from ``session`` to ``revocation``."""

from __future__ import annotations

from collections.abc import Iterator

from tests.oracle.constants import Reason
from tests.oracle.decode import parse_chain
from tests.support.token_forger import ending, id16, key
from tests.vectors import cases_limits, cases_scopes
from tests.vectors.world import (
    EXPIRES,
    ISSUED,
    NOW,
    SESSION,
    VIEWS,
    Case,
    allowed,
    ask,
    at_block,
    case,
    child,
    refused,
    revoking,
    root,
    token,
)

READ = "read:files/*"


def cases() -> Iterator[Case]:
    """All vectors of ``valid.json``."""
    yield from _chains()
    yield from _session_stage()
    yield from _issuer_stage()
    yield from _time_stage()
    yield from _audience_stage()
    yield from _revocation_stage()
    yield from cases_scopes.cases()
    yield from cases_limits.cases()


def _chains() -> Iterator[Case]:
    yield case("sealed root", "The plain bearer token: one block, one signature.", allowed(), root(READ))
    yield case("two blocks", "A child narrows the root.", allowed(1), root("*:**"), child(READ))
    yield case(
        "child without scopes",
        "The last block that states scopes decides.",
        allowed(0),
        root(READ),
        child(label="for the planner"),
    )
    yield case(
        "present adds nothing", "A sealed block that says only its ending.", allowed(), root(READ), child()
    )
    sixteen = [root(READ), *(child() for _ in range(15))]
    yield case("sixteen blocks", "The longest chain.", allowed(), *sixteen)
    yield case(
        "max_blocks met", "As long as max_blocks permits.", allowed(), root(READ, max_blocks=2), child()
    )
    yield case(
        "empty number",
        "Number{} is 0.",
        allowed(),
        root("read:files/* where n == 0"),
        request=ask(arguments='{"n": -0.0}'),
    )
    yield case(
        "bound, may_seal, sealed",
        "A bound block that says may_seal can become a bearer token.",
        allowed(),
        root(READ, **ending("bound", key("next 0"), key("proof 0").public, may_seal=True)),
        child(),
    )
    yield case(
        "all optional fields",
        "Every field that a block can have, satisfied.",
        allowed(1),
        root(
            READ,
            not_before_ms=ISSUED,
            source=["10.0.0.0/8"],
            peer=["spiffe://x/a"],
            max_blocks=16,
            label="root",
            root_fields={"min_revision": 100},
        ),
        child(
            READ,
            issued_at_ms=ISSUED,
            expires_at_ms=EXPIRES,
            not_before_ms=ISSUED,
            audience=["gateway"],
            source=["10.1.0.0/16"],
            peer=["spiffe://x/a", "b"],
            max_blocks=2,
            label="child",
        ),
        request=ask(source="10.1.2.3", peer=("spiffe://x/a",)),
    )


def _session_stage() -> Iterator[Case]:
    states = [
        ("braked", "The brake goes before all else.", Reason.STATE_BRAKED),
        ("no_session", "Not in the view.", Reason.UNKNOWN_SESSION),
        ("ended", "Ended because someone asked.", Reason.SESSION_ENDED),
        ("ended_no_cause", "Ended, cause not stated.", Reason.SESSION_ENDED),
        ("ended_parent", "Ended with its parent.", Reason.SESSION_ENDED),
        ("ended_restored", "Ended by a restore.", Reason.SESSION_ENDED),
        ("ended_lease", "Ended by its lease.", Reason.LEASE_LAPSED),
        ("ended_expired", "Ended by its hard end.", Reason.SESSION_EXPIRED),
        ("suspended", "Suspended.", Reason.SESSION_SUSPENDED),
        ("odd_status", "A status that nobody knows.", Reason.UNKNOWN_SESSION),
        ("session_expires_now", "The hard end is this very millisecond.", Reason.SESSION_EXPIRED),
        ("lease_now", "The deadline is this very millisecond.", Reason.LEASE_LAPSED),
        ("suspended_and_lapsed", "The lease is asked before suspension.", Reason.LEASE_LAPSED),
        ("four_ancestors", "One ancestor too many.", Reason.UNKNOWN_SESSION),
        ("parent_ended", "The parent has ended.", Reason.SESSION_ENDED),
        ("parent_lapsed", "The grandparent's lease lapsed.", Reason.LEASE_LAPSED),
        ("parent_gone", "The parent is not in the view.", Reason.UNKNOWN_SESSION),
        ("own_parent", "A session that is its own parent.", Reason.UNKNOWN_SESSION),
    ]
    for view, comment, reason in states:
        yield case(f"session {view}", comment, refused(reason), root(READ), view=view)
    yield case("session lease_later", "One millisecond is left.", allowed(), root(READ), view="lease_later")
    yield case("session three_ancestors", "The deepest line.", allowed(), root(READ), view="three_ancestors")
    yield case(
        "session stated",
        "The request states the token's session.",
        allowed(),
        root(READ),
        request=ask(session=SESSION),
    )
    yield case(
        "session other stated",
        "The request states another session.",
        refused(Reason.WRONG_SESSION),
        root(READ),
        request=ask(session=id16("another")),
        view="two_sessions",
    )
    yield case(
        "revision asked",
        "The view is behind what the caller asks.",
        refused(Reason.STALE_STATE),
        root(READ),
        request=ask(at_least_revision=101),
    )
    yield case(
        "revision reached",
        "The view is just there.",
        allowed(),
        root(READ),
        request=ask(at_least_revision=100),
    )
    yield case(
        "min_revision ahead",
        "The view is older than the root's min_revision.",
        refused(Reason.STALE_STATE),
        root(READ, root_fields={"min_revision": 101}),
    )
    yield case(
        "stale before unknown",
        "A stale view does not say that a session is unknown.",
        refused(Reason.STALE_STATE),
        root(READ, root_fields={"min_revision": 101}),
        view="no_session",
    )


def _issuer_stage() -> Iterator[Case]:
    for view, comment, reason in [
        ("no_key", "No key of that id.", Reason.UNKNOWN_ISSUER),
        ("key_prepared", "Not yet active.", Reason.ISSUER_PREPARED),
        ("key_distrusted", "Distrusted.", Reason.ISSUER_DISTRUSTED),
        ("key_odd", "A status that nobody knows.", Reason.UNKNOWN_ISSUER),
        ("key_retired_before", "Issued after the key was retired.", Reason.ISSUER_RETIRED),
        ("key_of_other", "The key belongs to another owner.", Reason.ISSUER_NOT_OF_SESSION),
        ("key_not_listed", "The session lists other keys.", Reason.ISSUER_NOT_OF_SESSION),
    ]:
        yield case(f"issuer {view}", comment, refused(reason), root(READ), view=view)
    for view in ("key_retired_after", "key_owned", "key_listed"):
        yield case(f"issuer {view}", "Stands for this token.", allowed(), root(READ), view=view)


def _time_stage() -> Iterator[Case]:
    yield case(
        "clock suspect",
        "A clock that jumped is not believed.",
        refused(Reason.CLOCK_SUSPECT),
        root(READ),
        view="clock_suspect",
    )
    yield case(
        "expires now", "No leeway on expiry.", at_block(Reason.EXPIRED, 0), root(READ, expires_at_ms=NOW)
    )
    yield case("expires next", "One millisecond is left.", allowed(), root(READ, expires_at_ms=NOW + 1))
    yield case(
        "child expired",
        "The first block that has expired.",
        at_block(Reason.EXPIRED, 1),
        root(READ),
        child(expires_at_ms=NOW - 1),
    )
    yield case(
        "not before",
        "One millisecond early.",
        at_block(Reason.NOT_YET_VALID, 1),
        root(READ),
        child(not_before_ms=NOW + 1),
    )
    yield case("not before now", "Just in time.", allowed(), root(READ), child(not_before_ms=NOW))
    yield case(
        "issued ahead", "The issuer's clock is 30 s ahead.", allowed(), root(READ, issued_at_ms=NOW + 30_000)
    )
    yield case(
        "issued too far ahead",
        "30 s and a millisecond.",
        at_block(Reason.NOT_YET_VALID, 0),
        root(READ, issued_at_ms=NOW + 30_001),
    )
    yield case(
        "expiry before not before",
        "Expiry is asked over all blocks first.",
        at_block(Reason.EXPIRED, 1),
        root(READ, not_before_ms=NOW + 1),
        child(expires_at_ms=NOW),
    )
    yield case(
        "issued after expiry",
        "A child may state a time of issue behind the root's expiry; it is early.",
        at_block(Reason.NOT_YET_VALID, 1),
        root(READ),
        child(issued_at_ms=EXPIRES + 5),
    )


def _audience_stage() -> Iterator[Case]:
    yield case(
        "audience other",
        "Another verifier's token.",
        at_block(Reason.WRONG_AUDIENCE, 0),
        root(READ, audience=["gateway-2"]),
    )
    yield case(
        "audience not stated",
        "The verifier has no name.",
        at_block(Reason.WRONG_AUDIENCE, 0),
        root(READ),
        request=ask(audience=""),
    )
    yield case(
        "audience narrowed",
        "The child names fewer.",
        at_block(Reason.WRONG_AUDIENCE, 1),
        root(READ, audience=["gateway", "b"]),
        child(audience=["b"]),
    )
    for source, comment, good in [
        ("10.1.2.3", "In the block.", True),
        ("::ffff:10.1.2.3", "IPv4 in IPv6 is IPv4.", True),
        ("11.0.0.1", "Outside.", False),
        ("010.1.2.3", "A leading zero is no address.", False),
        ("", "Not stated.", False),
        ("2001:db8::1", "In the IPv6 block.", True),
        ("2001:0DB8:0:0::1", "The same in other letters.", True),
        ("2001:db9::1", "Outside the IPv6 block.", False),
        ("2001:db8::1%eth0", "A zone is no address.", False),
    ]:
        outcome = allowed() if good else at_block(Reason.WRONG_SOURCE, 0)
        yield case(
            f"source {source or 'not stated'}",
            comment,
            outcome,
            root(READ, source=["10.0.0.0/8", "2001:db8::/32"]),
            request=ask(source=source),
        )
    yield case(
        "source all of IPv6",
        "::/0 holds no IPv4 address, mapped or not.",
        at_block(Reason.WRONG_SOURCE, 0),
        root(READ, source=["::/0"]),
        request=ask(source="::ffff:10.1.2.3"),
    )
    yield case(
        "peer",
        "One identity of several.",
        allowed(),
        root(READ, peer=["a", "b"]),
        request=ask(peer=("x", "b")),
    )
    yield case(
        "peer missing",
        "No identity of the block's.",
        at_block(Reason.WRONG_PEER, 1),
        root(READ),
        child(peer=["a"]),
        request=ask(peer=("x",)),
    )


def _revocation_stage() -> Iterator[Case]:
    blocks = (root(READ), child(), child())
    ids = parse_chain(token(*blocks)).block_ids
    for index in range(3):
        VIEWS[f"revoked_{index}"] = revoking(ids[index])
        yield case(
            f"revoked block {index}",
            "Revoking a block kills all below it.",
            at_block(Reason.REVOKED, index),
            *blocks,
            view=f"revoked_{index}",
        )
    VIEWS["revoked_all"] = revoking(*ids)
    yield case(
        "revoked all",
        "The first revoked block is named.",
        at_block(Reason.REVOKED, 0),
        *blocks,
        view="revoked_all",
    )
    yield case(
        "revoked child of another",
        "What is above a revoked block still stands.",
        allowed(),
        root(READ),
        child(label="sibling"),
        view="revoked_1",
    )
