"""``sessauth check``, ``allowed`` and ``permit``: have calls checked, as a gateway does.

- ``check`` checks one call and explains a denial; with ``--watch`` it stays until the allow is withdrawn.
- ``allowed`` shows which of several calls a token could make now.
- ``permit commit`` checks a call again just before it is made; ``permit release`` gives back the reserve.

A permit is not a secret: without the gateway's credential, the token and the same call it is worthless.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...crypto.armor import parse_proof
from ...decisions.decision import DecisionBase
from ...decisions.tool_catalog import Candidate, Verdicts
from ...errors import MalformedToken, ServerError, UsageError
from ...limits import MAX_PERMIT_MS
from ...model.session import ceiling_layers
from ...reasons import Level, Reason
from ...scopes.scope import Scope
from ...tokens.prover import HolderKey
from .. import context, output, params
from ..context import Settings, with_settings
from ..io import (
    CALLER_OPTIONS,
    call_options,
    json_bytes,
    read_approval,
    read_call,
    read_catalogue,
    read_text,
    read_token,
    require_one_stdin,
    with_options,
)
from ..output import fields, moment, printable, show, table
from ..params import FILE, PATH, examples, judge_state_option, token_argument

if TYPE_CHECKING:
    from ...client import CheckItem, Client


def to_json(decision: DecisionBase, explanation: str) -> dict[str, object]:
    """Return a decision as JSON values."""
    return {**decision.to_dict(), "explanation": explanation}


def to_lines(decision: DecisionBase, explanation: str) -> list[str]:
    """Return a decision as lines: the answer, the explanation, and its fields."""
    allowed = "ALLOWED by observe mode alone" if decision.observed else "ALLOWED"
    word = allowed if decision else f"DENIED at stage {decision.stage.name.lower()}"
    detail = explanation.removeprefix("ALLOWED").strip()
    stated = decision.to_dict()
    return [
        word,
        *([f"  {printable(detail)}"] if detail else []),
        *fields(
            [
                ("session", decision.session_id.hex()),
                ("epoch", decision.epoch or ""),
                ("revision", decision.revision or ""),
                ("holds until", moment(decision.expires_at_ms) if decision else ""),
                ("permit", stated.get("permit", "")),
                ("commit until", moment(int(str(stated.get("permit_expires_at_ms", 0))))),
                ("decision", decision.decision_id.hex()),
            ]
        ),
    ]


def _ceilings(client: Client, decision: DecisionBase) -> list[list[Scope]]:
    """Return the ceiling layers of a session and its ancestors if one of them refused, else none."""
    if decision.level != Level.CEILING:
        return []
    try:
        return list(islice(ceiling_layers(decision.session_id, client.get_session), decision.index + 1))
    except ServerError:
        # The credential may not read sessions; the explanation then names positions only.
        return []


def _proof(text: str) -> bytes:
    """Return the proof in a text or in the file after an @. Raises UsageError for other contents."""
    if not text:
        return b""
    try:
        return parse_proof(read_text(text[1:], "--proof") if text.startswith("@") else text.strip())
    except MalformedToken as error:
        raise UsageError(f"--proof: {error}") from None


def _require_call(
    token_only: bool, action: str, resource: str, call: dict[str, Any], *others: object
) -> None:
    """Raise UsageError for a missing call, or for one beside --token-only; ``others`` are its options."""
    if not token_only and not (action and resource):
        raise UsageError(
            "ACTION and RESOURCE name the call to check; --token-only checks the token without one"
        )
    if token_only and (action or resource or call["arguments"] or call["tool"] or any(others)):
        raise UsageError(
            "--token-only checks no call: leave out ACTION, RESOURCE, --arguments, --tool, --proof, "
            "--holder-key, --approval, --retry-id and --permit-ms"
        )


def _watch_call(
    settings: Settings,
    client: Client,
    item: CheckItem,
    audience: str,
    at_least_revision: int,
    explain: Callable[[DecisionBase], str],
) -> None:
    """Show the decision on a call, then its withdrawal, if it was allowed.

    Returns once the call is not allowed. Raises Unavailable if the server can no longer tell.
    """
    with client.watch(audience=audience) as watch:
        call = watch.ask(item, at_least_revision=at_least_revision)
        _show_watched(settings, call.decision, explain(call.decision), withdrawn=False)
        if call.decision:
            for event in watch:
                if event.withdrawn is not None:
                    _show_watched(settings, event.withdrawn, explain(event.withdrawn), withdrawn=True)
                    return


def _show_watched(settings: Settings, decision: DecisionBase, explanation: str, *, withdrawn: bool) -> None:
    """Print one line of JSON, or lines for people."""
    if settings.json:
        click.echo(json.dumps({**to_json(decision, explanation), "withdrawn": withdrawn}))
        return
    lines = to_lines(decision, explanation)
    if withdrawn:
        lines[0] = f"WITHDRAWN at stage {decision.stage.name.lower()}"
    show(lines)


@click.command(
    epilog=examples(
        "check deploy.token deploy cluster/web/staging --audience cluster", "check deploy.token --token-only"
    )
)
@token_argument
@click.argument("action", required=False, default="")
@click.argument("resource", required=False, default="")
@click.option("--token-only", is_flag=True, help="Check the token itself, without a call.")
@call_options
@click.option("--proof", default="", metavar="PROOF|@FILE", help="Of a bound token's holder, for this call.")
@click.option("--holder-key", "holder_file", type=PATH, help="Prove it here, with this key file.")
@click.option(
    "--approval",
    "approval_files",
    type=FILE,
    multiple=True,
    help="A signed approval of this call, from 'approval grant --out'. Repeatable.",
)
@click.option("--retry-id", default="", help="Name of this attempt: the call's costs are taken once.")
@click.option(
    "--permit-ms",
    type=click.IntRange(0, MAX_PERMIT_MS),
    default=0,
    help="Ask for a permit, to be committed within so many ms.",
)
@judge_state_option
@click.option("--watch", is_flag=True, help="Stay, and say when the call is no longer allowed.")
@with_settings
def check(
    settings: Settings,
    /,
    token_file: str,
    action: str,
    resource: str,
    token_only: bool,
    state: Path | None,
    watch: bool,
    proof: str,
    holder_file: Path | None,
    approval_files: Sequence[str],
    retry_id: str,
    permit_ms: int,
    **options: Any,
) -> None:
    """Check one call: ACTION on RESOURCE. Exits with 0 if it is allowed and with 1 if not.

    A denial says which block, scope, clause and argument failed, and the values that would have been allowed.
    With --token-only only the token is checked, and no call.
    """
    if holder_file is not None and (proof or state is not None):
        raise UsageError("--holder-key excludes --proof and --state: it proves for the server's host")
    if watch and state is not None:
        raise UsageError("--watch asks a server, --state none: give one of them")
    call = read_call(options, token_file, proof, *approval_files)
    _require_call(token_only, action, resource, call, holder_file, proof, approval_files, retry_id, permit_ms)
    # Parsed before it is sent: a bad paste is reported as truncated or damaged, a check can't tell.
    token = read_token(token_file)
    call["proof"] = _proof(proof)
    cost: dict[str, Any] = {
        "approvals": [read_approval(file) for file in approval_files],
        "retry_id": retry_id.encode("utf-8", "surrogateescape"),
        "permit_ms": permit_ms,
    }
    decision: DecisionBase
    if state is not None:
        if any(cost.values()):
            raise UsageError("--approval, --retry-id and --permit-ms are for the server: leave out --state")
        from ..local_state import embedded_check

        call["session"] = context.whole(call["session"], "--session")
        decision, explanation = embedded_check(
            state, token, action, resource, {**call, "token_only": token_only}
        )
    else:
        holder = HolderKey.load(holder_file) if holder_file is not None else None
        with settings.client(holder) as client:
            call["session"] = context.session(client, call["session"])
            if watch:
                from ...client import CheckItem

                audience, at_least_revision = call.pop("audience"), call.pop("at_least_revision")
                _watch_call(
                    settings,
                    client,
                    CheckItem(token, action, resource, token_only=token_only, **call, **cost),
                    audience,
                    at_least_revision,
                    lambda answer: answer.explain(token, _ceilings(client, answer)),
                )
                click.get_current_context().exit(output.DENIED)
            if token_only:
                origin = {name: call[name] for name in ("session", "source", "peer")}
                named = {name: call[name] for name in ("audience", "at_least_revision")}
                decision = client.stands(token, **origin, **named)
            else:
                decision = client.check(token, action, resource, **call, **cost)
            explanation = decision.explain(token, _ceilings(client, decision))
    settings.show(to_json(decision, explanation), to_lines(decision, explanation), ok=bool(decision))


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


@click.command(
    epilog=examples(
        "allowed deploy.token deploy:cluster/web/staging deploy:cluster/db/staging --audience cluster"
    )
)
@params.token_argument
@click.argument("calls", nargs=-1, metavar="[ACTION:RESOURCE]...")
@click.option(
    "--catalogue",
    default="",
    type=FILE,
    help="Ask about every tool of a pinned catalogue as well.",
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

        options["session"] = context.whole(session_id, "--session")
        verdicts = embedded_survey(state, token, candidates, options)
    else:
        with settings.client() as client:
            options["session"] = context.session(client, session_id)
            verdicts = client.list_allowed(token, candidates, **options)
    settings.show(
        _to_json(verdicts, candidates), _to_lines(verdicts, candidates), ok=verdicts.reason == Reason.ALLOWED
    )


@click.group()
def permit() -> None:
    """Use a permit that 'check --permit-ms' gave."""


@permit.command(
    "commit",
    epilog=examples('permit commit "$permit" deploy.token deploy cluster/web/staging --audience cluster'),
)
@click.argument("permit", type=params.permit)
@params.token_argument
@click.argument("action")
@click.argument("resource")
@call_options
@with_settings
def commit(
    settings: Settings, /, permit: bytes, token_file: str, action: str, resource: str, **options: Any
) -> None:
    """Check the call of PERMIT again and use the permit up. Exits with 0 if it is allowed, else with 1."""
    call = read_call(options, token_file)
    token = read_token(token_file)
    with settings.client() as client:
        call["session"] = context.session(client, call["session"])
        decision = client.commit(permit, token, action, resource, **call)
    explanation = decision.explain(token)
    settings.show(to_json(decision, explanation), to_lines(decision, explanation), ok=bool(decision))


@permit.command("release", epilog=examples('permit release "$permit"'))
@click.argument("permit", type=params.permit)
@with_settings
def release(settings: Settings, permit: bytes) -> None:
    """Give back the amounts that PERMIT holds in reserve."""
    with settings.client() as client:
        revision = client.release(permit)
    settings.show({"revision": revision}, [f"released at revision {revision}"])
