"""TLS of the native server: handshakes in pieces, silence, plaintext, and identities of certificates."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from sessauth._fast import _http2 as http2
from sessauth.server.config import from_dict
from sessauth.server.process import control
from sessauth.server.process.init import initialise
from sessauth.v1 import key_service_pb2 as keys
from tests.support.issuer import Issued
from tests.support.service import Caller, RpcError, home_folder
from tests.support.tls_pair import V1_2, V1_3, client_settings

GATEWAY = "spiffe://example.org/gw"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
SETTINGS_FRAME = 4


def _is_there() -> bool:
    try:
        http2.load_nghttp2()
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not _is_there(), reason="needs libnghttp2, which is not here")


@dataclass(frozen=True)
class Served:
    """A server, and the CA of it and its clients."""

    port: int
    ca: Issued

    def outcome(self, pair: Issued | None) -> str:
        """Return the code of a call that an auditor may make."""
        key, certificate = (pair.key_pem, pair.pem) if pair else (None, None)
        credentials = grpc.ssl_channel_credentials(self.ca.pem, key, certificate)
        caller = Caller(f"localhost:{self.port}", channel_credentials=credentials, timeout=10.0)
        try:
            caller.call("KeyService/ListKeys", keys.ListKeysRequest())
        except RpcError as error:
            return str(error.code.name)
        finally:
            caller.close()
        return "OK"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A native server that demands client certificates."""
    ca = Issued.ca("ca")
    pair = ca.issue("localhost", [x509.DNSName("localhost")])
    patch = pytest.MonkeyPatch()
    with home_folder() as home:
        initialise(home)
        for name, data in (("s.pem", pair.pem), ("s.key", pair.key_pem), ("ca.pem", ca.pem)):
            Path(home, name).write_bytes(data)
            Path(home, name).chmod(0o600)
        tcp = {
            "address": "127.0.0.1:0",
            "certificate": "s.pem",
            "private_key": "s.key",
            "client_ca": "ca.pem",
        }
        identities = [{"name": "gw", "role": "auditor", "uri": GATEWAY}]
        server = control.Control(from_dict({"home": str(home), "tcp": tcp, "identities": identities}))
        server.start()
        yield Served(server.tcp_port, ca)
        server.stop()
    patch.undo()


def _first_frame(port: int, settings: ssl.SSLContext, piece: int) -> bytes:
    """Send the end of the handshake and the preface at once, all in pieces. Return what comes back first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = settings.wrap_bio(incoming, outgoing)
    with socket.create_connection(("127.0.0.1", port), 10) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def pass_on() -> None:
            data = outgoing.read()
            for at in range(0, len(data), piece):
                raw.sendall(data[at : at + piece])
            received = raw.recv(1 << 16)
            assert received
            incoming.write(received)

        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                pass_on()
        client.write(PREFACE)
        while True:
            pass_on()
            try:
                return client.read(64)
            except ssl.SSLWantReadError:
                continue


@pytest.mark.parametrize("version", [V1_2, V1_3])
@pytest.mark.parametrize("piece", [1 << 16, 1, 100])
def test_a_handshake_in_pieces_is_served(served: Served, version: ssl.TLSVersion, piece: int) -> None:
    """The server's settings come without another byte of the client, however its bytes arrived."""
    settings = client_settings(version=version, certificate=served.ca.issue("c"))

    for _ in range(5):
        assert _first_frame(served.port, settings, piece)[3] == SETTINGS_FRAME


@pytest.mark.slow
def test_a_silent_client_is_closed(served: Served) -> None:
    """A handshake that stands still does not hold its connection."""
    address = ("127.0.0.1", served.port)
    begin = time.monotonic()
    with socket.create_connection(address, 30) as silent, socket.create_connection(address, 30) as half:
        half.sendall(b"\x16\x03\x01")

        assert (silent.recv(64), half.recv(64)) == (b"", b"")
    assert time.monotonic() - begin < 15


def test_plaintext_is_closed(served: Served) -> None:
    """A client without TLS gets no HTTP/2."""
    with socket.create_connection(("127.0.0.1", served.port), 30) as raw:
        raw.sendall(PREFACE)
        try:
            answer = raw.recv(64)
        except ConnectionResetError:
            answer = b""
    assert len(answer) < 9


def test_a_certificate_is_an_identity(served: Served) -> None:
    """A client is known by a URI of its certificate, as over gRPC's own server."""
    uri = x509.UniformResourceIdentifier

    assert served.outcome(served.ca.issue("gw", [x509.DNSName("gw"), uri(GATEWAY)])) == "OK"
    assert served.outcome(served.ca.issue("gw", [uri(GATEWAY + "/more")])) == "UNAUTHENTICATED"
    assert served.outcome(served.ca.issue("gw", [x509.DNSName(GATEWAY)])) == "UNAUTHENTICATED"
    assert served.outcome(served.ca.issue("gw")) == "UNAUTHENTICATED"


def test_a_malformed_name_is_no_identity(served: Served) -> None:
    """No URI ends at a zero."""
    pair = served.ca.issue("gw", [x509.UniformResourceIdentifier(GATEWAY + "\0.stranger")])

    assert served.outcome(pair) != "OK"


def test_no_certificate_and_a_strangers_get_no_connection(served: Served) -> None:
    """The handshake fails, on every try of the client."""
    for pair in (
        None,
        Issued.ca("ca"),
        Issued.ca("x").issue("gw", [x509.UniformResourceIdentifier(GATEWAY)]),
    ):
        assert served.outcome(pair) in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
