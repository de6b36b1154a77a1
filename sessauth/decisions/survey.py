"""Surveys: which of many calls a token could make now (docs/token-format.md, section 9.12).

A verdict is no decision: it helps to choose calls, and each call is still checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, overload

from ..reasons import Reason, Stage, SurveyVerdict
from ..scopes.value import Arguments


class Candidate(NamedTuple):
    """A possible call. ``arguments`` of None means any arguments.

    ``arguments`` and ``tool`` are given as to ``Verifier.check``.
    """

    action: str | bytes
    resource: str | bytes
    arguments: Arguments | None = None
    tool: Arguments = b""


@dataclass(frozen=True, slots=True)
class Verdicts(Sequence[SurveyVerdict]):
    """One verdict for each candidate, in their order, by one state and one time.

    If the token itself is refused, all are NO for ``reason`` at ``stage``; else these are ALLOWED and NONE.
    ``revision`` is that of the state. ``bool(verdicts)`` is True if every one is YES.
    """

    verdicts: tuple[SurveyVerdict, ...]
    reason: Reason
    stage: Stage
    revision: int

    def __len__(self) -> int:
        """Return the number of candidates."""
        return len(self.verdicts)

    @overload
    def __getitem__(self, index: int) -> SurveyVerdict: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[SurveyVerdict, ...]: ...
    def __getitem__(self, index: int | slice) -> SurveyVerdict | tuple[SurveyVerdict, ...]:
        """Return the verdict of a candidate, or of several."""
        return self.verdicts[index]

    def __iter__(self) -> Iterator[SurveyVerdict]:
        """Iterate over the verdicts."""
        return iter(self.verdicts)

    def __bool__(self) -> bool:
        """Return True if the token is valid and every verdict is YES."""
        return self.reason == Reason.ALLOWED and all(self.verdicts)
