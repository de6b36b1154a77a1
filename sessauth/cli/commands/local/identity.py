"""``sessauth identity``: try tokens of identity providers by the settings of a home folder; end logins.

The state of the providers is that of the running server.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ....clock import utc_text
from ....errors import IdentityRefused, UsageError
from ...context import Settings, with_settings
from ...io import read_bytes
from ...output import fields, json_fields, moment_and_distance, printable, span
from ...params import examples

if TYPE_CHECKING:
    from ....client import StreamStatus
    from ....server.identity.mapping import MappedIdentity
    from ....server.identity.tokens import ProvenIdentity


@click.group()
def identity() -> None:
    """Try tokens of identity providers, end logins, and see what their streams of events say."""


@identity.command(epilog=examples("identity cut corp --user 00u1ab --reason 'lost laptop'"))
@click.argument("provider")
@click.option("--user", default="", help="The provider's name of the user (sub): all logins up to now.")
@click.option("--login", default="", help="The provider's name of one login (sid).")
@click.option("--reason", default="", help="Why; in the log, and in the refusal of such a token.")
@with_settings
def cut(settings: Settings, provider: str, user: str, login: str, reason: str) -> None:
    """End the logins of a user of PROVIDER, or one login, with all agents below them.

    Their tokens open nothing any more, also those that the provider refreshes. A later login does.
    """
    if bool(user) == bool(login):
        raise UsageError("user, login: state exactly one of them")
    with settings.client() as client:
        ended = client.cut_logins(provider, subject=user, sid=login, reason=reason)
    settings.show(
        {"ended": ended.ended, "revision": ended.revision, "up_to_ms": ended.up_to_ms},
        fields(
            [
                ("ended", f"{ended.ended} of logins, with all below them"),
                ("revision", ended.revision),
                ("refused", f"tokens of logins up to {utc_text(ended.up_to_ms)}"),
            ]
        ),
    )


@identity.command(epilog=examples("identity enable corp --user 00u1ab"))
@click.argument("provider")
@click.option("--user", required=True, help="The provider's name of the user (sub).")
@click.option("--reason", default="", help="Why; in the log.")
@with_settings
def enable(settings: Settings, provider: str, user: str, reason: str) -> None:
    """Let tokens of a user count again whose account PROVIDER has disabled.

    The provider says so by an event itself. Logins up to a cut stay cut: the user logs in again.
    """
    with settings.client() as client:
        revision = client.enable_account(provider, user, reason).revision
    settings.show({"revision": revision}, fields([("revision", revision)]))


@identity.command(epilog=examples("identity explain token.txt"))
@click.argument("token_file", metavar="FILE|-")
@with_settings
def explain(settings: Settings, token_file: str) -> None:
    """Show what a token proves, and the terms of the session that it gives.

    The providers are those of the home's settings, [[identity_providers]]; their keys are read or fetched
    now. No server is asked, and nothing is changed. Exits with 0 if the token gives a session, with 1 if not.
    """
    from ....server.identity.key_sets import fetch_keys
    from ....server.identity.mapping import map_identity
    from ....server.identity.tokens import MAX_TOKEN_BYTES, verify

    config = settings.config()
    if not config.identity_providers:
        raise UsageError(
            f"{config.home / 'sessauth.toml'}: names no identity provider; see docs/operations/settings.md"
        )
    token = read_bytes(token_file, "token", MAX_TOKEN_BYTES + 2).strip()
    try:
        proven = verify(
            token,
            config.identity_providers,
            lambda provider, _: fetch_keys(provider, config.home),
            settings.clock.now_ms(),
        )
    except IdentityRefused as error:
        settings.show(_refusal(error), [f"REFUSED {error}"], ok=False)
        return
    now_ms = settings.clock.now_ms()
    try:
        mapped = map_identity(proven)
    except IdentityRefused as error:
        document = {**_proven_json(proven), **_refusal(error)}
        settings.show(document, [f"REFUSED {error}", *fields([*_proven(proven, now_ms)])], ok=False)
        return
    document = {"accepted": True, **_proven_json(proven), "session": _mapped_json(mapped)}
    settings.show(
        document,
        ["ACCEPTED", *fields([*_proven(proven, now_ms), *_mapped(mapped, now_ms)]), *_ceiling(mapped)],
    )


@identity.command(epilog=examples("identity status"))
@with_settings
def status(settings: Settings) -> None:
    """Show the identity providers of the server: their keys, their streams of events, and their logins."""
    with settings.client() as client:
        found = client.get_identity_status()
    lines: list[str] = []
    for each in found.providers:
        keys = "none were needed yet" if each.keys_age_ms is None else f"{span(each.keys_age_ms)} old"
        pairs = [
            ("provider", each.name),
            ("issuer", each.issuer),
            ("keys", keys),
            ("logins", each.logins),
            ("events", _events(each.stream)),
        ]
        lines += [*fields(pairs), ""]
    lines += fields([("cuts", f"{found.cuts} users and logins have stored moments")])
    settings.show(json_fields(found), lines)


def _events(stream: StreamStatus | None) -> str:
    """Return the state of a stream as a line."""
    if stream is None:
        return "nobody waits for them: no silence_ms"
    since = "the last one" if stream.proven else "none: the server began to write"
    parts = [f"{since} {span(stream.age_ms)} ago"]
    if stream.silent:
        effect = ": no token opens a session" if stream.refuses else ""
        parts.append(f"SILENT (on_silence {stream.on_silence}){effect}")
    if stream.gap:
        parts.append(f"a gap (on_gap {stream.on_gap})")
    return ", ".join(parts)


def _refusal(error: Any) -> dict[str, Any]:
    return {"accepted": False, "fault": error.fault, "message": str(error)}


def _proven_json(proven: ProvenIdentity) -> dict[str, Any]:
    names = ("algorithm", "key", "subject", "client", "sid", "machine", "logged_in_at_ms", "expires_at_ms")
    return {
        "provider": proven.provider.name,
        "kind": proven.kind.value,
        **{name: getattr(proven, name) for name in names},
        "actors": list(proven.actors),
    }


def _mapped_json(mapped: MappedIdentity) -> dict[str, Any]:
    names = ("subject", "ends_at_ms", "lease_ms")
    return {
        **{name: getattr(mapped, name) for name in names},
        "ceiling": list(mapped.ceiling),
        "grants": list(mapped.grants),
        "labels": dict(mapped.labels),
        "facts": dict(mapped.facts),
    }


def _proven(proven: ProvenIdentity, now_ms: int) -> Iterator[tuple[str, object]]:
    yield "provider", proven.provider.name
    yield "token", f"{proven.kind.value}, {proven.algorithm}, key {proven.key}"
    yield "proves", proven.subject
    yield "client", proven.client
    yield "login", proven.sid
    yield "logged in", moment_and_distance(proven.logged_in_at_ms, now_ms)
    yield "token ends", moment_and_distance(proven.expires_at_ms, now_ms)
    yield "acted for by", ", ".join(proven.actors)


def _mapped(mapped: MappedIdentity, now_ms: int) -> Iterator[tuple[str, object]]:
    yield "subject", mapped.subject
    yield "hard end", moment_and_distance(mapped.ends_at_ms, now_ms)
    yield "lease", f"{mapped.lease_ms} ms" if mapped.lease_ms else ""
    yield "grants", ", ".join(map(str, mapped.grants))
    for name, value in mapped.labels.items():
        yield f"label {name}", value
    for name, fact in mapped.facts.items():
        yield f"fact {name}", fact


def _ceiling(mapped: MappedIdentity) -> list[str]:
    return ["ceiling", *(f"  {printable(scope)}" for scope in mapped.ceiling)]
