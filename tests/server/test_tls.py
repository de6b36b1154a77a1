from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from sessauth.server.config import from_dict
from sessauth.server.process.control import Control
from sessauth.server.process.init import initialise
from sessauth.server.rpc.authenticate import certificate_thumbprint
from sessauth.v1 import key_service_pb2 as keys
from sessauth.v1 import session_service_pb2 as sessions
from tests.support.authority import NEEDS_OPENSSL, Authority
from tests.support.service import Caller, RpcError, home_folder

pytestmark = NEEDS_OPENSSL


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A home folder with certificates."""
    with home_folder() as home:
        yield home


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    """The CA of servers and clients."""
    return Authority(folder, "ca")


@pytest.fixture(scope="module")
def server(folder: Path, authority: Authority) -> Iterator[Control]:
    """A server on TCP that demands client certificates."""
    initialise(folder)
    authority.sign("server", "DNS:localhost,IP:127.0.0.1")
    bare, _ = authority.sign("by-thumbprint", "DNS:bare.example")
    tcp = {
        "address": "127.0.0.1:0",
        "certificate": "server.pem",
        "private_key": "server.key",
        "client_ca": "ca.pem",
    }
    identities = [
        {"name": "gw", "role": "gateway", "uri": "spiffe://example.org/gw", "audiences": ["gw"]},
        {"name": "aud", "role": "auditor", "thumbprint": certificate_thumbprint(bare.read_bytes())},
    ]
    control = Control(from_dict({"home": str(folder), "tcp": tcp, "identities": identities}))
    control.start()
    yield control
    control.stop()


def _caller(server: Control, authority: Authority, pair: tuple[Path, Path] | None, **options: Any) -> Caller:
    chain, key = (pair[0].read_bytes(), pair[1].read_bytes()) if pair else (None, None)
    credentials = grpc.ssl_channel_credentials(authority.certificate.read_bytes(), key, chain)
    target = f"localhost:{server.tcp_port}"
    return Caller(target, channel_credentials=credentials, timeout=5.0, **options)


def _outcome(caller: Caller, rpc: str, request: Any) -> str:
    try:
        caller.call(rpc, request)
    except RpcError as error:
        return error.code.name
    finally:
        caller.close()
    return "OK"


def test_a_spiffe_id_is_an_identity(server: Control, authority: Authority) -> None:
    """A certificate with a configured URI SAN has the role of its entry, and no more."""
    pair = authority.sign("gateway", "URI:spiffe://example.org/gw")

    assert _outcome(_caller(server, authority, pair), "KeyService/ListKeys", keys.ListKeysRequest()) == "OK"
    request = sessions.OpenSessionRequest(subject="s", ceiling=["read:a"])
    assert (
        _outcome(_caller(server, authority, pair), "SessionService/OpenSession", request)
        == "PERMISSION_DENIED"
    )


def test_a_thumbprint_is_an_identity(server: Control, authority: Authority, folder: Path) -> None:
    """A certificate without URI SAN is known by the SHA-256 of its DER."""
    pair = (folder / "by-thumbprint.pem", folder / "by-thumbprint.key")

    assert _outcome(_caller(server, authority, pair), "KeyService/ListKeys", keys.ListKeysRequest()) == "OK"


def test_a_certificate_without_an_entry_is_nobody(server: Control, authority: Authority) -> None:
    """A valid certificate that no entry names is UNAUTHENTICATED, unless an API key comes with it."""
    pair = authority.sign("other", "URI:spiffe://example.org/other")
    operator = Path(server.keyring._folder).parent.joinpath("operator.credential").read_text().strip()

    refused = _caller(server, authority, pair)
    assert _outcome(refused, "KeyService/ListKeys", keys.ListKeysRequest()) == "UNAUTHENTICATED"
    with_key = _caller(server, authority, pair, credential=operator)
    assert _outcome(with_key, "KeyService/ListKeys", keys.ListKeysRequest()) == "OK"


def test_no_certificate_and_one_of_a_stranger_get_no_connection(
    server: Control, authority: Authority, folder: Path
) -> None:
    """Without a certificate of the client CA there is no connection at all."""
    stranger = Authority(folder, "stranger").sign("forged", "URI:spiffe://example.org/gw")

    for pair in (None, stranger):
        caller = _caller(server, authority, pair)
        assert _outcome(caller, "KeyService/ListKeys", keys.ListKeysRequest()) == "UNAVAILABLE"
    plain = Caller(f"localhost:{server.tcp_port}", timeout=3.0)
    assert _outcome(plain, "KeyService/ListKeys", keys.ListKeysRequest()) in (
        "UNAVAILABLE",
        "DEADLINE_EXCEEDED",
    )


def test_a_new_server_certificate_is_used_without_a_restart(
    server: Control, authority: Authority, folder: Path
) -> None:
    """New connections get the certificate of the new CA once the files are replaced."""
    pair = authority.sign("gateway-3", "URI:spiffe://example.org/gw")
    second = Authority(folder, "ca2")
    old = {name: (folder / name).read_bytes() for name in ("server.pem", "server.key")}
    certificate, key = second.sign("server2", "DNS:localhost")
    for source, target in ((key, "server.key"), (certificate, "server.pem")):
        shutil.copy(source, folder / f"{target}.new")
        (folder / f"{target}.new").replace(folder / target)
    try:
        assert _outcome(_caller(server, second, pair), "KeyService/ListKeys", keys.ListKeysRequest()) == "OK"
    finally:
        for name, data in old.items():
            (folder / name).write_bytes(data)
    assert _outcome(_caller(server, authority, pair), "KeyService/ListKeys", keys.ListKeysRequest()) == "OK"


def test_insecure_tcp_shouts(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """TCP without TLS serves only with its switch, and says at WARNING what that means."""
    with home_folder() as home, caplog.at_level("WARNING", "sessauth.server"):
        made = initialise(home)
        tcp = {"address": "127.0.0.1:0", "insecure_tcp": True}
        control = Control(from_dict({"home": str(home), "tcp": tcp}))
        control.start()
        caller = Caller(f"127.0.0.1:{control.tcp_port}", made.credential_file.read_text().strip())
        assert _outcome(caller, "KeyService/ListKeys", keys.ListKeysRequest()) == "OK"
        control.stop()

    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == ["insecure_tcp"]
