"""What calls cost is taken once, whoever asks: over real sockets, from many threads and processes."""

from __future__ import annotations

from collections import Counter

from sessauth.reasons import Reason
from tests.support.house import AUDIENCE, House, at_once


def _token(house: House, *scopes: str) -> tuple[bytes, bytes]:
    session = house.operator.open_session(subject="agent", ceiling=["read:**"])
    return session.id, house.operator.mint(session.id, scopes, [AUDIENCE]).data


def test_uses_are_exhausted_at_exactly_their_number(house: House) -> None:
    """Of 60 calls at once through four doors exactly 17 are allowed by a scope of 17 uses."""
    _, token = _token(house, "read:doc/** needs uses(17)")
    asks = [lambda door=house.doors[n % 4]: door(token, "read", "doc/1") for n in range(60)]

    reasons = Counter(decision.reason for decision in at_once(asks))

    assert reasons == {Reason.ALLOWED: 17, Reason.USES_EXHAUSTED: 43}
