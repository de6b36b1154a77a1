"""Every path to a decision and the oracle agree on all that a decision tells, while the state changes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest

from tests.oracle.constants import SessionStatus
from tests.oracle.model import OracleSession, OracleView
from tests.oracle.wire import encode
from tests.property.generator import Batch, Case, batch
from tests.property.judges import chain_of, oracle
from tests.property.random_chains import SOURCES, Draft
from tests.support.cases import CASES
from tests.support.check_entry_points import PATHS, KnownParent, TimedCall
from tests.support.commit_id_source import CommitIdSource
from tests.support.decision_fields import DecisionContent, expected, without_time
from tests.support.token_forger import assemble, ending, id16, sign

SEED = int(os.environ.get("SESSAUTH_SEED", "1"))
SHOWN = 3
_WITHOUT_TIME = ("wire", "wire batch", "wire table")


@dataclass
class Run:
    """Counts of a run: calls of each path, ends of all, differences, and spared work."""

    cases: int = 0
    judged: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    begun: int = 0
    spared: int = 0


def _siblings(draft: Draft) -> Iterator[bytes]:
    """Sealed children of each parent in the draft's chain, that are not in the chain."""
    for count in range(1, len(draft.payloads)):
        payloads = [*draft.payloads[:count], encode("Block", {"label": "sibling", **ending("sealed")})]
        yield assemble(payloads, sign(payloads, draft.signers[: count + 1]))


def _moved_session(rng: Random, session: OracleSession) -> OracleSession:
    """The session after some change that a state may see; a lease never ends earlier."""
    roll = rng.randrange(6)
    if roll == 0:
        return replace(session, status=rng.choice((1, 2, 3)), end_cause=rng.randint(0, 6))
    if roll == 1:
        return replace(session, status=int(SessionStatus.ACTIVE))
    if roll == 2 and session.lease_deadline_ms is not None:
        return replace(session, lease_deadline_ms=session.lease_deadline_ms + rng.choice((1, 1000, 10**7)))
    if roll == 3:
        return replace(session, expires_at_ms=session.expires_at_ms + rng.choice((-(10**7), -500, 500)))
    if roll == 4:
        return replace(session, ceilings=session.ceilings, facts={})
    return session


def _moved(rng: Random, view: OracleView, made: Batch) -> OracleView:
    """A later state than the view."""
    sessions = {name: _moved_session(rng, session) for name, session in view.sessions.items()}
    keys = {
        name: replace(key, status=rng.randint(1, 4)) if rng.random() < 0.2 else key
        for name, key in view.keys.items()
    }
    revoked = set(view.revoked)
    if rng.random() < 0.3:
        chain = chain_of(rng.choice(made.drafts).token)
        revoked.add(rng.choice(chain.block_ids) if chain else rng.randbytes(32))
    return OracleView(view.revision, sessions, keys, frozenset(revoked), rng.random() < 0.03)


def _states(rng: Random, source: CommitIdSource, made: Batch) -> Iterator[OracleView]:
    """Put state after state into the source: the generated one, nothing new, and later ones."""
    view = made.view
    source.load(view, made.ceilings)
    yield view
    source.touch()
    yield view
    view = _moved(rng, view, made)
    source.load(view, made.ceilings)
    yield view
    if rng.random() < 0.3:
        source.brake[0] = 1
        yield replace(view, braked=True)
        source.brake[0] = int(view.braked)
        yield view


def _cases(rng: Random, made: Batch) -> list[Case]:
    """The cases of the batch; of every other batch without identities, so that items of a batch can be alike.

    What is judged once for such items depends on session and source, so those differ now and then.
    """
    if rng.random() < 0.5:
        return made.cases
    cases = []
    for case in made.cases:
        changes: dict[str, Any] = {"peer": ()}
        if rng.random() < 0.2:
            changes["session"] = rng.choice((b"", id16("session"), id16("other session")))
        if rng.random() < 0.2:
            changes["source"] = rng.choice(SOURCES)
        cases.append(replace(case, request=replace(case.request, **changes)))
    return cases


def _expected(case: Case, view: OracleView, source: CommitIdSource) -> DecisionContent:
    return expected(oracle(case, view), chain_of(case.token), view, source.epochs, case.now_ms)


def _run(seed: int, cases: int) -> Run:
    run, source = Run(), CommitIdSource()
    paths = {name: path(source, Random(f"{seed} {name}")) for name, path in PATHS.items()}
    number = 0
    while run.cases < cases and len(run.differences) < 100:
        rng = Random(f"{seed} {number} paths")
        made = batch(Random(f"{seed} {number}"))
        siblings = [token for draft in made.drafts for token in _siblings(draft)]
        for path in paths.values():
            path.prepare(siblings)
        cases_of_batch = _cases(rng, made)
        for turn, view in enumerate(_states(rng, source, made)):
            chosen = cases_of_batch if turn == 0 else rng.sample(cases_of_batch, len(made.cases) // 3)
            calls = [TimedCall(case.token, case.request, case.now_ms) for case in chosen]
            wanted = [_expected(case, view, source) for case in chosen]
            run.cases += len(calls)
            run.reasons.update(told.outcome.reason.name for told in wanted)
            for name, path in paths.items():
                begun = source.begun
                found = path.judge(calls)
                if name == "pulse":
                    run.begun += source.begun - begun
                for call, told, want in zip(calls, found, wanted, strict=True):
                    if told is None:
                        continue
                    run.judged[name] += 1
                    if told != (without_time(want) if name in _WITHOUT_TIME else want):
                        run.differences.append(
                            f"batch {number}, state {turn}, path {name}: oracle {want}, kernel {told}, {call}"
                        )
        number += 1
    known_parent = paths["known parent"]
    assert isinstance(known_parent, KnownParent)
    run.spared = known_parent.spared
    return run


@pytest.fixture(scope="module")
def run() -> Run:
    """One run of SESSAUTH_CASES cases from SESSAUTH_SEED, over every path."""
    return _run(SEED, CASES)


@pytest.mark.timeout(3600)
def test_every_path_agrees_with_the_oracle(run: Run) -> None:
    """Outcome, position, match, session, blocks, epoch, revision, end and time are the oracle's on each."""
    shown = "\n".join(run.differences[:SHOWN])

    assert not run.differences, f"seed {SEED}: {len(run.differences)} of {run.cases}\n{shown}"
    assert run.cases >= CASES


@pytest.mark.timeout(3600)
def test_paths_are_what_they_are_named_for(run: Run) -> None:
    """Each path judged most of the cases it can; the pulse spared transactions, the parent signatures."""
    assert set(run.judged) == set(PATHS)
    assert all(run.judged[name] > run.cases * 0.2 for name in PATHS)
    assert all(run.judged[name] == run.cases for name in ("transaction", "pulse", "handle", "batch"))
    assert run.begun < run.judged["pulse"] // 2
    assert run.spared > run.cases // 100


@pytest.mark.timeout(3600)
def test_the_run_reaches_the_ends(run: Run) -> None:
    """An eighth or more is allowed, and the reasons of a moving state come up."""
    assert run.reasons["ALLOWED"] > run.cases / 8
    assert run.cases < 5000 or not {
        *("SESSION_ENDED", "SESSION_SUSPENDED", "SESSION_EXPIRED", "LEASE_LAPSED", "STATE_BRAKED", "REVOKED"),
        *("ISSUER_DISTRUSTED", "ISSUER_RETIRED", "ISSUER_PREPARED", "CONDITION_FAILED", "OUT_OF_SCOPE"),
    } - set(run.reasons)
