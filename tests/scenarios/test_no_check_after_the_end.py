"""Promise P2 on one host: no check that starts after an acknowledgement allows what it took away."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from sessauth.server.init import initialise
from sessauth.token import Token
from sessauth.v1 import authorization_service_pb2 as checks
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from sessauth.verifier import Verifier
from tests.support.service import Caller, ServerProcess, home_folder, serves, wait_until

ROUNDS = int(os.environ.get("SESSAUTH_ENDS", "1000"))
# Checked at any moment: the sessions around the one that is being ended.
WINDOW = 3
WORKERS = 2
SCOPE = "read:files/**"


@dataclass
class Live:
    """A session with a token; ``ended`` is when its end was acknowledged, in monotonic ns."""

    session_id: bytes
    block_id: bytes
    token: bytes
    ended: int = 0


@dataclass
class Asker:
    """Checks without a pause, and notes of each check when it began and whether it was allowed."""

    check: Callable[[bytes], bool]
    answers: list[tuple[int, int, bool]] = field(default_factory=list)
    failure: BaseException | None = None

    def run(self, everyone: list[Live], front: list[int], done: threading.Event) -> None:
        """Ask about the sessions around the front until it is done."""
        try:
            while not done.is_set():
                first = max(0, front[0] - WINDOW)
                for index in range(first, min(len(everyone), front[0] + WINDOW)):
                    began = time.monotonic_ns()
                    self.answers.append((index, began, self.check(everyone[index].token)))
        except BaseException as error:  # noqa: BLE001 - reported by the test, which runs in another thread
            self.failure = error


@pytest.fixture
def server() -> Iterator[tuple[Caller, list[Caller], Verifier]]:
    """A control process with two check workers, and an embedded verifier on the same state."""
    with home_folder() as home:
        made = initialise(home)
        process = ServerProcess.start(home, SESSAUTH_SERVER_WORKERS=str(WORKERS))
        credential = made.credential_file.read_text().strip()
        operator = Caller(f"unix:{made.socket}", credential)
        workers = [Caller(f"unix:{home}/run/check-{index}.sock", credential) for index in range(WORKERS)]
        try:
            assert wait_until(lambda: all(serves(caller) for caller in [operator, *workers])), process.log
            with Verifier.embedded(made.state_dir, audience="gw") as verifier:
                yield operator, workers, verifier
        finally:
            for caller in [operator, *workers]:
                caller.close()
            process.kill()


def _open(operator: Caller) -> Live:
    request = sessions.OpenSessionRequest(subject="s", ceiling=[SCOPE])
    session = operator.call("SessionService/OpenSession", request).session
    mint = tokens.MintRequest(session_id=session.id, scopes=[SCOPE], audience=["gw"])
    minted = operator.call("TokenService/Mint", mint)
    return Live(session.id, minted.block_id, Token.parse(minted.token).data)


def _remote(caller: Caller) -> Callable[[bytes], bool]:
    def check(token: bytes) -> bool:
        item = checks.CheckItem(token=token, action=b"read", resource=b"files/a")
        request = checks.CheckRequest(item=item, audience="gw")
        return bool(caller.call("AuthorizationService/Check", request).decision.allowed)

    return check


def test_no_check_that_starts_after_the_acknowledgement_allows(
    server: tuple[Caller, list[Caller], Verifier],
) -> None:
    """Of 1,000 ends and revokes none is followed by an ALLOW, in two workers and an embedded verifier."""
    operator, workers, verifier = server
    everyone = [_open(operator) for _ in range(ROUNDS)]
    askers = [Asker(_remote(worker)) for worker in workers]
    askers.append(Asker(lambda token: verifier.check(token, b"read", b"files/a").allowed))
    front, done = [0], threading.Event()
    threads = [threading.Thread(target=asker.run, args=(everyone, front, done)) for asker in askers]
    for thread in threads:
        thread.start()

    for index, live in enumerate(everyone):
        front[0] = index
        if index % 2:
            end = sessions.EndSessionRequest(session_id=live.session_id)
            operator.call("SessionService/EndSession", end)
        else:
            revoke = tokens.RevokeRequest(session_id=live.session_id, block_ids=[live.block_id])
            operator.call("TokenService/Revoke", revoke)
        live.ended = time.monotonic_ns()
    done.set()
    for thread in threads:
        thread.join(30)

    for asker in askers:
        assert asker.failure is None
        after = [(index, allowed) for index, began, allowed in asker.answers if began > everyone[index].ended]
        before = [allowed for index, began, allowed in asker.answers if began <= everyone[index].ended]
        assert [index for index, allowed in after if allowed] == []
        # The checks did surround the ends, else the line above would say nothing.
        assert len(after) > ROUNDS
        assert sum(before) > ROUNDS / 2
