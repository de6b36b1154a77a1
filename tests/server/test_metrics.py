"""One page has the numbers of all processes, and no counter on it ever goes back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from sessauth import metrics as judging
from sessauth.reasons import Reason, Stage
from sessauth.server.metrics import state
from sessauth.server.metrics.shared_page import CODES
from sessauth.server.metrics.state import RECEIPT_STATES, VERIFIER_STATES
from sessauth.server.rpc.access import RULES
from sessauth.server.rpc.pool import POOL_NAMES
from sessauth.v1 import session_service_pb2 as sessions
from tests.support.scrape import Scrape, Traffic, scrape
from tests.support.service import Caller, Service, running, serves, wait_until

# The server starts its workers.
pytestmark = pytest.mark.slow

PERMIT_MS = 60_000
PROCESSES = {"control", "worker-0", "worker-1"}
# Values of labels: nothing that an agent, a session, a token or a gateway chooses.
ALLOWED_LABELS = {
    "stage": {stage.name.lower() for stage in Stage},
    "reason": {reason.name for reason in Reason},
    "rpc": {method.rpartition(".")[2] for method in RULES},
    "code": set(CODES),
    "pool": set(POOL_NAMES),
    "process": PROCESSES,
    "state": {*RECEIPT_STATES, *VERIFIER_STATES},
    "status": {"active", "suspended", "ended"},
}
NOT_ALWAYS = {
    metric.name
    for metric in (judging.AUDIT_HEALTHY, judging.AUDIT_LOST, judging.AUDIT_RECORDED, judging.AUDIT_WAITING)
}


@dataclass
class Measured:
    """A server with two workers whose metrics are on."""

    service: Service
    workers: list[Caller]
    traffic: Traffic

    def scrape(self) -> Scrape:
        """Read the page."""
        assert self.service.control is not None and self.service.control.metrics is not None
        return scrape(self.service.control.metrics.port)

    def later(self, name: str, value: float, **labels: str) -> bool:
        """Return True if a series reaches a value: workers publish twice a second, and may be restarted.

        Sessions, permits and approvals are counted again after fifty times as long as counting took.
        """
        series = name, frozenset(labels.items())
        return wait_until(lambda: self.scrape().values.get(series) == value)


@pytest.fixture(scope="module")
def measured() -> Iterator[Measured]:
    """The server, with a little traffic of every kind behind it."""
    with running(metrics={"address": "127.0.0.1:0"}, server={"workers": 2}) as service:
        assert service.control is not None
        assert service.control.supervisor.wait_ready(60)
        operator = service.operator
        workers = [
            service.caller(operator.credential, target=f"unix:{service.made.home}/run/check-{index}.sock")
            for index in range(2)
        ]
        traffic = Traffic(operator)
        _, token = traffic.open()
        for caller in (operator, *workers):
            traffic.check(caller, token)
            traffic.check(caller, token, b"write")
            traffic.check_batch(caller, token, (b"read", b"read", b"write"))
        traffic.check(workers[0], b"\x08\x01")
        traffic.watch_and_end(workers[1])
        traffic.refuse(service.caller(""))
        yield Measured(service, workers, traffic)


def test_the_page_has_the_decisions_of_all_processes(measured: Measured) -> None:
    """Each decision that was answered is counted once, wherever it was asked for, and timed once."""
    page = measured.scrape()

    assert page.counted("sessauth_decisions_total", "reason") == measured.traffic.decided
    assert page.value("sessauth_decisions_total", stage="scope", reason="OUT_OF_SCOPE") == 6
    assert page.value("sessauth_decisions_total", stage="needs", reason="BUDGET_EXHAUSTED") == 0
    assert page.value("sessauth_check_seconds_count") == measured.traffic.judged
    assert page.value("sessauth_check_seconds_sum") > 0


def test_the_page_has_the_calls_by_how_they_ended(measured: Measured) -> None:
    """Times of answered and refused calls; a stream counts when it has ended."""
    page = measured.scrape()

    assert page.value("sessauth_rpc_seconds_count", rpc="SessionService/OpenSession", code="OK") == 2
    assert page.value("sessauth_rpc_seconds_count", rpc="AuthorizationService/CheckBatch", code="OK") == 3
    refused = page.counted("sessauth_rpc_seconds_count", "code")["UNAUTHENTICATED"]
    assert refused == 1
    assert page.value("sessauth_rpc_seconds_sum", rpc="SessionService/OpenSession", code="OK") > 0


def test_the_page_has_what_processes_tell_of_themselves(measured: Measured) -> None:
    """State, revision, cache and withdrawals of each process are on the page."""
    assert measured.later("sessauth_withdrawals_total", 1)
    # Three processes verified the token once each, and one the watched one.
    assert measured.later("sessauth_signatures_verified_total", 4)
    page = measured.scrape()

    assert page.counted("sessauth_process_up", "process") == dict.fromkeys(PROCESSES, 1.0)
    revision = page.value("sessauth_revision")
    assert page.value("sessauth_process_revision", process="control") == revision > 0
    assert page.value("sessauth_chain_cache_chains") >= 3
    assert page.value("sessauth_chain_cache_bytes") > 1_000
    assert page.value("sessauth_chain_cache_hits_total") >= 6
    assert page.value("sessauth_pool_capacity", pool="check") == 3 * (4 + 256)
    assert page.value("sessauth_ready") == 1
    assert page.value("sessauth_brake") == page.value("sessauth_clock_suspect") == 0


def test_the_page_has_the_state_and_its_writer(measured: Measured) -> None:
    """Sessions by status, room, and what commits took."""
    page = measured.scrape()

    assert page.counted("sessauth_sessions", "status") == {"active": 1, "ended": 1}
    assert 0 < page.value("sessauth_state_used_bytes") < page.value("sessauth_state_map_bytes")
    assert page.value("sessauth_commit_seconds_count") == page.value("sessauth_commit_group_jobs_count") >= 3
    assert page.value("sessauth_commit_seconds_sum") > 0
    assert page.value("sessauth_revision_unchanged_seconds") >= 0


def test_every_metric_is_on_the_page_as_it_is_described(measured: Measured) -> None:
    """Name, kind and labels of each are those of the table; some come only with what they are about."""
    page = measured.scrape()
    described = {metric.name: metric for metric in state.METRICS if metric.name not in NOT_ALWAYS}

    # The parser takes the end off the name of a counter.
    assert set(page.families) == {name.removesuffix("_total") for name in described}
    for name, metric in described.items():
        family = page.families[name.removesuffix("_total")]
        assert family.type == metric.kind, name
        assert family.documentation == metric.description, name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels), name
    assert all(name.startswith("sessauth_") for name in described)


def test_labels_are_bounded(measured: Measured) -> None:
    """More sessions, subjects and tokens add no series, and no label has a value that somebody chose."""
    before = measured.scrape()
    for number in range(5):
        _, token = measured.traffic.open(subject=f"somebody-{number}")
        measured.traffic.check(measured.workers[0], token)
    after = measured.scrape()

    assert set(after.values) == set(before.values)
    for name, labels in after.values:
        for label, value in labels:
            assert label in ("le", "version") or value in ALLOWED_LABELS[label], name
    assert len(after.values) < 1_000
    assert "somebody" not in after.text and "agent-7" not in after.text


def test_what_is_open_is_counted(measured: Measured) -> None:
    """A permit that was not committed, an approval that waits, a suspended session."""
    traffic, operator = measured.traffic, measured.traffic.operator
    key = "A" * 43
    suspended, _ = traffic.open()
    _, token = traffic.open(f' needs approval(1, "{key}")')
    _, other = traffic.open()
    assert traffic.check(measured.workers[0], token).reason
    assert traffic.check(measured.workers[1], other, permit_ms=PERMIT_MS).allowed
    operator.call("SessionService/SuspendSession", sessions.SuspendSessionRequest(session_id=suspended))

    # Counting may take a fiftieth of a processor, so it is done again after a while.
    assert measured.later("sessauth_open_permits", 1)
    page = measured.scrape()
    assert page.value("sessauth_waiting_approvals") == 1
    assert page.value("sessauth_sessions", status="suspended") == 1
    # Forwarded calls were counted by the process that answered them.
    assert page.counted("sessauth_decisions_total", "reason") == traffic.decided


def test_counters_go_on_when_a_worker_is_killed(measured: Measured) -> None:
    """Its counts stay, its place is down, and its successor continues its counters."""
    control = measured.service.control
    assert control is not None
    _, token = measured.traffic.open()
    measured.traffic.check(measured.workers[0], token)
    worker = control.supervisor.workers[0]
    killed = worker.pid
    before = measured.scrape()

    os.kill(killed, signal.SIGKILL)
    assert wait_until(lambda: worker.pid not in (0, killed))
    during = measured.scrape()
    assert measured.later("sessauth_process_up", 1, process="worker-0")
    assert wait_until(lambda: serves(measured.workers[0]))
    measured.traffic.check(measured.workers[0], token)
    after = measured.scrape()

    for page in (during, after):
        for name, value in counters(before).items():
            assert counters(page)[name] >= value, name
    assert after.value("sessauth_worker_restarts_total") == 1
    assert after.counted("sessauth_decisions_total", "reason") == measured.traffic.decided


def counters(page: Scrape) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return every series that may only grow."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in page.families.values()
        if family.type in ("counter", "histogram")
        for sample in family.samples
    }
