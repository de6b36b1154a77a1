"""Capacity: rows measured on a small folder stand for those of a large one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sessauth.model.change import end_session, open_session
from sessauth.scopes.scope import Scope
from sessauth.server.capacity.estimate import Load, estimate, state_bytes
from sessauth.server.capacity.trial import CEILING, RowSizes, measure
from sessauth.server.config.config import from_dict
from sessauth.state import layout
from sessauth.state.writer.state_writer import StateWriter

SESSIONS = 10_000
SIZES = RowSizes(
    session=500.0, change=200.0, outcome=100.0, audit_decision=600.0, audit_change=400.0, process=50 << 20
)


@pytest.fixture(scope="module")
def measured() -> RowSizes:
    """Sizes of this version."""
    return measure()


@pytest.mark.slow
def test_the_estimate_holds_for_ten_thousand_sessions(measured: RowSizes, tmp_path: Path) -> None:
    """Within a fifth: a real folder, with sessions of other lengths of text, half of them ended."""
    scopes = [dict(Scope.parse(text).to_record()) for text in CEILING]
    with StateWriter.open(tmp_path / "state", create=True, map_size=256 << 20) as log:
        ids = [os.urandom(16) for _ in range(SESSIONS)]
        changes = [
            open_session(
                os.urandom(16).hex(),
                each,
                scopes,
                actor="a-builder",
                owner="a-builder",
                subject=f"agent:{n}",
                purpose=f"ticket {n}",
                ttl_ms=3_600_000,
            )
            for n, each in enumerate(ids)
        ]
        changes += [end_session(os.urandom(16).hex(), each, "done", actor="a-builder") for each in ids[::2]]
        # As many as may wait for the writer.
        for start in range(0, len(changes), 4_096):
            for future in [log.submit(change) for change in changes[start : start + 4_096]]:
                future.result(60).raise_if_rejected()
        used, _ = log.room()

    estimated = state_bytes(measured, sessions=SESSIONS, changes=len(changes), outcomes=len(changes))
    assert 0.8 < estimated / used < 1.2, (estimated, used, measured)


def test_the_formulas() -> None:
    """Each number is that of the rows which the state retains."""
    config = from_dict({"home": "/h", "server": {"workers": 2}, "audit": {"enabled": True}})
    load = Load(10.0, 100.0, session_ttl_s=3_600.0, changes_per_session=4.0, audit_days=2.0)

    found = estimate(load, SIZES, config)

    stored = 10 * (3_600 + layout.KEEP_ENDED_MS // 1000)
    assert found.stored_sessions == stored
    assert found.state_bytes == stored * 500 + layout.KEEP_CHANGES * 200 + layout.KEEP_OUTCOMES * 100
    assert found.map_size_bytes >= found.state_bytes / layout.FULL_SHARE
    assert found.map_size_bytes % (1 << 20) == 0
    assert found.audit_bytes_per_day == 86_400 * (100 * 600 + 40 * 400)
    assert found.disk_bytes == found.map_size_bytes + 2 * found.audit_bytes_per_day
    assert found.memory_bytes == 3 * ((50 << 20) + (64 << 20) + (32 << 20)) + (16 << 20)
    assert found.fsyncs == 40.0


def test_no_load_takes_the_least_room() -> None:
    """A map of some size is needed all the same."""
    found = estimate(Load(0.0), SIZES, from_dict({"home": "/h"}))

    assert (found.stored_sessions, found.state_bytes, found.audit_bytes_per_day) == (0, 0, 0)
    assert found.map_size_bytes == 64 << 20


@pytest.mark.slow
def test_a_larger_ceiling_takes_more(measured: RowSizes) -> None:
    """Scopes are in the session's row and in the change that opened it."""
    larger = measure(
        [*CEILING, *(f'write:mcp/github/tool_{n} where owner == "acme" free *' for n in range(20))]
    )

    assert larger.session > 2 * measured.session
    assert larger.change > measured.change
