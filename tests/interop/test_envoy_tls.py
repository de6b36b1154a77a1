"""Envoy at a worker that demands client certificates: its certificates and the server's, right and wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from sessauth.v1 import authorization_service_pb2 as pb
from tests.support.envoy import ClientTls, Envoy
from tests.support.interop_server import SPIFFE, InteropServer
from tests.support.issuer import CLIENT, SERVER, Issued
from tests.support.service import Caller, RpcError, wait_until

VERSIONS = ("TLSv1_2", "TLSv1_3")
GATEWAY = [x509.UniformResourceIdentifier(SPIFFE)]
STRANGER = [x509.UniformResourceIdentifier("spiffe://example.org/stranger")]
# Certificates that the handshake refuses, by the client's name for them.
REFUSED: dict[str, Callable[[Issued], Issued]] = {
    "of-another-ca": lambda ca: Issued.ca("other").issue("gw", GATEWAY, usage=CLIENT),
    "of-a-ca-with-the-same-name": lambda ca: Issued.ca("ca").issue("gw", GATEWAY, usage=CLIENT),
    "expired": lambda ca: ca.issue("gw", GATEWAY, usage=CLIENT, days=(-3, -1)),
    "not-valid-yet": lambda ca: ca.issue("gw", GATEWAY, usage=CLIENT, days=(1, 3)),
    "for-servers": lambda ca: ca.issue("gw", GATEWAY, usage=SERVER),
}


def _check(caller: Caller, served: InteropServer) -> RpcError | None:
    """Make a check that is allowed to a gateway; returns its error."""
    try:
        request = pb.CheckRequest.FromString(served.check())
        assert caller.call("AuthorizationService/Check", request).decision.allowed
    except RpcError as error:
        return error
    return None


def _assert_nothing_comes_through(
    folder: Path, served: InteropServer, tls: ClientTls, code: str, credential: str = ""
) -> None:
    """Check that every call ends with ``code`` and none is judged, which they are if the files are right."""
    right = Envoy(folder, served, tls=ClientTls(served.home, version=tls.version))
    with replace(right, tls=tls).running() as caller:
        caller.credential = credential
        served.check()
        before = served.decisions()
        errors = [_check(caller, served) for _ in range(10)]
        assert served.decisions() == before
    assert {error and error.code.name for error in errors} == {code}
    with right.running() as caller:
        assert _check(caller, served) is None
        assert served.decisions() == before + 1


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_certificate_is_refused(
    tls_server: InteropServer, name: str, version: str, tmp_path: Path
) -> None:
    """The handshake fails, and no call of it is judged."""
    tls_server.write_pair(name, REFUSED[name](tls_server.ca))
    tls = ClientTls(tls_server.home, client=name, version=version)
    _assert_nothing_comes_through(tmp_path, tls_server, tls, "UNAVAILABLE")


@pytest.mark.parametrize("version", VERSIONS)
def test_no_certificate_is_refused(tls_server: InteropServer, version: str, tmp_path: Path) -> None:
    """Not even an API key helps."""
    tls = ClientTls(tls_server.home, client="", version=version)
    for credential in ("", tls_server.credential):
        _assert_nothing_comes_through(tmp_path, tls_server, tls, "UNAVAILABLE", credential)


def test_a_certificate_without_an_identity_is_refused(tls_server: InteropServer, tmp_path: Path) -> None:
    """The handshake is done, and the call is a stranger's."""
    tls_server.write_pair("stranger", tls_server.ca.issue("gw", STRANGER, usage=CLIENT))
    tls = ClientTls(tls_server.home, client="stranger")
    _assert_nothing_comes_through(tmp_path, tls_server, tls, "UNAUTHENTICATED")


def test_a_server_that_envoy_does_not_trust_gets_no_call(tls_server: InteropServer, tmp_path: Path) -> None:
    """Another authority, and another name in the certificate."""
    (tls_server.home / "other.pem").write_bytes(Issued.ca("other").pem)
    for wrong in ({"ca": "other"}, {"server": "other.example.org"}):
        tls = ClientTls(tls_server.home, **wrong)
        _assert_nothing_comes_through(tmp_path, tls_server, tls, "UNAVAILABLE")


def test_another_protocol_is_refused(tls_server: InteropServer, tmp_path: Path) -> None:
    """ALPN without h2."""
    tls = ClientTls(tls_server.home, alpn="http/1.1")
    _assert_nothing_comes_through(tmp_path, tls_server, tls, "UNAVAILABLE")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_handshake_for_each_call(tls_server: InteropServer, version: str, tmp_path: Path) -> None:
    """200 calls with a connection each: all are answered, and no connection is left."""
    tls = ClientTls(tls_server.home, version=version)
    before = tls_server.connections()
    with Envoy(tmp_path, tls_server, tls=tls, calls_per_connection=1).running() as caller:
        assert [_check(caller, tls_server) for _ in range(200)] == [None] * 200
    assert wait_until(lambda: tls_server.connections() <= before)
