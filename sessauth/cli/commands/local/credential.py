"""``sessauth credential``: the permitted callers, each with an API key that is stored as a hash.

On a single host the commands work on the service's file, and a running server sees a change within a second.
On a host of a cluster they ask the running server, since the callers are the same on every host.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ....errors import (
    NotFound,
    OutcomeUnknown,
    SessauthError,
    StateUnusable,
    Unavailable,
    Unreachable,
    UsageError,
)
from ...context import Settings, with_settings
from ...io import write_new
from ...output import attributes, table
from ...params import PATH, examples

if TYPE_CHECKING:
    from ....model.host import CredentialRecord
    from ....server.keys.credentials import CredentialFile

ROLES = ("operator", "issuer", "gateway", "auditor", "approver", "follower", "security-events")


@click.group()
def credential() -> None:
    """See and change the permitted callers: of a local server, or of all hosts of its cluster."""


_local_option = click.option(
    "--local", is_flag=True, help="On a host of a cluster: this host's own file, which no other host reads."
)


def _carried(settings: Settings) -> list[CredentialRecord] | None:
    """Return the callers of the cluster that the folder of this host belongs to; None for a single host."""
    from ....server.cluster.begin import carried_credentials

    config = settings.config()
    may_be = config.cluster.enabled or bool(config.follow.servers)
    return carried_credentials(config) if may_be and config.state_dir.is_dir() else None


def _file(settings: Settings) -> CredentialFile:
    from ....server.keys.credentials import CredentialFile

    config = settings.config()
    if not config.state_dir.is_dir():
        raise StateUnusable(f"no service in {config.home}; run 'sessauth init' or give --home", "MISSING")
    return CredentialFile(config.credentials_file)


@credential.command(
    "add", epilog=examples("credential add gate --role gateway --audience cluster --out gate.credential")
)
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True)
@click.option("--audience", multiple=True, help="Audience a gateway may ask for. Repeatable. Default: any.")
@click.option("--out", type=PATH, help="Write the secret to a new file, mode 0600.")
@_local_option
@with_settings
def add(
    settings: Settings, name: str, role: str, audience: Sequence[str], out: Path | None, local: bool
) -> None:
    """Make a credential and print it, this once: only its hash is kept."""
    make = _add_to_file if local or _carried(settings) is None else _add_to_cluster
    text = make(settings, name, role, audience, out)
    document = {"name": name, "role": role, "audiences": list(audience)}
    if out is None:
        settings.show({**document, "credential": text}, [text])
    else:
        settings.show({**document, "out": str(out)}, [f"written  {out}"])


def _add_to_file(settings: Settings, name: str, role: str, audience: Sequence[str], out: Path | None) -> str:
    file = _file(settings)
    if any(identity.name == name for identity in settings.config().identities):
        raise UsageError(f"{name} is the name of a certificate in [[identities]]; choose another")
    if any(record.name == name for record in _carried(settings) or ()):
        raise UsageError(f"{name} is a caller of the cluster, which counts here too; choose another")
    text = file.add(name, role, audience)
    try:
        if out is not None:
            write_new(out, text)
    except BaseException:
        # The secret is lost, so the entry would be of no use.
        file.remove(name)
        raise
    return text


def _add_to_cluster(
    settings: Settings, name: str, role: str, audience: Sequence[str], out: Path | None
) -> str:
    from ....server.keys.credentials import new_credential

    text, secret_hash = new_credential(name)
    with settings.client() as client:
        if out is not None:
            # First: a key that the server accepts must not be lost.
            write_new(out, text)
        try:
            client.add_credential(name, role, secret_hash, audiences=audience)
        except SessauthError as error:
            if _may_be_done(error):
                kept = f"{out} has the secret" if out is not None else "the secret is lost"
                raise OutcomeUnknown(
                    f"{error}; {kept}: see by 'sessauth credential list' if {name} is there"
                ) from error
            if out is not None:
                out.unlink(missing_ok=True)
            raise
    return text


def _may_be_done(error: SessauthError) -> bool:
    """Return True if a change may have been made in spite of the error."""
    if isinstance(error, OutcomeUnknown):
        return True
    return isinstance(error, Unavailable) and not isinstance(error, Unreachable)


@credential.command("list", epilog=examples("credential list"))
@_local_option
@with_settings
def list_(settings: Settings, local: bool) -> None:
    """List names and roles. Secrets are stored nowhere."""
    if local or _carried(settings) is None:
        principals = _file(settings).list()
        documents: list[dict[str, object]] = [
            {"name": each.name, "role": each.role, "audiences": list(each.audiences)} for each in principals
        ]
        rows = [[each.name, each.role, ", ".join(each.audiences) or "any"] for each in principals]
        settings.show({"credentials": documents}, table(("NAME", "ROLE", "AUDIENCES"), rows))
        return
    with settings.client() as client:
        found = client.list_credentials()
    documents = [
        {
            **attributes(each, "name", "role"),
            "audiences": list(each.audiences),
            **attributes(each, "added_at_ms", "added_by", "local"),
        }
        for each in found
    ]
    rows = [
        [each.name, each.role, ", ".join(each.audiences) or "any", "this host" if each.local else "cluster"]
        for each in found
    ]
    settings.show({"credentials": documents}, table(("NAME", "ROLE", "AUDIENCES", "OF"), rows))


@credential.command("remove", epilog=examples("credential remove gate"))
@click.argument("name")
@_local_option
@with_settings
def remove(settings: Settings, name: str, local: bool) -> None:
    """Remove a credential; calls with it are refused from now on."""
    if local or _carried(settings) is None:
        if not _file(settings).remove(name):
            raise NotFound(f"no credential of the name {name}", "NOT_FOUND", "name")
    else:
        with settings.client() as client:
            client.remove_credential(name)
    settings.show({"name": name, "removed": True}, [f"removed {name}"])
