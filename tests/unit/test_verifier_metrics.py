"""A gateway shows its own verifier's numbers among its own, in its own registry."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sessauth.audit.write.stream import AuditOptions
from sessauth.metrics import VerifierCollector
from sessauth.server.metrics.state import METRICS
from sessauth.verifier.verifier import Verifier
from tests.support.service import wait_until
from tests.support.state_fixture import StateFixture
from tests.vectors.world import AUDIENCE, NOW, root, token

VALID = token(root("read:files/**"))
Series = tuple[str, frozenset[tuple[str, str]]]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with the session and the issuer of the vectors."""
    opened = StateFixture(tmp_path / "state")
    opened.verifier.close()
    opened.writer.close()
    return tmp_path / "state"


def ask(verifier: Verifier, resource: str) -> bool:
    """Check a call of the vectors' time."""
    return verifier._check(VALID, "read", resource, now_ms=NOW).allowed


def page(registry: CollectorRegistry) -> dict[Series, float]:
    """Return the shown samples, by series."""
    text = generate_latest(registry).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    """Return the sample of one series."""
    return page(registry)[name, frozenset(labels.items())]


def test_what_a_verifier_decides_is_counted(state: Path) -> None:
    """Decisions count by reason and stage, with times, cache, signatures and the revision of the view."""
    with Verifier.embedded(state, audience=AUDIENCE) as verifier:
        assert ask(verifier, "files/a")
        registry = CollectorRegistry()
        registry.register(VerifierCollector(verifier))
        for resource in ("files/a", "files/b", "other"):
            ask(verifier, resource)

        # Those before it was made were not counted.
        assert value(registry, "sessauth_decisions_total", stage="none", reason="ALLOWED") == 2
        assert value(registry, "sessauth_decisions_total", stage="scope", reason="OUT_OF_SCOPE") == 1
        assert value(registry, "sessauth_decisions_total", stage="signature", reason="BAD_SIGNATURE") == 0
        assert value(registry, "sessauth_check_seconds_count") == 3
        assert value(registry, "sessauth_signatures_verified_total") == 1
        assert value(registry, "sessauth_chain_cache_hits_total") == 3
        assert value(registry, "sessauth_chain_cache_chains") == 1
        assert value(registry, "sessauth_view_current") == 1
        assert value(registry, "sessauth_revision") == verifier.view.revision
        assert not any(name.startswith("sessauth_audit") for name, _ in page(registry))


def test_its_names_are_those_of_the_server(state: Path) -> None:
    """One dashboard reads both: but for its view, each metric is the server's, with the same labels."""
    with Verifier.embedded(state, audience=AUDIENCE) as verifier:
        registry = CollectorRegistry()
        registry.register(VerifierCollector(verifier))
        shown = {
            (re.sub("_(count|sum|bucket)$", "", name), frozenset(dict(labels)) - {"le"})
            for name, labels in page(registry)
        }

    known = {(metric.name, frozenset(metric.labels)) for metric in METRICS}
    assert {name for name, _ in shown - known} == {"sessauth_view_current"}


def test_an_audit_of_its_own_is_shown(state: Path, tmp_path: Path) -> None:
    """While one is recorded, and no longer."""
    verifier = Verifier.embedded(state, audience=AUDIENCE, audit=AuditOptions(tmp_path / "audit"))
    registry = CollectorRegistry()
    registry.register(VerifierCollector(verifier))
    ask(verifier, "files/a")

    assert wait_until(lambda: value(registry, "sessauth_audit_recorded_total") == 1)
    assert value(registry, "sessauth_audit_healthy") == 1
    assert value(registry, "sessauth_audit_lost_total") == 0
    verifier.close()
    assert not any(name.startswith("sessauth_audit") for name, _ in page(registry))


def test_a_verifier_that_can_not_judge_says_so(state: Path) -> None:
    """One that was not heard of in time, and one that was closed, have no state to judge by."""
    verifier = Verifier.embedded(state, audience=AUDIENCE)
    registry = CollectorRegistry()
    registry.register(VerifierCollector(verifier))
    verifier.view.stale_at(1)

    assert not ask(verifier, "files/a")
    assert value(registry, "sessauth_view_current") == 0
    verifier.view.stale_at(0)
    assert value(registry, "sessauth_view_current") == 1
    verifier.close()
    assert value(registry, "sessauth_view_current") == 0
    assert ("sessauth_revision", frozenset()) not in page(registry)


def test_a_tally_that_is_there_is_counted_on(state: Path) -> None:
    """A verifier has one; a second collector reads the same numbers."""
    with Verifier.embedded(state, audience=AUDIENCE) as verifier:
        first, second = CollectorRegistry(), CollectorRegistry()
        first.register(VerifierCollector(verifier))
        ask(verifier, "files/a")
        second.register(VerifierCollector(verifier))
        ask(verifier, "files/a")

        for registry in (first, second):
            assert value(registry, "sessauth_decisions_total", stage="none", reason="ALLOWED") == 2
