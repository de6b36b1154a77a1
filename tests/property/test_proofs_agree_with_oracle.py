"""Every path and the oracle agree on proofs, and no proof passes for anything but what it was made for."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from tests.oracle.check import check
from tests.oracle.constants import Reason
from tests.property.judges import remembered
from tests.property.proved import batch
from tests.support.cases import CASES
from tests.support.check_entry_points import PATHS, TimedCall
from tests.support.commit_id_source import CommitIdSource
from tests.support.proof_forger import proof_keys
from tests.vectors.world import NOW

ROUNDS = CASES // 10
SEED = int(os.environ.get("SESSAUTH_SEED", "1"))
_BEHIND_SIGNATURE = {Reason.PROOF_UNAVAILABLE, Reason.REPLAYED, Reason.STALE_PROOF, Reason.NEEDS_SERVER}


@dataclass
class Run:
    """Counts and differences of a run."""

    cases: int = 0
    judged: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    stolen: list[str] = field(default_factory=list)
    right: Counter[str] = field(default_factory=Counter)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run of cases from SESSAUTH_SEED, over every path; each batch with a new table for each."""
    return _run(tmp_path_factory.mktemp("tables"))


def _run(folder: Path) -> Run:
    run, source = Run(), CommitIdSource()
    paths = {name: path(source, Random(f"{SEED} {name}")) for name, path in PATHS.items()}
    number = 0
    while run.cases < ROUNDS and len(run.differences) < 100:
        made = batch(Random(f"{SEED} {number} proofs"))
        source.load(made.view, {})
        calls = [TimedCall(case.token, case.request, NOW) for case in made.cases]
        wanted = [check(call.token, call.request, made.view, NOW, decode=remembered) for call in calls]
        run.cases += len(calls)
        for case, decision in zip(made.cases, wanted, strict=True):
            run.reasons[decision.reason.name] += 1
            if case.right:
                run.right[decision.reason.name] += 1
            elif decision.allowed:
                run.stolen.append(f"batch {number}: {case}")
        for name, path in paths.items():
            path.use(proof_keys(made.view.host, folder, NOW))
            path.prepare([])
            for call, told, want in zip(calls, path.judge(calls), wanted, strict=True):
                run.judged[name] += told is not None
                if told is not None and told.outcome != want:
                    run.differences.append(
                        f"batch {number}, path {name}: {want}, kernel {told.outcome}, {call}"
                    )
        number += 1
    return run


@pytest.mark.timeout(3600)
def test_every_path_agrees_with_the_oracle_on_proofs(run: Run) -> None:
    """Reason, stage, position and match are the oracle's on each path."""
    shown = "\n".join(run.differences[:3])

    assert not run.differences, f"seed {SEED}: {len(run.differences)} of {run.cases}\n{shown}"
    assert run.cases >= ROUNDS
    assert all(run.judged[name] >= run.cases * 0.2 for name in PATHS)


@pytest.mark.timeout(3600)
def test_only_right_proofs_pass(run: Run) -> None:
    """A proof for another chain with the same keys, another request, holder, host or key never passes."""
    assert run.stolen == []
    # A right one is refused only for its time, its nonce, the host, or what the scopes say.
    assert not set(run.right) & {"PROOF_REQUIRED"}
    assert run.right["ALLOWED"] > run.cases / 10


@pytest.mark.timeout(3600)
def test_the_run_reaches_every_end(run: Run) -> None:
    """All reasons of the stage come up, and needs behind it."""
    wanted = {"ALLOWED", "PROOF_REQUIRED", "BAD_PROOF", "OUT_OF_SCOPE"} | {r.name for r in _BEHIND_SIGNATURE}

    assert run.cases < 2000 or wanted <= set(run.reasons)
