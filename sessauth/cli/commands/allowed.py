"""``sessauth allowed``: which of some calls a token could make now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ...decisions.survey import Candidate, Verdicts
from ...decisions.tool_catalog import ToolCatalog
from ...errors import UsageError
from ...reasons import Reason
from .. import failures, id_prefixes, params
from ..context import Settings, with_settings
from ..io import json_bytes, read_text, read_token, token_argument
from ..output import table
from ..params import Ref


def _candidates(calls: Sequence[str], catalogue: str, arguments: str | None, tool: str) -> list[Candidate]:
    given = None if arguments is None else json_bytes(arguments, "--arguments")
    facts = json_bytes(tool, "--tool")
    found = []
    for call in calls:
        action, colon, resource = call.partition(":")
        if not colon:
            raise UsageError(f"{call!a}: a call is ACTION:RESOURCE, such as read:files/report")
        found.append(Candidate(action, resource, given, facts))
    if catalogue:
        pinned = ToolCatalog.from_json(read_text(catalogue, "--catalogue"))
        found += [each._replace(arguments=given) for each in pinned.candidates(pinned)]
    if not found:
        raise UsageError("give calls, or --catalogue")
    return found


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
@token_argument
@click.argument("calls", nargs=-1, metavar="[ACTION:RESOURCE]...")
@click.option(
    "--catalogue", default="", metavar="FILE", help="Ask about every tool of a pinned catalogue as well."
)
@click.option("--arguments", metavar="JSON|@FILE", help="The calls' arguments. Default: any there could be.")
@click.option("--tool", default="", metavar="JSON|@FILE", help="What a catalogue says of the calls' tool.")
@click.option("--session", "session_id", type=params.session_id, default=b"", help="Session of the calls.")
@click.option("--source", default="", help="IP address of the caller.")
@click.option("--peer", multiple=True, help="Identity in the caller's certificate. Repeatable.")
@click.option("--audience", default="", help="Which verifier asks. Default: the credential's only one.")
@click.option("--at-least-revision", type=click.IntRange(0), default=0, help="Refuse if the view is older.")
@click.option(
    "--state", type=click.Path(path_type=Path), help="Judge here, by this state folder, and ask no server."
)
@with_settings
def allowed(
    settings: Settings,
    token_file: str,
    calls: Sequence[str],
    catalogue: str,
    arguments: str | None,
    tool: str,
    state: Path | None,
    session_id: Ref,
    source: str,
    peer: Sequence[str],
    audience: str,
    at_least_revision: int,
) -> None:
    """Say of each call whether a token could make it now: yes, no, or maybe.

    Maybe depends on the arguments, a proof, or what the call costs. Exits with 1 if the token is refused
    whatever the call.
    """
    if [token_file, catalogue, *(text.removeprefix("@") for text in (arguments or "", tool))].count("-") > 1:
        raise UsageError("only one of token, catalogue and JSON can be read from stdin")
    token = read_token(token_file)
    candidates = _candidates(calls, catalogue, arguments, tool)
    asked: dict[str, Any] = {
        "source": source,
        "peer": peer,
        "audience": audience,
        "at_least_revision": at_least_revision,
    }
    if state is not None:
        from ..local_state import embedded_survey

        asked["session"] = id_prefixes.whole(session_id, "--session")
        verdicts = embedded_survey(state, token, candidates, asked)
    else:
        with settings.client() as client:
            asked["session"] = id_prefixes.session(client, session_id)
            verdicts = client.list_allowed(token, candidates, **asked)
    settings.show(_to_json(verdicts, candidates), _to_lines(verdicts, candidates))
    if verdicts.reason != Reason.ALLOWED:
        click.get_current_context().exit(failures.DENIED)
