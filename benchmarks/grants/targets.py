"""The targets of the default fit, in percent, on sessions and attacks that it never saw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from benchmarks.grants.cases import HIJACKED, LARGE, PURPOSE
from benchmarks.grants.measures import Counts
from sessauth.usage.tighten import Fit


@dataclass(frozen=True)
class Target:
    """The most of honest calls denied, honest sessions with a denial, and attacks possible when adapted.

    ``questions``: a session, where a person is asked about what is new. ``bound``: what fails the run where
    that is wider than the figure of the design; then ``reason`` says why.
    """

    calls: float = 0.0
    sessions: float = 0.0
    attacks: float = 0.0
    questions: float = 0.0
    bound: Target | None = None
    reason: str = ""


TARGETS: Final[Mapping[str, Target]] = {
    "3": Target(7, 28, 2),
    "15": Target(3.5, 17, 1, 0.25),
    PURPOSE: Target(
        *(2, 10, 1, 0.25),
        bound=Target(5, 22, 1, 0.25),
        reason="2.2 to 4.0 % and 9 to 17 % seed by seed: 100 sessions of 16 tasks leave calls that only one "
        "of them made, and those are not free",
    ),
    LARGE: Target(2, 10, 1, 0.25),
    HIJACKED: Target(attacks=2),
}


def missed(counts: Mapping[tuple[str, str], Counts]) -> list[str]:
    """Return a line for each target that the default fit misses, or that nothing was measured for."""
    lines = []
    for setting, target in TARGETS.items():
        found = counts.get((setting, Fit.KINDS.value))
        if found is None:
            lines.append(f"{setting}: not measured")
            continue
        lines += [f"{setting}: {words}" for words in _missed(target.bound or target, found)]
    return lines


def _missed(target: Target, found: Counts) -> Iterator[str]:
    attacks = found.attacks_tried(adapted=True)
    for word, value, of, most in (
        ("% of honest calls denied", found.calls_denied, found.calls, target.calls),
        ("% of honest sessions with a denial", found.sessions_hit, found.sessions, target.sessions),
        ("% of adapted attacks possible", found.attacks_possible(adapted=True), attacks, target.attacks),
        ("questions a session", found.questions, found.sessions, target.questions),
    ):
        if most and not of:
            yield f"{word}: not measured"
        elif most and value > most:
            yield f"{value:.2f} {word}, at most {most}"
