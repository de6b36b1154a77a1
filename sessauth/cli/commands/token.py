"""``sessauth token``: mint with a server, and attenuate, present, prove and inspect without one.

``inspect`` prints the chain as a tree, in which each block is below the one it narrows, and whether the
signatures are valid. ``prove`` makes a holder's proof for one call. ``revoke`` ends a block, and everything
attenuated from it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ...crypto.armor import proof_text
from ...errors import UsageError
from ...tokens.block_draft import BlockInfo, TokenInfo
from ...tokens.prover import HolderKey
from ...tokens.token import Token
from .. import context, params
from ..context import Settings, with_settings
from ..io import (
    call_options,
    json_bytes,
    public_keys,
    read_call,
    read_holder,
    read_scopes,
    read_token,
    require_one_stdin,
    scope_warnings,
    text_of,
    with_options,
    write_new,
)
from ..output import fields, moment_and_distance, options_of, printable, warn, with_option_names
from ..params import FILE, PATH, Ref, examples, token_argument, token_out_option
from .check import to_json as decision_json
from .check import to_lines as decision_lines


@dataclass(frozen=True, slots=True)
class SignatureStatus:
    """Result of verifying a token's signatures, and its source.

    ``checked`` is false if nothing was verified. ``revoked`` holds the indices of revoked blocks, and
    ``session_status`` the session's, if the source knows them.
    """

    checked: bool = False
    verified: bool = False
    by: str = ""
    detail: str = ""
    revoked: Collection[int] = ()
    session_status: str = ""

    @property
    def word(self) -> str:
        """VERIFIED, NOT VERIFIED (a signature is wrong) or UNVERIFIED (not checked)."""
        if not self.checked:
            return "UNVERIFIED"
        return "VERIFIED" if self.verified else "NOT VERIFIED"

    def line(self) -> str:
        """Return the first line of an inspection."""
        if not self.checked:
            return "UNVERIFIED: anybody may have written this; add --server, --issuer-key or --state"
        if not self.verified:
            return f"NOT VERIFIED by {self.by}: {printable(self.detail)}"
        detail = printable(self.detail) or "the signatures stand"
        return f"VERIFIED by {self.by}: {detail}; whether a call is allowed, only a check says"


def to_json(info: TokenInfo, status: SignatureStatus) -> dict[str, object]:
    """Return an inspection as JSON values."""
    return {
        **info.to_dict(),
        "verdict": status.word,
        "verified": status.verified,
        "verified_by": status.by,
        "detail": status.detail,
        "revoked_blocks": sorted(status.revoked),
        "session_status": status.session_status,
    }


def to_lines(info: TokenInfo, status: SignatureStatus, now_ms: int) -> list[str]:
    """Return an inspection as lines."""
    lines = [status.line()]
    lines += fields(
        [
            (
                "session",
                info.session_id.hex() + (f" ({status.session_status})" * bool(status.session_status)),
            ),
            ("token", info.token_id.hex()),
            ("issuer key", info.issuer_key_id.hex()),
            ("not before", moment_and_distance(info.not_before_ms, now_ms)),
            ("expires", moment_and_distance(info.expires_at_ms, now_ms)),
            ("size", f"{info.size_bytes} bytes"),
        ]
    )
    for block in info.blocks:
        lines += _block_lines(block, block is info.blocks[-1], block.index in status.revoked, now_ms)
    return lines


def _block_lines(block: BlockInfo, last: bool, revoked: bool, now_ms: int) -> list[str]:
    name = "root block" if block.index == 0 else f"block {block.index}"
    if block.label:
        name += f" {printable(block.label)!r}"
    branch = "" if block.index == 0 else "   " * (block.index - 1) + "└─ "
    stem = "   " * block.index + ("   " if last else "│  ")
    head = f"{branch}{name}, {block.ending.name.lower()}, {block.block_id.hex()}"
    return [head + (" REVOKED" if revoked else ""), *(stem + line for line in fields(_facts(block, now_ms)))]


def _facts(block: BlockInfo, now_ms: int) -> list[tuple[str, object]]:
    limits: list[tuple[str, object]] = [
        ("issued", moment_and_distance(block.issued_at_ms, now_ms)),
        ("not before", moment_and_distance(block.not_before_ms, now_ms)),
        ("expires", moment_and_distance(block.expires_at_ms, now_ms)),
        ("audience", ", ".join(block.audience)),
    ]
    limits += [(f"scope {number}", scope) for number, scope in enumerate(block.scopes)]
    limits += [(f"where {number}", condition) for number, condition in enumerate(block.where)]
    limits += [
        ("source", ", ".join(block.source)),
        ("peer", ", ".join(block.peer)),
        ("max blocks", block.max_blocks or ""),
    ]
    if not any(value for _, value in limits):
        limits.append(("limits", "none of its own"))
    return limits


@click.group()
def token() -> None:
    """Make, narrow, show and revoke tokens."""


@token.command("inspect", epilog=examples("token inspect deploy.token --server"))
@token_argument
@click.option("--server", is_flag=True, help="Have the server verify it. An open token's secret stays here.")
@click.option(
    "--issuer-key",
    metavar="FILE|-",
    type=FILE,
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
        to_json(info, status),
        to_lines(info, status, settings.clock.now_ms()),
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


@token.command(
    "prove", epilog=examples("token prove bound.token deploy cluster/web/staging --key holder.key")
)
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
    type=FILE,
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


_block_options = with_options(
    click.option("--scope", "scopes", multiple=True, help="A scope to grant, in scope text. Repeatable."),
    click.option("--scope-file", default="", type=FILE, help="Scopes, one a line; - for stdin."),
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
    click.option(
        "--strict",
        is_flag=True,
        help="Refuse a scope that is not proven to narrow, or has a finding.",
    ),
)


def _terms(
    *,
    scopes: Sequence[str],
    scope_file: str,
    to: str | None,
    is_open: bool,
    max_blocks: int | None,
    **options: Any,
) -> tuple[dict[str, Any], list[str]]:
    """Return a block's options as parameters of ``Client.mint``, ``Issuer.mint`` and ``Token.attenuate``.

    Beside them are the findings about its scopes; with ``--strict`` there are none.
    """
    if to is not None and is_open:
        raise UsageError("--open and --to exclude each other: a bound token needs no --open to be narrowed")
    if to is None and options["may_seal"]:
        raise UsageError("--may-seal restricts the holder of a bound token: give --to")
    scopes = [*scopes, *(read_scopes(scope_file, "--scope-file") if scope_file else ())]
    findings = scope_warnings(scopes, "--scope", strict=options.get("strict", False))
    terms = {
        **options,
        "scopes": scopes,
        "max_blocks": max_blocks or 0,
        "ending": "open" if is_open else "",
        "to": read_holder(to, "--to") if to is not None else None,
    }
    return terms, findings


def _hand_over(settings: Settings, made: Token, out: Path | None, findings: Sequence[str] = ()) -> None:
    """Print or write a new token. Warnings, and findings about its scopes, go to stderr, or into the JSON."""
    text = text_of(made)
    if out is not None:
        write_new(out, text)
    document: dict[str, object] = {
        "session_id": made.session_id.hex(),
        "block_id": made.block_ids[-1].hex(),
        "expires_at_ms": made.expires_at_ms,
        "ending": made.ending.name.lower(),
        "warnings": [*made.warnings, *findings],
    }
    if not settings.json:
        options = options_of(settings.command)
        for warning in (*(with_option_names(each, options) for each in made.warnings), *findings):
            warn(warning)
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


@token.command(
    "mint",
    epilog=examples("token mint 5f0c --scope 'deploy:cluster/web/**' --audience cluster --out deploy.token"),
)
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
    if issuer_key is not None and options.pop("strict"):
        raise UsageError("--strict is for the server, which knows the ceiling: leave out --issuer-key")
    terms, findings = _terms(**options)
    if issuer_key is not None:
        from ...crypto.keys import IssuerKey
        from ...tokens.token import Issuer

        issuer = Issuer(IssuerKey.load(issuer_key), settings.clock)
        made = issuer.mint(context.whole(session_id, "SESSION_ID"), **terms)
    else:
        with settings.client() as client:
            made = client.mint(context.session(client, session_id), **terms)
    _hand_over(settings, made, out, findings)


@token.command(
    "attenuate",
    epilog=examples(
        "token attenuate deploy.token --scope deploy:cluster/web/staging --ttl 5m --out staging.token"
    ),
)
@token_argument
@_block_options
@click.option("--key", "key_file", type=params.PATH, help="The holder's key that the token is bound to.")
@token_out_option
@with_settings
def attenuate(
    settings: Settings, /, token_file: str, key_file: Path | None, out: Path | None, **options: Any
) -> None:
    """Narrow an open token, or with its --key a bound one; no server takes part."""
    parent = read_token(token_file)
    key = HolderKey.load(key_file) if key_file is not None else None
    terms, findings = _terms(**options)
    child = parent.attenuate(key=key, clock=settings.clock, **terms)
    _hand_over(settings, child, out, findings)


@token.command("present", epilog=examples("token present deploy.token"))
@token_argument
@token_out_option
@with_settings
def present(settings: Settings, token_file: str, out: Path | None) -> None:
    """Print the form of a token that a gateway takes, without a secret: sealed, or bound as it is."""
    _hand_over(settings, read_token(token_file).present(), out)


@token.command(
    "exchange",
    epilog=examples("token exchange agent.token read orders/7 --audience shop --out order.jwt"),
)
@token_argument
@click.argument("action")
@click.argument("resource")
@call_options
@click.option(
    "--trust-domain", default="", help="Who is to take it: its aud. Default: the server's only trust domain."
)
@click.option("--retry-id", default="", help="Name of this attempt: the call's costs are taken once.")
@token_out_option
@with_settings
def exchange(
    settings: Settings,
    /,
    token_file: str,
    action: str,
    resource: str,
    trust_domain: str,
    retry_id: str,
    out: Path | None,
    **options: Any,
) -> None:
    """Check one call and print a transaction token of it, a JWT. Exits with 1 if the call is denied."""
    call = read_call(options, token_file)
    shown = read_token(token_file)
    call["retry_id"] = retry_id.encode("utf-8", "surrogateescape")
    with settings.client() as client:
        call["session"] = context.session(client, call["session"])
        made = client.exchange(shown, action, resource, trust_domain=trust_domain, **call)
    explanation = made.decision.explain(shown)
    document = decision_json(made.decision, explanation)
    if not made:
        settings.show(document, decision_lines(made.decision, explanation), ok=False)
        return
    document["transaction_token_expires_at_ms"] = made.expires_at_ms
    if out is None:
        settings.show({**document, "transaction_token": made.text}, [made.text])
        return
    write_new(out, made.text)
    expires = moment_and_distance(made.expires_at_ms, settings.clock.now_ms())
    settings.show({**document, "out": str(out)}, fields([("written", out), ("expires", expires)]))


@token.command("revoke", epilog=examples("token revoke deploy.token --reason 'the agent is done'"))
@click.argument("token_file", metavar="[FILE|-]", type=FILE, required=False)
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
        session_id = context.session(client, session_id)
        revision = client.revoke(session_id, block_ids, reason, request_id=request_id)
    shown = [each.hex() for each in block_ids]
    settings.show(
        {"session_id": session_id.hex(), "block_ids": shown, "revision": revision},
        [*(f"revoked {each}" for each in shown), f"at revision {revision}"],
    )
