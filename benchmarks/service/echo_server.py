"""The floor of a call: the server's own transport and threads around a handler that does nothing.

    python -m benchmarks.service.echo_server --socket PATH [--tcp ADDRESS] [--tls ADDRESS CERTIFICATE KEY]

It is built from the same parts as the real server (channel options, pools, sockets, TLS) and leaves out what
is ours: routing, credentials, deadlines, messages and the check. A method names how many bytes its answer
has: ``Unary100`` answers a call with 100 bytes, ``Stream100`` each message of a stream. Serves until SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import threading
from pathlib import Path
from typing import Final

from sessauth.server.config.config import Config
from sessauth.server.config.sections import LimitSettings, TcpSettings
from sessauth.server.rpc import pools
from sessauth.server.rpc.listen import bind_tcp, bind_unix, options
from sessauth.server.rpc.pool import PoolShare
from sessauth.server.transport.loop import GrpcServer
from sessauth.server.transport.receiving import Receiving
from sessauth.server.transport.rpc import Plan, Rpc

SERVICE: Final = "/sessauth.bench.Echo/"
METHOD: Final = re.compile(rf"{re.escape(SERVICE)}(Unary|Stream)(\d{{1,8}})")


def unary(answer_bytes: int) -> str:
    """Return the method that answers a call with so many bytes."""
    return f"{SERVICE}Unary{answer_bytes}"


def stream(answer_bytes: int) -> str:
    """Return the method that answers each message of a stream with so many bytes."""
    return f"{SERVICE}Stream{answer_bytes}"


class Echo:
    """Takes calls; how those of a method go on is made when it is first called."""

    def __init__(self, opened: pools.PoolSet, receiving: Receiving) -> None:
        """Answer in the pools of the real server."""
        self._pools = opened
        self._receiving = receiving
        self._plans: dict[str, Plan] = {}

    def accept(self, rpc: Rpc) -> None:
        """Wait for the message of a call; end one of an unknown method."""
        plan = self._plans.get(rpc.method)
        if plan is None:
            found = METHOD.fullmatch(rpc.method)
            if found is None:
                rpc.unimplemented()
                return
            plan = self._plans[rpc.method] = self._made(found[1], os.urandom(int(found[2])))
        rpc.plan = plan
        self._receiving.begin(rpc)

    def _made(self, kind: str, reply: bytes) -> Plan:
        def answer(rpc: Rpc, message: bytes | None) -> None:
            rpc.answer(reply)

        def answers(rpc: Rpc, first: bytes | None) -> None:
            for _ in rpc.messages(first):
                rpc.send(reply, 10.0)
            rpc.finish()

        def refuse(rpc: Rpc, error: Exception) -> None:
            rpc.refused = True
            rpc.refuse(error)

        streams = kind == "Stream"
        share = PoolShare(self._pools[pools.STREAM if streams else pools.CHECK])
        return Plan(share, streams, answers if streams else answer, refuse, self._receiving.deliver)


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service.echo_server", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--tcp")
    parser.add_argument("--tls", nargs=3)
    asked = parser.parse_args()
    opened = pools.open_pools(LimitSettings())
    receiving = Receiving(LimitSettings().receive_ms)
    server = GrpcServer(Echo(opened, receiving).accept, receiving, options(reuse_port=False))
    bind_unix(server, asked.socket)
    if asked.tcp:
        bind_tcp(server, Config(tcp=TcpSettings(insecure_tcp=True)), asked.tcp)
    if asked.tls:
        address, certificate, private_key = asked.tls
        settings = TcpSettings(certificate=certificate, private_key=private_key)
        bind_tcp(server, Config(tcp=settings), address)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server.start()
    stop.wait()
    server.stop(1).wait()
    opened.close()


if __name__ == "__main__":
    main()
