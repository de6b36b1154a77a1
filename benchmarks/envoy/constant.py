"""An authorizer whose every answer is one constant, from the same event loop: Envoy's own share of the cost.

    python -m benchmarks.envoy.constant --module FOLDER --socket PATH

``FOLDER`` holds the compiled ``_native_echo.pyx``. Serves until SIGTERM.
"""

from __future__ import annotations

import argparse
import signal
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import floors
from benchmarks.service.native_echo import SOURCE
from sessauth._fast._codec import DirectCaller, DirectMethod
from sessauth.gateways.extauthz.authorizer import CHECK, pass_with
from sessauth.server.transport.native import (
    NativeServer,
    Receiving,
    bind_unix,
)
from sessauth.server.transport.rpc import Rpc
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.writer.state_writer import StateWriter
from sessauth.verifier.verifier import Verifier


class Constant:
    """One caller for everybody. It stands where the product has the authorizer."""

    def __init__(self, module: Any, verifier: Verifier) -> None:
        """Answer by ``module``; the verifier has no work."""
        method = DirectMethod("check", verifier, lambda decision, token: "")
        self._caller: DirectCaller = module.EchoCaller(method, (), pass_with(bytes(16), bytes(16)))

    @property
    def paths(self) -> Sequence[bytes]:
        """The full name of Envoy's RPC."""
        return (CHECK.encode(),)

    def admit(
        self, path: bytes, authorization: bytes | None, facts: Mapping[str, Sequence[bytes]] | None
    ) -> DirectCaller:
        """Return the caller."""
        return self._caller

    def generation(self) -> int:
        """Return 0: the caller does not change."""
        return 0


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.envoy.constant", description=__doc__)
    parser.add_argument("--module", type=Path, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.module) as folder:
        StateWriter.open(Path(folder) / "state", create=True).close()
        reader = StateReader.open(Path(folder) / "state")
        constant = Constant(floors.load(options.module, SOURCE), Verifier(reader, audience="constant"))
        server = NativeServer(
            Rpc.unimplemented,
            Receiving(2_000),
            slow_reader_seconds=10.0,
            direct=constant,
        )
        bind_unix(server, options.socket)
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        server.start()
        stop.wait()
        server.stop(1).wait()
        reader.close()


if __name__ == "__main__":
    main()
