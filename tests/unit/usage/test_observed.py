"""Calls that observe mode alone allowed, in usage records and observations."""

from __future__ import annotations

import pytest

from sessauth.client._usage_messages import read_session, session_message
from sessauth.errors import UsageError
from sessauth.usage import SessionUsage, records
from sessauth.usage.session_usage import SessionObservation

AT = 1_000


def observed(*arguments: str, layer: int = 0) -> SessionUsage:
    """Return a record with one such call for each argument at fault."""
    usage = SessionUsage()
    for argument in arguments:
        usage.observe("write", "files/a", at_ms=AT, refused=(layer, argument))
    return usage


def test_rows_add_up_in_any_order() -> None:
    """Rows are by layer, action, resource and argument; the calls are allowed ones too."""
    one, other = observed("path", "path", ""), observed("path", layer=1)
    there, back = SessionUsage(), SessionUsage()
    for merged, parts in ((there, (one, other)), (back, (other, one))):
        for part in parts:
            merged.merge(SessionUsage.from_json(part.to_json()))
    assert there == back
    assert {key: span.calls for key, span in there.observed} == {
        (0, "write", "files/a", ""): 1,
        (0, "write", "files/a", "path"): 2,
        (1, "write", "files/a", "path"): 1,
    }
    assert there.allowed.calls == 4 and not list(there.denied)


def test_a_record_without_them_is_as_before() -> None:
    """Versions that don't know observe mode read it."""
    usage = SessionUsage()
    usage.observe("write", "files/a", at_ms=AT)
    assert "observed" not in usage.to_dict()
    assert SessionUsage.from_json(usage.to_json()) == usage


def test_rows_are_bounded_and_that_is_said() -> None:
    """An agent that makes up arguments fills no memory; names of any length are read back."""
    usage = observed(*(f"{number:04}" + "𝄞" * 1_000 for number in range(3 * records.MAX_OBSERVED_ROWS)))
    assert len(usage.observed.rows) == records.MAX_OBSERVED_ROWS
    assert "calls in observe mode" in usage.truncated
    assert SessionUsage.from_json(usage.to_json()) == usage


@pytest.mark.parametrize("row", [[0, "write", "a"], ["0", "write", "a", "b"], [0, "write", "a", "b" * 1025]])
def test_other_rows_are_refused(row: list[object]) -> None:
    """Rows of another shape, of other types, too long."""
    data = observed("path").to_dict()
    data["observed"] = {"rows": [[*row, 1, AT, AT]], "truncated": False}
    with pytest.raises(UsageError):
        SessionUsage.from_dict(data)


def test_counts_add_up_over_verifiers_and_the_wire() -> None:
    """A session's sum has those of each verifier; more of them than allowed calls are refused."""
    whole = SessionObservation(b"s" * 16)
    for calls in (2, 3):
        part = SessionObservation(b"s" * 16, allowed=5, observed=calls)
        whole.add(read_session(session_message(part)), 1_000)
    assert (whole.allowed, whole.observed) == (10, 5)
    whole.observed = 11
    with pytest.raises(UsageError, match="observed: is more than allowed"):
        read_session(session_message(whole))
