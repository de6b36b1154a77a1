"""Many threads check while a writer commits: no check that starts after an acknowledgement misses it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from sessauth.model.change import (
    end_session,
    narrow_session,
    revoke,
    suspend_session,
)
from sessauth.model.session import Fact
from sessauth.reasons import Reason
from sessauth.scopes.scope import Scope
from tests.support.state_fixture import StateFixture
from tests.support.token_forger import ending, id16, key, make
from tests.vectors.world import ISSUER, child, link, root

READ = "read:files/**"


def chain_of(name: str, label: str) -> bytes:
    """A chain of two blocks for a session, that nothing else shares."""
    blocks = link(root(READ, root_fields={"session_id": id16(name)}, label=label), child(**ending("sealed")))
    return make(blocks, [ISSUER, key("next 0")])


class Checks:
    """Four threads that check one session's chains without a pause, known ones and new ones."""

    def __init__(self, state: StateFixture, name: str) -> None:
        """Start the threads."""
        self.state = state
        self.after = threading.Event()
        self.stop = threading.Event()
        self.reasons: list[tuple[bool, Reason]] = []
        self.failed: list[BaseException] = []
        chains = [chain_of(name, f"{i}") for i in range(40)]
        self.threads = [
            threading.Thread(target=self._run, args=(chains[i:] + chains[:i],)) for i in range(0, 40, 10)
        ]
        for thread in self.threads:
            thread.start()

    def _run(self, chains: list[bytes]) -> None:
        try:
            while not self.stop.is_set():
                for chain in chains:
                    acknowledged = self.after.is_set()
                    self.reasons.append((acknowledged, self.state.reason(chain)))
        except BaseException as failure:
            self.failed.append(failure)
            raise

    def join(self) -> tuple[set[Reason], set[Reason]]:
        """Stop, and give the reasons of checks that began before the acknowledgement, and after it."""
        deadline = time.monotonic() + 20
        seen = 0
        while seen < 50 and not self.failed and time.monotonic() < deadline:
            seen = sum(1 for acknowledged, _ in list(self.reasons) if acknowledged)
            time.sleep(0.002)
        self.stop.set()
        for thread in self.threads:
            thread.join(20)
        assert not self.failed
        return tuple({r for a, r in self.reasons if a is which} for which in (False, True))  # type: ignore[return-value]


def race(state: StateFixture, name: str, change: Callable[[], object]) -> tuple[set[Reason], set[Reason]]:
    """The reasons before and after a change's acknowledgement, of four threads."""
    checks = Checks(state, name)
    while not checks.reasons and not checks.failed:
        time.sleep(0.001)
    change()
    checks.after.set()
    return checks.join()


def test_no_check_after_an_acknowledgement_misses_it(fresh_state: StateFixture) -> None:
    """End, suspend, narrow and revoke hold for every check that starts after they were acknowledged."""
    state = fresh_state
    facts = [Fact("region", "eu", True)]
    for name in ("end", "suspend", "narrow", "revoke", "resume", "parent"):
        state.open(name, facts=facts)
    state.open("child", parent_id=id16("parent"))
    revoked = [state.check(chain_of("revoke", f"{i}")).block_ids[1] for i in range(40)]
    nothing: list[Any] = [Scope.parse("read:other/**").to_record()]
    changes: dict[str, tuple[Callable[[], object], Reason]] = {
        "end": (lambda: state.do(end_session("e", id16("end"))), Reason.SESSION_ENDED),
        "suspend": (lambda: state.do(suspend_session("s", id16("suspend"))), Reason.SESSION_SUSPENDED),
        "narrow": (lambda: state.do(narrow_session("n", id16("narrow"), nothing)), Reason.OUT_OF_SCOPE),
        "revoke": (lambda: state.do(revoke("r", id16("revoke"), revoked)), Reason.REVOKED),
        "child": (lambda: state.do(narrow_session("p", id16("parent"), nothing)), Reason.OUT_OF_SCOPE),
    }
    for name, (change, reason) in changes.items():
        before, after = race(state, name, change)
        assert after == {reason}, name
        assert before <= {Reason.ALLOWED, reason}
