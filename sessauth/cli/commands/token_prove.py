"""``sessauth token prove``: a holder's proof for one call."""

from __future__ import annotations

from pathlib import Path

import click

from ...crypto.armor import proof_text
from ...errors import UsageError
from ...tokens.holder import HolderKey
from ..context import Settings, with_settings
from ..io import json_bytes, public_keys, read_token, require_one_stdin
from ..params import PATH, token_argument


@click.command("prove")
@token_argument
@click.argument("action")
@click.argument("resource")
@click.option("--arguments", default="", metavar="JSON|@FILE", help="The call's arguments, a JSON object.")
@click.option(
    "--key", "key_file", type=PATH, required=True, help="The holder's key file that the token is bound to."
)
@click.option(
    "--kind", type=click.Choice(["mac", "ed25519"]), help="Default: mac where the token permits it."
)
@click.option(
    "--issuer-key",
    metavar="FILE|-",
    help="The signers of the host's keys: JWK set, JWK, PEM or hex. Default: those the server names.",
)
@with_settings
def prove(
    settings: Settings,
    token_file: str,
    action: str,
    resource: str,
    arguments: str,
    key_file: Path,
    kind: str | None,
    issuer_key: str | None,
) -> None:
    """Print a proof for one call of a bound token: it counts once, within 30 s, on the server's host."""
    require_one_stdin(
        (token_file, arguments, issuer_key),
        "token, JSON and --issuer-key can't all be read from stdin; give files",
    )
    token = read_token(token_file)
    holder = HolderKey.load(key_file)
    issuers = list(public_keys(issuer_key, "--issuer-key").values()) if issuer_key is not None else None
    data = json_bytes(arguments, "--arguments")
    with settings.client() as client:
        keys = client.verifier_keys(issuer_keys=issuers)
    now_ms = settings.clock.now_ms()
    current = keys.current(now_ms)
    if current is None:
        raise UsageError("the server's verifier keys are about to end: try again")
    proof = proof_text(holder.prove(token, action, resource, data, current, kind=kind or "", now_ms=now_ms))
    document = {"proof": proof, "verifier_id": current.verifier_id.hex(), "time_ms": now_ms}
    settings.show(document, [proof])
