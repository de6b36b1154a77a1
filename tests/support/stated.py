"""Statements of callers, true and forged, sent to a server as another host of its cluster sends them."""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b
from typing import Any

import grpc

from sessauth.crypto.keys import MessageKey
from sessauth.model.host import SERVER_PREFIX, CallerStatement, new_statement_id
from sessauth.server.cluster.membership import server_key_file
from sessauth.server.rpc.access import STATEMENT
from tests.support.cluster_servers import ClusterServer
from tests.support.service import SHORT, Caller


class Stating:
    """States callers to ``leader`` as ``host`` does, or as it never would."""

    def __init__(self, host: ClusterServer, leader: ClusterServer) -> None:
        """Sign with the key of ``host``."""
        from sessauth.model.host import ServerKey

        self.host, self.leader = host, leader
        self.key: MessageKey = ServerKey.load(server_key_file(host.config))
        self.name = SERVER_PREFIX + host.config.cluster.name
        self.caller = Caller(leader.config.tcp.address)

    def statement(self, rpc: str, request: Any, **fields: Any) -> CallerStatement:
        """Return a good statement of an operator, with some fields replaced."""
        membership, log = self.leader.control.membership, self.leader.control.writer
        assert membership is not None and membership.carried.leader is not None
        good = CallerStatement(
            log.head().cluster_id,
            self.name,
            membership.carried.leader.term,
            SHORT.get(rpc, rpc) if rpc.startswith("/") else f"/sessauth.v1.{rpc}",
            blake2b(request.SerializeToString(), digest_size=32).digest(),
            "ann",
            "operator",
            (),
            log.now_ms(),
            new_statement_id(),
        )
        return replace(good, **fields)

    def send(
        self,
        rpc: str,
        request: Any,
        statement: CallerStatement | bytes,
        *,
        key: MessageKey | None = None,
        more: tuple[tuple[str, Any], ...] = (),
        caller: Caller | None = None,
    ) -> Any:
        """Call with a signed statement, or with bytes in its place. Raises RpcError."""
        if isinstance(statement, CallerStatement):
            statement = statement.signed_by(key or self.key).encode()
        return send_statement(caller or self.caller, rpc, request, statement, more)

    def close(self) -> None:
        """Close the channel."""
        self.caller.close()


def send_statement(
    caller: Caller, rpc: str, request: Any, encoded: bytes, more: tuple[tuple[str, Any], ...] = ()
) -> Any:
    """Call an RPC with a statement in the metadata. Raises RpcError."""
    return caller.call(f"/sessauth.v1.{rpc}", request, metadata=((STATEMENT, encoded), *more))


UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
