"""``sessauth holder-key`` and ``approver-key``: keys of people and agents. One never leaves its file."""

from __future__ import annotations

from pathlib import Path

import click

from ...approvals.approver import ApproverKey
from ...crypto.holder_public_key import HolderPublicKey
from ...scopes.value import quoted
from ...tokens.holder import HolderKey
from ..context import Settings, with_settings
from ..output import fields
from ..params import PATH

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


@holder_key.command("new")
@_file
@with_settings
def new_holder_key(settings: Settings, file: Path) -> None:
    """Make a new key in FILE, mode 0600, and print the public half, for the minting service."""
    key = HolderKey.generate()
    key.save(file)
    settings.show(_holder_document(key.public, file), [key.public.text])


@holder_key.command("show")
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


@approver_key.command("new")
@_file
@_quiet
@with_settings
def new_approver_key(settings: Settings, file: Path, quiet: bool) -> None:
    """Write a new private key to FILE, mode 0600, and print its public key."""
    key = ApproverKey.generate()
    key.save(file)
    _show_approver(settings, key, file, quiet=quiet)


@approver_key.command("show")
@_file
@_quiet
@with_settings
def show_approver_key(settings: Settings, file: Path, quiet: bool) -> None:
    """Print the public key of the private key in FILE."""
    _show_approver(settings, ApproverKey.load(file), file, quiet=quiet)
