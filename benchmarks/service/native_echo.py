"""The floor of a call to the native server: the same event loop, with a constant in place of a check.

    python -m benchmarks.service.native_echo --module FOLDER --socket PATH

``FOLDER`` holds the compiled ``_native_echo.pyx``. A method names the number of bytes of its answer, as those
of the grpcio echo do: ``Unary100``. Credentials are ignored. A call whose message is late is answered by a
thread, as in the product. Serves until SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import floors
from benchmarks.service.grpcio_echo import METHOD, unary
from sessauth._fast._codec import DirectCaller, DirectMethod
from sessauth.server.rpc import pool
from sessauth.server.rpc.pool import PoolShare
from sessauth.server.sections import LimitSettings
from sessauth.server.transport.native import (
    NativeServer,
    Receiving,
    bind_unix,
)
from sessauth.server.transport.rpc import Plan, Rpc
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.writer.state_writer import StateWriter
from sessauth.verifier.verifier import Verifier

SOURCE: Final = Path(__file__).with_name("_native_echo.pyx")
# The answer to a batch of 256 has some 24,000.
MAX_ANSWER_BYTES: Final = 32_768


class Echo:
    """Finds the constant of a method. It stands where the product finds callers of checks."""

    def __init__(self, module: Any, verifier: Verifier, share: PoolShare, receiving: Receiving) -> None:
        """Answer by ``module``, or in the pool of ``share``; the verifier has no work."""
        self._caller = module.EchoCaller
        self._method = DirectMethod("check", verifier, lambda decision, token: "")
        self._share = share
        self._receiving = receiving

    @property
    def paths(self) -> Sequence[bytes]:
        """The full names of the methods."""
        return [unary(size).encode() for size in range(MAX_ANSWER_BYTES)]

    def admit(
        self, path: bytes, authorization: bytes | None, facts: Mapping[str, Sequence[bytes]] | None
    ) -> DirectCaller:
        """Return the caller of a method, whoever calls."""
        parts = METHOD.fullmatch(path.decode())
        assert parts is not None
        caller: DirectCaller = self._caller(self._method, (), os.urandom(int(parts[2])))
        return caller

    def generation(self) -> int:
        """Return 0: callers do not change."""
        return 0

    def accept(self, rpc: Rpc) -> None:
        """Answer a call that was not answered on the loop."""
        parts = METHOD.fullmatch(rpc.method)
        if parts is None:
            rpc.unimplemented()
            return
        reply = os.urandom(int(parts[2]))

        def answer(rpc: Rpc, message: bytes | None) -> None:
            rpc.answer(reply)

        def refuse(rpc: Rpc, error: Exception) -> None:
            rpc.refused = True
            rpc.refuse(error)

        rpc.plan = Plan(self._share, False, answer, refuse, self._receiving.deliver)
        self._receiving.begin(rpc)


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service.native_echo", description=__doc__)
    parser.add_argument("--module", type=Path, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.module) as folder:
        StateWriter.open(Path(folder) / "state", create=True).close()
        reader = StateReader.open(Path(folder) / "state")
        opened = pool.open_pools(LimitSettings())
        receiving = Receiving(LimitSettings().receive_ms)
        verifier = Verifier(reader, audience="echo")
        module = floors.load(options.module, SOURCE)
        echo = Echo(module, verifier, PoolShare(opened[pool.CHECK]), receiving)
        server = NativeServer(
            echo.accept,
            receiving,
            slow_reader_seconds=LimitSettings().slow_reader_ms / 1000,
            direct=echo,
        )
        bind_unix(server, options.socket)
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        server.start()
        stop.wait()
        server.stop(1).wait()
        opened.close()
        reader.close()


if __name__ == "__main__":
    main()
