"""An older data file under a server that runs, and one that is started on it: everybody stops by its name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sessauth.errors import StateUnusable
from sessauth.reasons import Reason
from sessauth.v1 import authorization_service_pb2 as checks
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.verifier.verifier import Verifier
from tests.cli.conftest import invoke
from tests.server.test_processes import SETTINGS, Running, running_server
from tests.support.old_file import OldFile
from tests.support.service import RpcError, ServerProcess, wait_until


@pytest.fixture
def server() -> Iterator[Running]:
    """A server with two check workers."""
    with running_server() as running:
        yield running


def reasons(server: Running, request: checks.CheckRequest) -> set[str]:
    """Return what the control process and the workers that are there answer to a check."""
    found = set()
    for caller in server.everyone:
        try:
            answer = caller.call("AuthorizationService/Check", request, timeout=1.0).decision
            found.add(Reason(answer.reason).name)
        except RpcError:
            found.add("no answer")
    return found


def refused(server: Running) -> None:
    """Hold that a server, an embedded verifier and ``state check`` refuse the folder, by the word."""
    second = ServerProcess.start(server.made.home, **SETTINGS)
    assert second.process.wait(timeout=30) != 0
    assert "is older than the state that was here" in second.log
    with pytest.raises(StateUnusable) as caught:
        Verifier.embedded(server.made.state_dir, audience="gw")
    assert caught.value.problem == "ROLLED_BACK"
    ran = invoke("--home", server.made.home, "state", "check", "--json")
    assert ran.code == 5 and '"word": "ROLLED_BACK"' in ran.err


@pytest.mark.parametrize("how", ["overwritten", "swapped", "put back"])
def test_an_ended_session_does_not_come_back(server: Running, how: str) -> None:
    """Whichever way the file of before the end comes back, nobody allows anything, and a start is refused."""
    session_id, request = server.open()
    state_dir = server.made.state_dir
    verifier = Verifier.embedded(state_dir, audience="gw")

    def embedded() -> Reason:
        return verifier.check(request.item.token, "read", "files/a").reason

    try:
        assert reasons(server, request) == {"ALLOWED"} and embedded() is Reason.ALLOWED
        before = OldFile.of(state_dir)
        server.operator.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=session_id))
        assert reasons(server, request) == {"SESSION_ENDED"} and embedded() is Reason.SESSION_ENDED
        if how == "put back":
            assert server.process.terminate() == 0
            before.put_back(state_dir)
        else:
            (before.overwrite if how == "overwritten" else before.put_back)(state_dir)
            # At once, or as soon as it is looked who has the name; never an allow.
            assert embedded() in (Reason.STALE_STATE, Reason.SESSION_ENDED)
            assert reasons(server, request) <= {
                "STALE_STATE", "STATE_BRAKED", "SESSION_ENDED", "INTERNAL_ERROR", "no answer",
            }  # fmt: skip
            assert server.process.process.wait(timeout=30) != 0
            assert "ROLLED_BACK" in server.process.log
            shown = invoke("--home", server.made.home, "freeze", "--show", "--this-host").out
            assert shown.startswith("DENIED: ROLLED_BACK")
        assert wait_until(lambda: embedded() in (Reason.STALE_STATE, Reason.STATE_BRAKED))
    finally:
        verifier.close()
    refused(server)


def test_a_backup_is_the_way_out(server: Running) -> None:
    """The server starts again after a stated restore; ended sessions stay ended."""
    session_id, request = server.open()
    before = OldFile.of(server.made.state_dir)
    server.operator.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=session_id))
    saved = server.made.home / "saved"
    assert invoke("--home", server.made.home, "state", "backup", saved).code == 0
    before.overwrite(server.made.state_dir)
    assert server.process.process.wait(timeout=30) != 0
    assert invoke("--home", server.made.home, "state", "restore", saved).code == 0
    again = Running(server.made)
    try:
        assert reasons(again, request) == {"SESSION_ENDED"}
        assert reasons(again, again.open()[1]) == {"ALLOWED"}
    finally:
        again.close()
