"""The end of a session, proven: with two workers, and gateways that register, die and come back."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessauth.audit.write.stream import AuditOptions
from sessauth.client import Client, RegisteredVerifier
from sessauth.errors import Rejected, UsageError
from sessauth.model.receipt import Receipt, ReceiptState, VerifierState, verify
from sessauth.server.keys.credentials import CredentialFile
from sessauth.server.process.init import Initialised, initialise
from sessauth.tokens.token import Token
from sessauth.verifier.verifier import Verifier
from tests.support.recorded import records
from tests.support.registered_gateway import Gateway
from tests.support.service import Caller, ServerProcess, child_pids, home_folder, serves, wait_until

SETTINGS = {"SESSAUTH_SERVER_WORKERS": "2"}
SERVER = {"sessauth/control", "sessauth/worker-0", "sessauth/worker-1"}
SHORT_MS, LONG_MS = 1_000, 60_000
# Within a bound a gateway is killed and a session ended: on a busy machine that takes one of these.
BOUNDS_MS = (1_000, 3_000, 9_000)


class RestartableServer:
    """A server with two workers, its operator, and a credential for gateways."""

    def __init__(self, made: Initialised) -> None:
        """Start it, and wait until all three processes serve."""
        self.made = made
        self.gateway_file = made.home / "gw.credential"
        self.gateway_file.touch(mode=0o600)
        credential = CredentialFile(made.state_dir / "credentials.toml").add("gw", "gateway", ("gw",))
        self.gateway_file.write_text(credential + "\n")
        self.start()
        self.client = Client(str(made.socket), timeout_ms=10_000)

    def start(self) -> None:
        """Serve."""
        self.process = ServerProcess.start(self.made.home, **SETTINGS)
        operator = self.made.credential_file.read_text().strip()
        sockets = [self.made.socket, *(self.made.home / "run" / f"check-{i}.sock" for i in range(2))]
        callers = [Caller(f"unix:{path}", operator) for path in sockets]
        serving = wait_until(lambda: all(serves(caller) for caller in callers))
        for caller in callers:
            caller.close()
        if not serving:
            self.process.kill()
        assert serving, self.process.log

    def gateway(self, name: str, staleness_ms: int = LONG_MS) -> Gateway:
        """Start a gateway that registers."""
        return Gateway(self.made.state_dir, self.made.socket, self.gateway_file, name, staleness_ms)

    def session(self) -> tuple[bytes, Token]:
        """Open a session and mint a token of it."""
        session = self.client.open_session(subject="agent", ceiling=["read:files/**"], ttl_ms=600_000)
        return session.id, self.client.mint(session.id, ["read:files/**"], ["gw"])

    def end(self, session_id: bytes) -> Receipt:
        """End a session; return its receipt, verified."""
        signed = self.client.end(session_id).receipt
        assert signed is not None
        return verify(signed, self.client.list_keys(), session_id=session_id)

    def receipt(self, session_id: bytes) -> Receipt:
        """Return the receipt that a session has now, verified."""
        return verify(self.client.get_receipt(session_id), self.client.jwks(), session_id=session_id)

    def worker_pids(self) -> list[int]:
        """Return the ids of the worker processes."""
        return child_pids(self.process.process.pid)

    def workers(self) -> list[RegisteredVerifier]:
        """Return the workers, as the server knows them."""
        return [each for each in self.client.list_verifiers() if each.kind == "WORKER"]

    def closed(self, session_id: bytes) -> bool:
        """Return True if a session's receipt says CLOSED."""
        return bool(self.receipt(session_id).state)


@pytest.fixture(scope="module")
def server() -> Iterator[RestartableServer]:
    """One server for all tests here; some start its server again."""
    with home_folder() as home:
        found = RestartableServer(initialise(home))
        yield found
        found.client.close()
        found.process.kill()


def states(receipt: Receipt) -> dict[str, VerifierState]:
    """Return who stands where."""
    return {each.name: each.state for each in receipt.verifiers}


def test_closed_when_all_have_acknowledged(server: RestartableServer) -> None:
    """Two workers, two gateways and the control process: each is named, and none allows it any more."""
    with server.gateway("gw-1") as one, server.gateway("gw-2") as two:
        session_id, token = server.session()
        assert (one.check(token.text), two.check(token.text)) == ("ALLOWED", "ALLOWED")

        server.end(session_id)

        assert wait_until(lambda: server.closed(session_id))
        receipt = server.receipt(session_id)
        assert states(receipt) == dict.fromkeys(SERVER | {"gw-1", "gw-2"}, VerifierState.ACKNOWLEDGED)
        assert all(each.revision >= receipt.revision for each in receipt.verifiers)
        assert (one.check(token.text), two.check(token.text)) == ("SESSION_ENDED", "SESSION_ENDED")
        # A verifier that comes later changes nothing of what is finished.
        assert server.receipt(session_id) == receipt
        one.leave()
        two.leave()
    assert {each.name for each in server.client.list_verifiers() if each.state is VerifierState.LEFT} >= {
        "gw-1",
        "gw-2",
    }


def test_a_killed_gateway_is_named_until_it_is_back(server: RestartableServer) -> None:
    """PARTIAL names it, for each end; its return under its name closes them all."""
    with server.gateway("gw-3") as gateway:
        session_id, token = server.session()
        assert gateway.check(token.text) == "ALLOWED"
        gateway.kill()
    receipt = server.end(session_id)
    assert receipt.state is ReceiptState.PARTIAL and "gw-3" in receipt.waiting
    assert wait_until(lambda: server.receipt(session_id).waiting == ("gw-3",))
    others = [server.session()[0] for _ in range(5)]
    assert all("gw-3" in server.end(other).waiting for other in others)

    with server.gateway("gw-3") as gateway:
        assert wait_until(lambda: server.closed(session_id))
        assert states(server.receipt(session_id))["gw-3"] is VerifierState.ACKNOWLEDGED
        assert wait_until(lambda: all(server.closed(other) for other in others))
        assert gateway.check(token.text) == "SESSION_ENDED"
        gateway.leave()


def test_a_gateway_that_can_not_be_heard_is_outlived(server: RestartableServer) -> None:
    """The end is CLOSED without it once its bound has passed."""
    for bound_ms in BOUNDS_MS:
        with server.gateway("gw-4", bound_ms) as gateway:
            session_id, _ = server.session()
            gateway.kill()
        waiting = server.end(session_id).waiting
        assert wait_until(lambda ended=session_id: server.closed(ended))
        if "gw-4" in waiting:
            break

    assert "gw-4" in waiting
    assert states(server.receipt(session_id))["gw-4"] is VerifierState.OUTLIVED


def test_a_killed_worker_is_gone(server: RestartableServer) -> None:
    """Its parent sees its end, so nothing waits for it; the next one is another."""
    workers = server.workers()
    assert [(each.name, each.staleness_ms) for each in workers] == [
        ("sessauth/worker-0", 0),
        ("sessauth/worker-1", 0),
    ]
    session_id, _ = server.session()
    os.kill(server.worker_pids()[0], signal.SIGKILL)

    server.end(session_id)
    assert wait_until(lambda: server.closed(session_id))
    before = {(each.name, each.registered_at_ms) for each in workers}

    def is_new(each: RegisteredVerifier) -> bool:
        return (each.name, each.registered_at_ms) not in before and each.state is VerifierState.ACKNOWLEDGED

    assert wait_until(lambda: any(map(is_new, server.workers())))


def test_a_permit_that_is_open_keeps_it_partial(server: RestartableServer) -> None:
    """Until its gateway asks to commit it and is told that the session is over."""
    session_id, token = server.session()
    with Client(str(server.made.socket), credential_file=server.gateway_file, timeout_ms=10_000) as gateway:
        allowed = gateway.check(token, "read", "files/a", audience="gw", permit_ms=60_000)
        assert allowed
        assert server.end(session_id).open_permits == 1
        assert wait_until(lambda: not server.receipt(session_id).waiting)
        assert server.receipt(session_id).state is ReceiptState.PARTIAL

        refused = gateway.commit(allowed.permit, token, "read", "files/a", audience="gw")

        assert refused.reason.name == "SESSION_ENDED"
    assert server.receipt(session_id).open_permits == 0 and server.closed(session_id)


def test_a_name_is_one_process_and_a_state_is_the_servers(server: RestartableServer, tmp_path: Path) -> None:
    """A registration that is impossible raises, and nothing is left open."""
    before = set(threading.enumerate())
    with server.gateway("gw-5") as gateway:
        options = {"server": server.made.socket, "credential_file": server.gateway_file}
        with pytest.raises(Rejected) as caught:
            Verifier.embedded(server.made.state_dir, audience="gw", register_as="gw-5", **options)  # type: ignore[call-overload]
        assert caught.value.word == "NAME_TAKEN"
        kept = {"audit": AuditOptions(tmp_path / "audit"), "report_usage": True}
        with pytest.raises(Rejected):
            Verifier.embedded(server.made.state_dir, audience="gw", register_as="gw-5", **options, **kept)  # type: ignore[call-overload]
        assert [record["next"] for record in records(tmp_path / "audit", "end")] == [-1]
        running = {thread.name for thread in threading.enumerate() if thread not in before}
        assert not running & {"sessauth-recorder", "sessauth-observations"}
        other = initialise(tmp_path / "other")
        with pytest.raises(Rejected) as caught:
            Verifier.embedded(other.state_dir, audience="gw", register_as="gw-6", **options)  # type: ignore[call-overload]
        assert caught.value.word == "OTHER_STATE"
        with pytest.raises(UsageError, match="staleness_ms"):
            Verifier.embedded(
                server.made.state_dir, audience="gw", register_as="gw-6", staleness_ms=1, **options
            )  # type: ignore[call-overload]
        with pytest.raises(UsageError, match="server="):
            Verifier.embedded(server.made.state_dir, audience="gw", register_as="gw-6")  # type: ignore[call-overload]
        gateway.leave()


def test_a_restart_forgets_nobody(server: RestartableServer) -> None:
    """A CLOSED receipt stays CLOSED; others wait for the same verifiers, which the next process knows."""
    with server.gateway("gw-7") as alive, server.gateway("gw-8") as dies:
        finished, _ = server.session()
        server.end(finished)
        assert wait_until(lambda: server.closed(finished))
        before = server.receipt(finished)
        dies.kill()
        unfinished, token = server.session()
        assert "gw-8" in server.end(unfinished).waiting
        server.process.kill()
        server.start()

        assert server.receipt(finished) == before
        assert wait_until(lambda: server.receipt(unfinished).waiting == ("gw-8",))
        assert states(server.receipt(unfinished))["gw-7"] is VerifierState.ACKNOWLEDGED
        assert alive.check(token.text) == "SESSION_ENDED"
        with server.gateway("gw-8"):
            assert wait_until(lambda: server.closed(unfinished))


def test_without_its_server_an_enrolled_gateway_stops(server: RestartableServer) -> None:
    """It denies everything once its bound has passed; a gateway that did not register goes on."""
    _, token = server.session()
    with server.gateway("gw-9", SHORT_MS) as registered:
        assert wait_until(lambda: registered.check(token.text) == "ALLOWED")
        server.process.kill()
        assert wait_until(lambda: registered.check(token.text) == "STALE_STATE")
        with Verifier.embedded(server.made.state_dir, audience="gw") as other:
            assert other.check(token, "read", "files/a")
        server.start()
        assert wait_until(lambda: registered.check(token.text) == "ALLOWED")
