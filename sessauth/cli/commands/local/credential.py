"""``sessauth credential``: who may call the server, with an API key stored hashed.

Works on the file of a local service; a running server sees the change within a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ....errors import NotFound, StateUnusable, UsageError
from ...context import Settings, with_settings
from ...io import write_new
from ...output import table
from ...params import PATH

if TYPE_CHECKING:
    from ....server.keys.credentials import CredentialFile

ROLES = ("operator", "issuer", "gateway", "auditor", "approver", "follower")


@click.group()
def credential() -> None:
    """See and change who may call a local server."""


def _file(settings: Settings) -> CredentialFile:
    from ....server.keys.credentials import CredentialFile

    config = settings.config()
    if not config.state_dir.is_dir():
        raise StateUnusable(f"no service in {config.home}; run 'sessauth init' or give --home", "MISSING")
    return CredentialFile(config.credentials_file)


@credential.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True)
@click.option("--audience", multiple=True, help="Audience a gateway may ask for. Repeatable. Default: any.")
@click.option("--out", type=PATH, help="Write the secret to a new file, mode 0600.")
@with_settings
def add(settings: Settings, name: str, role: str, audience: Sequence[str], out: Path | None) -> None:
    """Make a credential and print it, this once: only its hash is kept."""
    file = _file(settings)
    if any(identity.name == name for identity in settings.config().identities):
        raise UsageError(f"{name} is the name of a certificate in [[identities]]; choose another")
    text = file.add(name, role, audience)
    document = {"name": name, "role": role, "audiences": list(audience)}
    if out is None:
        settings.show({**document, "credential": text}, [text])
        return
    try:
        write_new(out, text)
    except BaseException:
        # The secret is lost, so the entry would be of no use.
        file.remove(name)
        raise
    settings.show({**document, "out": str(out)}, [f"written  {out}"])


@credential.command("list")
@with_settings
def list_(settings: Settings) -> None:
    """List names and roles. Secrets are stored nowhere."""
    principals = [entry.principal for entry in _file(settings).list()]
    documents = [
        {"name": each.name, "role": each.role, "audiences": list(each.audiences)} for each in principals
    ]
    rows = [[each.name, each.role, ", ".join(each.audiences) or "any"] for each in principals]
    settings.show({"credentials": documents}, table(("NAME", "ROLE", "AUDIENCES"), rows))


@credential.command("remove")
@click.argument("name")
@with_settings
def remove(settings: Settings, name: str) -> None:
    """Remove a credential; calls with it are refused from now on."""
    if not _file(settings).remove(name):
        raise NotFound(f"no credential of the name {name}", "NOT_FOUND", "name")
    settings.show({"name": name, "removed": True}, [f"removed {name}"])
