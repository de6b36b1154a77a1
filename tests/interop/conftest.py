from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from sessauth.errors import ConfigError
from sessauth.server.keys.credentials import CredentialFile
from sessauth.server.transport.requirements import require_libraries
from tests.support import token_sorts
from tests.support.interop_server import TRANSPORTS, InteropServer, interop_server
from tests.support.loop_and_threads import BothServers, Client, loop_and_threads
from tests.support.recorded_answers import RecordedAnswers

# Gateways by name, and the audiences that each may check for.
GATEWAYS = {"gw-1": ("gw",), "gw-2": ("gw", "other"), "gw-3": (), "gw-4": ("other",)}


@pytest.fixture(scope="session")
def library() -> None:
    """Skip a test where libnghttp2 is missing."""
    try:
        require_libraries()
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def both(library: None) -> Iterator[BothServers]:
    """Two servers, each of which lets a peer cause any number of failed signatures."""
    limits = {"failed_signatures_burst": 1_000_000, "check_threads": 4}
    with loop_and_threads(limits=limits) as servers:
        yield servers


@pytest.fixture(scope="module")
def credentials(both: BothServers) -> dict[str, str]:
    """The credentials of gateways and of an auditor, by name."""
    file = CredentialFile(both.service.made.state_dir / "credentials.toml")
    made = {name: file.add(name, "gateway", audiences) for name, audiences in GATEWAYS.items()}
    made["auditor"] = file.add("auditor", "auditor")
    # A server looks at the file at most once in 200 ms.
    time.sleep(0.25)
    return made


@pytest.fixture(scope="module")
def clients(both: BothServers, credentials: dict[str, str]) -> dict[str, Client]:
    """The clients of both servers, by name."""
    return {name: both.client(credential) for name, credential in credentials.items()}


@pytest.fixture(scope="module")
def values(both: BothServers) -> dict[str, list[bytes]]:
    """Values to fill requests with."""
    return token_sorts.request_values(both.service.operator)


@pytest.fixture(scope="session")
def server(library: None) -> Iterator[InteropServer]:
    """A worker on a Unix socket and TCP."""
    with interop_server() as running:
        yield running


@pytest.fixture(scope="session")
def tls_server(library: None) -> Iterator[InteropServer]:
    """A worker on a Unix socket and TLS, which knows a gateway by its certificate."""
    with interop_server(tls=True) as running:
        yield running


@pytest.fixture
def recorded(request: pytest.FixtureRequest) -> RecordedAnswers:
    """The recorded ends of the test's calls."""
    return RecordedAnswers(request.node.name)


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """Each way to reach a worker."""
    return str(request.param)


@pytest.fixture
def served(transport: str, server: InteropServer, tls_server: InteropServer) -> InteropServer:
    """The server of the transport."""
    return tls_server if transport == "tls" else server
