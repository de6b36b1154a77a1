"""Connections between parts of a cluster: each shows a certificate, one that names a part is that part's."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from sessauth.client._feed import FeedClient, FeedServers
from sessauth.client._target import Tls
from sessauth.errors import ConfigError
from sessauth.server.config import from_dict
from sessauth.server.rpc.authenticate import PeerIdentity
from sessauth.state.replication.carrier import CarrierError
from sessauth.v1 import key_service_pb2 as keys
from tests.support.carried import OneEngine
from tests.support.cluster_servers import ClusterServer, two_servers
from tests.support.etcd_tls import write
from tests.support.feeding import Cluster, cluster
from tests.support.issuer import Issued
from tests.support.service import Caller, RpcError, wait_until
from tests.support.watching import open_session

_LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
TRUST: str = "spiffe://example.org"


class PartCertificates:
    """A CA of parts, and what it signed, in a folder."""

    def __init__(self, folder: Path) -> None:
        """Make the CA."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.ca = Issued.ca("parts")
        self.authority = write(folder / "parts-ca.pem", self.ca.pem)

    def pair(self, file: str, part: str, **issued: Any) -> tuple[Path, Path]:
        """Write a certificate for localhost that names ``part``, and its key, over those of the same name.

        ``part`` empty: it names none. ``by`` is another CA.
        """
        names: list[x509.GeneralName] = [x509.DNSName("localhost"), _LOOPBACK]
        if part:
            names.append(x509.UniformResourceIdentifier(f"{TRUST}/sessauth/{part}"))
        by = issued.pop("by", self.ca)
        made = by.issue("part", names, **issued)
        certificate = write(self.folder / f"{file}.pem", made.pem)
        private_key = write(self.folder / f"{file}.key", made.key_pem)
        private_key.chmod(0o600)
        return certificate, private_key


HOST = "host-1"
EXPIRED = (-3, -1)


@pytest.fixture(scope="module", autouse=True)
def _changed_files_are_seen_soon() -> Iterator[None]:
    """Look at a client's files more often than once a second."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sessauth.crypto.pem._CHECK_EVERY_S", 0.05)
        yield


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> PartCertificates:
    """The CA of all parts."""
    return PartCertificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, parts: PartCertificates
) -> Iterator[tuple[ClusterServer, ClusterServer]]:
    """Two servers by TLS; the first one leads."""

    def settings(name: str) -> dict[str, dict[str, str]]:
        certificate, private_key = map(str, parts.pair(name, f"server/{name}"))
        authority = str(parts.authority)
        files = {"certificate": certificate, "private_key": private_key}
        return {"tls": {**files, "client_ca": authority, "server_ca": authority}}

    engine = OneEngine()
    with pytest.MonkeyPatch.context() as patched:
        for module in ("membership", "begin"):
            patched.setattr(f"sessauth.server.cluster.{module}.open_carrier", lambda *_: engine)
        folder = tmp_path_factory.mktemp("cluster")
        with two_servers(folder, ["127.0.0.1:1"], settings("one"), settings("two")) as made:
            yield made


@pytest.fixture(scope="module")
def fed(parts: PartCertificates) -> Iterator[Cluster]:
    """A server that followers reach by TLS."""
    certificate, private_key = map(str, parts.pair("feeds", "server/one"))
    with cluster() as made:
        made.servers[0].close()
        made.servers[0] = made.listen(
            made.leader,
            tcp={
                "address": "localhost:0",
                "certificate": certificate,
                "private_key": private_key,
                "client_ca": str(parts.authority),
            },
        )
        yield made


def source(fed: Cluster, authority: Path, pair: tuple[Path | None, Path | None]) -> FeedClient:
    """Return a follower's source that shows a certificate."""
    servers = FeedServers.resolve(
        [f"localhost:{fed.servers[0].port}"], credential_file=fed.credential, tls=Tls(authority, *pair)
    )
    return FeedClient(servers, HOST, 3_000)


def refusal(fed: Cluster, authority: Path, pair: tuple[Path | None, Path | None]) -> str:
    """Return the reason why a follower gets no barrier; empty if it gets one."""
    asking = source(fed, authority, pair)
    try:
        asking.barrier()
    except CarrierError as error:
        return str(error)
    finally:
        asking.close()
    return ""


STRANGERS: dict[str, dict[str, Any]] = {
    "another CA": {"by": Issued.ca("parts")},
    "expired": {"days": EXPIRED},
    "not yet valid": {"days": (1, 2)},
}


@pytest.mark.parametrize("case", [*STRANGERS, "none"])
def test_a_follower_without_a_good_certificate_gets_no_connection(
    fed: Cluster, parts: PartCertificates, case: str
) -> None:
    """Its credential is asked for by nobody."""
    pair: tuple[Path | None, Path | None] = (None, None)
    if case != "none":
        pair = parts.pair("stranger", f"follower/{HOST}", **STRANGERS[case])
    assert "can't be reached" in refusal(fed, parts.authority, pair)


@pytest.mark.parametrize(
    ("part", "word", "strictly"),
    [
        (f"follower/{HOST}", "", ""),
        ("", "", "is required"),
        ("follower/host-2", "is that of host-2, not of host-1", "is that of host-2, not of host-1"),
        ("server/one", "is that of server/one", "is that of server/one"),
        (f"server/{HOST}", f"is that of server/{HOST}", f"is that of server/{HOST}"),
        (f"gateway/{HOST}", "", "is required"),
    ],
)
def test_the_name_in_a_followers_certificate(
    fed: Cluster, parts: PartCertificates, part: str, word: str, strictly: str
) -> None:
    """A certificate that names another host is refused; one that names none is, where names are required."""
    pair = parts.pair("named", part)
    for required, expected in ((False, word), (True, strictly)):
        fed.servers[0].feed.parts = PeerIdentity(required=required)
        found = refusal(fed, parts.authority, pair)
        assert expected in found and bool(expected) == bool(found)


def test_a_followers_certificate_is_read_again(fed: Cluster, parts: PartCertificates) -> None:
    """A good one counts without a restart, and a broken one replaces nothing."""
    fed.servers[0].feed.parts = PeerIdentity()
    pair = parts.pair("rotated", f"follower/{HOST}", days=EXPIRED)
    asking = source(fed, parts.authority, pair)
    try:
        with pytest.raises(CarrierError):
            asking.barrier()
        parts.pair("rotated", f"follower/{HOST}")
        assert wait_until(lambda: answers(asking))
        pair[0].write_bytes(b"no certificate")
        assert not wait_until(lambda: not answers(asking), 0.5)
    finally:
        asking.close()


def answers(asking: FeedClient) -> bool:
    """Return True if it gets a barrier."""
    with suppress(CarrierError):
        asking.barrier()
        return True
    return False


def test_a_server_hands_on_by_its_certificate(servers: tuple[ClusterServer, ClusterServer]) -> None:
    """The leader's listener lets nobody in without one."""
    assert hands_on(servers[1])


def test_a_stranger_gets_no_connection(
    servers: tuple[ClusterServer, ClusterServer], parts: PartCertificates
) -> None:
    """Not even for what anybody may ask."""
    credentials = grpc.ssl_channel_credentials(parts.authority.read_bytes())
    stranger = Caller(f"localhost:{servers[0].control.tcp_port}", "", channel_credentials=credentials)
    with pytest.raises(RpcError) as refused:
        stranger.call("KeyService/ListVerifierKeys", keys.ListVerifierKeysRequest(), timeout=3.0)
    stranger.close()
    assert refused.value.word == ""


@pytest.mark.parametrize("case", STRANGERS)
def test_a_servers_certificate_is_read_again(
    servers: tuple[ClusterServer, ClusterServer], parts: PartCertificates, case: str
) -> None:
    """Once it is no good nothing is handed on; a good one counts without a restart."""
    two = servers[1]
    parts.pair("two", "server/two", **STRANGERS[case])
    assert wait_until(lambda: not hands_on(two))
    parts.pair("two", "server/two")
    assert wait_until(lambda: hands_on(two))


@pytest.mark.parametrize("part", ["server/three", "follower/two", "follower/host-1"])
def test_the_name_in_a_servers_certificate(
    servers: tuple[ClusterServer, ClusterServer], parts: PartCertificates, part: str
) -> None:
    """A certificate that names another has its signed statement refused."""
    two = servers[1]
    parts.pair("two", part)
    assert wait_until(lambda: not hands_on(two))
    parts.pair("two", "server/two")
    assert wait_until(lambda: hands_on(two))


def test_a_servers_certificate_without_a_name(
    servers: tuple[ClusterServer, ClusterServer], parts: PartCertificates
) -> None:
    """It is good for any server, unless the leader requires names."""
    two, authenticator = servers[1], servers[0].control.serving._router._authenticator
    parts.pair("two", "server/three")
    assert wait_until(lambda: not hands_on(two))
    parts.pair("two", "")
    assert wait_until(lambda: hands_on(two))
    authenticator.parts = PeerIdentity(required=True)
    assert not hands_on(two)
    parts.pair("two", "server/two")
    assert wait_until(lambda: hands_on(two))
    authenticator.parts = PeerIdentity()


def hands_on(server: ClusterServer) -> bool:
    """Return True if a change that is asked for here is made."""
    try:
        open_session(server.operator)
    except RpcError as error:
        if error.word == "NOT_LEADER":
            return False
        raise
    return True


def test_settings_that_contradict_each_other() -> None:
    """Names in certificates can't be required of clients that show none."""
    cluster_section = {"name": "one", "address": "a:1", "engine": ["a:2"], "insecure_engine": True}
    tcp = {"address": "a:1", "insecure_tcp": True}
    for more, key in (
        ({"require_client_certificates": True}, "cluster.require_client_certificates"),
        ({"certificate": "a.pem"}, "cluster.certificate"),
    ):
        with pytest.raises(ConfigError, match=key):
            from_dict({"tcp": tcp, "cluster": {**cluster_section, **more}})
