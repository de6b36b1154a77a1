"""Surveys: what each verdict stands for, and that what is refused or broken says no."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from sessauth import limits
from sessauth._fast._check import Checker
from sessauth._fast._codec import Survey
from sessauth.reasons import Reason, Stage, SurveyVerdict
from sessauth.tokens.token import Token
from sessauth.verifier.verifier import Verifier
from tests.support import bulk_sessions
from tests.support.token_forger import key, make
from tests.vectors.world import AUDIENCE, NOW, SESSION, child, link, root, token

READ = "read:files/**"
CALL = ("read", "files/a")
YES, NO, MAYBE = SurveyVerdict.YES, SurveyVerdict.NO, SurveyVerdict.MAYBE
APPROVAL = f'{READ} needs approval(1, "{"A" * 43}")'


def survey(chain: Any, view: str = "plain", checker: Checker | None = None, **given: Any) -> Survey:
    """A survey of a token, by the vectors' state and time."""
    return Survey(
        checker or bulk_sessions.checker(view), chain, **{"audience": AUDIENCE, "now_ms": NOW, **given}
    )


def verdict(chain: bytes, *candidate: Any, view: str = "plain") -> SurveyVerdict:
    """The verdict of one candidate, by default of a read with any arguments."""
    (found,) = survey(chain, view).verdicts([candidate or CALL])
    return SurveyVerdict(found)


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        ([READ], YES),
        (["*:**"], YES),
        (["read:files/* free *"], YES),
        (["read:files/a free n"], MAYBE),
        (["read:files/* where n == 1"], MAYBE),
        (["read:files/* where n == 1 free *"], MAYBE),
        (["read:files/* where n absent free *"], MAYBE),
        (["write:files/*"], NO),
        (["read:logs/*"], NO),
        (["read:files"], NO),
        ([], NO),
        (["read:files/* where n == 1", READ], YES),
        (["write:**", "read:files/* where n == 1"], MAYBE),
        ([f"{READ} needs uses(1)"], MAYBE),
        ([APPROVAL], MAYBE),
        ([APPROVAL, READ], YES),
        ([READ, APPROVAL], YES),
        ([APPROVAL, "read:files/* where n == 1"], MAYBE),
        (["read:files/* where tool.safe == true free *"], NO),
        (["read:files/* where tool.safe absent free *"], YES),
        (["read:files/* where tool.safe absent"], MAYBE),
        (["read:files/* where tool.safe == true and n == 1 free *"], NO),
        (["read:files/* where n == 1 and tool.safe == true free *"], NO),
        (['read:files/* where session.case_id == "C-7" free *'], YES),
        (['read:files/* where session.case_id == "C-8" free *'], NO),
        (['read:files/* where session.region == "eu" free *'], YES),
        (["read:files/* where n == session.amount free *"], MAYBE),
    ],
)
def test_a_scope_for_all_arguments(scopes: Sequence[str], expected: SurveyVerdict) -> None:
    """NO for what nothing can meet, YES for what nothing can spoil, MAYBE for what lies between."""
    assert verdict(token(root(*scopes)), view="facts") == expected


def test_what_a_catalogue_says_is_looked_at() -> None:
    """A condition on the tool is judged by the candidate's tool."""
    chain = token(root("read:files/* where tool.safe == true free *"))
    tools = (b"", b'{"safe":true}', b'{"safe":false}', b'{"safe":1}', b"[]", b"{")
    found = survey(chain).verdicts([(*CALL, None, tool) for tool in tools])

    assert found == [NO, YES, NO, NO, NO, NO]


def test_every_block_and_layer_counts() -> None:
    """One that says no makes a no, one that says maybe makes a maybe, wherever it stands."""
    assert verdict(token(root(READ), child(), child("read:files/*"))) == YES
    assert verdict(token(root(READ), child("read:files/* where n == 1"), child(READ))) == MAYBE
    assert verdict(token(root(READ), child("read:files/* where n == 1"), child("read:x"))) == NO
    assert verdict(token(root(READ, conditions="n == 1"))) == MAYBE
    assert verdict(token(root(READ, conditions="tool.safe == true"))) == NO
    assert verdict(token(root(READ, conditions="tool.safe absent"))) == YES
    assert verdict(token(root(READ), child(conditions='session.region == "eu"')), view="facts") == NO
    assert verdict(token(root(READ)), view="ceiling") == YES
    assert verdict(token(root("*:**")), "read", "logs/a", view="ceiling") == NO
    assert verdict(token(root("*:**")), view="ceiling_condition") == MAYBE
    assert verdict(token(root("*:**")), view="ceiling_facts") == YES
    assert verdict(token(root("*:**")), view="ceiling_empty") == NO


def test_with_arguments_it_is_the_check() -> None:
    """Given arguments are judged like a call's; what costs something is a maybe if all else allows."""
    chain = token(root("read:files/* where n <= 5", "write:files/* where n <= 5 needs uses(1)"))
    given = [b'{"n":5}', b'{"n":6}', b'{"n":5,"m":1}', b"", b"{", b"[]"]

    assert survey(chain).verdicts([(*CALL, each) for each in given]) == [YES, NO, NO, NO, NO, NO]
    costly = survey(chain).verdicts([("write", "files/a", each) for each in given])
    assert costly == [MAYBE, NO, NO, NO, NO, NO]


@pytest.mark.parametrize(
    "candidate",
    [
        ("", "files/a"),
        ("*", "files/a"),
        ("read", ""),
        ("read", "files//a"),
        ("read", "files/../a"),
        ("re\udcffad", "files/a"),
        (b"\xff", b"files/a"),
        (*CALL, None, b"{"),
        (*CALL, b"{"),
        (*CALL, b"", b"{"),
    ],
)
def test_a_malformed_candidate_is_a_no(candidate: tuple[Any, ...]) -> None:
    """Input that an agent controls is never an error, and never a yes."""
    assert survey(token(root("*:**"))).verdicts([CALL, candidate, CALL]) == [YES, NO, YES]


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        # Each could be made to ask for more work than a check may cost, before the scope behind it allows.
        ("where each(n) in [1, 2, 3] free *", MAYBE),
        ("where n subset_of [1, 2, 3] free *", MAYBE),
        ('where n glob ["a*", "b*", "c*", "d*", "e*"] free *', MAYBE),
        ("free p, q, r, s, t, u, v", MAYBE),
        # And these could not.
        ("where each(n) in [1, 2] free *", YES),
        ('where n glob "a*" free *', YES),
        ('where host(n) == "a" and scheme(n) == "b" free *', YES),
        ("where n in [" + ", ".join(map(str, range(64))) + "] free *", YES),
        ("free p, q, r, s, t, u", YES),
    ],
)
def test_arguments_that_ask_for_too_much_work(scope: str, expected: SurveyVerdict) -> None:
    """A yes stands only if no arguments can make the check too costly on the way to it."""
    chain = token(root(f"read:files/* {scope}", READ))

    assert verdict(chain) == expected
    assert verdict(token(root(READ, f"read:files/* {scope}"))) == YES


def test_that_such_arguments_are_there() -> None:
    """The maybe of too much work is right: there are arguments that a check refuses for it."""
    numbers = ", ".join(map(str, range(30)))
    chain = token(root(f"read:files/* where each(n) in [{numbers}] free *", READ))
    costly = b'{"n":[' + b",".join([b"1"] * 9_000) + b"]}"

    assert survey(chain).verdicts([CALL, (*CALL, b"{}"), (*CALL, costly)]) == [MAYBE, YES, NO]


def test_a_ceiling_in_observe_mode_counts_by_its_work_alone() -> None:
    """Its refusals change nothing; arguments that spend the work on it are refused by the check."""
    numbers = ", ".join(map(str, range(30)))
    costly = b'{"n":[' + b",".join([b"1"] * 9_000) + b"]}"
    for scope, whatever, given in (
        ("write:logs", YES, YES),
        ("read:files/* where n == 1", YES, YES),
        (f"read:files/* where each(n) in [{numbers}] free *", MAYBE, NO),
    ):
        surveyed = survey(token(root(READ)), checker=Checker(bulk_sessions.observing(scope)))
        assert surveyed.verdicts([CALL, (*CALL, costly)]) == [whatever, given], scope


def test_numbers_whose_form_is_longer_than_their_text() -> None:
    """The form of 1e20 has 21 digits: a step of work for five bytes of arguments."""
    where = "n != null and n != [] and n != {} and each(n) not in [1, 2, 3]"
    chain = token(root(f"read:files/* where {where} free *", READ))
    numbers = b",1e20" * 9_997
    costly = b'{"n":["' + b"x" * (limits.MAX_JSON_BYTES - len(numbers) - 10) + b'"' + numbers + b"]}"

    assert len(costly) == limits.MAX_JSON_BYTES
    assert survey(chain).verdicts([CALL, (*CALL, b"{}"), (*CALL, costly)]) == [MAYBE, YES, NO]


@pytest.mark.parametrize(
    ("chain", "view", "given", "reason", "stage"),
    [
        (b"", "plain", {}, Reason.MALFORMED_TOKEN, Stage.DECODE),
        (b"sessauth_token_x", "plain", {}, Reason.MALFORMED_TOKEN, Stage.DECODE),
        (token(root(READ)), "ended", {}, Reason.SESSION_ENDED, Stage.SESSION),
        (token(root(READ)), "plain", {"session": b"x" * 16}, Reason.WRONG_SESSION, Stage.SESSION),
        (token(root(READ)), "plain", {"at_least_revision": 101}, Reason.STALE_STATE, Stage.SESSION),
        (token(root(READ)), "key_distrusted", {}, Reason.ISSUER_DISTRUSTED, Stage.ISSUER),
        (make(link(root(READ)), [key("nobody")]), "plain", {}, Reason.BAD_SIGNATURE, Stage.SIGNATURE),
        (token(root(READ)), "plain", {"verify_new_signatures": False}, Reason.BAD_SIGNATURE, Stage.SIGNATURE),
        (token(root(READ)), "plain", {"clock_suspect": True}, Reason.CLOCK_SUSPECT, Stage.TIME),
        (token(root(READ)), "plain", {"now_ms": NOW + 86_400_000}, Reason.SESSION_EXPIRED, Stage.SESSION),
        (token(root(READ)), "plain", {"audience": "other"}, Reason.WRONG_AUDIENCE, Stage.AUDIENCE),
        (token(root(READ, source=["10.0.0.0/8"])), "plain", {}, Reason.WRONG_SOURCE, Stage.AUDIENCE),
        (token(root(READ, peer=["aa"])), "plain", {"peer": ["bb"]}, Reason.WRONG_PEER, Stage.AUDIENCE),
        (
            token(root({"actions": ["read"], "resource": [{"kind": 9}]}, READ)),
            *("plain", {}, Reason.UNKNOWN_KIND, Stage.SCOPE),
        ),
    ],
)
def test_a_token_that_is_refused(
    chain: bytes, view: str, given: dict[str, Any], reason: Reason, stage: Stage
) -> None:
    """All verdicts are no, and reason and stage are those that a check would give."""
    checker = Verifier(bulk_sessions.source(view))
    surveyed = survey(chain, checker=checker, **given)

    assert (surveyed.reason, surveyed.stage) == (reason, stage)
    assert surveyed.verdicts([CALL, (*CALL, b"{}"), ("", "")]) == [NO] * 3
    decision = checker._check(chain, *CALL, **{"audience": AUDIENCE, "now_ms": NOW, **given})
    assert (decision.reason, decision.stage) == (reason, stage)


def test_who_calls_is_looked_at() -> None:
    """Session, source and identities of the survey are those that the token is held to."""
    chain = token(root(READ, source=["10.0.0.0/8"], peer=["aa"]))
    surveyed = survey(chain, session=SESSION, source="10.1.1.1", peer=("bb", "aa"))

    assert (surveyed.reason, surveyed.stage, surveyed.revision) == (Reason.ALLOWED, Stage.NONE, 100)
    assert surveyed.verdicts([CALL]) == [YES]


def test_one_state_for_all_questions() -> None:
    """A survey goes on by the state it was made in; a new one sees the end of the session."""
    source = bulk_sessions.source()
    verifier = Verifier(source)
    chain = token(root(READ))
    before = survey(chain, checker=verifier)
    source.load(*bulk_sessions.read_view(bulk_sessions.VIEWS["ended"]))

    assert before.verdicts([CALL]) == [YES]
    assert survey(chain, checker=verifier).reason == Reason.SESSION_ENDED


def test_a_token_in_each_form() -> None:
    """Bytes, text, text as bytes, a Token and a handle are the same token, whatever it is."""
    verifier = Verifier(bulk_sessions.source())
    chain = token(root(READ))
    text = Token.parse(chain).text
    forms = (chain, text, text.encode(), Token.parse(chain), verifier.prepare(chain), verifier.prepare(text))
    for form in forms:
        assert survey(form, checker=verifier).verdicts([CALL]) == [YES]
    assert verifier.signatures == 1
    assert survey(verifier.prepare("sessauth_token_x"), checker=verifier).reason == Reason.MALFORMED_TOKEN


def test_the_gate_is_asked_for_new_signatures() -> None:
    """A wrong signature is told to the gate once, and a shut gate refuses without looking."""

    class Gate:
        """Counts what it is told."""

        def __init__(self, is_open: bool) -> None:
            self.is_open, self.told = is_open, [0, 0]

        def may_fail(self, source: str) -> bool:
            """Return the gate's answer."""
            self.told[0] += 1
            return self.is_open

        def failed(self, source: str) -> None:
            """Count a wrong one."""
            self.told[1] += 1

    forged = make(link(root(READ)), [key("nobody")])
    for is_open in (True, False):
        gate = Gate(is_open)
        surveyed = survey(forged, gate=gate)
        assert surveyed.reason == Reason.BAD_SIGNATURE
        assert gate.told == [1, int(is_open)]


def test_a_fault_says_no() -> None:
    """An unreadable state is INTERNAL_ERROR with its fault, and no candidate is a yes."""
    source = bulk_sessions.source()
    checker = Verifier(source)

    def fail() -> Any:
        raise OSError("gone")

    source.begin = fail  # type: ignore[method-assign]
    surveyed = survey(token(root(READ)), checker=checker)

    assert (surveyed.reason, surveyed.stage) == (Reason.INTERNAL_ERROR, Stage.NONE)
    assert isinstance(surveyed.fault, OSError)
    assert surveyed.verdicts([CALL]) == [NO]


@pytest.mark.parametrize(
    "candidate",
    [
        None,
        "read",
        ["read", "files/a"],
        ("read",),
        ("read", "files/a", None, b"", b""),
        (1, "files/a"),
        ("read", None),
        ("read", "files/a", []),
        ("read", "files/a", b"", None),
    ],
)
def test_a_callers_mistake(candidate: Any) -> None:
    """A candidate of another form raises TypeError, also of a token that is refused."""
    for chain in (token(root(READ)), b""):
        with pytest.raises(TypeError):
            survey(chain).verdicts([CALL, candidate])
    with pytest.raises(TypeError):
        survey(token(root(READ))).verdicts(None)  # type: ignore[arg-type]


def test_none_and_many() -> None:
    """No candidates have no verdicts, and many keep their order."""
    surveyed = survey(token(root("read:files/*", "write:logs where n == 1")))
    many = [CALL, ("write", "logs"), ("write", "files/a")] * 1000

    assert surveyed.verdicts([]) == []
    assert surveyed.verdicts(iter(many)) == [YES, MAYBE, NO] * 1000


def test_what_a_verifier_gives() -> None:
    """The verifier's answer has verdicts, reason and stage as words, and is true only if all are yes."""
    verifier = Verifier(bulk_sessions.source(), audience=AUDIENCE)
    chain = token(root(READ, "write:** where n == 1"))
    found = verifier.list_allowed(chain, [CALL, ("write", "x"), ("drop", "x")], now_ms=NOW)
    ended = Verifier(bulk_sessions.source("ended"), audience=AUDIENCE).list_allowed(chain, [CALL], now_ms=NOW)

    assert list(found) == [YES, MAYBE, NO]
    assert (found.reason, found.stage, found.revision) == (Reason.ALLOWED, Stage.NONE, 100)
    assert (len(found), found[0], found[1:]) == (3, YES, (MAYBE, NO))
    assert [bool(each) for each in found] == [True, False, False]
    assert not found
    assert verifier.list_allowed(chain, [CALL], now_ms=NOW)
    assert (list(ended), ended.reason, bool(ended)) == ([NO], Reason.SESSION_ENDED, False)
    assert not Verifier(bulk_sessions.source("ended")).list_allowed(chain, [], now_ms=NOW)
