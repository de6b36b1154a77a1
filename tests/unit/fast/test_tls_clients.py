"""Certificates of clients of the native event loop: verified for each connection."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from sessauth._fast._http2 import TlsContext
from tests.support.issuer import CLIENT, SERVER, Issued, rsa_key
from tests.support.tls_pair import (
    CA,
    PLAIN,
    SERVER_PAIR,
    V1_2,
    V1_3,
    assert_refused,
    assert_served,
    client_settings,
    connect,
    greet,
    wait,
)

SUB = CA.issue("sub", ca=True)
STRANGER = Issued.ca("ca")
MUTUAL = TlsContext(SERVER_PAIR.pem, SERVER_PAIR.key_pem, CA.pem)
BOTH = pytest.mark.parametrize("version", [V1_2, V1_3])
CLIENTS: dict[str, tuple[Issued, bytes]] = {
    "plain": (CA.issue("c"), b""),
    "for clients": (CA.issue("c", usage=CLIENT), b""),
    "RSA": (CA.issue("c", key=rsa_key()), b""),
    "with an intermediate": (SUB.issue("c"), SUB.pem),
}
NO_CLIENTS: dict[str, tuple[Issued, str]] = {
    "another CA's": (STRANGER.issue("c"), "certificate signature failure"),
    "signed by itself": (Issued.ca("c"), "self-signed certificate"),
    "expired": (CA.issue("c", days=(-3, -1)), "certificate has expired"),
    "of tomorrow": (CA.issue("c", days=(1, 2)), "certificate is not yet valid"),
    "for servers": (CA.issue("c", usage=SERVER), "unsuitable certificate purpose"),
    "without its intermediate": (SUB.issue("c"), "unable to get local issuer certificate"),
    "by one that is no CA": (SERVER_PAIR.issue("c"), "unable to"),
}


@BOTH
@pytest.mark.parametrize(("pair", "chain"), CLIENTS.values(), ids=CLIENTS.keys())
def test_a_client_is_known_by_its_certificate(version: ssl.TLSVersion, pair: Issued, chain: bytes) -> None:
    """The server has the DER of the leaf."""
    outcome = connect(MUTUAL, greet(client_settings(version=version, certificate=pair, chain=chain)))

    assert_served(outcome)
    assert outcome.peer_certificate == pair.der


@BOTH
@pytest.mark.parametrize(("pair", "reason"), NO_CLIENTS.values(), ids=NO_CLIENTS.keys())
def test_certificates_of_clients_are_verified(version: ssl.TLSVersion, pair: Issued, reason: str) -> None:
    """A certificate that does not verify ends the handshake, with an alert."""
    outcome = connect(MUTUAL, wait(client_settings(version=version, certificate=pair)))

    assert_refused(outcome, reason, "alert")
    assert outcome.peer_certificate == b""


@pytest.fixture(scope="module")
def grpcio() -> Iterator[int]:
    """A server of grpcio with the same certificates."""
    server = grpc.server(ThreadPoolExecutor(1))
    credentials = grpc.ssl_server_credentials([(SERVER_PAIR.key_pem, SERVER_PAIR.pem)], CA.pem, True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield port
    server.stop(None).wait()


@BOTH
@pytest.mark.parametrize("name", [*CLIENTS, *NO_CLIENTS])
def test_grpcio_judges_the_same(grpcio: int, version: ssl.TLSVersion, name: str) -> None:
    """A client has a connection to one server if it has one to the other."""
    pair, chain = CLIENTS[name] if name in CLIENTS else (NO_CLIENTS[name][0], b"")
    settings = client_settings(version=version, certificate=pair, chain=chain)

    try:
        with (
            socket.create_connection(("127.0.0.1", grpcio), 20) as raw,
            settings.wrap_socket(raw, suppress_ragged_eofs=False) as client,
        ):
            # The server's settings come first.
            served = client.recv(9)[3:4] == b"\x04"
    except OSError:
        served = False

    assert served == (name in CLIENTS)


def test_an_intermediate_is_a_client_ca() -> None:
    """Its certificates are accepted without the CA above it, as by grpcio; those of that CA are not."""
    context = TlsContext(SERVER_PAIR.pem, SERVER_PAIR.key_pem, SUB.pem)

    assert_served(connect(context, greet(client_settings(certificate=SUB.issue("c")))))
    outcome = connect(context, wait(client_settings(certificate=CA.issue("c"))))
    assert_refused(outcome, "unable to get local issuer certificate", "unknown ca")


@BOTH
def test_a_client_without_a_certificate_is_refused(version: ssl.TLSVersion) -> None:
    """``client_ca`` makes it mandatory."""
    outcome = connect(MUTUAL, wait(client_settings(version=version)))

    assert_refused(outcome, "peer did not return a certificate", "alert")


@BOTH
def test_no_certificate_is_wanted_without_a_client_ca(version: ssl.TLSVersion) -> None:
    """Then a client's certificate is not sent, and identifies no one."""
    outcome = connect(PLAIN, greet(client_settings(version=version, certificate=CLIENTS["plain"][0])))

    assert_served(outcome)
    assert outcome.peer_certificate == b""


@BOTH
@pytest.mark.parametrize("context", [PLAIN, MUTUAL], ids=["plain", "mutual"])
def test_no_session_is_resumed(version: ssl.TLSVersion, context: TlsContext) -> None:
    """Each connection verifies the client's certificate: a ticket would outlive its end and its CA."""
    settings = client_settings(version=version, certificate=CLIENTS["plain"][0])
    first = connect(context, greet(settings))
    session = assert_served(first).session
    assert session is None or not session.has_ticket

    second = connect(context, greet(settings, session))

    assert not assert_served(second).session_reused
    assert second.peer_certificate == first.peer_certificate
