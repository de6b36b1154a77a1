"""Tokens, a checker, its oracle and the callers of a loop that is fed any bytes."""

from __future__ import annotations

import dataclasses
import random
import time
from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from sessauth._fast import _check as kernel
from sessauth._fast._check import Checker, DecisionQueue, View
from sessauth._fast._codec import DirectCaller, DirectMethod
from tests.fuzz.http2_sessions import BATCH, CHECK, GOOD, OTHER
from tests.oracle import check as oracle
from tests.support.token_forger import make
from tests.support.vector_files import read_view
from tests.support.view_source import MemorySource
from tests.vectors.world import AUDIENCE, ISSUER, SESSION, VIEWS, ask, child, key, link, root

DAY: Final = 86_400_000
BEGUN: Final = time.time_ns() // 1_000_000
_TIMES: Final = {"issued_at_ms": BEGUN - DAY, "expires_at_ms": BEGUN + DAY}


class Broken(Exception):
    """An invariant does not hold."""


class Injected(Exception):
    """Raised by a callback on purpose."""


@cache
def tokens() -> list[bytes]:
    """Return valid tokens, and one that is signed by another."""
    blocks = (
        link(root("read:files/**", **_TIMES)),
        link(root("read:files/**", "write:logs/{x,y}", **_TIMES)),
        link(root("read:files/**", **_TIMES), child("read:files/a/*")),
    )
    signers = [ISSUER, key("next 0")]
    valid = [make(each, signers[: len(each)]) for each in blocks]
    return [*valid, make(blocks[0], [key("other")])]


class World:
    """A checker of those tokens, its oracle, and the callers of a loop."""

    def __init__(self, rng: random.Random) -> None:
        """Judge each token once: verified ones are cached."""
        view = read_view(VIEWS["plain"])
        source = MemorySource()
        source.load(*view)
        record = kernel.decode_message("SessionRecord", source.sessions[SESSION])
        record["expires_at_ms"] = BEGUN + DAY
        source.sessions[SESSION] = kernel.encode_message("SessionRecord", record)
        sessions = dict(view[0].sessions)
        sessions[SESSION] = dataclasses.replace(sessions[SESSION], expires_at_ms=BEGUN + DAY)
        self._view = dataclasses.replace(view[0], sessions=sessions)
        self.checker = Checker(View(source))
        self.checker.decision_queue = DecisionQueue(1 << 18)
        self._of_digest: dict[bytes, bytes] = {}
        for each in tokens():
            self.checker._check(each, b"read", b"files/a/b", b"", audience=AUDIENCE)
            (note,) = self.checker.decision_queue.drain()
            self._of_digest[bytes(note.token_digest)] = each
        self._rng = rng
        self._numbers = 1
        self._callers: dict[tuple[bytes, bytes], DirectCaller] = {}
        for path, kind in ((CHECK, "check"), (BATCH, "batch")):
            method = DirectMethod(kind, self.checker, self._explain)
            self._callers[path, GOOD] = DirectCaller(method, (AUDIENCE,), None)
            self._callers[path, OTHER] = DirectCaller(method, ("other",), None)
        self._judged: dict[tuple[bytes, bytes, bytes, str], bool] = {}

    def admit(
        self, path: bytes, authorization: bytes | None, facts: Mapping[str, Any] | None
    ) -> DirectCaller | None:
        """Return the caller of a credential."""
        del facts
        self._raise_rarely()
        return self._callers.get((path, authorization or b""))

    def generation(self) -> int:
        """Return a number that changes now and then."""
        self._raise_rarely()
        self._numbers += self._rng.random() < 0.02
        return self._numbers

    def _explain(self, decision: object, token: bytes) -> str:
        del decision, token
        self._raise_rarely()
        return "no" * self._rng.choice((0, 1, 200))

    def _raise_rarely(self) -> None:
        if self._rng.random() < 0.01:
            raise Injected

    def hold(self) -> Counter[str]:
        """Compare the decisions since the last time with the oracle's. Raises Broken."""
        found: Counter[str] = Counter()
        assert self.checker.decision_queue is not None
        for note in self.checker.decision_queue.drain():
            found["judged"] += 1
            if note.allowed:
                found["allowed"] += 1
                if not self._allows(note):
                    raise Broken(f"allowed: {note.action!r} {note.resource!r} for {note.audience!r}")
        return found

    def _allows(self, note: Any) -> bool:
        token = self._of_digest.get(bytes(note.token_digest))
        call_ = (token or b"", _bytes(note.action), _bytes(note.resource), str(note.audience))
        if call_ not in self._judged:
            request = ask(call_[1], call_[2], audience=call_[3])
            self._judged[call_] = bool(token) and oracle.check(call_[0], request, self._view, BEGUN).allowed
        return self._judged[call_]


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else bytes(text)


class Quiet:
    """Callers of one checker, without faults and without a record."""

    def __init__(self) -> None:
        """Admit one caller of Check."""
        self.checker = World(random.Random(1)).checker
        self.checker.decision_queue = None
        self.method = DirectMethod("check", self.checker, lambda decision, token: "no")
        self.caller = DirectCaller(self.method, (AUDIENCE,), None)

    def held(self) -> dict[str, Any]:
        """Return the objects whose references are counted."""
        return dict(vars(self))

    def admit(
        self, path: bytes, authorization: bytes | None, facts: Mapping[str, Any] | None
    ) -> DirectCaller | None:
        """Return the caller, whatever its credential."""
        del path, authorization, facts
        return self.caller

    def generation(self) -> int:
        """Return one number."""
        return 1
