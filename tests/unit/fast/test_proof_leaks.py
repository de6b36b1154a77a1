"""No check with a proof keeps anything, however it ends and whatever judged it in the meantime."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessauth._fast._check import ProofKeys, ReplayTable, TableError
from sessauth._fast._codec import CheckMessage
from sessauth.crypto.armor import proof_text
from sessauth.reasons import Reason
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.verifier.verifier import Verifier
from tests.support import bulk_sessions
from tests.support.leaks import descriptors, growth
from tests.support.proof_forger import MAC, agreement, nonce, prove
from tests.unit.fast.test_leaks import FEW, FEW_BYTES
from tests.vectors.cases_proofs import HOST, WHO, bound
from tests.vectors.world import AUDIENCE, NOW, ask, token

CALLS = 60_000
TOKEN = token(bound())
KEYS = [(agreement("verifier").public, agreement("verifier").secret, 0, NOW + 1)]


class Given:
    """The objects that calls are made with, whose references are counted."""

    def __init__(self, folder: Path) -> None:
        """A verifier with keys and a table, and proofs for every end."""
        self.path = folder / "replay"
        self.table = ReplayTable.create(self.path, 1 << 12, NOW - 60_000)
        self.keys = ProofKeys(HOST, KEYS, self.table)
        self.verifier = Verifier(bulk_sessions.source(), audience=AUDIENCE, proofs=self.keys)
        self.seen = prove(MAC, TOKEN, ask(), WHO, HOST, agreement("verifier").public, NOW, nonce("seen"))
        self.text = proof_text(self.seen)
        self.wrong, self.late = self.seen[:-1], self.seen + b"x"
        assert self.judge(self.seen) is Reason.ALLOWED

    def judge(self, proof: Any, **said: Any) -> Reason:
        """One check with a proof."""
        return self.verifier._check(TOKEN, "read", "files/a.txt", now_ms=NOW, proof=proof, **said).reason

    def one_by_one(self, count: int) -> None:
        """Checks of each end, by bytes and texts."""
        for _ in range(count // 6):
            assert self.judge(self.seen) is self.judge(self.text) is Reason.REPLAYED
            assert self.judge(self.seen, consume_nonce=False) is Reason.ALLOWED
            assert self.judge(self.wrong) is Reason.BAD_PROOF
            assert self.judge("sessauth_proof_AAAA!") is Reason.BAD_PROOF
            assert self.judge(b"", skip_proof=True) is Reason.ALLOWED

    def together(self, count: int) -> None:
        """Batches, in process and on the wire, some of them ended by a caller's mistake."""
        made = (self.seen, self.text, self.wrong, b"")
        calls = [(TOKEN, "read", "files/a.txt", b"", b"", b"", "", (), proof) for proof in made]
        mistaken = [*calls, (*calls[0][:8], 7)]
        items = [
            pb.CheckItem(token=TOKEN, action=b"read", resource=b"files/a.txt", proof=proof)
            for proof in (self.seen, self.text.encode(), self.wrong)
        ]
        data = pb.CheckBatchRequest(items=items).SerializeToString()
        for _ in range(count // 8):
            assert not self.verifier._check_batch(calls, now_ms=NOW).all_allowed
            with pytest.raises(TypeError):
                self.verifier._check_batch(mistaken, now_ms=NOW)
            asking = CheckMessage(self.verifier, data, "batch")
            asking.judge(AUDIENCE, now_ms=NOW)
            asking.judge(AUDIENCE, now_ms=NOW, consume_nonce=False)

    def replaced(self, count: int) -> None:
        """Keys that are replaced between checks, and some that are refused."""
        for _ in range(count // 40):
            self.verifier.proofs = ProofKeys(HOST, KEYS, self.table)
            assert self.judge(self.seen) is Reason.REPLAYED
            with pytest.raises(ValueError, match="two verifier keys"):
                ProofKeys(HOST, KEYS * 3, self.table)
        self.verifier.proofs = self.keys

    def opened(self, count: int) -> None:
        """Openings of the table, and of what is none."""
        for _ in range(count // 40):
            assert ReplayTable.open(self.path).slots == 1 << 12
            with pytest.raises(TableError):
                ReplayTable.open(self.path.parent / "none")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    """Return the shared objects of these tests."""
    return Given(tmp_path_factory.mktemp("table"))


@pytest.mark.parametrize("way", ["one_by_one", "together", "replaced", "opened"])
def test_nothing_is_kept_of_proofs(given: Given, way: str) -> None:
    """Calls leak no references, blocks, heap memory or open files."""
    run: Callable[[int], None] = getattr(given, way)
    run(3000)
    gc.collect()
    counted = {name: sys.getrefcount(thing) for name, thing in vars(given).items()}
    files = descriptors()
    grown = growth(lambda: run(CALLS), FEW, FEW_BYTES)
    found = {name: sys.getrefcount(thing) for name, thing in vars(given).items()}

    assert {n: c for n, c in found.items() if abs(c - counted[n]) > FEW // 100} == {}
    assert grown.blocks < FEW
    assert grown.heap_bytes < FEW_BYTES
    assert descriptors() - files < FEW // 100
