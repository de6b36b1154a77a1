"""A CheckStream of which calls are watched, driven step by step over a real socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from tests.support.service import Caller, RpcError

# An answer takes milliseconds; on a busy machine more. Nothing asserts that it takes less.
ANSWER_SECONDS = 20.0


class Stream:
    """An open stream: what is asked on it, and what comes back, in order."""

    def __init__(self, caller: Caller, timeout: float = 120.0) -> None:
        """Open it."""
        self._requests: SimpleQueue[pb.CheckStreamRequest | None] = SimpleQueue()
        self._answers: SimpleQueue[pb.CheckStreamResponse | RpcError | None] = SimpleQueue()
        self.error: RpcError | None = None
        stub = caller.channel.stream_stream(
            "/sessauth.v1.AuthorizationService/CheckStream",
            request_serializer=pb.CheckStreamRequest.SerializeToString,
            response_deserializer=pb.CheckStreamResponse.FromString,
        )
        self.call: Any = stub(iter(self._requests.get, None), timeout=timeout, metadata=caller.metadata)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        import grpc

        from tests.support.service import read_error

        try:
            for answer in self.call:
                self._answers.put(answer)
        except grpc.RpcError as error:
            self._answers.put(read_error(error))
        else:
            self._answers.put(None)

    def send(self, number: int, item: pb.CheckItem, *, watch: bool = True, audience: str = "gw") -> None:
        """Ask about a call."""
        self._requests.put(pb.CheckStreamRequest(id=number, item=item, audience=audience, watch=watch))

    def next(self) -> pb.CheckStreamResponse:
        """Return the next answer or withdrawal; raises RpcError if the stream was refused or broke."""
        answer = self._answers.get(timeout=ANSWER_SECONDS)
        if isinstance(answer, RpcError):
            raise answer
        assert answer is not None, "the stream ended"
        return answer

    def ask(self, number: int, item: pb.CheckItem, **options: Any) -> pb.CheckStreamResponse:
        """Ask about a call and return what comes next, which is its answer unless something is taken back."""
        self.send(number, item, **options)
        answer = self.next()
        assert (answer.id, answer.withdrawn) == (number, False)
        return answer

    def allow(self, number: int, item: pb.CheckItem, **options: Any) -> None:
        """Ask about a call that is allowed."""
        answer = self.ask(number, item, **options)
        assert answer.decision.allowed, answer

    def withdrawn(self) -> tuple[int, int]:
        """Return id and reason of the next withdrawal."""
        answer = self.next()
        assert answer.withdrawn
        assert not answer.decision.allowed
        return answer.id, answer.decision.reason

    def silent(self, marker: pb.CheckItem, number: int = 1 << 40) -> bool:
        """True if nothing was sent: the next answer is that of a new call, whatever its decision."""
        self.send(number, marker, watch=False)
        return self.next().id == number

    def end_requests(self) -> None:
        """End the requests."""
        self._requests.put(None)

    def ended(self) -> bool:
        """True if the stream ends next, with status OK."""
        answer = self._answers.get(timeout=ANSWER_SECONDS)
        return answer is None

    def idle(self, seconds: float) -> bool:
        """True if nothing comes within ``seconds``."""
        try:
            answer = self._answers.get(timeout=seconds)
        except Empty:
            return True
        raise AssertionError(f"unexpected: {answer}")

    def close(self) -> None:
        """Cancel it."""
        self._requests.put(None)
        self.call.cancel()
        self._reader.join(ANSWER_SECONDS)


@contextmanager
def stream(caller: Caller, timeout: float = 120.0) -> Iterator[Stream]:
    """An open stream, cancelled at the end."""
    opened = Stream(caller, timeout)
    try:
        yield opened
    finally:
        opened.close()


def open_session(caller: Caller, ceiling: tuple[str, ...] = ("read,write:files/**",), **fields: Any) -> Any:
    """Open a session."""
    request = sessions.OpenSessionRequest(subject="agent-7", ceiling=ceiling, **fields)
    return caller.call("SessionService/OpenSession", request).session


def mint(
    caller: Caller, session_id: bytes, scope: str = "read:files/**", **fields: Any
) -> tokens.MintResponse:
    """Mint a sealed token for audience gw."""
    request = tokens.MintRequest(session_id=session_id, scopes=[scope], audience=["gw"], **fields)
    return caller.call("TokenService/Mint", request)


def item(token: str | bytes, **fields: Any) -> pb.CheckItem:
    """A call that reads files/a/x."""
    data = token.encode() if isinstance(token, str) else token
    return pb.CheckItem(**{"token": data, "action": b"read", "resource": b"files/a/x", **fields})


def end(caller: Caller, session_id: bytes) -> None:
    """End a session."""
    caller.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=session_id))
