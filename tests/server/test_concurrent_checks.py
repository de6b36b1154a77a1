from __future__ import annotations

import threading

from sessauth.tokens.token import Token
from sessauth.v1 import authorization_service_pb2 as checks
from sessauth.v1 import token_pb2
from tests.support.service import running
from tests.support.watching import mint, open_session

THREADS = 6
SESSIONS = 6
CHILDREN = 12


def test_cold_and_warm_checks_at_once_are_each_right() -> None:
    """Threads that verify, hit and miss the cache at the same time never get each other's answer."""
    with running(limits={"check_threads": 4}) as service:
        operator = service.operator
        expected: list[tuple[checks.CheckItem, bytes, int]] = []
        for number in range(SESSIONS):
            opened = open_session(operator)
            scope = "read:files/** where n >= 0 free *"
            minted = mint(operator, opened.id, scope, ending=token_pb2.ENDING_OPEN)
            parent = Token.parse(minted.token)
            for child in range(CHILDREN):
                mine = f"read:files/{number}-{child} where n == {child} free who"
                data = parent.attenuate(scopes=[mine]).data
                for n, reason in (
                    (child, checks.REASON_ALLOWED),
                    (child + 1, checks.REASON_CONDITION_FAILED),
                ):
                    item = checks.CheckItem(
                        token=data,
                        action=b"read",
                        resource=f"files/{number}-{child}".encode(),
                        arguments=f'{{"n": {n}, "who": "{number}"}}'.encode(),
                        source="10.0.0.1",
                    )
                    expected.append((item, opened.id, reason))
        wrong: list[object] = []
        start = threading.Barrier(THREADS)

        def ask(shift: int) -> None:
            caller = service.caller(operator.credential)
            start.wait(10)
            for position in range(len(expected)):
                # All threads meet the same cold token at about the same time, then part.
                item, session_id, reason = expected[(position + shift * (position % 2)) % len(expected)]
                request = checks.CheckRequest(item=item, audience="gw")
                decision = caller.call("AuthorizationService/Check", request).decision
                if (decision.reason, decision.session_id) != (reason, session_id):
                    wrong.append((item, decision))
                if decision.allowed != (reason == checks.REASON_ALLOWED):
                    wrong.append((item, decision))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

        assert not any(thread.is_alive() for thread in threads)
        assert wrong == []
