"""``sessauth holder-key``: the key that tokens are bound to, made and kept by its holder."""

from __future__ import annotations

from pathlib import Path

import click

from ...crypto.holder_public_key import HolderPublicKey
from ...tokens.holder import HolderKey
from ..context import Settings, with_settings
from ..params import PATH


@click.group("holder-key")
def holder_key() -> None:
    """Make a key that tokens are bound to, and show its public half. No server takes part."""


def _document(public: HolderPublicKey, path: Path) -> dict[str, object]:
    return {
        "public": public.text,
        "next_key": public.next_key.hex(),
        "proof_key": public.proof_key.hex(),
        "file": str(path),
    }


@holder_key.command("new")
@click.argument("file", type=PATH)
@with_settings
def new(settings: Settings, file: Path) -> None:
    """Make a new key in FILE, mode 0600, and print the public half, to be given to whoever mints."""
    key = HolderKey.generate()
    key.save(file)
    settings.show(_document(key.public, file), [key.public.text])


@holder_key.command("show")
@click.argument("file", type=PATH)
@with_settings
def show(settings: Settings, file: Path) -> None:
    """Print the public half of the key in FILE."""
    settings.show_fields(_document(HolderKey.load(file).public, file))
