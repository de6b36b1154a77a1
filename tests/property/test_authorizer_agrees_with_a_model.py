"""Costs of calls, by the writer and by a plain model written from section 9.10 alone."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessauth.errors import Rejected
from sessauth.reasons import Reason
from tests.support.writer_fixture import WriterFixture

RESOURCES = ("doc/1", "doc/2", "other")
PATTERNS = {
    "doc/1": ("doc/1",),
    "doc/*": ("doc/1", "doc/2"),
    "**": RESOURCES,
}
COSTS = (None, -1, 0, 1, 3)


@dataclass(frozen=True)
class Row:
    """One scope: what it matches, and what it needs. ``limit`` 0: no budget, ``uses`` 0: no such limit."""

    pattern: str
    uses: int = 0
    limit: int = 0
    name: str = "a"

    @property
    def text(self) -> str:
        """The scope in text."""
        needs = [f"uses({self.uses})"] * bool(self.uses)
        needs += [f'budget("{self.name}", {self.limit}, cost)'] * bool(self.limit)
        return f"read:{self.pattern} free *" + (f" needs {', '.join(needs)}" if needs else "")


@dataclass
class Model:
    """Amounts that were spent and amounts that permits hold."""

    uses: Counter[tuple[int, int]] = field(default_factory=Counter)
    spent: Counter[tuple[str, int]] = field(default_factory=Counter)
    held: list[tuple[dict[tuple[str, int], int], bool]] = field(default_factory=list)

    def reserved(self, ledger: tuple[str, int]) -> int:
        """Return the amount of a ledger that open permits hold."""
        return sum(amounts.get(ledger, 0) for amounts, is_open in self.held if is_open)

    def judge(
        self, blocks: list[tuple[Row, ...]], resource: str, cost: int | None, *, permit: bool
    ) -> Reason:
        """Judge a call as section 9.10 says, and take what it costs if it is allowed."""
        uses: list[tuple[int, int]] = []
        amounts: dict[tuple[str, int], int] = {}
        if not all(any(resource in PATTERNS[row.pattern] for row in rows) for rows in blocks):
            return Reason.OUT_OF_SCOPE
        for index, rows in enumerate(blocks):
            matching = [(n, row) for n, row in enumerate(rows) if resource in PATTERNS[row.pattern]]
            if any(not row.uses and not row.limit for _, row in matching):
                continue
            refusals = [self._refusal(index, n, row, cost) for n, row in matching]
            if Reason.ALLOWED not in refusals:
                return refusals[0]
            number, row = matching[refusals.index(Reason.ALLOWED)]
            if row.uses:
                uses.append((index, number))
            if row.limit:
                assert cost is not None
                amounts[self._ledger(index, row)] = cost
        self.uses.update(uses)
        if permit:
            self.held.append((amounts, True))
        else:
            self.spent.update(amounts)
        return Reason.ALLOWED

    def _refusal(self, block: int, number: int, row: Row, cost: int | None) -> Reason:
        if row.uses and self.uses[block, number] >= row.uses:
            return Reason.USES_EXHAUSTED
        if row.limit:
            if cost is None or cost < 0:
                return Reason.CONDITION_FAILED
            ledger = self._ledger(block, row)
            if self.spent[ledger] + self.reserved(ledger) + cost > row.limit:
                return Reason.BUDGET_EXHAUSTED
        return Reason.ALLOWED

    @staticmethod
    def _ledger(block: int, row: Row) -> tuple[str, int]:
        return row.name, block

    def settle(self, number: int, *, commit: bool) -> bool:
        """Close a permit; False if it is not open."""
        amounts, is_open = self.held[number]
        if is_open:
            self.held[number] = (amounts, False)
            if commit:
                self.spent.update(amounts)
        return is_open


rows = st.builds(
    Row,
    pattern=st.sampled_from(sorted(PATTERNS)),
    uses=st.sampled_from((0, 0, 1, 2, 3)),
    limit=st.sampled_from((0, 0, 2, 5)),
    name=st.sampled_from(("a", "b")),
)
# Blocks below the root match all that the root could, so that attenuation is never refused.
blocks_below = st.lists(rows, max_size=2).map(lambda some: (*some, Row("**", uses=3)))
chains = st.tuples(
    st.lists(rows, min_size=1, max_size=3).map(lambda some: (*some, Row("**", limit=5))),
    st.lists(blocks_below, max_size=2),
)
calls = st.tuples(st.just("check"), st.sampled_from(RESOURCES), st.sampled_from(COSTS), st.booleans())
settlements = st.tuples(st.sampled_from(("commit", "release")), st.integers(0, 5))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(chain=chains, steps=st.lists(st.one_of(calls, calls, settlements), max_size=30))
def test_the_writer_takes_what_the_document_says(chain: object, steps: list[tuple[object, ...]]) -> None:
    """Calls, commits and releases in any order: the same reasons, and in the end the same is left."""
    root, below = chain  # type: ignore[misc]
    model, permits = Model(), []
    with tempfile.TemporaryDirectory() as folder:
        writer = WriterFixture(Path(folder) / "state")
        try:
            token = writer.mint(*(row.text for row in root), ending="open")
            for some in below:
                token = token.attenuate(scopes=[row.text for row in some], ending="open")
            token = token.present()
            blocks = [root, *below]
            for step in steps:
                if step[0] == "check":
                    _, resource, cost, permit = step
                    arguments = b"{}" if cost is None else b'{"cost": %d}' % cost
                    ask = writer.ask(token, resource, arguments, permit_ms=60_000 if permit else 0)  # type: ignore[arg-type]
                    verdict = writer.decide(ask)
                    expected = model.judge(blocks, resource, cost, permit=permit)  # type: ignore[arg-type]
                    assert verdict.decision.reason is expected
                    assert bool(verdict.permit) is bool(permit and verdict.decision)
                    if verdict.permit:
                        permits.append((ask, verdict.permit))
                elif step[1] < len(permits):  # type: ignore[operator]
                    number: int = step[1]  # type: ignore[assignment]
                    ask, handle = permits[number]
                    if step[0] == "commit":
                        done = bool(writer.commit(ask, handle).decision)
                    else:
                        done = _released(writer, handle)
                    assert done is model.settle(number, commit=step[0] == "commit")
        finally:
            writer.close()


def _released(writer: WriterFixture, handle: bytes) -> bool:
    try:
        writer.release(handle)
    except Rejected:
        return False
    return True
