"""``sessauth token inspect``: what a token says, and whether its signatures stand."""

from __future__ import annotations

from pathlib import Path

import click

from ..._fast.token.chain import Chain
from ...errors import UsageError
from ...tokens.token import Token
from .. import failures
from ..context import Settings, with_settings
from ..io import read_token, token_argument
from ..public_keys import public_keys
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
@click.option(
    "--state", type=click.Path(path_type=Path), help="Verify it under the keys of this state folder."
)
@with_settings
def inspect(
    settings: Settings, token_file: str, server: bool, issuer_key: str | None, state: Path | None
) -> None:
    """Print the chain of a token as a tree.

    UNVERIFIED unless --server, --issuer-key or --state says who is to verify it; exits with 1 if its
    signatures don't stand.
    """
    if server + (issuer_key is not None) + (state is not None) > 1:
        raise UsageError("--server, --issuer-key and --state exclude each other; give one")
    if token_file == "-" and issuer_key == "-":
        raise UsageError("token and --issuer-key can't both be read from stdin")
    token = read_token(token_file)
    if server:
        verdict = _ask_server(settings, token)
    elif issuer_key is not None:
        verdict = _under_keys(token, public_keys(issuer_key, "--issuer-key"), f"the key in {issuer_key}")
    elif state is not None:
        verdict = _under_state(token, state)
    else:
        verdict = SignatureStatus()
    info = token.inspect()
    settings.show(
        token_view.to_json(info, verdict), token_view.to_lines(info, verdict, settings.clock.now_ms())
    )
    if verdict.checked and not verdict.verified:
        click.get_current_context().exit(failures.DENIED)


def _ask_server(settings: Settings, token: Token) -> SignatureStatus:
    with settings.client() as client:
        found = client.inspect(token)
    revoked = [index for index, block in enumerate(found.blocks) if block.revoked]
    return SignatureStatus(True, found.verified, "the server", found.detail, revoked)


def _under_keys(token: Token, keys: dict[bytes, bytes], by: str) -> SignatureStatus:
    chain = Chain.parse(token.data)
    key = keys.get(chain.issuer_key_id)
    if key is None:
        return SignatureStatus(
            True, False, by, f"its root names another issuer key, {chain.issuer_key_id.hex()}"
        )
    wrong = chain.verify(key)
    if wrong >= 0:
        return SignatureStatus(True, False, by, f"the signature of block {wrong} is wrong")
    return SignatureStatus(True, True, by)


def _under_state(token: Token, state: Path) -> SignatureStatus:
    from ..local_state import look_up

    found = look_up(state, token)
    verdict = _under_keys(token, found.keys, f"the keys in {state}")
    detail = verdict.detail or f"signed by an issuer key that is {found.key_status}"
    return SignatureStatus(True, verdict.verified, verdict.by, detail, found.revoked, found.session_status)
