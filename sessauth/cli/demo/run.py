"""Runs the scenarios and prints the answers to each call."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable

from ...reasons import Reason
from .environment import AUDIENCE, DemoDecision, DemoEnvironment, open_demo
from .report import DemoReport, collect
from .scenarios import SCENARIOS

Write = Callable[[str], None]

_END_REASONS = {
    Reason.SESSION_ENDED,
    Reason.SESSION_EXPIRED,
    Reason.LEASE_LAPSED,
}


def run(write: Write, *, as_json: bool = False) -> int:
    """Run all scenarios, and ``write`` their calls line by line, or one JSON document at the end.

    Returns 0 if every decision was the expected one, no token is accepted at the end and the evidence of that
    holds, else 1.
    """
    show: Write = _discard if as_json else write
    with open_demo() as demo:
        show("A server with two check workers, a client, and a verifier embedded in this process.")
        show("Each call is judged by a worker over gRPC and by the embedded verifier. Three latencies in")
        show("microseconds: over gRPC, embedded at first, embedded when asked again (median of 100).\n")
        for number, (title, scenario) in enumerate(SCENARIOS.items()):
            demo.scenario = title
            show(f"({chr(ord('a') + number)}) {title}: {(scenario.__doc__ or '').splitlines()[0]}")
            shown = len(demo.judged)

            def narrate(text: str) -> None:
                nonlocal shown
                shown = _show(demo, shown, show)
                show(f"      {text}")

            scenario(demo, narrate)
            _show(demo, shown, show)
            show("")
        survivors = _present_all_again(demo, show)
        evidence = collect(demo, show)
    wrong = [judged for judged in demo.judged if not judged.as_expected]
    if as_json:
        write(json.dumps(_report(demo, survivors, evidence), indent=2))
    else:
        write(_summary(demo, wrong, survivors))
    return 0 if evidence.holds and not wrong and not survivors else 1


def _discard(_text: str) -> None:
    """Print nothing: the JSON comes at the end."""


def _show(demo: DemoEnvironment, start: int, show: Write) -> int:
    """Show the calls from ``start`` on; return their new count."""
    for judged in demo.judged[start:]:
        show(_line(judged))
        if judged.explanation:
            show(f"{'':12}{judged.explanation}")
        if not judged.as_expected:
            show(f"{'':12}NOT AS EXPECTED: {judged.expected.name}, embedded {judged.embedded.name}")
    return len(demo.judged)


def _line(judged: DemoDecision) -> str:
    verdict = "allowed" if judged.remote == Reason.ALLOWED else "DENIED"
    timing = f"{judged.remote_us:6.0f} {judged.first_us:6.1f} {judged.again_us:6.1f}"
    return f"  {verdict:8}{timing}  {judged.label}: {judged.call}"


def _present_all_again(demo: DemoEnvironment, show: Write) -> list[str]:
    """Present every token again with a call that was allowed; return those that are accepted."""
    show("Every token of every story, presented again with a call that it was allowed:")
    demo.scenario = "the end"
    survivors = []
    for name, (token, call) in list(demo.presented.items()):
        remote = demo.client.check(token.data, call.action, call.resource, call.arguments, audience=AUDIENCE)
        embedded = demo.verifier.check(token.data, call.action, call.resource, call.arguments)
        accepted = bool(remote) or bool(embedded) or remote.reason not in _END_REASONS
        show(f"  {'ACCEPTED' if accepted else 'refused':8} {remote.reason.name:16} {name}")
        if accepted:
            survivors.append(name)
    return survivors


def _report(demo: DemoEnvironment, survivors: list[str], evidence: DemoReport) -> dict[str, object]:
    calls = [
        {
            "story": judged.scenario,
            "who": judged.label,
            "call": str(judged.call),
            "expected": judged.expected.name,
            "remote": judged.remote.name,
            "embedded": judged.embedded.name,
            "remote_us": round(judged.remote_us, 1),
            "embedded_first_us": round(judged.first_us, 1),
            "embedded_again_us": round(judged.again_us, 1),
            "explanation": judged.explanation,
        }
        for judged in demo.judged
    ]
    return {
        "calls": calls,
        "tokens_presented_again": len(demo.presented),
        "accepted": survivors,
        "evidence": evidence.to_dict(),
    }


def _summary(demo: DemoEnvironment, wrong: list[DemoDecision], survivors: list[str]) -> str:
    remote = statistics.median(judged.remote_us for judged in demo.judged)
    embedded = statistics.median(judged.again_us for judged in demo.judged)
    return (
        f"\n{len(demo.judged)} calls, {len(wrong)} not as expected; {len(demo.presented)} tokens"
        f" presented again, {len(survivors)} accepted; median {remote:.0f} us over gRPC,"
        f" {embedded:.1f} us embedded"
    )
