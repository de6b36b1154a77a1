"""The report of a session or a purpose as a page of its own, drawn by the templates of the console.

It needs no server and loads nothing: the stylesheet is in it, and its policy forbids scripts.
Suggested scopes contain values of arguments.
"""

from __future__ import annotations

from typing import Any

from ..usage.generalize import Fit
from ..usage.grants import is_for
from ..usage.report import LayerUse, UsageReport
from .pages import environment, stylesheet


def report_page(report: UsageReport, fit: Fit = Fit.KINDS) -> str:
    """Return a report as HTML. Every text that others chose is escaped."""
    usage = report.usage
    values = {
        "style": stylesheet(),
        "report": report,
        "observing": sum(each.session.observe for each in report.sessions),
        "observed_calls": sum(each.calls for _, each in usage.observed),
        "denied_calls": sum(each.calls for _, each in usage.denied),
        "layers": [used_layer(layer, fit) for layer in report.layers],
        "outside": _outside(report, fit),
        "used": sorted(usage.calls, key=lambda row: -row[1].calls),
        "denied": sorted(usage.denied, key=lambda row: -row[1].calls),
    }
    return environment().get_template("report.html").render(values)


def _outside(report: UsageReport, fit: Fit) -> list[dict[str, Any]]:
    """Return the kinds of calls that observe mode alone allowed, each with a scope suggested for tokens."""
    minted = [scope for layer in report.minted for scope in layer.suggestion(fit).scopes]
    return [
        {
            "call": f"{action}:{resource}",
            "argument": argument,
            "calls": each.calls,
            "suggested": next((str(scope) for scope in minted if is_for(scope, action, resource)), ""),
        }
        for (_, action, resource, argument), each in sorted(
            report.usage.observed, key=lambda row: -row[1].calls
        )
    ]


def used_layer(layer: LayerUse, fit: Fit = Fit.KINDS) -> dict[str, Any]:
    """Return the values of ``grants.html``: each granted scope, its calls, and its part of the suggestion."""
    suggestion = layer.suggestion(fit)
    parts = {part.index: part for part in suggestion.parts}
    scopes = []
    for index, use in enumerate(layer.scopes):
        part = parts.get(index)
        scopes.append(
            {
                "text": str(use.scope),
                "calls": use.span.calls,
                "last_ms": use.span.last_ms,
                "outcome": part.outcome if part else "",
                "enough": [str(each) for each in part.scopes] if part else (),
            }
        )
    return {
        "id": layer.layer.id,
        "title": "ceiling" if layer.layer.kind == "ceiling" else "minted into tokens",
        "ceiling": layer.layer.kind == "ceiling",
        "scopes": scopes,
        "most": max((use.span.calls for use in layer.scopes), default=0),
        "suggested": bool(suggestion.scopes) and any(part.outcome != "kept" for part in suggestion.parts),
        "why": suggestion.why,
    }
