"""Facts of a client's certificate, which are those of gRPC's auth context; none of what is malformed."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from cryptography import x509
from cryptography.x509.oid import ObjectIdentifier

from sessauth.server.keys.certificates import certificate_facts, first_der
from tests.support.issuer import Issued, rsa_key

CA = Issued.ca("ca")
SERVER_PAIR = CA.issue("localhost", [x509.DNSName("localhost")])
GATEWAY = "spiffe://example.org/gw"
ALTERNATIVE_NAMES = ObjectIdentifier("2.5.29.17")


def _uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


CERTIFICATES: dict[str, Issued] = {
    "one URI": CA.issue("gw", [_uri(GATEWAY)]),
    "several URIs among other names": CA.issue(
        "gw",
        [
            x509.DNSName("gw.example.org"),
            _uri(GATEWAY),
            x509.RFC822Name("gw@example.org"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            _uri("https://example.org/" + 300 * "x"),
            x509.DirectoryName(x509.Name([])),
            x509.RegisteredID(ObjectIdentifier("1.2.3")),
            x509.OtherName(ObjectIdentifier("1.2.3"), b"\x0c\x02hi"),
        ],
    ),
    "an empty URI": CA.issue("gw", [_uri("")]),
    "a URI as a DNS name": CA.issue("gw", [x509.DNSName(GATEWAY)]),
    "no names": CA.issue("gw"),
    "an RSA key": CA.issue("gw", [_uri(GATEWAY)], key=rsa_key()),
    "other extensions": CA.issue(
        "gw", [_uri(GATEWAY)], extensions=[x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"any")]
    ),
    "names of the issuer": CA.issue("gw", extensions=[x509.IssuerAlternativeName([_uri(GATEWAY)])]),
}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server of grpcio that answers with the facts it has of its client."""

    def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
        facts = context.auth_context()
        return repr([list(facts.get(name, ())) for name in ("peer_uri", "x509_pem_cert")]).encode()

    server = grpc.server(ThreadPoolExecutor(1))
    method = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("t", {"Facts": method})])
    credentials = grpc.ssl_server_credentials([(SERVER_PAIR.key_pem, SERVER_PAIR.pem)], CA.pem, True)
    bound = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield bound
    server.stop(None).wait()


@pytest.mark.parametrize("pair", CERTIFICATES.values(), ids=CERTIFICATES.keys())
def test_the_facts_are_those_of_grpc(port: int, pair: Issued) -> None:
    """Both transports know a client by the same facts."""
    credentials = grpc.ssl_channel_credentials(CA.pem, pair.key_pem, pair.pem)
    with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
        answer: bytes = channel.unary_unary("/t/Facts")(b"", timeout=20)

    facts = certificate_facts(pair.der)

    assert answer == repr([list(facts["peer_uri"]), list(facts["x509_pem_cert"])]).encode()
    assert first_der(facts["x509_pem_cert"][0]) == pair.der


def _raw(content: bytes) -> Issued:
    """Return a certificate with these bytes as its alternative names."""
    return CA.issue("gw", extensions=[x509.UnrecognizedExtension(ALTERNATIVE_NAMES, content)])


def _der(tag: int, content: bytes) -> bytes:
    return bytes([tag, len(content)]) + content


URI = _der(0x86, GATEWAY.encode())
MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "no sequence": URI,
    "a name cut": _der(0x30, URI[:-1]),
    "a sequence cut": _der(0x30, URI)[:-1],
    "more behind it": _der(0x30, URI) + b"\0",
    "a name too long": _der(0x30, b"\x86\x7f" + GATEWAY.encode()),
    "a long form of a short length": _der(0x30, b"\x86\x81" + bytes([len(GATEWAY)]) + GATEWAY.encode()),
    "an indefinite length": b"\x30\x80" + URI + b"\0\0",
    "a length of zeros": _der(0x30, b"\x86\x82\x00" + bytes([len(GATEWAY)]) + GATEWAY.encode()),
    "a huge length": _der(0x30, b"\x86\xff" + GATEWAY.encode()),
    "a tag of several bytes": _der(0x30, b"\x9f\x06" + URI),
    "a tag alone": _der(0x30, URI + b"\x86"),
    # grpcio takes it for the URI before the zero.
    "a zero in a URI": _der(0x30, _der(0x86, GATEWAY.encode() + b"\0.stranger")),
    "a line end in a URI": _der(0x30, _der(0x86, GATEWAY.encode() + b"\n")),
    "a URI not ASCII": _der(0x30, _der(0x86, GATEWAY.encode() + b"\xe9")),
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_names_are_refused(content: bytes) -> None:
    """No identity is read from them."""
    with pytest.raises(ValueError):
        certificate_facts(_raw(content).der)


def test_names_that_stand_twice_are_refused() -> None:
    """An extension stands once (RFC 5280, section 4.2)."""
    twice = CA.issue(
        "gw", extensions=[x509.IssuerAlternativeName([_uri(GATEWAY)])], alternative=[_uri("a:b")]
    )
    der = twice.der.replace(b"\x06\x03\x55\x1d\x12", b"\x06\x03\x55\x1d\x11")

    with pytest.raises(ValueError, match="twice"):
        certificate_facts(der)


def _facts(der: bytes) -> Sequence[bytes] | None:
    try:
        return certificate_facts(der)["peer_uri"]
    except ValueError:
        return None


def test_a_cut_certificate_is_refused() -> None:
    """Each beginning of one, and one with more behind it."""
    der = CERTIFICATES["several URIs among other names"].der

    for cut in range(len(der)):
        assert _facts(der[:cut]) is None
    assert _facts(der + b"\0") is None
    assert _facts(b"") is None


def test_any_bytes_are_an_answer_or_a_refusal() -> None:
    """No other error comes of bytes that a certificate was changed to, nor of noise."""
    der, chance = CERTIFICATES["several URIs among other names"].der, random.Random(11)

    refused = 0
    for _ in range(3_000):
        changed = bytearray(der)
        for _ in range(chance.randrange(1, 4)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        refused += _facts(bytes(changed)) is None
        assert _facts(chance.randbytes(chance.randrange(80))) is None
    assert 0 < refused < 3_000
