"""Contexts of TLS: the PEM that they are made of, and what they give back."""

from __future__ import annotations

import gc
import socket

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from sessauth._fast._http2 import TlsContext, TlsEndpoint, tls_available, tls_self_test
from tests.support.leaks import leaks_descriptors
from tests.support.tls_pair import (
    CA,
    PLAIN,
    RSA_PAIR,
    SERVER_PAIR,
    assert_served,
    client_settings,
    connect,
    greet,
    hello,
)


def test_it_is_available() -> None:
    """The library is there, and certificates and keys are tried."""
    assert tls_available() == ""
    assert tls_self_test(SERVER_PAIR.pem, SERVER_PAIR.key_pem) == ""
    assert tls_self_test(RSA_PAIR.pem, RSA_PAIR.key_pem) == ""
    assert "different key types" in tls_self_test(RSA_PAIR.pem, SERVER_PAIR.key_pem)


LOCKED = SERVER_PAIR.locked_key(serialization.BestAvailableEncryption(b"secret"))
WEAK_PAIR = CA.issue("weak", key=rsa.generate_private_key(65537, 1024))
NO_BASE64 = b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n"
BAD: dict[str, tuple[tuple[bytes, ...], str]] = {
    "no certificate": ((b"", SERVER_PAIR.key_pem), "certificate: no start line"),
    "noise": ((b"nothing" * 100, SERVER_PAIR.key_pem), "certificate: no start line"),
    "a cut certificate": ((SERVER_PAIR.pem[:300], SERVER_PAIR.key_pem), "certificate: "),
    "a cut chain": ((SERVER_PAIR.pem + CA.pem[:200], SERVER_PAIR.key_pem), "certificate: "),
    "no base64": ((NO_BASE64, SERVER_PAIR.key_pem), "certificate: "),
    "no key": ((SERVER_PAIR.pem, b"nothing"), "private key: "),
    "another's key": ((SERVER_PAIR.pem, CA.key_pem), "private key mismatch"),
    "a key of another sort": ((SERVER_PAIR.pem, RSA_PAIR.key_pem), "different key types"),
    "a key with a passphrase": ((SERVER_PAIR.pem, LOCKED), "private key: "),
    "an empty client CA": ((SERVER_PAIR.pem, SERVER_PAIR.key_pem, b""), "client CA: no start line"),
    "a client CA of noise": ((SERVER_PAIR.pem, SERVER_PAIR.key_pem, b"x"), "client CA: no start line"),
    "a weak key": ((WEAK_PAIR.pem, WEAK_PAIR.key_pem), "ee key too small"),
}


@pytest.mark.parametrize(("arguments", "reason"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_used_is_an_error(arguments: tuple[bytes, ...], reason: str) -> None:
    """The error has OpenSSL's words, and leaves nothing behind that others would take for theirs."""
    with pytest.raises(OSError, match=reason):
        TlsContext(*arguments)
    assert reason in tls_self_test(*arguments[:2]) or len(arguments) > 2
    assert_served(connect(PLAIN, greet(client_settings())))


def test_arguments_are_checked() -> None:
    """Text and None are no PEM."""
    for arguments in ((None, b""), (b"", None), ("text", b""), (b"", b"", "text"), ()):
        with pytest.raises(TypeError):
            TlsContext(*arguments)  # type: ignore[arg-type]


def test_keys_of_other_sorts_serve() -> None:
    """Ed25519 and P-384, of which the first is more than gRPC knows."""
    for key in (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())):
        pair = CA.issue("localhost", key=key)
        assert tls_self_test(pair.pem, pair.key_pem) == ""


def test_a_connection_outlives_its_context() -> None:
    """A context that was replaced serves the connections that stand."""
    contexts = [TlsContext(SERVER_PAIR.pem, SERVER_PAIR.key_pem)]
    near, far = socket.socketpair()
    with near, far:
        far.setblocking(False)
        endpoint = TlsEndpoint(contexts[0], far.fileno())
        contexts.clear()
        gc.collect()
        near.sendall(hello())
        assert endpoint.handshake() == 0
        assert near.recv(1)


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_nothing_leaks() -> None:
    """Contexts, connections and failures give back what they took."""
    first = hello()

    def turn() -> None:
        context = TlsContext(SERVER_PAIR.pem + CA.pem, SERVER_PAIR.key_pem, CA.pem)
        for data in (first, b"noise", b""):
            near, far = socket.socketpair()
            with near, far:
                far.setblocking(False)
                endpoint = TlsEndpoint(context, far.fileno())
                near.sendall(data)
                endpoint.handshake()
                del endpoint
        for bad in (b"", SERVER_PAIR.pem + CA.pem[:200], RSA_PAIR.pem):
            with pytest.raises(OSError):
                TlsContext(bad, SERVER_PAIR.key_pem, CA.pem)

    for _ in range(50):
        turn()
    before = _resident()

    assert not leaks_descriptors(turn, times=300)
    # A context is 20 KiB or more.
    assert _resident() - before < 3 << 20
