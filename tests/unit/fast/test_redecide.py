"""Chains that a log remembers are judged again, and can be used for nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from sessauth._fast._check import Chain, Checker, View
from sessauth._fast._codec import LoggedChain, Redecider, Redecision
from sessauth._fast.codec.errors import FormError
from sessauth.reasons import Level, Reason, Stage, SurveyVerdict
from tests.support import bulk_sessions
from tests.support.leaks import heap_bytes
from tests.support.token_forger import assemble
from tests.support.vector_files import read_view
from tests.support.view_source import MemorySource
from tests.vectors.world import AUDIENCE, NOW, SESSION, VIEWS, child, root, token

CALLS = 20_000
PLAIN = token(root("read:files/**", 'read:repo where owner == "acme" free *'), child("read:**"))


@pytest.fixture
def view() -> View:
    """The vectors' plain state."""
    source = MemorySource()
    source.load(*read_view(VIEWS["plain"]))
    return View(source)


def remembered(data: bytes) -> LoggedChain:
    """Return the logged chain of a token."""
    chain = Chain.parse(data)
    return LoggedChain(chain.payloads, chain.block_ids)


def again(view: View, data: bytes, resource: str, arguments: bytes | None = b"", **given: Any) -> Redecision:
    """Decide again what was asked at the vectors' time."""
    given = {"source": "", "audience": AUDIENCE, "now_ms": NOW, **given}
    return Redecider(view).redecide(remembered(data), "read", resource, arguments, **given)


@pytest.mark.parametrize(
    ("resource", "arguments", "verdict"),
    [
        ("files/a", b"", SurveyVerdict.YES),
        ("files/a", None, SurveyVerdict.YES),
        ("other", None, SurveyVerdict.NO),
        ("repo", None, SurveyVerdict.MAYBE),
        ("repo", b'{"owner":"acme"}', SurveyVerdict.YES),
        ("repo", b'{"owner":"x"}', SurveyVerdict.NO),
        ("repo", b"no json", SurveyVerdict.NO),
    ],
)
def test_it_decides_as_far_as_it_knows(
    view: View, resource: str, arguments: bytes | None, verdict: SurveyVerdict
) -> None:
    """Arguments that are not known make a condition on them a maybe, and known ones what they are."""
    assert again(view, PLAIN, resource, arguments).verdict == verdict


def test_what_is_exact_is_the_check_s_own(view: View) -> None:
    """A fully known call has the reason and the position of a check of the token."""
    calls = (("other", b""), ("repo", b'{"owner":"x"}'), ("repo", b'{"x":1}'), ("a//b", b""))
    for resource, arguments in calls:
        decision = Checker(view, audience=AUDIENCE)._check(PLAIN, "read", resource, arguments, now_ms=NOW)
        out = again(view, PLAIN, resource, arguments)
        assert out.exact
        assert (out.reason, out.stage, out.level, out.index, out.scope, out.clause, out.argument) == (
            *(decision.reason, decision.stage, decision.level, decision.index),
            *(decision.scope, decision.clause, decision.argument),
        )


def test_conditions_on_the_tool_are_never_known(view: View) -> None:
    """Facts about the tool are not in a log, so a scope that reads them is a maybe."""
    tooled = token(root("read:files/** where tool.safe == true and x == 1 free *"))

    assert again(view, tooled, "files/a", b'{"x":1}').verdict == SurveyVerdict.MAYBE
    assert again(view, tooled, "files/a", b'{"x":2}').verdict == SurveyVerdict.NO


def test_a_ceiling_in_observe_mode_can_have_denied_by_its_work_alone() -> None:
    """Unknown arguments can have spent the work on it; no other refusal at its place comes out."""
    numbers = ", ".join(map(str, range(30)))
    costly = bulk_sessions.observing(f"read:files/* where each(n) in [{numbers}] free *")
    cheap = bulk_sessions.observing("read:files/* where n == 1 free *")
    place = {"level": Level.CEILING, "index": 0, "scope": 0, "clause": 0}
    spent = {"reason": Reason.MALFORMED_REQUEST, **place}
    failed = {"reason": Reason.CONDITION_FAILED, **place}

    out = again(costly, PLAIN, "files/a", None, **spent)
    assert (out.verdict, out.position_fits) == (SurveyVerdict.MAYBE, True)
    assert not again(costly, PLAIN, "files/a", None, **failed).position_fits
    assert again(cheap, PLAIN, "files/a", None, **failed).verdict == SurveyVerdict.YES


def test_without_the_state_only_the_token_speaks(view: View) -> None:
    """Facts are a maybe then; time, audience and scopes of the blocks are as ever."""
    facts = token(root('read:files/** where session.case_id == "C-7" free *'))

    assert again(view, facts, "files/a", b"", knows_state=False).verdict == SurveyVerdict.MAYBE
    assert again(view, facts, "other", b"", knows_state=False).reason == Reason.OUT_OF_SCOPE
    late = again(view, PLAIN, "files/a", knows_state=False, now_ms=NOW + 10**9)
    assert (late.reason, late.stage) == (Reason.EXPIRED, Stage.TIME)
    elsewhere = again(view, PLAIN, "files/a", knows_state=False, audience="x")
    assert elsewhere.reason == Reason.WRONG_AUDIENCE


def test_a_remembered_chain_is_no_token(view: View) -> None:
    """A checker takes neither it nor what it was made of, and nothing of it says yes."""
    checker = Checker(view, audience=AUDIENCE)
    unsigned = assemble(Chain.parse(PLAIN).payloads, [bytes(64)] * 2)
    replayer = Redecider(view)
    chain = remembered(PLAIN)
    out = replayer.redecide(
        chain, "read", "files/a", b"", source="", audience=AUDIENCE, now_ms=NOW, knows_state=True
    )

    assert out.verdict == SurveyVerdict.YES
    with pytest.raises(TypeError):
        bool(out)
    for given in (chain, out):
        with pytest.raises(TypeError):
            checker._check(given, "read", "files/a", now_ms=NOW)
    assert checker._check(unsigned, "read", "files/a", now_ms=NOW).reason == Reason.BAD_SIGNATURE
    assert (len(replayer.cache), len(checker.cache)) == (0, 0)
    assert not hasattr(replayer, "check")
    assert not {"raw", "chain", "payloads", "signatures"} & set(dir(chain))
    with pytest.raises(TypeError):
        Redecision()


def test_ids_are_believed_but_for_the_root_s() -> None:
    """The root's id covers no signature, so it can be computed; others count as recorded."""
    chain = Chain.parse(PLAIN)
    root_id, child_id = chain.block_ids

    assert LoggedChain(chain.payloads, (root_id, child_id)).root_id_matches
    assert LoggedChain(chain.payloads, (root_id, bytes(32))).root_id_matches
    assert not LoggedChain(chain.payloads, (bytes(32), child_id)).root_id_matches
    assert LoggedChain(chain.payloads, chain.block_ids).session_id == SESSION


@pytest.mark.parametrize("broken", ["short", "ids", "id", "open", "none"])
def test_what_can_be_no_chain_is_refused(broken: str) -> None:
    """Impossible payloads raise FormError."""
    chain = Chain.parse(token(root("read:**"), last="open" if broken == "open" else "sealed"))
    payloads, ids = list(chain.payloads), list(chain.block_ids)
    if broken == "short":
        payloads[0] = payloads[0][:-1]
    elif broken == "ids":
        ids.append(bytes(32))
    elif broken == "id":
        ids = [bytes(31)]
    elif broken == "none":
        payloads, ids = [], []

    with pytest.raises(FormError):
        LoggedChain(payloads, ids)


def test_nothing_is_kept(view: View) -> None:
    """Neither chains nor what comes out leave memory behind, however it ends."""
    replayer = Redecider(view)

    def many() -> None:
        for _ in range(CALLS // 4):
            chain = remembered(PLAIN)
            for resource, arguments in (("repo", None), ("repo", b'{"a":1}'), ("other", b""), ("a//b", b"")):
                replayer.redecide(
                    chain, "read", resource, arguments, source="", audience=AUDIENCE, now_ms=NOW, level=2
                )
            replayer.session_alive(SESSION, NOW)

    def kept() -> int:
        before = heap_bytes()
        many()
        return heap_bytes() - before

    many()
    # What these calls keep they keep each time; other threads of the process come and go.
    assert any(kept() < 2 * CALLS for _ in range(3))
