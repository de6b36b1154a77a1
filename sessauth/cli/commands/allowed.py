"""``sessauth allowed``: which of some calls a token could make now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ...decisions.survey import Candidate, Verdicts
from ...errors import UsageError
from ...reasons import Reason
from .. import lookup, params
from ..call_options import CALLER_OPTIONS, with_options
from ..context import Settings, with_settings
from ..io import json_bytes, read_catalogue, read_token, require_one_stdin
from ..output import table


def _candidates(calls: Sequence[str], catalogue: str, arguments: str | None, tool: str) -> list[Candidate]:
    data = None if arguments is None else json_bytes(arguments, "--arguments")
    facts = json_bytes(tool, "--tool")
    candidates = []
    for call in calls:
        action, colon, resource = call.partition(":")
        if not colon:
            raise UsageError(f"{call!a}: a call is ACTION:RESOURCE, such as read:files/report")
        candidates.append(Candidate(action, resource, data, facts))
    if catalogue:
        pinned = read_catalogue(catalogue, "--catalogue")
        candidates += [each._replace(arguments=data) for each in pinned.candidates(pinned)]
    if not candidates:
        raise UsageError("give calls, or --catalogue")
    return candidates


def _to_json(verdicts: Verdicts, candidates: Sequence[Candidate]) -> dict[str, object]:
    return {
        "reason": verdicts.reason.name,
        "stage": verdicts.stage.name,
        "revision": verdicts.revision,
        "verdicts": [
            {"action": each.action, "resource": each.resource, "verdict": verdict.name}
            for each, verdict in zip(candidates, verdicts, strict=True)
        ],
    }


def _to_lines(verdicts: Verdicts, candidates: Sequence[Candidate]) -> list[str]:
    refused = verdicts.reason != Reason.ALLOWED
    rows = [
        (verdict.name.lower(), each.action, each.resource)
        for each, verdict in zip(candidates, verdicts, strict=True)
    ]
    return [
        *([f"REFUSED {verdicts.reason.name} at stage {verdicts.stage.name.lower()}"] if refused else []),
        *table(("VERDICT", "ACTION", "RESOURCE"), rows),
    ]


@click.command()
@params.token_argument
@click.argument("calls", nargs=-1, metavar="[ACTION:RESOURCE]...")
@click.option(
    "--catalogue", default="", metavar="FILE", help="Ask about every tool of a pinned catalogue as well."
)
@click.option("--arguments", metavar="JSON|@FILE", help="The calls' arguments. Default: any there could be.")
@click.option("--tool", default="", metavar="JSON|@FILE", help="A catalogue's facts about the calls' tool.")
@click.option("--session", "session_id", type=params.session_id, default=b"", help="Session of the calls.")
@with_options(*CALLER_OPTIONS)
@click.option("--at-least-revision", type=click.IntRange(0), default=0, help="Refuse if the view is older.")
@params.judge_state_option
@with_settings
def allowed(
    settings: Settings,
    /,
    token_file: str,
    calls: Sequence[str],
    catalogue: str,
    arguments: str | None,
    tool: str,
    state: Path | None,
    session_id: params.Ref,
    **options: Any,
) -> None:
    """Show for each call whether a token could make it now: yes, no, or maybe.

    Maybe depends on the arguments, a proof, or the costs of the call. Exits with 1 if the token is refused
    for every call.
    """
    require_one_stdin(
        (token_file, catalogue, arguments, tool),
        "only one of token, catalogue and JSON can be read from stdin",
    )
    token = read_token(token_file)
    candidates = _candidates(calls, catalogue, arguments, tool)
    if state is not None:
        from ..local_state import embedded_survey

        options["session"] = lookup.whole(session_id, "--session")
        verdicts = embedded_survey(state, token, candidates, options)
    else:
        with settings.client() as client:
            options["session"] = lookup.session(client, session_id)
            verdicts = client.list_allowed(token, candidates, **options)
    settings.show(
        _to_json(verdicts, candidates),
        _to_lines(verdicts, candidates),
        ok=verdicts.reason == Reason.ALLOWED,
    )
