"""Holds queries of Prometheus against what a server tells: series, kinds and labels that they name exist."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set

from sessauth.server.metrics.state import METRICS

# Prometheus adds these to every series of a target.
TARGET_LABELS = {"instance", "job"}
FUNCTIONS = {
    "rate",
    "increase",
    "max_over_time",
    "sum",
    "min",
    "max",
    "count",
    "absent",
    "time",
    "histogram_quantile",
}
WORDS = {"by", "and", "or", "unless", "on", "group_right", "bool", "offset"}
# After "offset".
_SPAN = re.compile(r"\b\d+[smhd]\b")
_SERIES = re.compile(r"(sessauth_\w+)(?:\{([^}]*)\})?(\[[^\]]*\])?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_BY = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")


def series_of() -> dict[str, tuple[str, set[str]]]:
    """Return the kind and the labels of each series that a server exposes, by its name."""
    found: dict[str, tuple[str, set[str]]] = {}
    for metric in METRICS:
        labels = set(metric.labels)
        if metric.kind == "histogram":
            found[f"{metric.name}_bucket"] = ("counter", labels | {"le"})
            found[f"{metric.name}_sum"] = found[f"{metric.name}_count"] = ("counter", labels)
        else:
            found[metric.name] = (metric.kind, labels)
    return found


def wrong_with(query: str, series: Set[str], values: Mapping[str, Set[str]]) -> list[str]:
    """Return the faults of a query, in words.

    ``series`` are the names of the series on a page; ``values`` are the permitted values of each label.
    """
    known, wrong = series_of(), []
    used = _SERIES.findall(query)
    if not used:
        wrong.append("names no metric of ours")
    labels = set(TARGET_LABELS)
    for name, matchers, interval in used:
        if name not in known or name not in series:
            wrong.append(f"{name} is on no page")
            continue
        kind, own = known[name]
        labels |= own
        if (kind == "counter") != bool(interval):
            wrong.append(f"{name} is a {kind}: " + ("rate() it" if kind == "counter" else "read it as it is"))
        for label, operator, text in _MATCHER.findall(matchers):
            if label in TARGET_LABELS:
                continue
            if label not in own:
                wrong.append(f"{name} has no label {label}")
            elif set(text.split("|") if "~" in operator else [text]) - values[label]:
                wrong.append(f"{label} is never {text}")
        if _MATCHER.sub("", matchers).strip(", "):
            wrong.append(f"{name}{{{matchers}}} can't be read")
    for inside in _BY.findall(query):
        wrong += [f"nothing has the label {label}" for label in _names(inside) - labels]
    bare = _SPAN.sub("", _SERIES.sub("", query))
    words = set(re.findall(r"[A-Za-z_]\w*", _BY.sub("by", bare)))
    wrong += [f"{word}: no function that is known" for word in words - FUNCTIONS - WORDS]
    if bare.count("(") != bare.count(")"):
        wrong.append("its brackets don't match")
    return wrong


def _names(inside: str) -> set[str]:
    return {name.strip() for name in inside.split(",")}
