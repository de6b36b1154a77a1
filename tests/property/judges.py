"""Oracle and kernel side by side over the batches of the generator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from sessauth._fast._check import Checker, View
from tests.oracle.check import check, first_bad_signature
from tests.oracle.decode import Refused, decode_token
from tests.oracle.model import Chain, OracleDecision, OracleView
from tests.property.generator import Batch, Case
from tests.support.compare import kernel_decision
from tests.support.view_source import MemorySource


@lru_cache(maxsize=256)
def _decoded(token: bytes) -> Chain | Refused:
    try:
        return decode_token(token)
    except Refused as refused:
        return refused


def remembered(token: bytes) -> Chain:
    """Stage ``decode`` of the oracle, remembered by the token's bytes."""
    found = _decoded(token)
    if isinstance(found, Refused):
        # The same object each time: it does not keep every place that it was raised at.
        raise found.with_traceback(None)
    return found


def chain_of(token: bytes) -> Chain | None:
    """The chain of a token that stage ``decode`` of the oracle lets pass, or None."""
    found = _decoded(token)
    return None if isinstance(found, Refused) else found


# A chain is hashed by identity here: ``remembered`` gives the same object for the same bytes.
def _signature_memory() -> Callable[[Chain, bytes], int]:
    memory: dict[tuple[int, bytes], tuple[Chain, int]] = {}

    def bad_signature(chain: Chain, public_key: bytes) -> int:
        mark = (id(chain), public_key)
        known = memory.get(mark)
        # The chain is kept beside the answer, so its id is not taken by another one.
        if known is None or known[0] is not chain:
            if len(memory) > 512:
                memory.clear()
            known = memory[mark] = (chain, first_bad_signature(chain, public_key))
        return known[1]

    return bad_signature


_bad_signature = _signature_memory()


def oracle(case: Case, view: OracleView) -> OracleDecision:
    """The oracle's answer; decoding and signatures of a chain are done once."""
    return check(case.token, case.request, view, case.now_ms, decode=remembered, bad_signature=_bad_signature)


@dataclass
class Kernel:
    """One kernel over one source whose rows change from batch to batch, as in a running verifier."""

    source: MemorySource = field(default_factory=MemorySource)
    checker: Checker = field(init=False)

    def __post_init__(self) -> None:
        self.checker = Checker(View(self.source))

    def load(self, batch: Batch) -> None:
        """Let the view be that of the batch."""
        self.source.load(batch.view, batch.ceilings)

    def __call__(self, case: Case) -> OracleDecision:
        """The kernel's answer."""
        return kernel_decision(self.checker, case.token, case.request, case.now_ms)


@dataclass
class Tally:
    """Counts and disagreements of a run."""

    cases: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    disagreements: list[str] = field(default_factory=list)

    def note(self, batch_number: int, case: Case, theirs: OracleDecision, ours: OracleDecision | str) -> None:
        """Count a case, and describe it if the two differ."""
        self.cases += 1
        self.reasons[theirs.reason.name] += 1
        if ours != theirs:
            self.disagreements.append(
                f"batch {batch_number}: oracle {theirs}, kernel {ours}, now {case.now_ms}, {case.request}, "
                f"token {case.token.hex()}"
            )
