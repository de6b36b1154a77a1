"""h2load, driven as the benchmarks do.

It has no option for a client certificate, nor for headers from a file: a library that is preloaded adds both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.support.interop_server import CHECK, SPIFFE, TRANSPORTS, InteropServer
from tests.support.issuer import CLIENT, Issued

BENCHMARKS = "benchmarks.service"
CALLS = 4_000


@pytest.fixture
def generator(tmp_path: Path) -> Any:
    """h2load with the library that is preloaded."""
    h2load = pytest.importorskip(f"{BENCHMARKS}.h2load", reason="needs the source tree's benchmarks")
    try:
        return h2load.H2load.prepare(tmp_path)
    except h2load.NotUsable as error:
        pytest.skip(str(error))


@pytest.fixture
def call(generator: Any) -> Callable[[InteropServer, str], Any]:
    """Describe a check that is allowed, and the length of its answer."""
    from benchmarks.service.certificate import Certificate
    from benchmarks.service.driver import answer
    from benchmarks.service.load_spec import Call, Target
    from benchmarks.service.processes import Server
    from benchmarks.service.server_home import require_allowed

    def describe(served: InteropServer, transport: str) -> Any:
        target = Target(served.target(transport))
        if transport == "tls":
            client = Certificate(served.home / "client.pem", served.home / "client.key")
            target = replace(target, certificate=served.home / "ca.pem", client=client)
        server = Server(target.address, (served.worker(),))
        credential = "" if transport == "tls" else served.credential
        made = Call(server, (target,), CHECK, (served.check(),), require_allowed, credential)
        return replace(made, answer_bytes=len(answer(made)))

    return describe


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_h2load_gets_all_answers(
    generator: Any,
    call: Callable[[InteropServer, str], Any],
    server: InteropServer,
    tls_server: InteropServer,
    transport: str,
) -> None:
    """4,000 checks on 4 connections with 64 streams each: the answers are as long as so many allows."""
    from benchmarks.service.load_spec import Load

    described = call(tls_server if transport == "tls" else server, transport)
    assert generator.drive(described, Load(4, 64), CALLS).calls == CALLS


def test_h2load_without_the_right_certificate_gets_no_answer(
    generator: Any, call: Callable[[InteropServer, str], Any], tls_server: InteropServer
) -> None:
    """None, and one of another CA: no call is judged."""
    from benchmarks.service.certificate import Certificate
    from benchmarks.service.load_spec import Load
    from benchmarks.workloads import WrongDecision

    described = call(tls_server, "tls")
    (target,) = described.targets
    gateway = [x509.UniformResourceIdentifier(SPIFFE)]
    tls_server.write_pair("of-another-ca", Issued.ca("ca").issue("gw", gateway, usage=CLIENT))
    wrong = Certificate(*(tls_server.home / f"of-another-ca.{end}" for end in ("pem", "key")))
    before = tls_server.decisions()
    for client in (None, wrong):
        refused = replace(described, targets=(replace(target, client=client),))
        with pytest.raises(WrongDecision, match="256 calls, 0 succeeded"):
            generator.drive(refused, Load(4, 64), 256)
    assert tls_server.decisions() == before
