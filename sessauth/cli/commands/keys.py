"""``sessauth keys``, ``holder-key`` and ``approver-key``: the keys of issuers, holders and approvers.

Issuer keys are changed on the server; their private halves never travel. Keys of holders and approvers are
made here, and no server takes part: the secret never leaves its file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from ...approvals.approver import ApproverKey
from ...crypto.keys import HolderPublicKey, KeyRecord, public_jwk
from ...errors import UsageError
from ...scopes.value import quoted
from ...tokens.prover import HolderKey
from .. import context, params
from ..context import Settings, with_settings
from ..io import one_public_key, read_text
from ..output import fields, json_fields, moment, table
from ..params import FILE, PATH, Ref, examples

_file = click.argument("file", type=PATH)


@click.group("holder-key")
def holder_key() -> None:
    """Make a key that tokens are bound to, and show its public half. No server takes part."""


def _holder_document(public: HolderPublicKey, path: Path) -> dict[str, object]:
    return {
        "public": public.text,
        "next_key": public.next_key.hex(),
        "proof_key": public.proof_key.hex(),
        "file": str(path),
    }


@holder_key.command("new", epilog=examples("holder-key new holder.key"))
@_file
@with_settings
def new_holder_key(settings: Settings, file: Path) -> None:
    """Make a new key in FILE, mode 0600, and print the public half, for the minting service."""
    key = HolderKey.generate()
    key.save(file)
    settings.show(_holder_document(key.public, file), [key.public.text])


@holder_key.command("show", epilog=examples("holder-key show holder.key"))
@_file
@with_settings
def show_holder_key(settings: Settings, file: Path) -> None:
    """Print the public half of the key in FILE."""
    settings.show_fields(_holder_document(HolderKey.load(file).public, file))


@click.group("approver-key")
def approver_key() -> None:
    """Make and show the key that an approver signs with."""


_quiet = click.option("--quiet", is_flag=True, help="Print the public key and nothing else.")


def _show_approver(settings: Settings, key: ApproverKey, file: Path, *, quiet: bool) -> None:
    settings.show(
        {"public_key": key.text, "file": str(file)},
        [key.text]
        if quiet
        else fields(
            [
                ("file", file),
                ("public key", key.text),
                ("in a scope", f"needs approval(1, {quoted(key.text)})"),
            ]
        ),
    )


@approver_key.command("new", epilog=examples("approver-key new approver.pem"))
@_file
@_quiet
@with_settings
def new_approver_key(settings: Settings, file: Path, quiet: bool) -> None:
    """Write a new private key to FILE, mode 0600, and print its public key."""
    key = ApproverKey.generate()
    key.save(file)
    _show_approver(settings, key, file, quiet=quiet)


@approver_key.command("show", epilog=examples("approver-key show approver.pem --quiet"))
@_file
@_quiet
@with_settings
def show_approver_key(settings: Settings, file: Path, quiet: bool) -> None:
    """Print the public key of the private key in FILE."""
    _show_approver(settings, ApproverKey.load(file), file, quiet=quiet)


@click.group()
def keys() -> None:
    """See and change the issuer keys. Private keys never travel."""


def _to_json(key: KeyRecord) -> dict[str, Any]:
    return json_fields(key, kid=public_jwk(key.public_key)["kid"])


def _show(settings: Settings, key: KeyRecord) -> None:
    settings.show(
        _to_json(key),
        fields(
            [
                ("key", key.id.hex()),
                ("status", key.status.name),
                ("owner", key.owner or "the service"),
                ("added", moment(key.added_at_ms)),
                ("activated", moment(key.activated_at_ms)),
                ("retired", moment(key.retired_at_ms)),
                ("distrusted", moment(key.distrusted_at_ms)),
            ]
        ),
    )


@keys.command("list", epilog=examples("keys list"))
@with_settings
def list_(settings: Settings) -> None:
    """List the issuer keys."""
    with settings.client() as client:
        listed = client.list_keys()
    rows = [
        [key.id.hex(), key.status.name, key.owner or "the service", moment(key.added_at_ms)] for key in listed
    ]
    # A key id has 64 digits and is never cut, since other commands take it.
    settings.show(
        {"keys": [_to_json(key) for key in listed]},
        table(("ID", "STATUS", "OWNER", "ADDED"), rows, max_cell_chars=64),
    )


@keys.command("jwks", epilog=examples("keys jwks"))
@with_settings
def jwks(settings: Settings) -> None:
    """Print the public keys as a JWK set (RFC 7517)."""
    with settings.client() as client:
        document = json.loads(client.jwks())
    settings.show(document, [json.dumps(document, indent=2)])


@keys.command(
    "transactions",
    epilog=examples("keys transactions", "keys transactions --join other.json"),
)
@click.option(
    "--join",
    "joined",
    type=FILE,
    multiple=True,
    help="Add the keys of this JWK set, that of another server of the cluster. Repeatable.",
)
@with_settings
def transactions(settings: Settings, joined: Sequence[str]) -> None:
    """Print the public keys of the server's transaction tokens as a JWK set (RFC 7517)."""
    sets = [_public_set(file) for file in joined]
    with settings.client() as client:
        sets.insert(0, json.loads(client.transaction_keys())["keys"])
    document = {"keys": list({key["kid"]: key for each in sets for key in each}.values())}
    settings.show(document, [json.dumps(document, indent=2)])


def _public_set(file: str) -> list[dict[str, Any]]:
    """Return the keys of a JWK set in a file. Raises UsageError for another document or a private key."""
    try:
        keys = json.loads(read_text(file, "--join"))["keys"]
        if all(isinstance(key["kid"], str) and not key.keys() & {"d", "k"} for key in keys):
            return list(keys)
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise UsageError(f"--join: {file} is no JWK set of named public keys")


@keys.command("add", epilog=examples("keys add", "keys add --public-key builder.jwk --owner builder"))
@click.option(
    "--public-key",
    "source",
    metavar="FILE|-",
    type=FILE,
    help="A public key: JWK, PEM or hex. Default: the server makes a pair of its own.",
)
@click.option("--owner", default="", help="Principal whose sessions it may root. Default: the service.")
@params.request_id_option
@with_settings
def add(settings: Settings, source: str | None, owner: str, request_id: str) -> None:
    """Add an issuer key, prepared: known, and not yet trusted."""
    public_key = one_public_key(source, "--public-key") if source else b""
    with settings.client() as client:
        _show(settings, client.add_key(public_key, owner=owner, request_id=request_id))


def _change(name: str, method: str, doc: str) -> Callable[..., Any]:
    @keys.command(name, help=doc, epilog=examples(f"keys {name} 77aa"))
    @click.argument("key_id", type=params.key_id)
    @params.request_id_option
    @with_settings
    def change(settings: Settings, key_id: Ref, request_id: str) -> None:
        with settings.client() as client:
            _show(settings, getattr(client, method)(context.key(client, key_id), request_id=request_id))

    return change


activate = _change("activate", "activate_key", "Let a prepared key root tokens; the newest active one mints.")
retire = _change("retire", "retire_key", "Accept the tokens a key signed until now, and none later.")
distrust = _change("distrust", "distrust_key", "Deny every token of a key, at once and for good.")
