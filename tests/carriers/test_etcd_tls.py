"""TLS with client certificates, by files that are read again when they change."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessauth.carriers.etcd.carrier import EtcdCarrier
from sessauth.crypto.pem import ClientCredentials, ClientFiles
from sessauth.errors import ConfigError
from sessauth.state.replication.carrier import CarrierError
from tests.support.etcd_cluster import EtcdCluster
from tests.support.etcd_tls import EtcdTls, write
from tests.support.issuer import Issued
from tests.support.log_writer import LogWriter, new_leader, until


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up soon where no handshake can succeed."""
    monkeypatch.setattr("sessauth.carriers.etcd.carrier.PATIENCE_S", 1.0)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> EtcdTls:
    """The certificates."""
    return EtcdTls(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def cluster(tls: EtcdTls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """A member that only clients of the CA connect to."""
    cluster = EtcdCluster(tmp_path_factory.mktemp("etcd"), 1, {**tls.options, "unsafe-no-fsync": "true"})
    try:
        cluster.start()
        carrier = EtcdCarrier(cluster.addresses, b"probe", tls.client("probe"))
        cluster.await_quorum(carrier)
        carrier.close()
        yield cluster
    finally:
        cluster.close()


def test_a_certificate_of_the_ca_is_needed(cluster: EtcdCluster, tls: EtcdTls) -> None:
    """The log is carried with one; one of another CA, or plain text, gets no answer."""
    carrier = EtcdCarrier(cluster.addresses, b"a", tls.client("a"))
    LogWriter(carrier, new_leader(carrier)).append(b"first")
    foreign = EtcdCarrier(cluster.addresses, b"a", tls.client("foreign", Issued.ca("ca of etcd")))
    plain = EtcdCarrier(cluster.addresses, b"a")

    assert carrier.read(0, 10) == [(1, b"first")]
    for refused in (foreign, plain):
        with pytest.raises(CarrierError):
            refused.read(0, 10)
        refused.close()
    carrier.close()


def test_a_server_of_another_ca_is_not_used(cluster: EtcdCluster, tls: EtcdTls, tmp_path: Path) -> None:
    """The member's certificate must be of the CA that the files name."""
    good = tls.client("b")
    other = write(tmp_path / "other.pem", Issued.ca("other").pem)
    carrier = EtcdCarrier(cluster.addresses, b"b", ClientFiles(other, good.certificate, good.private_key))

    with pytest.raises(CarrierError):
        carrier.leader()
    carrier.close()


def test_changed_files_are_used(cluster: EtcdCluster, tls: EtcdTls) -> None:
    """A client with a foreign certificate is let in once its files are of the CA, without a restart."""
    carrier = EtcdCarrier(cluster.addresses, b"c", tls.client("c", Issued.ca("ca of etcd")))
    with pytest.raises(CarrierError):
        carrier.leader()

    tls.client("c")

    until(lambda: _answers(carrier))
    LogWriter(carrier, new_leader(carrier)).append(b"first")
    carrier.close()


def _answers(carrier: EtcdCarrier) -> bool:
    try:
        return carrier.leader() is None
    except CarrierError:
        return False


def test_files_that_can_not_be_used_change_nothing(
    tls: EtcdTls, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Half of a new pair is logged once, and what is in use stays; the whole pair is used."""
    monkeypatch.setattr("sessauth.crypto.pem._CHECK_EVERY_S", 0.0)
    files = tls.client("d")
    credentials = ClientCredentials(files, "the files")
    in_use = credentials.current
    assert not credentials.changed()
    pair = tls.ca.issue("sessauth")

    write(files.certificate, pair.pem)
    with caplog.at_level(logging.ERROR):
        assert not credentials.changed()
        assert not credentials.changed()
    assert credentials.current is in_use
    assert len(caplog.records) == 1
    write(files.private_key, pair.key_pem)
    assert credentials.changed()
    files.private_key.unlink()
    assert not credentials.changed()


def test_files_must_be_good_at_first(tls: EtcdTls, tmp_path: Path) -> None:
    """A missing file, and a key of another certificate, are errors of the configuration."""
    good, other = tls.client("e"), tls.client("f")

    for files in (
        ClientFiles(tmp_path / "none", good.certificate, good.private_key),
        ClientFiles(good.ca, good.certificate, other.private_key),
    ):
        with pytest.raises(ConfigError):
            EtcdCarrier(["127.0.0.1:1"], b"e", files)
