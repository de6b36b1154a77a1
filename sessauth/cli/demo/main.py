"""Plays the stories and shows what came of each call."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable

from ...reasons import Reason
from .environment import AUDIENCE, DemoDecision, DemoEnvironment, open_theatre
from .report import DemoReport, collect
from .scenarios import STORIES

Say = Callable[[str], None]

_OF_THE_END = {
    Reason.SESSION_ENDED,
    Reason.SESSION_EXPIRED,
    Reason.LEASE_LAPSED,
}


def main(write: Say, *, as_json: bool = False) -> int:
    """Play all stories, and ``write`` what comes of them line by line.

    Returns 0 if every decision was the expected one, no token is accepted at the end and the evidence of that
    holds, else 1.
    """
    say: Say = _keep_quiet if as_json else write
    with open_theatre() as theatre:
        say("A server with two check workers, a client, and a verifier embedded in this process.")
        say("Each call is judged by a worker over gRPC and by the embedded verifier. Three latencies in")
        say("microseconds: over gRPC, embedded at first, embedded when asked again (median of 100).\n")
        for number, (title, story) in enumerate(STORIES.items()):
            theatre.story = title
            say(f"({chr(ord('a') + number)}) {title}: {(story.__doc__ or '').splitlines()[0]}")
            shown = len(theatre.judged)

            def tell(text: str) -> None:
                nonlocal shown
                shown = _show(theatre, shown, say)
                say(f"      {text}")

            story(theatre, tell)
            _show(theatre, shown, say)
            say("")
        survivors = _present_all_again(theatre, say)
        evidence = collect(theatre, say)
    wrong = [judged for judged in theatre.judged if not judged.as_expected]
    if as_json:
        write(json.dumps(_report(theatre, survivors, evidence), indent=2))
    else:
        write(_summary(theatre, wrong, survivors))
    return 0 if evidence.holds and not wrong and not survivors else 1


def _keep_quiet(_text: str) -> None:
    """Say nothing: the JSON comes at the end."""


def _show(theatre: DemoEnvironment, start: int, say: Say) -> int:
    """Show the calls from ``start`` on; returns how many there are now."""
    for judged in theatre.judged[start:]:
        say(_line(judged))
        if judged.explanation:
            say(f"{'':12}{judged.explanation}")
        if not judged.as_expected:
            say(f"{'':12}NOT AS EXPECTED: {judged.expected.name}, embedded {judged.embedded.name}")
    return len(theatre.judged)


def _line(judged: DemoDecision) -> str:
    verdict = "allowed" if judged.remote == Reason.ALLOWED else "DENIED"
    timing = f"{judged.remote_us:6.0f} {judged.first_us:6.1f} {judged.again_us:6.1f}"
    return f"  {verdict:8}{timing}  {judged.label}: {judged.call}"


def _present_all_again(theatre: DemoEnvironment, say: Say) -> list[str]:
    """Present every token again with a call it was once allowed; returns those that are accepted."""
    say("Every token of every story, presented again with a call that it was allowed:")
    theatre.story = "the end"
    survivors = []
    for name, (token, call) in list(theatre.presented.items()):
        remote = theatre.client.check(token, call.action, call.resource, call.arguments, audience=AUDIENCE)
        embedded = theatre.verifier.check(token, call.action, call.resource, call.arguments)
        accepted = bool(remote) or bool(embedded) or remote.reason not in _OF_THE_END
        say(f"  {'ACCEPTED' if accepted else 'refused':8} {remote.reason.name:16} {name}")
        if accepted:
            survivors.append(name)
    return survivors


def _report(theatre: DemoEnvironment, survivors: list[str], evidence: DemoReport) -> dict[str, object]:
    calls = [
        {
            "story": judged.story,
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
        for judged in theatre.judged
    ]
    return {
        "calls": calls,
        "tokens_presented_again": len(theatre.presented),
        "accepted": survivors,
        "evidence": evidence.to_dict(),
    }


def _summary(theatre: DemoEnvironment, wrong: list[DemoDecision], survivors: list[str]) -> str:
    remote = statistics.median(judged.remote_us for judged in theatre.judged)
    embedded = statistics.median(judged.again_us for judged in theatre.judged)
    return (
        f"\n{len(theatre.judged)} calls, {len(wrong)} not as expected; {len(theatre.presented)} tokens"
        f" presented again, {len(survivors)} accepted; median {remote:.0f} us over gRPC,"
        f" {embedded:.1f} us embedded"
    )
