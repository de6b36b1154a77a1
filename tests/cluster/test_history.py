"""A short history of checks under faults, and the judge of such histories, which must be able to say no."""

from __future__ import annotations

import pytest

from sessauth.reasons import Reason
from tests.cluster.history import Check, History, Life, run, violations
from tests.support.service import home_folder

ALLOWED = Check(0, 0, 10.0, True, Reason.ALLOWED)
DENIED = Check(0, 0, 5.0, False, Reason.SESSION_ENDED)


@pytest.mark.parametrize(
    ("life", "checks", "wrong"),
    [
        (Life(0, ending_at=8.0, ended_at=8.0), [ALLOWED], ""),
        (Life(0, ending_at=6.0, ended_at=6.9), [ALLOWED], "3.10 s after its end"),
        # Nobody answered that end: nothing is promised of it.
        (Life(0, ending_at=6.0), [ALLOWED], ""),
        (Life(0), [DENIED], "before anybody ended it"),
        (Life(0, ending_at=4.0), [DENIED, ALLOWED], "after it was denied there as ended"),
        (Life(0, ending_at=4.0), [DENIED, ALLOWED._replace(host=1)], ""),
        (Life(0, ending_at=4.0), [DENIED._replace(reason=Reason.STALE_STATE), ALLOWED], ""),
    ],
)
def test_the_judge_finds_what_must_not_happen(life: Life, checks: list[Check], wrong: str) -> None:
    """An allow that is too late, an end that comes back, and one out of nowhere."""
    found = violations(History([life], checks))
    assert wrong in "".join(found) and bool(found) is bool(wrong)


def test_nothing_is_violated_under_faults() -> None:
    """Kills and stops of servers and of etcd's members, for a quarter of a minute."""
    with home_folder() as home:
        history, found = run(15.0, 7, home)
    assert found == []
    assert history.faults and sum(bool(life.ended_at) for life in history.lives) > 5
    assert any(check.allowed for check in history.checks)
