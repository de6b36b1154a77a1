"""Reports of hosts as they come over the network: bounded, and refused whole where a field is at fault."""

from __future__ import annotations

import pytest

from sessauth.errors import UsageError
from sessauth.server.usage.host_report import MAX_SESSIONS, read_report
from sessauth.v1 import usage_service_pb2 as pb
from tests.support.observations import AT, block, observed
from tests.support.usage_hosts import host_report


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run_id", b"short"),
        ("number", 0),
        ("first_late", 0),
        ("since_ms", 1 << 63),
        ("sessions", "twice"),
        ("sessions", "many"),
        ("late", "many"),
        ("sessions[0].observation.allowed", 1 << 60),
        ("sessions[0].observation.usage", b"[]"),
        ("sessions[0].verifiers[0].name", ""),
        ("sessions[0].verifiers[0]", 1 << 60),
        ("sessions[0].verifiers", "many"),
        ("late[0].session_id", b"short"),
        ("late[0].verifier", ""),
        ("late[0].use.count", 0),
    ],
)
def test_a_faulty_report_names_the_field(field: str, value: object) -> None:
    """It is refused whole."""
    request = host_report(observed(bytes(16), block("r")))
    spoil(request, field, value)
    with pytest.raises(UsageError) as refused:
        read_report(request, AT, usage=True)
    assert str(refused.value).split(": ")[0] == field


def spoil(request: pb.ReportHostUsageRequest, field: str, value: object) -> None:
    """Make one field of a report faulty."""
    first = request.sessions[0]
    use = pb.UseAfterEnd(claimed=True, count=1, first_ms=AT, last_ms=AT)
    if field == "sessions":
        request.sessions.extend([first] * (1 if value == "twice" else MAX_SESSIONS))
    elif field == "late":
        request.late.extend([pb.LateUse()] * 257)
    elif field.startswith("late"):
        late = request.late.add(session_id=bytes(16), verifier="gw", use=use)
        name = field.split(".", 1)[1]
        if name == "use.count":
            late.use.count = 0
        else:
            setattr(late, name, value)
    elif field == "sessions[0].verifiers":
        first.verifiers.extend([pb.VerifierActivity(name="gw")] * 65)
    elif field.startswith("sessions[0].verifiers[0]"):
        first.verifiers.add(name="" if value == "" else "gw", allowed=value or 0)  # type: ignore[arg-type]
    elif field.startswith("sessions"):
        setattr(first.observation, field.rsplit(".", 1)[1], value)
    else:
        setattr(request, field, value)
