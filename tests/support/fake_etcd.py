"""A gRPC server at etcd's paths that answers as a test says, for answers that etcd itself does not give."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from sessauth.carriers.etcd.v1 import etcd_pb2 as pb

# What one call is answered with: bytes, a status with its details, or nothing until the test ends.
Answer = bytes | tuple[grpc.StatusCode, str] | None


def header(revision: int = 9) -> pb.ResponseHeader:
    """Return a header as etcd has it."""
    return pb.ResponseHeader(cluster_id=7, member_id=1, revision=revision, raft_term=2)


class FakeEtcd:
    """A member whose answers are set by path; the last one is given again and again."""

    def __init__(self) -> None:
        """Listen."""
        self.answers: dict[str, list[Answer | Callable[[bytes], Answer]]] = defaultdict(list)
        self.requests: list[tuple[str, bytes]] = []
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(16)
        self._server = grpc.server(self._pool, options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers([_Paths(self)])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def answer(self, path: str, data: bytes, context: grpc.ServicerContext) -> bytes:
        """Return the next answer of a path."""
        self.requests.append((path, data))
        stated = self.answers[path]
        found = stated.pop(0) if len(stated) > 1 else stated[0] if stated else None
        answer = found(data) if callable(found) else found
        if answer is None:
            self._over.wait(20)
            return b""
        if isinstance(answer, tuple):
            context.abort(*answer)
        return answer

    def close(self) -> None:
        """End."""
        self._over.set()
        self._server.stop(0).wait()
        self._pool.shutdown()


class _Paths(grpc.GenericRpcHandler):
    def __init__(self, fake: FakeEtcd) -> None:
        self._fake = fake

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        path = handler_call_details.method
        return grpc.unary_unary_rpc_method_handler(
            lambda data, context: self._fake.answer(path, data, context),
            request_deserializer=bytes,
            response_serializer=bytes,
        )


@contextmanager
def fakes(number: int) -> Iterator[list[FakeEtcd]]:
    """Run members that know nothing of each other."""
    made = [FakeEtcd() for _ in range(number)]
    try:
        yield made
    finally:
        for fake in made:
            fake.close()
