"""``sessauth approver-key``: a person's key for approvals. It never leaves its file."""

from __future__ import annotations

from pathlib import Path

import click

from ...approvals.approver import ApproverKey
from ...scopes.value import quoted
from ..context import Settings, with_settings
from ..output import fields
from ..params import PATH

_file = click.argument("file", type=PATH)


@click.group("approver-key")
def approver_key() -> None:
    """Make and show the key that an approver signs with."""


def _show(settings: Settings, key: ApproverKey, file: Path) -> None:
    settings.show(
        {"public_key": key.text, "file": str(file)},
        fields(
            [
                ("file", file),
                ("public key", key.text),
                ("in a scope", f"needs approval(1, {quoted(key.text)})"),
            ]
        ),
    )


@approver_key.command("new")
@_file
@with_settings
def new(settings: Settings, file: Path) -> None:
    """Write a new private key to FILE, mode 0600, and print its public key."""
    key = ApproverKey.generate()
    key.save(file)
    _show(settings, key, file)


@approver_key.command("show")
@_file
@with_settings
def show(settings: Settings, file: Path) -> None:
    """Print the public key of the private key in FILE."""
    _show(settings, ApproverKey.load(file), file)
