"""``sessauth token inspect``: the contents of a token, and whether its signatures are valid."""

from __future__ import annotations

from pathlib import Path

import click

from ...errors import UsageError
from ...tokens.token import Token
from ..context import Settings, with_settings
from ..io import public_keys, read_token, require_one_stdin
from ..params import PATH, token_argument
from ..render import token as token_view
from ..render.token import SignatureStatus


@click.command("inspect")
@token_argument
@click.option("--server", is_flag=True, help="Have the server verify it. An open token's secret stays here.")
@click.option(
    "--issuer-key",
    metavar="FILE|-",
    help="Verify it under this key: JWK set, JWK, PEM, hex or a private key.",
)
@click.option("--state", type=PATH, help="Verify it under the keys of this state folder.")
@with_settings
def inspect(
    settings: Settings, token_file: str, server: bool, issuer_key: str | None, state: Path | None
) -> None:
    """Print the chain of a token as a tree.

    UNVERIFIED unless --server, --issuer-key or --state names the verifier; exits with 1 if its
    signatures are not valid.
    """
    if server + (issuer_key is not None) + (state is not None) > 1:
        raise UsageError("--server, --issuer-key and --state exclude each other; give one")
    require_one_stdin((token_file, issuer_key), "token and --issuer-key can't both be read from stdin")
    token = read_token(token_file)
    if server:
        status = _by_server(settings, token)
    elif issuer_key is not None:
        status = _by_keys(token, public_keys(issuer_key, "--issuer-key"), f"the key in {issuer_key}")
    elif state is not None:
        status = _by_state(token, state)
    else:
        status = SignatureStatus()
    info = token.inspect()
    settings.show(
        token_view.to_json(info, status),
        token_view.to_lines(info, status, settings.clock.now_ms()),
        ok=status.verified or not status.checked,
    )


def _by_server(settings: Settings, token: Token) -> SignatureStatus:
    with settings.client() as client:
        inspection = client.inspect(token)
    revoked = [index for index, block in enumerate(inspection.blocks) if block.revoked]
    return SignatureStatus(True, inspection.verified, "the server", inspection.detail, revoked)


def _by_keys(token: Token, keys: dict[bytes, bytes], by: str) -> SignatureStatus:
    issuer = token.issuer_key_id
    if issuer not in keys:
        return SignatureStatus(True, False, by, f"its root names another issuer key, {issuer.hex()}")
    index = token.first_invalid_block(keys[issuer])
    return SignatureStatus(
        True, index < 0, by, f"the signature of block {index} is wrong" if index >= 0 else ""
    )


def _by_state(token: Token, state: Path) -> SignatureStatus:
    from ..local_state import token_state

    known = token_state(state, token)
    status = _by_keys(token, known.keys, f"the keys in {state}")
    detail = status.detail or f"signed by an issuer key that is {known.key_status}"
    return SignatureStatus(True, status.verified, status.by, detail, known.revoked, known.session_status)
