"""Ends of calls on gRPC's own server, recorded with grpcio 1.85.3: what ours is held to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from tests.support.loop_and_threads import LOOP, Client, Outcome

FILE: Final = Path(__file__).parents[1] / "interop" / "grpcio_answers.json"


class RecordedAnswers:
    """The recorded ends of the calls of one test, in their order."""

    def __init__(self, test: str) -> None:
        """Read those of ``test``."""
        recorded = json.loads(FILE.read_text("utf-8"))
        self._expected = iter([recorded["ends"][number] for number in recorded["calls"][test]])

    def assert_same(self, client: Client, rpc: str, *requests: bytes, **options: Any) -> Outcome:
        """Call the server, and hold that the call ends as recorded; returns the outcome."""
        outcome = client.on(LOOP, rpc, *requests, **options)
        found = {
            "code": outcome.code,
            "message": outcome.message,
            "details": outcome.details.hex(),
            "trailers": [list(entry) for entry in outcome.metadata],
            # The answers themselves differ from run to run.
            "answers": len(outcome.answers),
        }
        assert found == next(self._expected)
        return outcome
