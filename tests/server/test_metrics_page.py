"""The page of metrics: its readers, its formats, and its faults."""

from __future__ import annotations

import socket
import sys
import urllib.error
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from sessauth.audit.recording.process import AuditNumbers, ProcessRecorder
from sessauth.errors import ConfigError, StateError
from sessauth.server import config as server_config
from sessauth.server.metrics import http
from sessauth.server.metrics.http import Listener
from sessauth.server.metrics.shared_page import MetricSlot, Page
from sessauth.server.process.control import Control
from sessauth.server.process.init import initialise
from sessauth.server.rpc.call import Accounting
from sessauth.server.rpc.pool import POOL_NAMES
from tests.support.scrape import Traffic, scrape
from tests.support.service import Service, home_folder, running, wait_until

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture(scope="module")
def measured() -> Iterator[Service]:
    """A server whose metrics are on, without workers."""
    with running(metrics={"address": "127.0.0.1:0"}) as service:
        yield service


def port(service: Service) -> int:
    """The port of its metrics."""
    assert service.control is not None and service.control.metrics is not None
    return service.control.metrics.port


def ask(port: int, request: bytes) -> bytes:
    """Return what is answered to these bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
        return answer


def answers(port: int) -> bool:
    """Return True if a scrape is answered; a refused one may break off before it was sent."""
    try:
        return ask(port, b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n") != b""
    except OSError:
        return False


def test_only_the_page_is_served(measured: Service) -> None:
    """No other path, no other method."""
    at = port(measured)

    assert ask(at, b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.0 404")
    assert ask(at, b"GET /metrics/x HTTP/1.0\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.0 404")
    assert ask(at, b"POST /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.0 501")
    assert ask(at, b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.0 200")


def test_a_page_on_the_loopback_has_no_other_name(measured: Service) -> None:
    """A browser that was told another name for this address reads nothing."""
    at = port(measured)

    assert ask(at, b"GET /metrics HTTP/1.0\r\nHost: evil.example:80\r\n\r\n").startswith(b"HTTP/1.0 404")
    assert ask(at, b"GET /metrics HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 404")
    assert ask(at, b"GET /metrics HTTP/1.0\r\nHost: [::1]:9464\r\n\r\n").startswith(b"HTTP/1.0 200")


def test_a_scraper_may_ask_for_openmetrics(measured: Service) -> None:
    """The form is the one that it accepts."""
    page = scrape(port(measured), Accept=OPEN_METRICS)

    assert page.text.rstrip().endswith("# EOF")
    assert page.value("sessauth_ready") == 1


def test_scrapers_that_say_nothing_hold_up_nobody(measured: Service) -> None:
    """More connections than are listened to are closed; there is room again once some have ended."""
    at = port(measured)
    silent = [socket.create_connection(("127.0.0.1", at)) for _ in range(http.MAX_CONNECTIONS)]
    try:
        # Each of them has a thread by the time that one more is taken.
        assert ask(at, b"") == b""
    finally:
        for connection in silent:
            connection.close()

    assert wait_until(lambda: answers(at))


def test_what_can_not_be_read_is_left_out(measured: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that can't be read takes its own numbers off the page, not those that say what is wrong."""
    assert measured.control is not None

    def broken() -> None:
        raise StateError("the disk is gone")

    monkeypatch.setattr(measured.control.writer, "head", broken)
    page = scrape(port(measured))

    assert ("sessauth_revision", frozenset()) not in page.values
    assert page.value("sessauth_ready") == 0
    assert page.value("sessauth_brake") == 0


def test_a_page_that_can_not_be_made_is_an_error(measured: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scraper hears 500, and the next scrape is served again."""
    assert measured.control is not None
    with monkeypatch.context() as patch:
        patch.setattr(type(measured.control.writer), "waiting", property(lambda self: 1 // 0))
        with pytest.raises(urllib.error.HTTPError) as refused:
            scrape(port(measured))
        refused.value.close()
    assert refused.value.code == 500

    assert scrape(port(measured)).value("sessauth_writer_queue_jobs") == 0


def test_a_brake_that_a_person_holds_is_told(measured: Service) -> None:
    """The page says what every check sees."""
    assert measured.control is not None
    brake = measured.control.writer._brake
    brake.engage("an operator looks into it", by_hand=True)
    try:
        assert scrape(port(measured)).value("sessauth_brake") == 1
    finally:
        brake.release(by_hand=True)
    assert scrape(port(measured)).value("sessauth_brake") == 0


def test_an_audit_is_told_where_there_is_one(measured: Service) -> None:
    """The numbers of audit streams are on the page, summed; without a stream none is."""
    assert ("sessauth_audit_healthy", frozenset()) not in scrape(port(measured)).values
    sink = SimpleNamespace(lost=2, recorded=7, waiting_bytes=100, healthy=False)
    recorder: Any = SimpleNamespace(audit=sink, queue=SimpleNamespace(waiting_bytes=20))
    assert ProcessRecorder.audit_numbers(recorder) == AuditNumbers(2, 7, 120, healthy=False)

    with running(metrics={"address": "127.0.0.1:0"}, audit={"enabled": True}) as service:
        traffic = Traffic(service.operator)
        _, token = traffic.open()
        traffic.check(service.operator, token)
        traffic.check(service.operator, token, b"write")
        at = port(service)
        assert wait_until(lambda: scrape(at).value("sessauth_audit_recorded_total") == traffic.judged)
        page = scrape(at)
    assert page.value("sessauth_audit_healthy") == 1
    assert page.value("sessauth_audit_lost_total") == 0


def test_an_address_that_is_taken_is_refused(measured: Service) -> None:
    """The error names the setting."""
    with pytest.raises(ConfigError, match=r"metrics\.address: .* can't be listened on"):
        Listener(f"127.0.0.1:{port(measured)}", lambda accept: (b"", ""))


def test_metrics_need_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the server says at its start what to install."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with home_folder() as home:
        initialise(home)
        config = server_config.from_dict({"home": str(home), "metrics": {"address": "127.0.0.1:0"}})
        with pytest.raises(ConfigError, match=r"metrics\.address: .*pip install 'sessauth\[metrics\]'"):
            Control(config)


@pytest.mark.parametrize("address", ["9464", "localhost:", ":9464", "localhost:x", "localhost:70000"])
def test_an_address_has_host_and_port(address: str) -> None:
    """Anything else is refused by name."""
    with pytest.raises(ConfigError, match=r"metrics\.address: must be HOST:PORT"):
        server_config.from_dict({"metrics": {"address": address}})


@pytest.mark.parametrize("address", ["0.0.0.0:9464", "[::]:9464", "10.0.0.5:9464", "metrics.example:9464"])
def test_other_machines_read_nothing_unless_that_is_said(address: str) -> None:
    """HTTP without TLS beyond the loopback needs the switch that says so."""
    with pytest.raises(ConfigError, match=r"metrics\.insecure_http"):
        server_config.from_dict({"metrics": {"address": address}})

    stated = {"metrics": {"address": address, "insecure_http": True}}
    assert server_config.from_dict(stated).metrics.address == address


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:9464", "[::1]:9464", "127.8.8.8:1"])
def test_the_loopback_needs_no_switch(address: str) -> None:
    """Names and numbers of this machine."""
    assert server_config.from_dict({"metrics": {"address": address}}).metrics.address == address


def test_a_process_counts_on_where_another_was_killed() -> None:
    """Counters continue from the page's values; gauges are those of the new process."""
    page = Page.make(shared=sys.platform == "linux")
    page.write(MetricSlot.CACHE_HITS, 5)
    page.write(MetricSlot.CACHE_HITS, 7)
    page.write(MetricSlot.CACHE_BYTES, 300)
    page.write_pool(0, 2, 9)
    if page.handle >= 0:
        successor = Page.inherited(page.handle)
        page.handle = -1
        successor.write(MetricSlot.CACHE_HITS, 4)
        successor.write(MetricSlot.CACHE_BYTES, 10)
        successor.write_pool(0, 1, 0)

        assert (page.read(MetricSlot.CACHE_HITS), page.read(MetricSlot.CACHE_BYTES)) == (11, 10)
        assert page.pool(0) == (3, 0)
    assert page.pool(len(POOL_NAMES) - 1) == (0, 0)


def test_calls_that_found_no_place_are_counted_by_pool(measured: Service) -> None:
    """Each pool's refusals are its own."""
    assert measured.control is not None
    accounting = measured.control.serving.accounting
    before = scrape(port(measured)).value("sessauth_pool_refusals_total", pool="check")

    accounting.overloaded["check"] += 3

    after = scrape(port(measured))
    assert after.value("sessauth_pool_refusals_total", pool="check") == before + 3
    assert after.value("sessauth_pool_refusals_total", pool="change") == 0
    assert Accounting().overloaded == {}
