"""``sessauth check``: check one call, explain a denial, and stay until an allow is withdrawn."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...crypto.armor import parse_proof
from ...decisions.decision import DecisionBase
from ...errors import MalformedToken, ServerError, UsageError
from ...limits import MAX_PERMIT_MS
from ...model.lineage import ceiling_layers
from ...reasons import Level
from ...scopes.scope import Scope
from ...tokens.holder import HolderKey
from .. import failures, lookup
from ..call_options import call_options, read_call
from ..context import Settings, with_settings
from ..io import read_approval, read_text, read_token
from ..output import show
from ..params import PATH, judge_state_option, token_argument
from ..render.decision import to_json, to_lines

if TYPE_CHECKING:
    from ...client import CheckItem, Client


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


@click.command()
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
    metavar="FILE",
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

        call["session"] = lookup.whole(call["session"], "--session")
        decision, explanation = embedded_check(
            state, token, action, resource, {**call, "token_only": token_only}
        )
    else:
        holder = HolderKey.load(holder_file) if holder_file is not None else None
        with settings.client(holder) as client:
            call["session"] = lookup.session(client, call["session"])
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
                click.get_current_context().exit(failures.DENIED)
            if token_only:
                origin = {name: call[name] for name in ("session", "source", "peer")}
                named = {name: call[name] for name in ("audience", "at_least_revision")}
                decision = client.stands(token, **origin, **named)
            else:
                decision = client.check(token, action, resource, **call, **cost)
            explanation = decision.explain(token, _ceilings(client, decision))
    settings.show(to_json(decision, explanation), to_lines(decision, explanation), ok=bool(decision))
