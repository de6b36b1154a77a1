"""``session report`` and ``session census``, where little or nothing is known."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sessauth.cli.render import usage as census_view
from sessauth.cli.render import usage as usage_view
from sessauth.client import AsyncClient, BlockCensus, Census, HostUsage, Missing, SessionReport
from sessauth.usage.session_usage import SessionObservation, UseAfterEnd
from sessauth.usage.tighten import Fit
from tests.cli.conftest import Service
from tests.support.observations import AT, block, block_id, claimed, usage
from tests.support.usage_example import session


@pytest.fixture
def opened(service: Service) -> str:
    """The id of a session that nobody used, on a server that keeps no usage."""
    ran = service("session", "open", "--subject", "s", "--purpose", "idle", "--ceiling", "read:**", "--json")
    return str(ran.json["id"])


def test_hosts_of_a_cluster_are_listed_with_what_is_missing() -> None:
    """A host that is silent, one that has more to send, and one that was removed stand out."""
    hosts = (
        HostUsage("edge-1", 1_790_000_000_000, 0, 3, False),
        HostUsage("edge-2", 1_790_000_000_000, 1_790_000_001_000, 0, True, 1_790_000_002_000),
    )
    header, first, second = census_view.host_lines(hosts)[1:]
    assert header.split() == ["HOST", "SINCE", "REPORTED"]
    assert "never" in first and "INCOMPLETE, 3 sessions to come" in first
    assert "INCOMPLETE" not in second and "removed 2026-" in second
    assert census_view.host_lines(()) == []


def test_a_server_that_keeps_no_usage_says_so(service: Service, opened: str, tmp_path: Path) -> None:
    """The report still has the session; nothing is suggested, nothing is drawn, and the setting is named."""
    shown = service("session", "report", opened)
    document = service("session", "report", "--purpose", "idle", "--json").json
    drawn = service("session", "report", opened, "--html", tmp_path / "x.html")

    assert (shown.code, "usage.enabled" in shown.out) == (0, True)
    assert opened in [each["id"] for each in document["sessions"]]
    assert document["usage"] is None
    assert document["sessions"][0]["missing"] == ["USAGE"]
    assert (drawn.code, (tmp_path / "x.html").exists()) == (2, False)


def test_a_report_is_of_a_session_or_of_a_purpose(service: Service, opened: str) -> None:
    """Both, or neither, is a mistake; no session with the purpose is none of it."""
    assert service("session", "report").code == 2
    assert service("session", "report", opened, "--purpose", "idle").code == 2
    assert service("session", "report", "00" * 16).code == 3
    assert service("session", "report", "--purpose", "nobody's").out == "no session\n"


def test_a_census_of_nothing(service: Service, opened: str) -> None:
    """A session whose tokens nobody used has no block."""
    assert service("session", "census", opened).out.startswith("no block was seen\n")
    assert service("session", "census", opened, "--json").json["blocks"] == []


def test_the_asyncio_client_reads_the_same(service: Service, opened: str) -> None:
    """Report, page and census by the other client."""

    async def read() -> tuple[bytes, int, tuple[BlockCensus, ...]]:
        async with AsyncClient(str(service.home / "run" / "sessauth.sock")) as client:
            report = await client.get_report(bytes.fromhex(opened))
            page = await client.list_reports("idle")
            census = await client.get_census(bytes.fromhex(opened))
        return report.session.id, len(page.reports), census.blocks

    assert asyncio.run(read())[0::2] == (bytes.fromhex(opened), ())


def test_a_census_as_a_tree() -> None:
    """Children hang below their parents, a circle is shown once, and what is only claimed is said to be."""
    blocks = [block("r", calls=3), block("c", "r", index=1), block("x", "x", index=2)]
    late = UseAfterEnd((block_id("r"), block_id("c")), False, 2, AT, AT + 60_000)
    census = Census(
        tuple(BlockCensus(each, each.index == 1, None) for each in blocks), (late, claimed()), (Missing.LOST,)
    )
    lines = census_view.census_lines(census)

    assert lines[0] == f"root block, {block_id('r').hex()}"
    assert lines[2] == f"└─ block 1, {block_id('c').hex()} REVOKED"
    assert [line for line in lines if block_id("x").hex() in line] == [f"block 2, {block_id('x').hex()}"]
    assert lines[-3].startswith("USED AFTER THE END 2 times")
    assert lines[-3].endswith(f"with block {block_id('c').hex()}")
    assert "only claimed" in lines[-2]
    assert lines[-1] == "incomplete: some of it was lost, or found no room"


def test_what_was_lost_makes_a_suggestion_incomplete() -> None:
    """A report that may lack calls says so beside what it suggests."""
    seen = SessionObservation(bytes(16), allowed=1, lost=2, usage=usage("files/a"))
    found = [SessionReport(session(), (), seen, (), (Missing.LOST,))]
    report = usage_view.joined(found, AT, None)
    assert report is not None
    lines = usage_view.to_lines(found, report, Fit.LOOSE)

    assert report.usage.lost == 3
    assert any("decisions were lost" in line for line in lines)
    assert lines[-1] == "incomplete: some of it was lost, or found no room"
