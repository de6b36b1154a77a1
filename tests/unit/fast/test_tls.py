"""TLS of the native event loop, against clients of Python's ``ssl`` over loopback."""

from __future__ import annotations

import os
import random
import socket
import ssl
import subprocess
from contextlib import suppress

import pytest

from sessauth._fast._http2 import TlsContext, TlsEndpoint
from tests.support.authority import NEEDS_OPENSSL, OPENSSL
from tests.support.tls_pair import (
    DONE,
    FAILED,
    PLAIN,
    RSA_PAIR,
    V1_2,
    V1_3,
    MemoryClient,
    assert_refused,
    assert_served,
    client_settings,
    connect,
    echo,
    greet,
    handshake,
    hello,
    wait,
)

RSA = TlsContext(RSA_PAIR.pem, RSA_PAIR.key_pem)
BOTH = pytest.mark.parametrize("version", [V1_2, V1_3])


@BOTH
@pytest.mark.parametrize("context", [PLAIN, RSA], ids=["ECDSA", "RSA"])
def test_h2_is_agreed_on(context: TlsContext, version: ssl.TLSVersion) -> None:
    """A client that speaks h2 among others gets it; what it sends arrives, and so does the answer."""
    settings = client_settings(alpn=("http/1.1", "h2", "grpc-exp"), version=version)
    states = []

    def run(raw: socket.socket) -> object:
        with settings.wrap_socket(raw) as client:
            states.append((client.selected_alpn_protocol(), client.version(), client.compression()))
            client.sendall(b"request")
            data = client.recv(64)
            client.unwrap()
            return data, client

    assert_served(connect(context, run))
    assert states == [("h2", version.name.replace("_", ".", 1).replace("v1.", "v1."), None)]


@BOTH
@pytest.mark.parametrize("alpn", ["http/1.1", "h3", "h2c", "h", "h22"])
def test_a_client_of_other_protocols_is_refused(version: ssl.TLSVersion, alpn: str) -> None:
    """It gets the alert of RFC 7301."""
    outcome = connect(PLAIN, wait(client_settings(alpn=(alpn, "x" * 255), version=version)))

    assert_refused(outcome, "no application protocol", "no application protocol")


@BOTH
def test_a_client_without_alpn_is_refused(version: ssl.TLSVersion) -> None:
    """HTTP/2 over TLS is negotiated (RFC 9113, section 3.2)."""
    outcome = connect(PLAIN, greet(client_settings(alpn=(), version=version)))

    assert (outcome.result, outcome.failure) == (FAILED, "the client did not ask for h2 (ALPN)")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_are_refused(version: ssl.TLSVersion) -> None:
    """The oldest is TLS 1.2."""
    settings = client_settings(version=version, ciphers="ALL:@SECLEVEL=0")

    assert_refused(connect(PLAIN, wait(settings)), "unsupported protocol", "alert protocol version")


def test_the_suites_are_those_of_grpc() -> None:
    """Suites of TLS 1.2 with an ephemeral key and an AEAD are agreed on, and no others."""
    every = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    every.set_ciphers("ALL:@SECLEVEL=0")
    names = [each["name"] for each in every.get_ciphers() if each["protocol"] != "TLSv1.3"]

    accepted = {
        (sort, name)
        for sort, context in (("ECDSA", PLAIN), ("RSA", RSA))
        for name in names
        if connect(context, greet(client_settings(version=V1_2, ciphers=f"{name}:@SECLEVEL=0"))).result
        == DONE
    }

    assert len(names) > 40
    assert accepted == {
        (sort, f"ECDHE-{sort}-{cipher}")
        for sort in ("ECDSA", "RSA")
        for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384")
    }


@BOTH
def test_much_passes_in_both_directions(version: ssl.TLSVersion) -> None:
    """Megabytes come back as they were sent."""
    settings = client_settings(version=version)
    sent = random.Random(7).randbytes(3 << 20)

    def run(raw: socket.socket) -> object:
        with settings.wrap_socket(raw) as client:
            back = bytearray()
            for at in range(0, len(sent), 1 << 17):
                client.sendall(sent[at : at + (1 << 17)])
                while len(back) < min(at + (1 << 17), len(sent)):
                    back += client.recv(1 << 16)
            return bytes(back) == sent

    assert connect(PLAIN, run).client is True


@BOTH
def test_a_write_waits_for_the_socket(version: ssl.TLSVersion) -> None:
    """A write goes on from other memory, once the client took bytes off the socket."""
    client = MemoryClient(PLAIN, client_settings(version=version))
    data, at, waits, back = random.Random(3).randbytes(5 << 20), 0, 0, bytearray()

    while at < len(data):
        written = client.endpoint.write(data[at:])
        if written > 0:
            at += written
        else:
            assert written == -2
            waits += 1
            client.receive()
            with suppress(ssl.SSLWantReadError):
                while True:
                    back += client.tls.read(1 << 16)
    while len(back) < len(data):
        client.receive()
        with suppress(ssl.SSLWantReadError):
            while True:
                back += client.tls.read(1 << 16)

    assert back == data
    assert waits
    client.close()


@BOTH
def test_records_that_came_together_are_read_one_by_one(version: ssl.TLSVersion) -> None:
    """A read gives one record; the others are there without another byte from the socket."""
    client = MemoryClient(PLAIN, client_settings(version=version))
    for word in (b"one", b"two", b"three"):
        client.tls.write(word)
    client.send()

    assert [client.endpoint.read(64) for _ in range(4)] == [b"one", b"two", b"three", -1]
    assert client.endpoint.write(b"") == 0
    client.close()


@NEEDS_OPENSSL
def test_nothing_is_negotiated_again() -> None:
    """A client that wants to is answered no, and the connection ends or goes on as it was."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = "{}:{}".format(*listener.getsockname())
        command = [str(OPENSSL), "s_client", "-connect", address, "-tls1_2", "-alpn", "h2"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            connection = listener.accept()[0]
            with connection:
                connection.setblocking(False)
                endpoint = TlsEndpoint(PLAIN, connection.fileno())
                assert handshake(endpoint, connection) == DONE
                assert process.stdin is not None
                process.stdin.write(b"R\n")
                process.stdin.flush()
                echo(endpoint, connection)
                del endpoint
            text = process.communicate(timeout=20)[1]
    assert b"RENEGOTIATING" in text
    assert b"no renegotiation" in text


NOISE: dict[str, bytes] = {
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0",
    "HTTP/1": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "zeros": bytes(64),
    "a record of nothing": b"\x16\x03\x01\x00\x00" * 50,
    "a record too large": b"\x16\x03\x01\xff\xff" + bytes(70_000),
    "an alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "data first": b"\x17\x03\x03\x00\x10" + bytes(16),
}


@pytest.mark.parametrize("data", NOISE.values(), ids=NOISE.keys())
def test_what_is_no_tls_fails(data: bytes) -> None:
    """Plaintext and noise end the handshake at once."""

    def run(raw: socket.socket) -> object:
        raw.sendall(data)
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(1 << 16):
            pass
        return True

    assert connect(PLAIN, run).result == FAILED


def test_a_client_that_leaves_during_the_handshake() -> None:
    """The server waits for the rest of a message that was cut anywhere, then fails."""
    first = hello()

    for cut in [*range(0, 12), *range(12, len(first), 97), len(first)]:
        assert connect(PLAIN, lambda raw, cut=cut: raw.sendall(first[:cut])).result == FAILED  # type: ignore[misc]


def test_changed_bytes_of_the_first_message() -> None:
    """A handshake that can't go on fails, or waits for more."""
    first, chance = hello(), random.Random(5)

    for _ in range(300):
        near, far = socket.socketpair()
        with near, far:
            far.setblocking(False)
            endpoint = TlsEndpoint(PLAIN, far.fileno())
            changed = bytearray(first)
            for _ in range(chance.randrange(1, 4)):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
            near.sendall(changed)
            near.shutdown(socket.SHUT_WR)
            results = {endpoint.handshake() for _ in range(3)}
            assert results & {FAILED}
            del endpoint


def test_the_end_is_orderly_on_both_sides() -> None:
    """The client's end is an end; freeing tells the client of one."""
    client = MemoryClient(PLAIN, client_settings())
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    client.send()

    assert client.endpoint.read(1) == 0
    del client.endpoint
    client.receive()
    client.tls.unwrap()
    client.close()


def test_a_cut_connection_is_a_failure() -> None:
    """A connection that ends without the end of TLS has a reason."""

    def run(raw: socket.socket) -> object:
        client = client_settings().wrap_socket(raw, do_handshake_on_connect=True)
        client.sendall(b"request")
        client.recv(64)
        os.close(client.detach())
        return True

    outcome = connect(PLAIN, run)
    assert (outcome.result, outcome.failure) == (DONE, "unexpected eof while reading")
