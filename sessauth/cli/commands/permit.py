"""``sessauth permit``: commit a call that is about to happen, or give back its reserve.

A permit is no secret: without the gateway's credential, the token and the very call it is worthless.
"""

from __future__ import annotations

from typing import Any

import click

from .. import lookup, params
from ..call_options import call_options, read_call
from ..context import Settings, with_settings
from ..io import read_token
from ..render.decision import to_json, to_lines


@click.group()
def permit() -> None:
    """Use a permit that 'check --permit-ms' gave."""


@permit.command("commit")
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
        call["session"] = lookup.session(client, call["session"])
        decision = client.commit(permit, token, action, resource, **call)
    explanation = decision.explain(token)
    settings.show(to_json(decision, explanation), to_lines(decision, explanation), ok=bool(decision))


@permit.command("release")
@click.argument("permit", type=params.permit)
@with_settings
def release(settings: Settings, permit: bytes) -> None:
    """Give back the amounts that PERMIT holds in reserve."""
    with settings.client() as client:
        revision = client.release(permit)
    settings.show({"revision": revision}, [f"released at revision {revision}"])
