"""Handles: a token that is held across calls is looked up once, and judged anew each time."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from sessauth._fast._check import Checker, Prepared, View
from sessauth.reasons import Reason
from sessauth.tokens.token import Token
from sessauth.verifier.verifier import Verifier
from tests.support import bulk_sessions
from tests.support.commit_id_source import CommitIdSource, of_view
from tests.support.vector_files import read_view
from tests.vectors.world import AUDIENCE, ISSUER, NOW, SESSION, VIEWS, child, key, link, make, root, token

READ = "read:files/**"
VALID = token(root(READ))
FORGED = make(link(root(READ)), [key("nobody")])
REFUSED = {
    "no token": Reason.MALFORMED_TOKEN,
    "": Reason.MALFORMED_TOKEN,
    "sessauth_token_!": Reason.MALFORMED_TOKEN,
    "sessauth_secret_AAAA": Reason.OPEN_TOKEN,
    "\ud800": Reason.MALFORMED_TOKEN,
}
NO_TOKENS = {
    b"": Reason.MALFORMED_TOKEN,
    VALID[:-1]: Reason.MALFORMED_TOKEN,
    b"\x08\x02": Reason.UNSUPPORTED_VERSION,
    bytes(8193): Reason.TOKEN_TOO_LARGE,
    token(root(READ), last="open"): Reason.OPEN_TOKEN,
}


def verifier(of: CommitIdSource | None = None, **options: Any) -> Verifier:
    """A verifier on a source, or on a plain one of its own."""
    return Verifier(of or of_view(), audience=AUDIENCE, **options)


def judge(judge_by: Checker, presented: Any) -> Any:
    """Judge the call that the vectors' plainest token permits."""
    return judge_by._check(presented, "read", "files/a.txt", audience=AUDIENCE, now_ms=NOW)


def test_a_handle_spares_the_lookup_alone() -> None:
    """No check by a handle asks the cache; the first verifies, and others find what it verified."""
    checker = verifier()
    handle = checker.prepare(VALID)
    assert (checker.signatures, checker.cache.misses, len(checker.cache)) == (0, 1, 0)
    for _ in range(5):
        assert judge(checker, handle).allowed
    assert (checker.signatures, checker.cache.misses, checker.cache.hits) == (1, 1, 0)
    assert judge(checker, VALID).allowed
    assert (checker.signatures, checker.cache.hits, len(checker.cache)) == (1, 1, 1)


def test_a_handle_is_judged_by_the_state_of_now() -> None:
    """End, suspension, distrust, brake and revocation hold for a handle of a verified chain."""
    state = of_view()
    checker = verifier(state)
    handle = checker.prepare(VALID)
    for view, reason in (
        ("plain", Reason.ALLOWED),
        ("ended", Reason.SESSION_ENDED),
        ("suspended", Reason.SESSION_SUSPENDED),
        ("key_distrusted", Reason.ISSUER_DISTRUSTED),
        ("key_not_listed", Reason.ISSUER_NOT_OF_SESSION),
        ("no_session", Reason.UNKNOWN_SESSION),
        ("plain", Reason.ALLOWED),
        ("braked", Reason.STATE_BRAKED),
    ):
        state.load(*read_view(VIEWS[view]))
        assert judge(checker, handle).reason is reason
        assert judge(checker, handle).reason is judge(checker, VALID).reason
    plain, ceilings = read_view(VIEWS["plain"])
    revoked = frozenset(judge(verifier(), VALID).block_ids)
    state.load(type(plain)(plain.revision, plain.sessions, plain.keys, revoked), ceilings)
    assert judge(checker, handle).reason is Reason.REVOKED


def test_a_handle_of_a_forged_token() -> None:
    """A forged token is denied and counted each time, and never becomes valid."""
    checker = verifier()
    handle = checker.prepare(FORGED)
    for turn in range(1, 4):
        outcome = judge(checker, handle)
        assert (outcome.reason, outcome.index, outcome.block_ids) == (Reason.BAD_SIGNATURE, 0, ())
        assert checker.bad_signatures == turn
    assert len(checker.cache) == 0


def test_a_handle_does_not_outlive_trust_in_what_it_is_not() -> None:
    """Without new signatures a handle that was never verified is denied; once it stands, it needs none."""
    checker = verifier()
    handle = checker.prepare(VALID)
    options: dict[str, Any] = {"audience": AUDIENCE, "now_ms": NOW, "verify_new_signatures": False}
    denied = checker._check(handle, "read", "files/a.txt", **options)
    assert (denied.reason, denied.index) == (Reason.BAD_SIGNATURE, -1)
    assert judge(checker, handle).allowed
    assert checker._check(handle, "read", "files/a.txt", **options).allowed


@pytest.mark.parametrize("data", NO_TOKENS)
def test_a_handle_of_what_is_no_token(data: bytes) -> None:
    """Bytes that are no token make a handle that is denied as they are."""
    checker = verifier()
    handle = checker.prepare(data)
    for presented in (handle, data, handle):
        outcome = judge(checker, presented)
        assert (outcome.reason, outcome.stage) == (NO_TOKENS[data], 1)
    assert [d.reason for d in checker.check_batch([(handle, "read", "a")] * 2)] == [NO_TOKENS[data]] * 2


@pytest.mark.parametrize("text", REFUSED)
def test_a_handle_of_a_text_that_is_none(text: str) -> None:
    """A text that is no token makes a handle that is denied as it is, by its verifier and by any other."""
    maker, other = verifier(), verifier()
    for handle in (maker.prepare(text), maker.prepare(maker.prepare(text))):
        for checker in (maker, other):
            assert judge(checker, handle).reason is REFUSED[text]
            assert [d.reason for d in checker.check_batch([(handle, "read", "a")])] == [REFUSED[text]]
            assert judge(checker, checker.prepare(handle)).reason is REFUSED[text]
    assert judge(bulk_sessions.checker(), maker.prepare(text)).reason is REFUSED[text]


def test_each_form_of_a_token_can_be_held() -> None:
    """Bytes, text, text as bytes, Token and another handle make the same handle's answers."""
    checker = verifier()
    text = Token.parse(VALID).text
    for form in (VALID, text, text.encode(), Token.parse(VALID), checker.prepare(VALID)):
        assert judge(checker, checker.prepare(form)).allowed
    assert checker.signatures == 1
    for wrong in (None, 7, bytearray(VALID), [VALID]):
        with pytest.raises(TypeError):
            checker.prepare(wrong)  # type: ignore[arg-type]


def test_a_handle_of_another_verifier_is_worth_its_bytes() -> None:
    """A verifier verifies another's handle itself: its keys may differ."""
    distrusting = verifier(of_view("key_distrusted"))
    maker = verifier()
    handle = maker.prepare(VALID)
    assert judge(maker, handle).allowed
    assert judge(distrusting, handle).reason is Reason.ISSUER_DISTRUSTED
    elsewhere = verifier()
    assert judge(elsewhere, handle).allowed
    assert elsewhere.signatures == 1
    assert judge(elsewhere, handle).allowed
    assert (elsewhere.signatures, elsewhere.cache.hits) == (1, 1)
    assert judge(maker, handle).allowed
    assert maker.signatures == 1


def test_a_handle_made_anew_from_anothers_is_of_its_maker() -> None:
    """Preparing another verifier's handle leaves that one as it was."""
    first, second = verifier(), verifier()
    handle = first.prepare(VALID)
    assert judge(first, handle).allowed
    again = second.prepare(handle)
    assert again is not handle
    assert second.signatures == 0
    assert judge(second, again).allowed
    lookups = first.cache.hits + first.cache.misses
    assert judge(first, handle).allowed
    assert first.cache.hits + first.cache.misses == lookups


def test_a_handle_stands_when_the_cache_forgot_it() -> None:
    """A chain that was evicted is not verified again through its handle, and is not kept again by it."""
    checker = verifier(cache_bytes=20_000, session_cache_bytes=20_000)
    handle = checker.prepare(VALID)
    assert judge(checker, handle).allowed
    for one_off in bulk_sessions.tokens(SESSION, 40):
        assert judge(checker, one_off).allowed
    spent, kept = checker.signatures, len(checker.cache)
    assert judge(checker, handle).allowed
    assert (checker.signatures, len(checker.cache)) == (spent, kept)
    assert judge(checker, VALID).allowed
    assert checker.signatures == spent + 1
    assert checker.cache.used <= 20_000


def test_two_handles_of_a_token_are_kept_once() -> None:
    """Chains of equal bytes that were made before either stood cost a signature each and one place."""
    checker = verifier()
    handles = [checker.prepare(bytes(bytearray(VALID))) for _ in range(3)]
    assert all(judge(checker, handle).allowed for handle in handles * 2)
    assert (len(checker.cache), checker.bad_signatures) == (1, 0)


def test_a_handle_made_by_a_known_parent() -> None:
    """The first check of a new child's handle verifies the child alone."""
    checker = verifier()
    parent = link(root(READ), child())
    assert judge(checker, make(parent, [ISSUER, key("next 0")])).allowed
    fresh = make([parent[0], link(child(label="new"))[0]], [ISSUER, key("next 0")])
    spent = checker.signatures
    assert judge(checker, checker.prepare(fresh)).allowed
    assert checker.signatures == spent + 1


def test_handles_are_made_by_verifiers_alone() -> None:
    """A handle that nobody filled is no token; none can be changed or subclassed."""
    empty = Prepared()
    with pytest.raises(TypeError):
        judge(verifier(), empty)
    with pytest.raises(AttributeError):
        empty.chain = 1  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        type("Own", (Prepared,), {})


def test_a_handle_keeps_its_verifier_and_no_more() -> None:
    """Handles and verifier go together once nobody holds them."""
    checker = Checker(View(of_view()))
    handle = checker.prepare(VALID)
    assert judge(checker, handle).allowed

    class Marked(Checker):
        """A checker that can be watched."""

        __slots__ = ("__weakref__",)

    watched = Marked(View(of_view()))
    held = watched.prepare(VALID)
    assert judge(watched, held).allowed
    gone = weakref.ref(watched)
    del watched
    gc.collect()
    assert gone() is not None
    del held
    gc.collect()
    assert gone() is None
