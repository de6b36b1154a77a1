"""``sessauth check``: judge one call, and say why not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ..decision_base import DecisionBase
from ..errors import ServerError, UsageError
from ..limits import MAX_JSON_BYTES
from ..reasons import Level
from ..scope import Scope
from . import failures, params
from .context import Settings, with_settings
from .decision_view import to_json, to_lines
from .token_io import read_bytes, read_token, token_argument

if TYPE_CHECKING:
    from ..client import Client

# Twice what a check looks at, so that too long a JSON is denied, and a wrong file is not sent.
MAX_FILE_BYTES: Final = 2 * MAX_JSON_BYTES


def _json_bytes(text: str, option: str) -> bytes:
    """Return JSON given as such, or the very bytes of the file behind an @. It is not parsed here."""
    if not text.startswith("@"):
        return text.encode("utf-8", "surrogateescape")
    return read_bytes(text[1:], option, MAX_FILE_BYTES)


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
@click.option("--at-least-revision", type=click.IntRange(0), default=0, help="Deny if the view is older.")
@click.option(
    "--state", type=click.Path(path_type=Path), help="Judge here, by this state folder, and ask no server."
)
@click.option("--watch", is_flag=True, help="Stay, and say when the call is no longer allowed.")
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
    at_least_revision: int,
    watch: bool,
) -> None:
    """Judge one call: ACTION on RESOURCE. Exits with 0 if it is allowed and with 1 if not.

    A denial says which block, scope, clause and argument failed, and what would have been allowed.
    """
    if token_file == "-" and "@-" in (arguments, tool):
        raise UsageError("token and JSON can't both be read from stdin")
    if watch and state is not None:
        raise UsageError("--watch asks a server, --state none: give one of them")
    # Read as a token first: a bad paste is told here as truncated or damaged, which a check never says.
    token = read_token(token_file)
    call: dict[str, Any] = {
        "arguments": _json_bytes(arguments, "--arguments"),
        "tool": _json_bytes(tool, "--tool"),
        "session": session_id,
        "source": source,
        "peer": peer,
        "audience": audience,
        "at_least_revision": at_least_revision,
    }
    decision: DecisionBase
    if watch:
        from ..client import CheckItem
        from .check_watch import watch_call

        with settings.client() as client:
            asked = (call.pop("audience"), call.pop("at_least_revision"))
            watch_call(
                settings,
                client,
                CheckItem(token, action, resource, **call),
                *asked,
                lambda made: made.explain(token, _ceilings(client, made)),
            )
        click.get_current_context().exit(failures.DENIED)
    if state is not None:
        from .state_view import embedded_check

        decision, told = embedded_check(state, token, action, resource, call)
    else:
        with settings.client() as client:
            decision = client.check(token, action, resource, **call)
            told = decision.explain(token, _ceilings(client, decision))
    settings.show(to_json(decision, told), to_lines(decision, told))
    if not decision:
        click.get_current_context().exit(failures.DENIED)
