"""``sessauth token``: mint with a server; attenuate, present and inspect without one; revoke."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ...errors import UsageError
from ...tokens.holder import HolderKey
from ...tokens.token import Token
from .. import lookup, params
from ..call_options import with_options
from ..context import Settings, with_settings
from ..failures import options_of, with_option_names
from ..io import read_holder, read_token, text_of, write_new
from ..output import fields, moment_and_distance, warn
from ..params import Ref, token_argument, token_out_option
from ..scope_files import read_scopes
from .token_inspect import inspect
from .token_prove import prove


@click.group()
def token() -> None:
    """Make, narrow, show and revoke tokens."""


token.add_command(inspect)
token.add_command(prove)

_block_options = with_options(
    click.option("--scope", "scopes", multiple=True, help="A scope to grant, in scope text. Repeatable."),
    click.option("--scope-file", default="", metavar="FILE", help="Scopes, one a line; - for stdin."),
    click.option("--audience", multiple=True, help="A verifier that it is meant for. Repeatable."),
    click.option("--ttl", "ttl_ms", type=params.duration, default=0, help="Lifetime, such as 15m."),
    click.option("--where", multiple=True, help="A condition on every call. Repeatable."),
    click.option("--source", multiple=True, help="A CIDR that calls must come from. Repeatable."),
    click.option("--peer", multiple=True, help="A certificate's identity: spiffe://… or sha256:…"),
    click.option("--not-before", "not_before_ms", type=params.moment, default=0, help="2026-01-31T12:00:00Z"),
    click.option("--max-blocks", type=click.IntRange(1, 16), help="How long the chain may ever be."),
    click.option("--label", default="", help="A name for this block, for people."),
    click.option("--open", "is_open", is_flag=True, help="Let the holder attenuate it further: a secret."),
    click.option("--to", metavar="PUBLIC|@FILE", help="Bind it to a holder's key: calls then need proofs."),
    click.option("--may-seal", is_flag=True, help="With --to: the holder may make unbound tokens of it."),
    click.option("--strict", is_flag=True, help="Refuse a scope that is not proven to narrow."),
)


def _terms(
    *,
    scopes: Sequence[str],
    scope_file: str,
    to: str | None,
    is_open: bool,
    max_blocks: int | None,
    **options: Any,
) -> dict[str, Any]:
    """Return a block's options as parameters of ``Client.mint``, ``Issuer.mint`` and ``Token.attenuate``."""
    if to is not None and is_open:
        raise UsageError("--open and --to exclude each other: a bound token needs no --open to be narrowed")
    if to is None and options["may_seal"]:
        raise UsageError("--may-seal restricts the holder of a bound token: give --to")
    return {
        **options,
        "scopes": [*scopes, *(read_scopes(scope_file, "--scope-file") if scope_file else ())],
        "max_blocks": max_blocks or 0,
        "ending": "open" if is_open else "",
        "to": read_holder(to, "--to") if to is not None else None,
    }


def _hand_over(settings: Settings, made: Token, out: Path | None) -> None:
    """Print or write a new token. Warnings go to stderr, or into the JSON."""
    text = text_of(made)
    if out is not None:
        write_new(out, text)
    document: dict[str, object] = {
        "session_id": made.session_id.hex(),
        "block_id": made.block_ids[-1].hex(),
        "expires_at_ms": made.expires_at_ms,
        "ending": made.ending.name.lower(),
        "warnings": list(made.warnings),
    }
    if not settings.json:
        for warning in made.warnings:
            warn(with_option_names(warning, options_of(settings.command)))
    if out is None:
        settings.show({**document, "token": text}, [text])
        return
    lines = fields(
        [
            ("written", out),
            ("block", made.block_ids[-1].hex()),
            ("expires", moment_and_distance(made.expires_at_ms, settings.clock.now_ms())),
        ]
    )
    settings.show({**document, "out": str(out)}, lines)


@token.command("mint")
@params.session_argument
@_block_options
@click.option(
    "--issuer-key",
    type=params.PATH,
    help="Sign here, with this private key file, and ask no server. Needs --ttl.",
)
@token_out_option
@with_settings
def mint(
    settings: Settings, /, session_id: Ref, issuer_key: Path | None, out: Path | None, **options: Any
) -> None:
    """Mint a token of a session and print it."""
    if issuer_key is not None:
        from ...crypto.issuer_key import IssuerKey
        from ...tokens.issuer import Issuer

        if options.pop("strict"):
            raise UsageError("--strict is for the server, which knows the ceiling: leave out --issuer-key")
        issuer = Issuer(IssuerKey.load(issuer_key), settings.clock)
        made = issuer.mint(lookup.whole(session_id, "SESSION_ID"), **_terms(**options))
    else:
        with settings.client() as client:
            made = client.mint(lookup.session(client, session_id), **_terms(**options))
    _hand_over(settings, made, out)


@token.command("attenuate")
@token_argument
@_block_options
@click.option("--key", "key_file", type=params.PATH, help="The holder's key that the token is bound to.")
@token_out_option
@with_settings
def attenuate(
    settings: Settings,
    /,
    token_file: str,
    key_file: Path | None,
    out: Path | None,
    **options: Any,
) -> None:
    """Narrow an open token, or with its --key a bound one; no server takes part."""
    parent = read_token(token_file)
    key = HolderKey.load(key_file) if key_file is not None else None
    child = parent.attenuate(key=key, clock=settings.clock, **_terms(**options))
    _hand_over(settings, child, out)


@token.command("present")
@token_argument
@token_out_option
@with_settings
def present(settings: Settings, token_file: str, out: Path | None) -> None:
    """Print the form of a token that a gateway takes, without a secret: sealed, or bound as it is."""
    _hand_over(settings, read_token(token_file).present(), out)


@token.command("revoke")
@click.argument("token_file", metavar="[FILE|-]", required=False)
@click.option(
    "--block",
    type=click.IntRange(0, 15),
    help="Index of the block to revoke. Default: the last; 0: the root.",
)
@click.option("--session", "session_id", type=params.session_id, help="With --block-id: no token.")
@click.option("--block-id", "block_ids", type=params.block_id, multiple=True, help="Block to revoke.")
@params.reason_option
@params.request_id_option
@with_settings
def revoke(
    settings: Settings,
    token_file: str | None,
    block: int | None,
    session_id: Ref | None,
    block_ids: Sequence[bytes],
    reason: str,
    request_id: str,
) -> None:
    """Revoke a block of a token, and with it everything attenuated from it."""
    if token_file is not None:
        if session_id or block_ids:
            raise UsageError("give either a token or --session with --block-id")
        revoked = read_token(token_file)
        index = len(revoked.block_ids) - 1 if block is None else block
        if index >= len(revoked.block_ids):
            raise UsageError(f"--block: the token has {len(revoked.block_ids)} blocks, counted from 0")
        session_id, block_ids = revoked.session_id, [revoked.block_ids[index]]
    elif not (session_id and block_ids):
        raise UsageError("give a token, or --session with --block-id")
    with settings.client() as client:
        session_id = lookup.session(client, session_id)
        revision = client.revoke(session_id, block_ids, reason, request_id=request_id)
    shown = [each.hex() for each in block_ids]
    settings.show(
        {"session_id": session_id.hex(), "block_ids": shown, "revision": revision},
        [*(f"revoked {each}" for each in shown), f"at revision {revision}"],
    )
