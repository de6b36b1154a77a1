"""Checks that find the state changed since the last one, each of them: what a changed state costs.

A commit takes far longer than a check, so one commit serves many verifiers of this process, whose views
have not seen it yet. Each makes one check. The floor is the same in a state that stands still.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import tokens
from benchmarks.floors import fresh
from benchmarks.measure import NotMeasured, Row
from benchmarks.state_setup import World, opening, write
from benchmarks.tokens import ARGUMENTS, AUDIENCE, RESOURCE, eight_scopes
from sessauth.crypto.keys import KeyStatus
from sessauth.model.change import add_key, update_facts
from sessauth.model.session import Fact
from sessauth.state.writer.state_writer import StateWriter
from sessauth.verifier.verifier import Verifier

VERIFIERS: Final = 256
CACHE_BYTES: Final = 1 << 18


class Moving:
    """A state of its own with one writer, and verifiers that look at it."""

    def __init__(self, folder: Path, world: World) -> None:
        """Open the folder, with the session that is asked about and another one."""
        self._writer = StateWriter.open(folder, create=True)
        self.asked, self.other = world.session_id, world.unknown_session_id
        key = world.key.public_key
        write(self._writer, [add_key("bench-key", key, status=KeyStatus.ACTIVE)])
        write(self._writer, [opening(self.asked), opening(self.other)])
        self.token = tokens.mint(world.issuer, self.asked, eight_scopes()).data
        self._numbers = itertools.count()

    def verifiers(self) -> list[Verifier]:
        """Return verifiers, each with a view and a cache of its own."""
        source = self._writer.source()
        return [Verifier(source, audience=AUDIENCE, cache_bytes=CACHE_BYTES) for _ in range(VERIFIERS)]

    def change(self, session_id: bytes) -> None:
        """Commit a change of a session's fact."""
        number = next(self._numbers)
        fact = Fact("case_id", f"T-{number}", True)
        write(self._writer, [update_facts(f"bench-{number}", session_id, set_facts=[fact])])

    def close(self) -> None:
        """Close the state."""
        self._writer.close()


class OneCheckEach:
    """One check by each verifier; before each block ``changing``, if there is one, changes."""

    def __init__(self, name: str, moving: Moving, changing: bytes = b"") -> None:
        """Look at nothing yet."""
        self.name = name
        self.calls = VERIFIERS
        self._moving = moving
        self._changing = changing
        self._verifiers = moving.verifiers()

    def prepare(self, count: int) -> Sequence[Any]:
        """Return a verifier and a fresh token for each check, at most one for each verifier."""
        for verifier in self._verifiers:
            if not verifier.check(fresh(self._moving.token), "read", RESOURCE, ARGUMENTS):
                raise NotMeasured(f"{self.name}: the call was denied")
        if self._changing:
            self._moving.change(self._changing)
        return [(each, fresh(self._moving.token)) for each in self._verifiers[:count]]

    def run(self, items: Sequence[Any]) -> None:
        """Check once by each."""
        for verifier, token in items:
            verifier.check(token, "read", RESOURCE, ARGUMENTS)


def rows(world: World, module: Any) -> Iterator[Row]:
    """Yield the rows: another session changed, and the very session of the calls."""
    moving = Moving(world.state_dir.with_name("moving"), world)
    try:
        still = OneCheckEach("floor/view-still", moving)
        yield Row(OneCheckEach("stage/view-moved", moving, moving.other), still)
        yield Row(OneCheckEach("stage/session-moved", moving, moving.asked), still)
    finally:
        moving.close()
