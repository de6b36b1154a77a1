"""The cache of verified chains: whom it serves, what it weighs, what it spares, and what it never hides."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import pytest

from sessauth.reasons import Reason
from tests.support import bulk_sessions
from tests.support.compare import kernel_decision
from tests.support.token_forger import ending, id16, key, make
from tests.support.vector_files import read_view
from tests.vectors.world import NOW, SESSION, VIEWS, ask, child, link, root, signers, token

_MIB = 1 << 20
READ = "read:files/**"


def resident_bytes() -> int:
    """Return the resident memory of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def test_it_stays_within_its_bytes() -> None:
    """12,000 one-off tokens of 600 sessions through 1 MiB: never above it, and nothing else grows."""
    checker = bulk_sessions.checker(extra=600, cache_bytes=_MIB)
    resident = 0
    for number in range(12_000):
        assert bulk_sessions.judge(
            checker, next(bulk_sessions.tokens(bulk_sessions.name(number % 600), 1, number))
        ).allowed
        assert checker.cache.used <= _MIB
        if number == 4000:
            resident = resident_bytes()

    assert checker.signatures == checker.cache.misses == 12_000
    assert checker.cache.evicted + len(checker.cache) == 12_000
    assert len(checker.cache) > 300
    # Kept without bound, 8,000 chains would be some 10 MB.
    assert resident_bytes() - resident < 4 * _MIB


def test_prefixes_are_bounded_too() -> None:
    """Chains with ever new parents leave no more prefixes than their share of the bytes."""
    checker = bulk_sessions.checker(cache_bytes=_MIB)
    for number in range(300):
        blocks = link(root(READ, label=f"{number}"), child(label="a"), child(label="b"))
        assert bulk_sessions.judge(checker, make(blocks, signers(3))).allowed

    assert 0 < checker.cache.prefix_count <= checker.cache.quota // 400
    assert checker.cache.used <= checker.cache.quota == _MIB // 16


def test_one_session_never_pushes_out_anothers() -> None:
    """3,000 one-off tokens of one session push out that session's own, not another's thirty."""
    checker = bulk_sessions.checker(extra=2, cache_bytes=_MIB)
    hot = list(bulk_sessions.tokens(bulk_sessions.name(0), 30))
    assert bulk_sessions.all_allowed(checker, hot * 2)
    for one_off in bulk_sessions.tokens(bulk_sessions.name(1), 3000):
        assert bulk_sessions.judge(checker, one_off).allowed
    spent = checker.signatures

    assert bulk_sessions.all_allowed(checker, hot)
    assert checker.signatures == spent
    assert checker.cache.used <= 2 * checker.cache.quota


def test_a_hot_set_stays_under_a_flood_nine_times_its_traffic() -> None:
    """95 % of calls with 100 hot tokens need no signature while nine of ten calls are one-off."""
    checker = bulk_sessions.checker(extra=1010, cache_bytes=_MIB)
    hot = [token for i in range(10) for token in bulk_sessions.tokens(bulk_sessions.name(i), 10)]
    # They come again when the cache has forgotten even their names.
    one_offs = cycle(
        [next(bulk_sessions.tokens(bulk_sessions.name(10 + i % 1000), 1, i)) for i in range(5000)]
    )
    rng = random.Random(5)
    calls = hits = 0
    for turn in range(1500):
        spent = checker.signatures
        assert bulk_sessions.judge(checker, rng.choice(hot)).allowed
        if turn >= 500:
            calls += 1
            hits += checker.signatures == spent
        spent = checker.signatures
        assert bulk_sessions.all_allowed(checker, list(islice(one_offs, 9)))
        assert checker.signatures - spent == 9

    assert hits / calls >= 0.95


@pytest.mark.parametrize(
    ("capacity", "quota"), [(0, 0), (15, 0), (100, 0), (100, 100_000), (1300, 1 << 40), (1, 1)]
)
def test_odd_sizes(capacity: int, quota: int) -> None:
    """A cache too small for any chain, or a quota above the whole, only costs signatures."""
    checker = bulk_sessions.checker(cache_bytes=capacity, session_cache_bytes=quota)
    for one_off in bulk_sessions.tokens(SESSION, 20):
        assert bulk_sessions.judge(checker, one_off).allowed

    assert checker.cache.used <= capacity
    assert checker.cache.quota <= capacity


def test_a_child_of_a_known_parent_costs_one_signature() -> None:
    """Verified leading blocks are not verified again."""
    checker = bulk_sessions.checker()
    parent = link(root(READ), child(), child(), child())
    assert bulk_sessions.judge(checker, make(parent, signers(4))).allowed
    assert checker.signatures == 4

    for shared in (3, 2, 1):
        open_parent = [*parent[:shared], child(label=f"new below {shared}", **ending("sealed"))]
        spent = checker.signatures
        assert bulk_sessions.judge(checker, make(open_parent, signers(shared + 1))).allowed
        assert checker.signatures - spent == 1

    spent = checker.signatures
    grandchild = [*parent[:3], child(**ending("open", key("next 3"))), child(label="x", **ending("sealed"))]
    assert bulk_sessions.judge(checker, make(grandchild, signers(5))).allowed
    assert checker.signatures - spent == 2


def test_a_forged_child_of_a_known_parent() -> None:
    """A known parent vouches for nothing below it, and a failure leaves nothing behind."""
    checker = bulk_sessions.checker()
    parent = link(root(READ), child())
    assert bulk_sessions.judge(checker, make(parent, signers(2))).allowed
    kept = len(checker.cache)
    for signer in ("nobody", "next 1"):
        blocks = [parent[0], child("*:**", **ending("sealed"))]
        forged = make(blocks, [signers(1)[0], key(signer)])
        for _ in range(3):
            outcome = bulk_sessions.judge(checker, forged)
            assert (outcome.reason, outcome.index) == (Reason.BAD_SIGNATURE, 1)
            assert outcome.session_id == b""
            assert outcome.block_ids == ()
    assert checker.bad_signatures == 6
    assert len(checker.cache) == kept


@pytest.mark.parametrize("view", sorted(set(VIEWS) - {"plain", "clock_suspect"}))
def test_a_known_chain_is_judged_by_the_state_of_now(view: str) -> None:
    """A checker with cached chains decides after a change of state as a new one."""
    source = bulk_sessions.source()
    warm = bulk_sessions.Checker(bulk_sessions.View(source))
    chains = [
        token(root(READ)),
        token(root("*:**"), child(READ)),
        token(root('*:** where session.case_id == "C-7" free *')),
        token(root("*:**", root_fields={"session_id": id16("another")})),
    ]
    requests = [ask(), ask(arguments='{"tag":"x"}'), ask("write", "logs/a")]
    for chain in chains:
        bulk_sessions.judge(warm, chain)
    source.load(*read_view(VIEWS[view]))
    cold = bulk_sessions.Checker(bulk_sessions.View(source))

    for chain in chains:
        for request in requests:
            expected = kernel_decision(cold, chain, request, NOW)
            assert kernel_decision(warm, chain, request, NOW) == expected
            assert kernel_decision(warm, chain, request, NOW) == expected


def test_each_part_of_a_request_alone() -> None:
    """Each part of a request decides alike with a cached and with a new chain."""
    chain = token(
        root(
            "read:files/{a.txt,b} where n? == 1 and tool.safe? == true",
            source=["10.0.0.0/8"],
            peer=["sha256:aa"],
        )
    )
    plain = ask(arguments='{"n":1}', source="10.0.0.1", peer=("sha256:aa",), tool=b'{"safe":true}')
    variations = [
        plain,
        replace(plain, action=b"write"),
        replace(plain, resource=b"files/b"),
        replace(plain, resource=b"files/c"),
        replace(plain, arguments=b'{"n":2}'),
        replace(plain, arguments=b'{"m":1}'),
        replace(plain, arguments=b"{"),
        replace(plain, tool=b'{"safe":false}'),
        replace(plain, session=SESSION),
        replace(plain, session=id16("another")),
        replace(plain, source="11.0.0.1"),
        replace(plain, peer=("sha256:bb",)),
        replace(plain, audience="elsewhere"),
        replace(plain, at_least_revision=100),
        replace(plain, at_least_revision=101),
    ]
    warm = bulk_sessions.checker()
    reasons = set()
    for request in variations * 2:
        for now in (NOW, NOW + 10**9, 1):
            found = kernel_decision(warm, chain, request, now)
            assert found == kernel_decision(bulk_sessions.checker(), chain, request, now)
            reasons.add(found.reason.name)
    assert len(reasons) >= 9
    assert warm.signatures == 1


def test_a_known_chain_whose_key_is_distrusted_later() -> None:
    """Neither a kept chain nor a kept prefix outlives the trust in the key that roots it."""
    source = bulk_sessions.source()
    checker = bulk_sessions.Checker(bulk_sessions.View(source))
    parent = link(root(READ), child())
    known = make(parent, signers(2))
    assert bulk_sessions.judge(checker, known).allowed
    source.load(*read_view(VIEWS["key_distrusted"]))
    below = make([parent[0], child(label="new", **ending("sealed"))], signers(2))

    assert bulk_sessions.judge(checker, known).reason == Reason.ISSUER_DISTRUSTED
    assert bulk_sessions.judge(checker, below).reason == Reason.ISSUER_DISTRUSTED
    assert checker.signatures == 2
