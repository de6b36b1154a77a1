"""A connection of TLS over loopback: a client of Python's ``ssl``, and the kernel's server end."""

from __future__ import annotations

import select
import socket
import ssl
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509

from sessauth._fast._http2 import TlsContext, TlsEndpoint
from tests.support.issuer import SERVER, Issued, rsa_key

DONE: Final = 1
FAILED: Final = -2
_WANTS_READ: Final = 0
_PATIENCE_S: Final = 20.0

Client = Callable[[socket.socket], object]

CA: Final = Issued.ca("ca")
SERVER_PAIR: Final = CA.issue("localhost", [x509.DNSName("localhost")], usage=SERVER)
RSA_PAIR: Final = CA.issue("localhost", [x509.DNSName("localhost")], key=rsa_key())
PLAIN: Final = TlsContext(SERVER_PAIR.pem, SERVER_PAIR.key_pem)

V1_2: Final = ssl.TLSVersion.TLSv1_2
V1_3: Final = ssl.TLSVersion.TLSv1_3


@dataclass(frozen=True)
class Outcome:
    """The end of a handshake, by the server and by the client."""

    result: int
    failure: str
    peer_certificate: bytes
    # What the client function returned, or the error that it raised.
    client: object


def client_settings(
    *,
    alpn: tuple[str, ...] = ("h2",),
    version: ssl.TLSVersion | None = None,
    ciphers: str = "",
    certificate: Issued | None = None,
    chain: bytes = b"",
) -> ssl.SSLContext:
    """Return settings of a client that trusts any server."""
    settings = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    settings.check_hostname = False
    settings.verify_mode = ssl.CERT_NONE
    if alpn:
        settings.set_alpn_protocols(list(alpn))
    if ciphers:
        settings.set_ciphers(ciphers)
    if version is not None:
        with warnings.catch_warnings():
            # Old versions are deprecated.
            warnings.simplefilter("ignore", DeprecationWarning)
            settings.minimum_version = settings.maximum_version = version
    if certificate is not None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "pem")
            path.write_bytes(certificate.key_pem + certificate.pem + chain)
            settings.load_cert_chain(path)
    return settings


def hello() -> bytes:
    """Return the first message of a client."""
    outgoing = ssl.MemoryBIO()
    client = client_settings().wrap_bio(ssl.MemoryBIO(), outgoing)
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def greet(
    settings: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> Callable[[socket.socket], object]:
    """Return a client that sends a word, ends TLS, and returns what it got and the connection."""

    def run(raw: socket.socket) -> object:
        with settings.wrap_socket(raw, session=session, suppress_ragged_eofs=False) as client:
            client.sendall(b"request")
            data = client.recv(64)
            client.unwrap()
            return data, client

    return run


def wait(settings: ssl.SSLContext) -> Client:
    """Return a client that sends nothing behind its handshake, so that what the server sends last arrives."""

    def run(raw: socket.socket) -> object:
        with settings.wrap_socket(raw) as client:
            return client.recv(64)

    return run


class MemoryClient:
    """A client over a pair of sockets, in the thread of its server."""

    def __init__(self, context: TlsContext, settings: ssl.SSLContext) -> None:
        """Complete the handshake."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = settings.wrap_bio(self._incoming, self._outgoing)
        self._near, far = socket.socketpair()
        with far:
            self._near.setblocking(False)
            far.setblocking(False)
            self.endpoint = TlsEndpoint(context, far.fileno())
        results = [self._step() for _ in range(4)]
        assert results[-1] == DONE

    def _step(self) -> int:
        with suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        self.send()
        result = self.endpoint.handshake()
        self.receive()
        return result

    def send(self) -> None:
        """Put what the client wrote on the socket."""
        self._near.sendall(self._outgoing.read())

    def receive(self) -> None:
        """Take what the server sent off the socket."""
        with suppress(BlockingIOError):
            self._incoming.write(self._near.recv(1 << 17))

    def close(self) -> None:
        """End without the end of TLS."""
        self._near.close()


def connect(context: TlsContext, client: Client) -> Outcome:
    """Run ``client`` on a connection to a server that echoes until the client ends."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        pool = stack.enter_context(ThreadPoolExecutor(1))
        future = pool.submit(_run, client, listener.getsockname())
        connection = stack.enter_context(listener.accept()[0])
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        endpoint = TlsEndpoint(context, connection.fileno())
        result = handshake(endpoint, connection)
        certificate = endpoint.peer_certificate
        if result == DONE:
            echo(endpoint, connection)
        failure = endpoint.failure
        del endpoint
        connection.close()
        return Outcome(result, failure, certificate, future.result(_PATIENCE_S))


def _run(client: Client, address: tuple[str, int]) -> object:
    with socket.create_connection(address, _PATIENCE_S) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            return client(raw)
        except OSError as error:
            return error


def handshake(endpoint: TlsEndpoint, connection: socket.socket) -> int:
    """Drive a handshake to its end; returns its result."""
    end = time.monotonic() + _PATIENCE_S
    while (result := endpoint.handshake()) not in (DONE, FAILED):
        assert time.monotonic() < end
        _wait(connection, writing=result != _WANTS_READ)
    return result


def echo(endpoint: TlsEndpoint, connection: socket.socket) -> None:
    """Send back what comes, until the end or a failure."""
    while True:
        data = endpoint.read(1 << 16)
        if data == -1:
            _wait(connection, writing=False)
        elif isinstance(data, int):
            assert data in (0, -3)
            return
        else:
            while data:
                written = endpoint.write(data)
                if written == -2:
                    _wait(connection, writing=True)
                elif written <= 0:
                    return
                else:
                    data = data[written:]


def _wait(connection: socket.socket, *, writing: bool) -> None:
    ready = select.select([] if writing else [connection], [connection] if writing else [], [], _PATIENCE_S)
    assert any(ready)


def assert_served(outcome: Outcome) -> ssl.SSLSocket:
    """Check that ``greet`` got its word back. Return its connection."""
    assert (outcome.result, outcome.failure) == (DONE, ""), outcome
    assert isinstance(outcome.client, tuple), outcome
    data, connection = outcome.client
    assert data == b"request"
    assert isinstance(connection, ssl.SSLSocket)
    return connection


def assert_refused(outcome: Outcome, server: str, client: str) -> None:
    """Check that the handshake failed, and the words for it on both sides."""
    assert outcome.result == FAILED
    assert server in outcome.failure
    assert isinstance(outcome.client, OSError)
    assert client in str(outcome.client)
