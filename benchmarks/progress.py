"""The time that a run still takes, by what its modules took before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks import results_file
from benchmarks.registry import SERIES, STAGES


def expected(previous: Path, *, quick: bool) -> dict[str, float]:
    """Return the seconds of each module: of the previous results file, else of the registry."""
    stated = {name: float(each.quick if quick else each.full) for name, each in {**STAGES, **SERIES}.items()}
    try:
        measured = results_file.read(previous).seconds
    except results_file.WrongDocument:
        measured = {}
    return {name: measured.get(name, seconds) for name, seconds in stated.items()}


class Progress:
    """Modules of a run: what each took in s, and before each how long it and the others take."""

    def __init__(
        self, seconds_by_module: Mapping[str, float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin; without expected seconds nothing is printed."""
        self._expected = dict(seconds_by_module)
        self._clock = clock
        self.seconds: dict[str, float] = {}

    @contextmanager
    def module(self, name: str) -> Iterator[None]:
        """Print what is left before a module, and note its seconds when it is done."""
        if self._expected:
            left = sum(seconds for each, seconds in self._expected.items() if each not in self.seconds)
            print(f"\n{name.removeprefix('benchmarks.')}: {_words(left)} left", flush=True)
        begun = self._clock()
        yield
        self.seconds[name] = round(self._clock() - begun, 1)


def _words(seconds: float) -> str:
    return f"about {seconds:.0f} s" if seconds < 100 else f"about {seconds / 60:.0f} min"
