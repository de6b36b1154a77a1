"""The real kernel as the judge: sessions with these ceilings, and their calls checked by a verifier."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks.grants.calls import Call, Server
from benchmarks.state_setup import write
from benchmarks.tokens import AUDIENCE, HOUR_MS, mint
from sessauth.crypto.keys import IssuerKey, KeyStatus
from sessauth.model.change import Change, add_key, open_session
from sessauth.model.session import Fact
from sessauth.scopes.scope import Scope
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.writer.state_writer import StateWriter
from sessauth.tokens.token import Issuer
from sessauth.verifier.verifier import Verifier

# No call fits it: a session whose suggestion is empty.
_NOTHING: Final = "none:nothing"


class Judge:
    """Opens a session for each list of scopes, and then asks a verifier about calls.

    First all sessions are added, then :meth:`open`, then calls are judged.
    """

    def __init__(self) -> None:
        self._source = random.Random(0)
        self._key = IssuerKey(self._source.randbytes(32))
        self._changes: list[Change] = [add_key("key", self._key.public_key, status=KeyStatus.ACTIVE)]
        self._tokens: dict[int, bytes] = {}
        self._ids: list[bytes] = []
        self.checks = 0

    def add(self, scopes: Sequence[Scope], facts: dict[str, str]) -> int:
        """Take a session whose ceiling is ``scopes``; return its number."""
        session_id = self._source.randbytes(16)
        self._changes.append(
            open_session(
                f"open-{len(self._ids)}",
                session_id,
                [dict(scope.to_record()) for scope in scopes or [Scope.parse(_NOTHING)]],
                subject="agent",
                purpose="judged",
                owner="bench",
                facts=[Fact(name, value) for name, value in facts.items()],
                labels={},
                ttl_ms=6 * HOUR_MS,
            )
        )
        self._ids.append(session_id)
        return len(self._ids) - 1

    def open(self) -> Iterator[None]:
        """Write the sessions and open a verifier until the generator is closed."""
        with tempfile.TemporaryDirectory(prefix="sa-grants-") as folder:
            state = Path(folder) / "state"
            with StateWriter.open(state, create=True) as writer:
                for start in range(0, len(self._changes), 256):
                    write(writer, self._changes[start : start + 256])
            reader = StateReader.open(state)
            self._verifier = Verifier(reader, audience=AUDIENCE)
            issuer = Issuer(self._key)
            everything = ["read,write:mcp/** free *"]
            self._tokens = {n: mint(issuer, i, everything).data for n, i in enumerate(self._ids)}
            try:
                yield
            finally:
                reader.close()

    def allows(self, session: int, server: Server, call: Call) -> bool:
        """Return True if the verifier allows a call in a session."""
        action, resource, tool = server.catalogue.ask(call.tool)
        self.checks += 1
        token = self._tokens[session]
        return self._verifier.check(token, action, resource, call.encoded, tool=tool).allowed
