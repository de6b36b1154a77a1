"""Batches: many calls by one state and one time, each decided as it is alone."""

from __future__ import annotations

from typing import Any

import pytest

from sessauth._fast._check import Batch, Checker
from sessauth.reasons import Reason
from sessauth.verifier.verifier import Verifier
from tests.support.commit_id_source import CommitIdSource, of_view, with_commit_id
from tests.support.decision_fields import by_object
from tests.support.token_forger import make
from tests.support.vector_files import read_view
from tests.vectors.world import AUDIENCE, NOW, SESSION, VIEWS, id16, key, link, root, token

READ = "read:files/**"
VALID = token(root(READ))
FORGED = make(link(root(READ)), [key("nobody")])
FILES = ("read", "files/a.txt")


def verifier(of: Any = None) -> Verifier:
    """A verifier on a source, or on a plain one of its own."""
    return Verifier(of or of_view(), audience=AUDIENCE)


def reasons(judge_by: Checker, calls: Any, **options: Any) -> list[Reason]:
    """The reasons of a batch."""
    return [decision.reason for decision in judge_by._check_batch(calls, now_ms=NOW, **options)]


def test_it_is_a_sequence_of_decisions() -> None:
    """Length, index from either end, slices and iteration are a sequence's; each look gives the same."""
    batch = verifier()._check_batch([(VALID, *FILES), (b"", *FILES), (VALID, "write", "x")], now_ms=NOW)
    expected = [Reason.ALLOWED, Reason.MALFORMED_TOKEN, Reason.OUT_OF_SCOPE]

    assert (len(batch), batch.all_allowed, type(batch)) == (3, False, Batch)
    assert [decision.reason for decision in batch] == expected
    assert [batch[i].reason for i in range(-3, 3)] == expected * 2
    assert [decision.reason for decision in batch[::-2]] == expected[::-2]
    assert [by_object(decision) for decision in batch] == [by_object(decision) for decision in batch]
    for outside in (3, -4, 2**62, -(2**62)):
        with pytest.raises(IndexError):
            batch[outside]
    with pytest.raises(TypeError):
        batch["0"]  # type: ignore[call-overload]
    assert repr(batch) == "<Batch of 3>"


def test_decision_ids_count_on() -> None:
    """Each item has an id of its own, the same at each look, that no other decision of the verifier has."""
    checker = verifier()
    seen = [checker.check(VALID, *FILES).decision_id]
    for count in (3, 0, 2):
        batch = checker.check_batch([(VALID, *FILES)] * count)
        assert [d.decision_id for d in batch] == [d.decision_id for d in batch]
        seen += [decision.decision_id for decision in batch]
        seen.append(checker.check(VALID, *FILES).decision_id)
    assert len(set(seen)) == len(seen) == 9


def test_no_call_at_all() -> None:
    """An empty batch reads no state and decides nothing."""
    batch = verifier().check_batch([])
    assert (len(batch), list(batch), batch[:]) == (0, [], [])


def test_a_batch_that_nobody_judged() -> None:
    """One made by hand has no decision to give."""
    assert (len(Batch()), list(Batch())) == (0, [])
    with pytest.raises(IndexError):
        Batch()[0]


@pytest.mark.parametrize(
    "call",
    [
        None,
        VALID,
        [VALID, "read", "a"],
        (VALID, "read"),
        (VALID, "read", "a", b"", b"", b"", "", (), 1),
        (None, "read", "a"),
        (7, "read", "a"),
        (VALID, None, "a"),
        (VALID, "read", 7),
        (VALID, "read", "a", None),
        (VALID, "read", "a", []),
        (VALID, "read", "a", b"", []),
        (VALID, "read", "a", b"", b"", "s" * 16),
        (VALID, "read", "a", b"", b"", b"", b"10.0.0.1"),
        (VALID, "read", "a", b"", b"", b"", "", 7),
        (VALID, "read", "a", b"", b"", b"", "", (7,)),
    ],
)
def test_a_callers_mistake(call: Any) -> None:
    """A call of another form raises TypeError, wherever it stands, and nothing is judged."""
    checker = verifier()
    for calls in ([call], [(VALID, *FILES), call], [(checker.prepare(VALID), *FILES), call, (VALID, *FILES)]):
        with pytest.raises(TypeError):
            checker.check_batch(calls)
    assert checker.signatures == 0
    for none in (None, 7):
        with pytest.raises(TypeError):
            checker.check_batch(none)  # type: ignore[arg-type]


def test_calls_from_an_iterator_that_fails() -> None:
    """An exception of the iterable is raised."""

    def calls() -> Any:
        yield (VALID, *FILES)
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        verifier().check_batch(calls())
    assert reasons(verifier(), iter([(VALID, *FILES)])) == [Reason.ALLOWED]


def test_refused_texts_among_others() -> None:
    """A text that is no token denies its own item and no other."""
    checker = verifier()
    calls = [
        ("no token", *FILES),
        (VALID, *FILES),
        (b"sessauth_token_!", *FILES),
        (checker.prepare("sessauth_secret_AAAA"), *FILES),
        (VALID, *FILES),
        (b"", *FILES),
    ]
    expected = [
        *(Reason.MALFORMED_TOKEN, Reason.ALLOWED, Reason.MALFORMED_TOKEN),
        *(Reason.OPEN_TOKEN, Reason.ALLOWED, Reason.MALFORMED_TOKEN),
    ]
    assert reasons(checker, calls) == reasons(checker, calls) == expected
    assert reasons(checker, calls[::-1]) == expected[::-1]


def test_parts_are_each_items_own() -> None:
    """Session, source and peer of one item say nothing of its neighbours with the same token."""
    chain = token(root(READ, source=["10.0.0.0/8"], peer=["sha256:aa"]))
    right = (chain, *FILES, b"", b"", SESSION, "10.0.0.1", ("sha256:aa",))
    changes: list[tuple[int, Any, Reason]] = [
        (5, id16("another"), Reason.WRONG_SESSION),
        (5, b"", Reason.ALLOWED),
        (6, "11.0.0.1", Reason.WRONG_SOURCE),
        (6, "", Reason.WRONG_SOURCE),
        (7, ("sha256:bb",), Reason.WRONG_PEER),
        (7, (), Reason.WRONG_PEER),
        (7, ("sha256:bb", "sha256:aa"), Reason.ALLOWED),
        (2, "logs/a", Reason.OUT_OF_SCOPE),
        (3, b"{", Reason.MALFORMED_REQUEST),
    ]
    calls, expected = [right], [Reason.ALLOWED]
    for place, value, reason in changes:
        calls += [(*right[:place], value, *right[place + 1 :]), right]
        expected += [reason, Reason.ALLOWED]
    for _ in range(2):
        checker = verifier()
        assert reasons(checker, calls) == expected
        assert reasons(checker, calls[::-1]) == expected[::-1]
        assert checker.signatures == 1


@pytest.mark.parametrize("place", [5, 6])
def test_items_that_differ_in_one_part_alone(place: int) -> None:
    """Without identities too, items of a token with another session or source are judged apart."""
    chain = token(root(READ, source=["10.0.0.0/8"]))
    plain = (chain, *FILES, b"", b"", SESSION, "10.0.0.1")
    values: dict[int, dict[Any, Reason]] = {
        5: {SESSION: Reason.ALLOWED, b"": Reason.ALLOWED, id16("another"): Reason.WRONG_SESSION},
        6: {
            "10.0.0.1": Reason.ALLOWED,
            "10.0.0.2": Reason.ALLOWED,
            "11.0.0.1": Reason.WRONG_SOURCE,
            "": Reason.WRONG_SOURCE,
        },
    }
    for first in values[place]:
        for second in values[place]:
            pair = [(*plain[:place], value, *plain[place + 1 :]) for value in (first, second)]
            wanted = [values[place][value] for value in (first, second)]
            assert reasons(verifier(), pair * 3) == wanted * 3


def test_items_without_parts_stand_on_the_first() -> None:
    """An outcome that is judged once for equal items is that of each of them."""
    for view in ("plain", "ended", "key_distrusted", "braked", "ceiling"):
        state = of_view(view)
        wanted = [by_object(verifier(state)._check(t, *FILES, now_ms=NOW)) for t in (VALID, FORGED)]
        batch = verifier(state)._check_batch([(VALID, *FILES), (FORGED, *FILES)] * 70, now_ms=NOW)
        assert [by_object(decision) for decision in batch] == wanted * 70


def test_an_argument_at_fault_is_each_items_own() -> None:
    """Long and short names of arguments come back with the item that they were at fault in."""
    chain = token(root("read:files/** where n? <= 5"))
    names = ["n", "x" * 300, "é", "a", "b" * 7000]
    calls = [(chain, *FILES, b'{"n":9}' if name == "n" else f'{{"{name}":1}}'.encode()) for name in names]
    batch = verifier()._check_batch(calls * 3, now_ms=NOW)
    assert [decision.argument for decision in batch] == names * 3
    assert {decision.reason for decision in batch} == {Reason.CONDITION_FAILED}


def test_one_state_for_the_whole_batch() -> None:
    """A commit that comes while a batch is judged is seen by all of its items or by none."""
    chains = [token(root(READ, root_fields={"session_id": id16(name)})) for name in ("session", "another")]
    for first, wanted in ((0, Reason.SESSION_ENDED), (1, Reason.SESSION_ENDED)):
        state = of_view("two_sessions")
        checker = verifier(state)
        # Only the first is mirrored: the second is asked for in a transaction, before which all ends.
        assert reasons(checker, [(chains[first], *FILES)]) == [Reason.ALLOWED]

        def end_all(of: CommitIdSource = state) -> None:
            of.on_begin = lambda: None
            record = {**VIEWS["two_sessions"]}
            ended = [{**s, "status": "ENDED", "end_cause": "ASKED"} for s in record["sessions"]]
            of.load(*read_view({**record, "sessions": ended}))

        state.on_begin = end_all
        assert reasons(checker, [(chain, *FILES) for chain in (*chains, *chains)]) == [wanted] * 4


def test_rows_that_are_wanted_begin_one_transaction() -> None:
    """A batch begins none while all is mirrored, and one for however many rows are not."""
    state = of_view("two_sessions")
    checker = verifier(state)
    another = token(root(READ, root_fields={"session_id": id16("another")}))
    gone = token(root(READ, root_fields={"session_id": id16("gone")}))
    for chains, begun in (
        ([VALID], 1),
        ([VALID, VALID], 1),
        ([VALID, another, VALID, another], 2),
        ([another, VALID], 2),
        ([VALID, gone, gone, another], 3),
        ([], 3),
    ):
        expected = [Reason.UNKNOWN_SESSION if chain is gone else Reason.ALLOWED for chain in chains]
        assert reasons(checker, [(chain, *FILES) for chain in chains]) == expected
        assert state.begun == begun


@pytest.mark.parametrize("step", ["begin", "get", "abort", "look"])
@pytest.mark.parametrize("with_pulse", [False, True])
def test_a_source_that_raises(step: str, with_pulse: bool) -> None:
    """An exception of the source denies the whole batch, discloses nothing, and affects no later batch."""
    state = of_view()
    through = (
        with_commit_id(state, None) if not with_pulse else with_commit_id(state, bytearray(b"\xff" * 16))
    )
    broken = [False]

    def fail(which: str) -> None:
        if broken[0] and step == which:
            raise OSError("broken")

    class Breaking:
        """A transaction that can break at each step."""

        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def id(self) -> int:
            return int(self.inner.id())

        def get(self, name: bytes, default: None, db: Any) -> Any:
            fail("get")
            return self.inner.get(name, None, db)

        def abort(self) -> None:
            fail("abort")

    def begin() -> Breaking:
        fail("begin")
        return Breaking(state.begin())

    def files_unchanged() -> bool:
        fail("look")
        return True

    through.begin = begin
    through.files_unchanged = files_unchanged
    checker = verifier(through)
    calls = [(VALID, *FILES), ("no token", *FILES), (token(root("read:files/* where n == 1")), *FILES)]
    broken[0] = True
    batch = checker._check_batch(calls, now_ms=NOW)
    for decision in batch:
        assert (decision.allowed, bool(decision), decision.reason) == (False, False, Reason.INTERNAL_ERROR)
        assert (decision.stage, decision.matched_index, decision.expires_at_ms) == (0, -1, 0)
    assert not batch.all_allowed
    broken[0] = False
    assert reasons(checker, calls)[0] is Reason.ALLOWED


def test_what_a_batch_points_to_lives_as_long() -> None:
    """Texts and tokens that nobody else holds are still there when a decision is looked at late."""
    checker = verifier()
    batch = checker._check_batch(
        (
            (
                bytes(bytearray(VALID)),
                "".join(("re", "ad")),
                "/".join(("files", str(number), "é")),
                b"%d" % number,
                b"",
                bytes(bytearray(SESSION)),
                ".".join(("10", "0", "0", str(number % 200))),
                [f"sha256:{number}" for _ in range(3)],
            )
            for number in range(500)
        ),
        now_ms=NOW,
    )
    del checker
    assert {(decision.reason, decision.argument) for decision in batch} == {
        (Reason.MALFORMED_REQUEST, "arguments")
    }
