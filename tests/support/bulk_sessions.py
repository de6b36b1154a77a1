"""Many sessions and many one-off tokens of them, made fast enough to flood a cache with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sessauth._fast._check import Checker, Decision, View
from tests.oracle.crypto import signed_bytes
from tests.oracle.model import OracleRequest
from tests.oracle.scope_reader import read_scope
from tests.oracle.wire import encode
from tests.support.compare import judge_request
from tests.support.token_forger import assemble, id16
from tests.support.vector_files import read_view, write_scope
from tests.support.view_source import MemorySource
from tests.vectors.world import EXPIRES, ISSUER, NOW, VIEWS, ask, link, root

_SESSION, _TOKEN = b"\x01" * 16, b"\x02" * 16
_PAYLOAD = encode(
    "Block", link(root("read:files/**", root_fields={"session_id": _SESSION, "token_id": _TOKEN}))[0]
)
_UNSIGNED = assemble([_PAYLOAD], [bytes(64)])


def name(number: int) -> bytes:
    """The id of an extra session."""
    return id16(f"crowd {number}")


def source(view: str = "plain", extra: int = 0) -> MemorySource:
    """A source with a view of the vectors, and so many extra sessions beside them."""
    record = dict(VIEWS[view])
    more = [{"id_hex": name(i).hex(), "status": "ACTIVE", "expires_at_ms": EXPIRES} for i in range(extra)]
    record["sessions"] = [*record["sessions"], *more]
    made = MemorySource()
    made.load(*read_view(record))
    return made


def checker(view: str = "plain", extra: int = 0, **options: Any) -> Checker:
    """A checker on such a source."""
    return Checker(View(source(view, extra)), **options)


def observing(*ceiling: str) -> View:
    """The vectors' plain state, with a session whose ceiling is in observe mode."""
    layer = [write_scope(read_scope(scope)) for scope in ceiling]
    session = {**VIEWS["plain"]["sessions"][0], "ceilings": [layer], "observe": True}
    made = MemorySource()
    made.load(*read_view({**VIEWS["plain"], "sessions": [session]}))
    return View(made)


def tokens(session_id: bytes, count: int, first: int = 0) -> Iterator[bytes]:
    """Sealed roots of a session, each with its own token id, that permit to read files."""
    for number in range(first, first + count):
        payload = _PAYLOAD.replace(_SESSION, session_id).replace(_TOKEN, number.to_bytes(16, "big"))
        signature = ISSUER.sign(signed_bytes(0, bytes(64), payload))
        yield _UNSIGNED.replace(_PAYLOAD, payload).replace(bytes(64), signature)


def judge(judge_by: Checker, token: bytes, request: OracleRequest | None = None, **options: Any) -> Decision:
    """Judge a request, by default one that the tokens above permit."""
    decision: Decision = judge_request(judge_by, token, request or ask(), **{"now_ms": NOW, **options})
    return decision


def all_allowed(judge_by: Checker, presented: Sequence[bytes]) -> bool:
    """Return True if each token is allowed."""
    return all(judge(judge_by, token).allowed for token in presented)
