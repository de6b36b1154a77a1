"""Calls answered on the loop and by threads leave the same metrics and the same records."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from sessauth.audit import layout
from sessauth.server.keys.credentials import CredentialFile
from sessauth.server.metrics.service import Collector
from sessauth.v1 import authorization_service_pb2 as pb
from tests.support import token_sorts
from tests.support.loop_and_threads import LOOP, THREADS, BothServers, OneServer, loop_and_threads
from tests.support.service import wait_until

CHECK, BATCH = "AuthorizationService/Check", "AuthorizationService/CheckBatch"
# Times, and what depends on them.
TIMED = ("_seconds_bucket", "_seconds_sum")
# Of a record: its place in its stream, its time, its decision's id.
OWN = ("n", "at_ms", "chain", "id")


@pytest.fixture(scope="module")
def recorded(library: None) -> Iterator[BothServers]:
    """Two servers that record."""
    with loop_and_threads(audit={"enabled": True}) as servers:
        yield servers


def _ask(both: BothServers) -> None:
    """Make the same calls of both: warm and cold ones, allowed, denied and refused."""
    values = token_sorts.request_values(both.service.operator)
    file = CredentialFile(both.service.made.state_dir / "credentials.toml")
    client = both.client(file.add("gw", "gateway", ["gw"]))
    time.sleep(0.25)
    before = both.on_loop.answered
    for _ in range(3):
        for token in dict.fromkeys(values["token"]):
            for resource in (b"files/a/x", b"files/b", b""):
                item = pb.CheckItem(
                    token=token, action=b"read", resource=resource, source="10.0.0.1", peer=["a"]
                )
                batch = pb.CheckBatchRequest(
                    items=[item, pb.CheckItem(token_index=1, action=b"write", resource=b"files/c")],
                    tokens=[token],
                )
                client.assert_same(
                    "AuthorizationService/Check", pb.CheckRequest(item=item).SerializeToString()
                )
                client.assert_same("AuthorizationService/CheckBatch", batch.SerializeToString())
            alone = pb.CheckRequest(item=pb.CheckItem(token=token, source="10.0.0.1", token_only=True))
            client.assert_same("AuthorizationService/Check", alone.SerializeToString())
        client.assert_same("AuthorizationService/Check", b"\xff")
        client.assert_same("AuthorizationService/Check", b"", metadata=[])
    assert both.on_loop.answered > before + 20


# Of calls on the loop.
LOOP_ALONE: Final = "sessauth_direct_calls_total"


def _page(server: OneServer) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    server.publisher.publish()
    registry = CollectorRegistry(auto_describe=False)
    collector: Any = Collector(
        {"it": server.page}, lambda: {"it": True}, server.publisher.capacities(), lambda: []
    )
    registry.register(collector)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
        if not sample.name.endswith(TIMED) and sample.name != LOOP_ALONE
    }


def _all_are_written(page: dict[tuple[str, frozenset[tuple[str, str]]], float]) -> bool:
    """Return True if every decision that was counted has its record."""
    recorded, decided, waiting = (
        page[f"sessauth_{name}", frozenset()]
        for name in ("audit_recorded_total", "check_seconds_count", "audit_waiting_bytes")
    )
    return recorded == decided and waiting == 0


def _stream(folder: Path, process: str) -> list[dict[str, Any]]:
    """Return what a process recorded of decisions, in order, without what is a record's own."""
    for numbered in layout.files(folder).values():
        lines = [json.loads(line) for path in numbered.values() for line in path.read_bytes().splitlines()]
        if lines[0]["process"] == process:
            return [
                {name: value for name, value in line.items() if name not in OWN}
                for line in lines
                if line["kind"] in ("decision", "chain")
            ]
    return []


def test_metrics_and_records_are_the_same(recorded: BothServers) -> None:
    """Every number of a scrape but times, and each decision's record, in order, but for ids and times."""
    _ask(recorded)
    # Records are written a moment after their answers.
    assert wait_until(lambda: all(_all_are_written(_page(server)) for server in recorded.servers.values()))
    pages = {name: _page(server) for name, server in recorded.servers.items()}
    for server in recorded.servers.values():
        server.finish_records()

    differing = {
        name: (value, pages[THREADS].get(name))
        for name, value in pages[LOOP].items()
        if pages[THREADS].get(name) != value
    }
    assert differing == {}
    assert pages[LOOP].keys() == pages[THREADS].keys()
    calls = {name[0]: value for name, value in pages[LOOP].items() if "OK" in str(name[1])}
    assert sum(calls.values()) > 100, calls
    folder = recorded.control._config.audit_dir
    streams = [_stream(folder, name) for name in recorded.servers]
    # How many decisions are written at once, and so where their chains stand, is a matter of time.
    decisions, chains = (
        [[line for line in stream if line["kind"] == kind] for stream in streams]
        for kind in ("decision", "chain")
    )
    assert decisions[0] == decisions[1]
    assert sorted(map(str, chains[0])) == sorted(map(str, chains[1]))
    assert len(decisions[0]) > 100
