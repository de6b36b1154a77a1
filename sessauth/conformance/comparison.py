"""Comparison of a judge's answers with the right ones, counted by source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .program import JudgeFault
from .questions import Question

# A judge that never answers would have each question wait for its timeout.
MAX_FAULTS_IN_A_ROW: Final = 10


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A question with a wrong answer, or with none; ``fault`` is the cause of a missing one."""

    question: Question
    answer: Mapping[str, Any] | None
    fault: str = ""

    def differences(self) -> dict[str, tuple[Any, Any]]:
        """Return the expected and the given value of each member that differs."""
        if self.answer is None:
            return {}
        expected = self.question.expected
        return {
            name: (expected[name], self.answer[name])
            for name in expected
            if self.answer[name] != expected[name]
        }


@dataclass(slots=True)
class Outcome:
    """Result of a run, counted by source; ``stopped``: the rest was not asked."""

    questions: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    faults: int = 0
    stopped: bool = False

    @property
    def agreed(self) -> bool:
        """True if every question was asked, and every answer right."""
        return self.questions.total() > 0 and not self.wrong and not self.stopped


def compare(
    questions: Iterable[Question], judge: Callable[[Mapping[str, Any]], dict[str, Any]], outcome: Outcome
) -> Iterator[Disagreement]:
    """Ask each question, count into ``outcome``, and yield each disagreement as it happens.

    After ``MAX_FAULTS_IN_A_ROW`` questions without an answer nothing more is asked.
    """
    in_a_row = 0
    for question in questions:
        outcome.questions[question.source] += 1
        try:
            answer = judge(question.content)
        except JudgeFault as fault:
            outcome.wrong[question.source] += 1
            outcome.faults += 1
            in_a_row += 1
            yield Disagreement(question, None, str(fault))
            if in_a_row == MAX_FAULTS_IN_A_ROW:
                outcome.stopped = True
                return
            continue
        in_a_row = 0
        if answer != question.expected:
            outcome.wrong[question.source] += 1
            yield Disagreement(question, answer)
