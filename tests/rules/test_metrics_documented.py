"""docs/operations/metrics.md names each metric as it is told."""

from __future__ import annotations

import re

from sessauth.server.metrics.state import METRICS
from tests.support.markdown import Document
from tests.support.tree import ROOT

PAGE = Document(ROOT / "docs" / "operations" / "metrics.md")
ROW = re.compile(r"^\| `(sessauth_\w+)` \| (\w+) \| ([^|]*)\| ([^|]+) \|$", re.M)


def test_every_metric_is_documented_as_it_is_told() -> None:
    """Its name, kind, labels and text stand in the table, in the same order, and no other does."""
    rows = [
        (name, kind, tuple(re.findall(r"`(\w+)`", labels)), says)
        for name, kind, labels, says in ROW.findall(PAGE.sections(2)["Metrics"])
    ]

    assert rows == [(metric.name, metric.kind, metric.labels, metric.description) for metric in METRICS]


def test_names_follow_the_habits_of_prometheus() -> None:
    """Counters end in ``_total``, nothing else does; no name has another unit than seconds and bytes."""
    for metric in METRICS:
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert not re.search(r"_(ms|ns|us|milliseconds|kb|mb|percent|ratio)(_|$)", metric.name), metric.name
        assert metric.description.endswith(".") and "  " not in metric.description, metric.name
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
