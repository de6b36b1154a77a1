"""``sessauth check``: judge one call, and say why not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..decision_base import DecisionBase
from ..errors import MalformedToken, ServerError, UsageError
from ..holder import HolderKey
from ..reasons import Level
from ..scope import Scope
from ..text_form import parse_proof
from . import failures, params
from .context import Settings, with_settings
from .decision_view import to_json, to_lines
from .token_io import json_bytes, read_text, read_token, token_argument

if TYPE_CHECKING:
    from ..client import Client


def _ceilings(client: Client, decision: DecisionBase) -> list[list[Scope]]:
    """Return the layers of the session's ceiling and its ancestors', if the denial is about one."""
    layers: list[list[Scope]] = []
    session_id = decision.session_id if not decision and decision.level == Level.CEILING else b""
    try:
        while session_id and len(layers) <= decision.index:
            session = client.get_session(session_id)
            layers += [[Scope.from_record(scope) for scope in layer] for layer in session.ceilings]
            session_id = session.parent_id
    except ServerError:
        # The credential may not read sessions: the positions alone have to do.
        return []
    return layers


def _proof(text: str) -> bytes:
    """Return the proof in a text, or in the file behind an @. Raises UsageError for anything else."""
    if not text:
        return b""
    try:
        return parse_proof(read_text(text[1:], "--proof") if text.startswith("@") else text.strip())
    except MalformedToken as error:
        raise UsageError(f"--proof: {error}") from None


@click.command()
@token_argument
@click.argument("action")
@click.argument("resource")
@click.option("--arguments", default="", metavar="JSON|@FILE", help="The call's arguments, a JSON object.")
@click.option("--tool", default="", metavar="JSON|@FILE", help="What a catalogue says of the tool.")
@click.option("--session", "session_id", type=params.session_id, default=b"", help="Session of the call.")
@click.option("--source", default="", help="IP address of the caller.")
@click.option("--peer", multiple=True, help="Identity in the caller's certificate. Repeatable.")
@click.option("--audience", default="", help="Which verifier asks. Default: the credential's only one.")
@click.option("--proof", default="", metavar="PROOF|@FILE", help="Of a bound token's holder, for this call.")
@click.option(
    "--holder-key", "holder_file", type=click.Path(path_type=Path), help="Prove it here, with this key file."
)
@click.option("--at-least-revision", type=click.IntRange(0), default=0, help="Deny if the view is older.")
@click.option(
    "--state", type=click.Path(path_type=Path), help="Judge here, by this state folder, and ask no server."
)
@with_settings
def check(
    settings: Settings,
    token_file: str,
    action: str,
    resource: str,
    arguments: str,
    tool: str,
    state: Path | None,
    session_id: bytes,
    source: str,
    peer: Sequence[str],
    audience: str,
    proof: str,
    holder_file: Path | None,
    at_least_revision: int,
) -> None:
    """Judge one call: ACTION on RESOURCE. Exits with 0 if it is allowed and with 1 if not.

    A denial says which block, scope, clause and argument failed, and what would have been allowed.
    """
    if token_file == "-" and "@-" in (arguments, tool, proof):
        raise UsageError("token, JSON and proof can't be read from stdin together")
    if holder_file is not None and (proof or state is not None):
        raise UsageError("--holder-key excludes --proof and --state: it proves for the server's host")
    # Read as a token first: a bad paste is told here as truncated or damaged, which a check never says.
    token = read_token(token_file)
    call: dict[str, Any] = {
        "arguments": json_bytes(arguments, "--arguments"),
        "tool": json_bytes(tool, "--tool"),
        "session": session_id,
        "source": source,
        "peer": peer,
        "audience": audience,
        "at_least_revision": at_least_revision,
        "proof": _proof(proof),
    }
    decision: DecisionBase
    if state is not None:
        from .state_view import embedded_check

        decision, told = embedded_check(state, token, action, resource, call)
    else:
        holder = HolderKey.load(holder_file) if holder_file is not None else None
        with settings.client(holder) as client:
            decision = client.check(token, action, resource, **call)
            told = decision.explain(token, _ceilings(client, decision))
    settings.show(to_json(decision, told), to_lines(decision, told))
    if not decision:
        click.get_current_context().exit(failures.DENIED)
