"""Verdicts and checks agree: with arguments on every case, without for all arguments that are tried."""

from __future__ import annotations

import json
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessauth._fast._check import Chain, Checker, View
from sessauth._fast._codec import Survey
from sessauth.reasons import Reason, SurveyVerdict
from sessauth.scopes.scope import Condition, Scope
from tests.oracle.constants import Stage
from tests.oracle.model import OracleDecision
from tests.oracle.scope_reader import read_scope
from tests.property.generator import Batch, Case, batch
from tests.property.judges import Kernel, oracle
from tests.property.random_values import members, render
from tests.support import scope_strategies
from tests.support.cases import CASES, examples
from tests.support.vector_files import read_view, write_fact, write_scope
from tests.support.view_source import MemorySource
from tests.vectors.world import AUDIENCE, NOW, VIEWS, child, root, token

BATCHES = max(60, CASES // 60)
BOUND = 3
# What stands before the call is looked at; unknown kinds are told at the token too.
OF_THE_TOKEN = frozenset(range(Stage.DECODE, Stage.SCOPE))


def surveyed(checker: Checker, case: Case) -> Survey:
    """A survey of a case's token, asked as the case is."""
    asked = case.request
    return Survey(
        checker,
        case.token,
        session=asked.session,
        source=asked.source,
        peer=asked.peer,
        audience=asked.audience,
        at_least_revision=asked.at_least_revision,
        now_ms=case.now_ms,
    )


def _is_bound(token: bytes) -> bool:
    return Chain.parse(token).ending == BOUND


def _expected(case: Case, theirs: OracleDecision) -> SurveyVerdict:
    """Return the oracle's decision about a call as a verdict."""
    if theirs.stage in (Stage.PROOF, Stage.NEEDS):
        return SurveyVerdict.MAYBE
    if not theirs.allowed:
        return SurveyVerdict.NO
    return SurveyVerdict.MAYBE if _is_bound(case.token) else SurveyVerdict.YES


def _hold(made: Batch, kernel: Kernel, rng: Random, seen: Counter[str]) -> None:
    kernel.load(made)
    for case in made.cases:
        asked = case.request
        survey = surveyed(kernel.checker, case)
        whatever, given = survey.verdicts(
            [
                (asked.action, asked.resource, None, asked.tool),
                (asked.action, asked.resource, asked.arguments, asked.tool),
            ]
        )
        theirs = oracle(case, made.view)
        if asked.token_only:
            # A survey judges its token as a check of the token alone does.
            assert (survey.reason, survey.stage) == (theirs.reason, theirs.stage)
            continue
        assert given == _expected(case, theirs), case
        if theirs.stage in OF_THE_TOKEN:
            assert (survey.reason, survey.stage) == (theirs.reason, theirs.stage)
            assert whatever == SurveyVerdict.NO
        else:
            assert survey.reason in (Reason.ALLOWED, Reason.UNKNOWN_KIND)
        seen[f"{SurveyVerdict(whatever).name} {SurveyVerdict(given).name}"] += 1
        # The generator's own arguments, those of its other cases, and some of no origin.
        tried = [asked.arguments, b"", b'{"zz":1}', render(rng, members(rng)).encode()]
        tried += [other.request.arguments for other in made.cases[:6]]
        for found, arguments in zip(
            survey.verdicts([(asked.action, asked.resource, each, asked.tool) for each in tried]),
            tried,
            strict=True,
        ):
            if whatever == SurveyVerdict.NO:
                assert found == SurveyVerdict.NO, (case, arguments)
            elif whatever == SurveyVerdict.YES and found != SurveyVerdict.YES:
                assert _is_malformed(kernel.checker, case, arguments), (case, arguments)


def _is_malformed(checker: Checker, case: Case, arguments: bytes) -> bool:
    asked = case.request
    decision = checker._check(
        *(case.token, asked.action, asked.resource, arguments),
        tool=asked.tool,
        session=asked.session,
        source=asked.source,
        peer=asked.peer,
        audience=asked.audience,
        now_ms=case.now_ms,
    )
    return decision.reason == Reason.MALFORMED_REQUEST and decision.argument == "arguments"


@pytest.mark.timeout(1800)
def test_verdicts_agree_with_the_oracle() -> None:
    """A verdict with arguments is the oracle's decision; one without holds for all arguments tried."""
    kernel, seen = Kernel(), Counter[str]()
    for number in range(BATCHES):
        rng = Random(f"surveys {number}")
        _hold(batch(rng), kernel, rng, seen)

    # Whatever the arguments, then with the case's own: each pair that can be comes up, and no other.
    common = {"YES YES", "MAYBE YES", "MAYBE NO", "MAYBE MAYBE", "NO NO"}
    assert common <= set(seen) <= common | {"YES NO"}


calls = st.tuples(
    st.sampled_from(("read", "write")),
    st.lists(st.sampled_from(scope_strategies.NAMES), min_size=1, max_size=3).map("/".join),
)
values = st.recursive(
    st.one_of(
        st.sampled_from(scope_strategies.TEXTS),
        st.sampled_from((-1, 0, 1, 2, 0.5, 80)),
        st.booleans(),
        st.none(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(st.sampled_from(scope_strategies.NAMES), inner, max_size=2),
    ),
    max_leaves=4,
)
arguments = st.dictionaries(st.sampled_from(scope_strategies.NAMES), values, max_size=3)


FACTS = [
    write_fact("who", {"text": "a"}, True),
    write_fact("level", {"number": {"units": 1, "nanos": 0}}, False),
    write_fact("yes", {"truth": True}, True),
]


def _checker(layer: list[Scope]) -> Checker:
    """A checker of the vectors' session, with facts and, if there is one, a layer of a ceiling."""
    session = {**VIEWS["plain"]["sessions"][0], "facts": FACTS}
    if layer:
        session["ceilings"] = [[write_scope(read_scope(str(scope))) for scope in layer]]
    source = MemorySource()
    source.load(*read_view({**VIEWS["plain"], "sessions": [session]}))
    return Checker(View(source))


@given(
    layer=st.lists(scope_strategies.scopes(), max_size=2),
    blocks=st.lists(st.lists(scope_strategies.scopes(), min_size=1, max_size=3), min_size=1, max_size=2),
    where=st.lists(scope_strategies.conditions(), max_size=1),
    call=calls,
    tried=st.lists(arguments, min_size=1, max_size=4),
)
@settings(max_examples=examples(400), deadline=None)
def test_a_verdict_holds_for_all_arguments(
    layer: list[Scope],
    blocks: list[list[Scope]],
    where: list[Condition],
    call: tuple[str, str],
    tried: list[dict[str, object]],
) -> None:
    """YES implies that all arguments tried are allowed, NO that none are."""
    checker = _checker(layer)
    first, *rest = [[str(scope) for scope in block] for block in blocks]
    chain = token(
        root(*first), *(child(*more) for more in rest), child(conditions=" and ".join(map(str, where)))
    )
    survey = Survey(checker, chain, audience=AUDIENCE, now_ms=NOW)
    assert survey.reason == Reason.ALLOWED
    (verdict,) = survey.verdicts([call])
    for each in tried:
        given = json.dumps(each).encode()
        allowed = checker._check(chain, *call, given, audience=AUDIENCE, now_ms=NOW).allowed
        assert survey.verdicts([(*call, given)]) == [SurveyVerdict.YES if allowed else SurveyVerdict.NO]
        if verdict != SurveyVerdict.MAYBE:
            assert allowed is (verdict == SurveyVerdict.YES)
