"""A PostgreSQL that is stopped, killed, cut off, or without the standby that it waits for."""

from __future__ import annotations

import ipaddress
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509

from sessauth.carriers.postgres.postgres_carrier import PostgresCarrier, Schema
from sessauth.carriers.postgres.session import Lost, PostgresSession, hosts
from sessauth.state.replication.carrier import CarrierError
from tests.support.interop_server import free_port
from tests.support.issuer import Issued
from tests.support.log_writer import (
    APPENDED,
    FENCED,
    REFUSED,
    START,
    UNKNOWN,
    LogWriter,
    digest,
    new_leader,
    until,
)
from tests.support.postgres_server import PostgresServer, postgres_server
from tests.support.service import wait_until
from tests.support.tcp_proxy import TcpProxy

Open = Callable[..., PostgresCarrier]
STANDBYS = "synchronous_standby_names"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that tests of this module disturb, and leave as it was."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def cluster_id() -> bytes:
    """The log of one test."""
    return secrets.token_bytes(16)


@pytest.fixture
def connect(server: PostgresServer, cluster_id: bytes) -> Iterator[Open]:
    """Connect carriers of one log, to the server or to these ports."""
    opened = list[PostgresCarrier]()

    def connect(*ports: int, alone: bool = True) -> PostgresCarrier:
        uri = server.uri(*(ports or (server.port,)))
        opened.append(PostgresCarrier(uri, cluster_id, insecure=True, alone=alone))
        return opened[-1]

    yield connect
    for carrier in opened:
        carrier.close()


@pytest.fixture
def proxy(server: PostgresServer) -> Iterator[TcpProxy]:
    """A way to the server that can be cut."""
    proxy = TcpProxy(server.port)
    yield proxy
    proxy.close()


def _port(proxy: TcpProxy) -> int:
    return int(proxy.address.rpartition(":")[2])


def test_a_silent_server_makes_an_append_unknown(server: PostgresServer, connect: Open) -> None:
    """Its processes are stopped, its connections stay: calls end in their time, and the record comes once."""
    one = connect()
    writer = LogWriter(one, new_leader(one))
    writer.append(b"first")
    one.barrier("one", b"before")

    server.stop()
    try:
        begin = time.monotonic()
        with ThreadPoolExecutor(2) as pool:
            appended = pool.submit(writer.attempt, b"second", 1_500)
            barrier = pool.submit(one.barrier, "one", b"during")
            assert appended.result().status is UNKNOWN
            with pytest.raises(CarrierError):
                barrier.result()
        assert time.monotonic() - begin < 5
    finally:
        server.go_on()

    writer.append(b"second")
    one.barrier("one", b"last")
    # What the server still had of the second barrier does not replace the third.
    time.sleep(0.3)
    assert one.beats() == {"one": b"last"}
    assert one.read(0, 10) == [(1, b"first"), (2, b"second")]


def test_a_killed_server_loses_nothing(server: PostgresServer, connect: Open) -> None:
    """An append waits for the restart, and a wait ends with its record."""
    one, two = connect(), connect()
    writer = LogWriter(one, new_leader(one))
    writer.append(b"first")

    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(two.wait, 1, 30_000)
        server.kill()
        appended = pool.submit(writer.attempt, b"second", 30_000)
        time.sleep(0.2)
        server.start()
        assert appended.result().status is APPENDED
        waiting.result()

    assert two.read(0, 10) == [(1, b"first"), (2, b"second")]
    assert one.hold(writer.leader)


def test_a_lost_answer_is_not_a_lost_record(proxy: TcpProxy, connect: Open) -> None:
    """The connection ends once the commit was sent: the next one finds the record appended."""
    one = connect(_port(proxy))
    writer = LogWriter(one, new_leader(one))
    writer.append(b"first")

    proxy.swallow_answers = True
    with ThreadPoolExecutor(1) as pool:
        appended = pool.submit(writer.attempt, b"second")
        until(lambda: len(connect().read(0, 10)) == 2)
        proxy.swallow_answers = False
        proxy.cut()
        assert appended.result().status is APPENDED

    assert connect().read(0, 10) == [(1, b"first"), (2, b"second")]


def test_a_retry_of_an_unknown_append_is_answered_once(proxy: TcpProxy, connect: Open) -> None:
    """The call is unknown; the same bytes later are appended, others fenced."""
    one = connect(_port(proxy))
    writer = LogWriter(one, new_leader(one))
    proxy.swallow_answers = True
    assert writer.attempt(b"first", 1_200).status is UNKNOWN
    proxy.swallow_answers = False
    proxy.cut()

    assert writer.attempt(b"other").status is FENCED
    assert writer.attempt(b"first").status is APPENDED
    assert one.read(0, 10) == [(1, b"first")]


def test_requests_that_do_not_arrive_are_not_records(proxy: TcpProxy, connect: Open) -> None:
    """One way is dead: unknown, and nothing is there."""
    one = connect(_port(proxy))
    writer = LogWriter(one, new_leader(one))
    proxy.swallow_requests = True
    assert writer.attempt(b"first", 1_200).status is UNKNOWN
    assert connect().read(0, 10) == []
    proxy.swallow_requests = False
    proxy.cut()

    writer.append(b"second")
    assert connect().read(0, 10) == [(1, b"second")]


def test_the_next_host_is_asked(server: PostgresServer, proxy: TcpProxy, connect: Open) -> None:
    """One host refuses connections, and one is silent."""
    proxy.swallow_answers = True
    one = connect(free_port(), _port(proxy), server.port)

    writer = LogWriter(one, new_leader(one))
    writer.append(b"first")

    assert one.read(0, 10) == [(1, b"first")]


def refusal(carrier: PostgresCarrier) -> str:
    """Return why a first record is not appended; on a busy machine it may be that no answer came in time."""
    answer = carrier.append(1, START, b"first", digest(b"first"), 300)
    assert answer.status is UNKNOWN
    return answer.detail


def test_a_host_that_takes_no_writes_is_left(server: PostgresServer, connect: Open) -> None:
    """A standby is one, and a former primary that became one."""
    one = connect()
    server.configure("default_transaction_read_only", "on")
    try:
        assert wait_until(lambda: "read-only" in refusal(one))
    finally:
        server.configure("default_transaction_read_only", "off")
    assert one.leader() is None


@pytest.fixture
def no_standby(server: PostgresServer, connect: Open) -> Iterator[None]:
    """A server that waits for a standby which is not there, once the tables are."""
    connect().barrier("probe", b"")
    yield
    server.configure(STANDBYS, "")


def test_without_its_standby_nothing_is_acknowledged(
    server: PostgresServer, connect: Open, no_standby: None
) -> None:
    """An append is unknown, also once its record is to be seen; barriers and beats prove nothing."""
    one = connect()
    writer = LogWriter(one, new_leader(one))
    writer.append(b"first")

    server.configure(STANDBYS, "nobody")
    with ThreadPoolExecutor(3) as pool:
        appended = pool.submit(writer.attempt, b"second", 1_500)
        calls = [pool.submit(connect().barrier, "two", b""), pool.submit(connect().beats)]
        assert appended.result().status is UNKNOWN
        for call in calls:
            with pytest.raises(CarrierError):
                call.result()
    # A restart makes what was only committed here visible.
    server.kill()
    server.start()
    assert connect().read(1, 10) == [(2, b"second")]
    assert writer.attempt(b"second", 800).status is UNKNOWN
    assert writer.attempt(b"other", 800).status is UNKNOWN
    server.configure(STANDBYS, "")

    writer.append(b"second")
    assert one.read(0, 10) == [(1, b"first"), (2, b"second")]


def test_a_cancelled_wait_for_the_standby_is_no_acknowledgement(
    server: PostgresServer, connect: Open, cluster_id: bytes, no_standby: None
) -> None:
    """PostgreSQL says COMMIT then, with a warning: committed here alone."""
    one = connect()
    writer = LogWriter(one, new_leader(one))
    [host] = hosts(server.conninfo, insecure=True)
    session = PostgresSession(host, time.monotonic() + 5, lambda: False)
    beat = Schema(cluster_id, alone=True).barrier("two", b"", 0)
    server.configure(STANDBYS, "nobody")
    cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"

    with ThreadPoolExecutor(2) as pool:
        appended = pool.submit(writer.attempt, b"first", 1_500)
        committed = pool.submit(session.transact, beat, time.monotonic() + 20)
        while not (appended.done() and committed.done()):
            server.execute(cancel)
            time.sleep(0.05)
        assert appended.result().status is UNKNOWN
        with pytest.raises(Lost, match="warned"):
            committed.result()
    session.close()
    assert one.read(0, 10) == [(1, b"first")]


def test_a_server_without_a_standby_is_refused(connect: Open) -> None:
    """Unless it is permitted: nothing is led, appended or proven."""
    one, two = connect(), connect(alone=False)
    leader = new_leader(one)

    answer = two.append(leader.term, START, b"first", digest(b"first"), 2_000)

    assert answer.status is REFUSED
    assert STANDBYS in answer.detail
    for call in (lambda: two.barrier("two", b""), two.beats, lambda: two.lead("two", "two:1", 1_000)):
        with pytest.raises(CarrierError, match=STANDBYS):
            call()
    assert one.read(0, 10) == []


def test_a_certificate_is_verified(server: PostgresServer, cluster_id: bytes, tmp_path: Path) -> None:
    """A server of another CA, or without TLS, gets nothing."""
    ca, other = Issued.ca("ca of a database"), Issued.ca("another ca")
    issued = ca.issue("database", [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    carriers = []
    for name, issuer in (("ca.pem", ca), ("other.pem", other)):
        (tmp_path / name).write_bytes(issuer.pem)
        uri = server.conninfo.replace("sslmode=disable", f"sslmode=verify-full&sslrootcert={tmp_path / name}")
        carriers.append(PostgresCarrier(uri, cluster_id, alone=True))
    right, wrong = carriers

    assert wait_until(lambda: "SSL" in refusal(wrong))
    server.use_tls(issued.pem, issued.key_pem)

    LogWriter(right, new_leader(right)).append(b"first")
    assert wait_until(lambda: "certificate" in refusal(wrong))
    for carrier in carriers:
        carrier.close()
    server.configure("ssl", "off")


def test_a_missing_right_is_a_refusal(server: PostgresServer, connect: Open, cluster_id: bytes) -> None:
    """The same statement would fail again; an attempt before without an answer makes it unknown."""
    one = connect()
    writer = LogWriter(one, new_leader(one))
    writer.append(b"first")
    table = f"sessauth_{cluster_id.hex()}.log"

    server.execute_in("sessauth", f"REVOKE INSERT ON {table} FROM sessauth")
    answer = writer.attempt(b"second")

    assert answer.status is REFUSED
    assert "42501" in answer.detail
    server.execute_in("sessauth", f"GRANT INSERT ON {table} TO sessauth")
    writer.append(b"second")


def test_a_dropped_log_takes_nothing_of_its_past(
    server: PostgresServer, connect: Open, cluster_id: bytes
) -> None:
    """The tables are made anew, with a higher term and no head."""
    one = connect()
    writer = LogWriter(one, new_leader(one))
    writer.append(b"first")

    server.execute_in("sessauth", f"DROP SCHEMA sessauth_{cluster_id.hex()} CASCADE")
    time.sleep(1.1)

    assert writer.attempt(b"second").status in (FENCED, REFUSED)
    two = connect()
    assert two.barrier("two", b"").head == START
    assert new_leader(two, "two").term > writer.leader.term
    assert writer.attempt(b"second").status is FENCED
