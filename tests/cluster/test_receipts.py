"""Receipts of a cluster name servers and following hosts, and wait for those that may allow."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessauth.client._feed import FeedClient, FeedServers
from sessauth.model.receipt import (
    HOSTS_VERSION,
    Receipt,
    ReceiptState,
    SignedReceipt,
    VerifierState,
    verify,
)
from sessauth.server.keys.credentials import CredentialFile
from sessauth.state.replication.carrier import CarrierError, Leader
from sessauth.v1 import evidence_service_pb2 as pb
from sessauth.v1 import feed_service_pb2 as feeds
from sessauth.v1 import session_service_pb2 as sessions
from tests.support.carried import OneEngine
from tests.support.cluster_servers import ClusterServer, two_servers
from tests.support.service import Caller, RpcError, wait_until
from tests.support.watching import open_session

BOUND_MS = 1_500
ACKNOWLEDGED, OUTLIVED = VerifierState.ACKNOWLEDGED, VerifierState.OUTLIVED
Pair = tuple[ClusterServer, ClusterServer]


class Stub:
    """A follower of one server: it states what its folder would hold, in a proof every 20 ms."""

    def __init__(self, server: ClusterServer, credential: Path) -> None:
        """Follow a server from record 0 on."""
        servers = FeedServers.resolve([str(server.config.socket)], credential_file=credential)
        self.source = FeedClient(servers, "host-1", BOUND_MS)
        self.applied = 0
        self.proofs = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(0.02):
            try:
                self.applied += len(self.source.read(self.applied, 64))
                # States it, as the next read of a follower does.
                self.source.read(self.applied, 1)
                self.source.barrier()
                self.proofs += 1
            except CarrierError:
                continue

    def stop(self) -> None:
        """Be gone, without a word."""
        self._stopping.set()
        self._thread.join()
        self.source.close()


@pytest.fixture
def engine() -> OneEngine:
    """The engine of both servers."""
    return OneEngine()


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: OneEngine) -> Iterator[Pair]:
    """Two servers over an engine in memory; the first one leads, and both have proved that they are fresh."""
    for module in ("membership", "begin"):
        monkeypatch.setattr(f"sessauth.server.cluster.{module}.open_carrier", lambda *_: engine)
    with two_servers(tmp_path, ["127.0.0.1:1"]) as servers:
        yield servers


@pytest.fixture
def credential(tmp_path: Path, pair: Pair) -> Path:
    """The credential of a follower, which both servers know."""
    made = CredentialFile(pair[0].config.credentials_file).add("host-1", "follower")
    shutil.copy(pair[0].config.credentials_file, pair[1].config.credentials_file)
    file = tmp_path / "host-1.credential"
    file.write_text(made)
    file.chmod(0o600)
    return file


@pytest.fixture(params=[0, 1], ids=["of the leader", "of the other server"])
def stub(request: pytest.FixtureRequest, pair: Pair, credential: Path) -> Iterator[Stub]:
    """A host that follows one of the servers, and has proofs."""
    made = Stub(pair[request.param], credential)
    assert wait_until(lambda: made.proofs > 2, 20)
    yield made
    made.stop()


def ended(server: ClusterServer) -> tuple[bytes, Receipt]:
    """Open and end a session at a server; return its id and the receipt of the end."""
    session = open_session(server.operator)
    answer = server.operator.call(
        "SessionService/EndSession", sessions.EndSessionRequest(session_id=session.id)
    )
    return session.id, read(server, answer.receipt)


def receipt(server: ClusterServer, session_id: bytes) -> Receipt:
    """Return the receipt as it is made now."""
    answer = server.operator.call("EvidenceService/GetReceipt", pb.GetReceiptRequest(session_id=session_id))
    return read(server, answer.receipt)


def read(server: ClusterServer, signed: pb.GetReceiptResponse) -> Receipt:
    """Return a receipt that a key of the service signed."""
    keys = server.control.writer.keys()
    return verify(SignedReceipt(signed.payload, signed.issuer_key_id, signed.signature), keys)  # type: ignore[attr-defined]


def states(made: Receipt) -> dict[str, VerifierState]:
    """Return the states of its hosts."""
    return {each.name: each.state for each in made.hosts}


def test_an_end_is_closed_by_all_hosts(pair: Pair, stub: Stub) -> None:
    """Both servers and the host hold it; whichever server was asked."""
    for server in pair:
        session_id, made = ended(server)
        assert wait_until(lambda s=server, i=session_id: receipt(s, i).state is ReceiptState.CLOSED)
        made = receipt(server, session_id)
        assert made.version == HOSTS_VERSION and made.record
        assert states(made) == dict.fromkeys(("host-1", "server/one", "server/two"), ACKNOWLEDGED)
        assert [each.name for each in made.verifiers] == ["sessauth/control"]


def test_a_host_that_is_gone_keeps_it_open_for_its_bound(pair: Pair, stub: Stub) -> None:
    """Then it denies by itself; later ends don't wait for it, and it can be removed."""
    one, _ = pair
    stub.stop()
    session_id, made = ended(one)
    assert made.state is ReceiptState.PARTIAL and "host-1" in made.waiting
    with pytest.raises(RpcError) as active:
        one.operator.call("FeedService/RemoveHost", feeds.RemoveHostRequest(host="host-1"))
    assert active.value.word == "HOST_ACTIVE"
    assert wait_until(lambda: receipt(one, session_id).state is ReceiptState.CLOSED, 20)
    assert states(receipt(one, session_id))["host-1"] is OUTLIVED

    # Until the leader has not heard it for a bound, by the last beat that named it.
    assert wait_until(lambda: states(ended(one)[1])["host-1"] is OUTLIVED, 20)
    further, made = ended(one)
    assert wait_until(lambda: receipt(one, further).state is ReceiptState.CLOSED)
    one.operator.call("FeedService/RemoveHost", feeds.RemoveHostRequest(host="host-1"))
    assert wait_until(lambda: "host-1" not in states(ended(one)[1]), 20)


def test_a_take_over_between_end_and_receipt(pair: Pair, stub: Stub, credential: Path) -> None:
    """The new leader takes all for fresh, and waits a bound; what was CLOSED stays so."""
    one, two = pair
    closed, _ = ended(one)
    assert wait_until(lambda: receipt(one, closed).state is ReceiptState.CLOSED)
    # A receipt is stored behind its answer.
    assert wait_until(lambda: two.control.writer.receipt(closed) is not None)
    open_id, _ = ended(one)
    stub.stop()
    one.stop()
    assert wait_until(lambda: two.leads, 20)
    kept = receipt(two, closed)
    assert kept.state is ReceiptState.CLOSED and states(kept)["server/one"] is ACKNOWLEDGED
    assert wait_until(lambda: receipt(two, open_id).state is ReceiptState.CLOSED, 20)
    assert states(receipt(two, open_id))["server/two"] is ACKNOWLEDGED


def test_a_host_without_a_row_gets_no_barrier(pair: Pair, credential: Path, engine: OneEngine) -> None:
    """While no leader can be reached nobody can register it."""
    one, two = pair
    caller = Caller(f"unix:{two.config.socket}", credential.read_text())
    request = feeds.BarrierRequest(host="host-9", instance=b"i" * 16, staleness_ms=BOUND_MS)
    assert wait_until(lambda: accepts(caller, request), 20)
    assert two.control.writer.host("host-9") is not None
    one.stop()
    assert wait_until(lambda: two.leads, 20)
    caller.call("FeedService/Barrier", request)
    engine.leading = Leader("three", "127.0.0.1:1", 99)
    two.control.membership.carried.step_down("the test")  # type: ignore[union-attr]
    request.host = "host-10"
    with pytest.raises(RpcError):
        caller.call("FeedService/Barrier", request)
    assert two.control.writer.host("host-10") is None
    for field, wrong in (("staleness_ms", 1), ("staleness_ms", 10**6), ("instance", b""), ("host", "a/b")):
        bad = feeds.BarrierRequest(host="host-9", instance=b"i" * 16, staleness_ms=BOUND_MS)
        setattr(bad, field, wrong)
        with pytest.raises(RpcError) as refused:
            caller.call("FeedService/Barrier", bad)
        assert refused.value.word == "INVALID_ARGUMENT"
    caller.close()


def accepts(caller: Caller, request: feeds.BarrierRequest) -> bool:
    """Return True once a barrier is answered: servers read their credentials now and then."""
    try:
        return bool(caller.call("FeedService/Barrier", request).number)
    except RpcError:
        return False
