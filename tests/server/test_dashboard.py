"""Every query of the dashboard, and of the documents, is about something that a server tells."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from sessauth.metrics import VIEW_CURRENT
from sessauth.reasons import Reason, Stage
from sessauth.server.identity.login_sessions import APPLIED
from sessauth.server.metrics.shared_page import CODES
from sessauth.server.metrics.state import METRICS, RECEIPT_STATES, VERIFIER_STATES, ReceiptMetrics
from sessauth.server.rpc.access import RULES as RPCS
from sessauth.server.rpc.pool import POOL_NAMES
from sessauth.server.services.identity import RECEIVED, UNMATCHED
from tests.support.alarms import RULES
from tests.support.promql import series_of, wrong_with
from tests.support.scrape import Scrape, Traffic, scrape
from tests.support.service import running
from tests.support.tree import ROOT

DASHBOARD = json.loads((ROOT / "docs" / "grafana" / "sessauth.json").read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
# Those on silence are about what Prometheus knows, and not about what a server tells; one is about a gateway.
ALARMS = [rule.expr for rule in RULES if "sessauth_" in rule.expr and VIEW_CURRENT.name not in rule.expr]
VALUES = {
    "stage": {stage.name.lower() for stage in Stage},
    "reason": {reason.name for reason in Reason},
    "rpc": {method.rpartition(".")[2] for method in RPCS},
    "code": set(CODES),
    "pool": set(POOL_NAMES),
    "process": {"control", "worker-0"},
    "status": {"active", "suspended", "ended"},
    "state": {*RECEIPT_STATES, *VERIFIER_STATES},
    "outcome": {APPLIED, UNMATCHED, RECEIVED},
}


@pytest.fixture(scope="module")
def page() -> Iterator[Scrape]:
    """A scrape of a server after a little traffic, with an audit and receipts."""
    with running(metrics={"address": "127.0.0.1:0"}, audit={"enabled": True}) as service:
        assert service.control is not None and service.control.metrics is not None
        service.control.metrics.receipts = lambda: ReceiptMetrics(
            (2, 1, 0),
            3,
            (2, 0),
            1,
            {("corp", "OPENED"): 1},
            {("corp", "logout", "APPLIED"): 1},
            {("corp",): 1.0},
            {("signed",): 1},
        )
        traffic = Traffic(service.operator)
        _, token = traffic.open()
        traffic.check(service.operator, token)
        traffic.check(service.operator, token, b"write")
        traffic.watch_and_end(service.operator)
        traffic.refuse(service.caller(""))
        yield scrape(service.control.metrics.port)


def _queries() -> list[tuple[str, str]]:
    return [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]


@pytest.mark.parametrize(("title", "query"), _queries())
def test_every_query_of_the_dashboard_can_be_answered(page: Scrape, title: str, query: str) -> None:
    """Its series are on the page, of that kind, with those labels."""
    assert wrong_with(query, {name for name, _ in page.values}, VALUES) == []


@pytest.mark.parametrize("query", ALARMS)
def test_every_alarm_can_be_answered(page: Scrape, query: str) -> None:
    """An alarm on a metric that is not there would never ring."""
    assert wrong_with(query, {name for name, _ in page.values}, VALUES) == []


def test_there_are_alarms() -> None:
    """So that the test above means something."""
    assert len(ALARMS) == len(RULES) - 3 == 39


def test_every_metric_is_on_the_dashboard() -> None:
    """Each metric has a panel."""
    text = " ".join(query for _, query in _queries())
    unseen = [
        metric.name for metric in METRICS if not re.search(rf"{metric.name}(_bucket|_sum|_count)?\b", text)
    ]

    assert unseen == []


def test_every_panel_says_what_it_shows() -> None:
    """Title, text, unit and a place of its own."""
    for panel in PANELS:
        assert panel["title"] and panel["description"] and panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    used: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & used, panel["title"]
        used |= cells


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("sessauth_nothing", "sessauth_nothing is on no page"),
        ("sessauth_decisions_total", "sessauth_decisions_total is a counter: rate() it"),
        ("rate(sessauth_ready[5m])", "sessauth_ready is a gauge: read it as it is"),
        ('sum(sessauth_pool_calls{pool="fast"})', "pool is never fast"),
        ('sum(sessauth_ready{pool="check"})', "sessauth_ready has no label pool"),
        ("sum by (session) (sessauth_ready)", "nothing has the label session"),
        ("avg(sessauth_ready)", "avg: no function that is known"),
        ("sum(sessauth_ready", "its brackets don't match"),
        ("up == 0", "names no metric of ours"),
    ],
)
def test_a_wrong_query_is_found(query: str, wrong: str) -> None:
    """The reader of queries sees what would show nothing."""
    assert wrong in wrong_with(query, set(series_of()), VALUES)
