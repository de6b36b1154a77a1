"""``sessauth approval`` and ``sessauth console``: read the calls that wait for a person, and answer them.

``grant`` shows the exact call and signs it with the approver's key, after the person consented on a terminal.
``approval ui`` and ``console`` serve pages in a browser on this machine, by way of ``serve_console``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...approvals.approver import DEFAULT_TTL_MS, Approver, ApproverKey
from ...approvals.request import ApprovalRequest
from ...errors import ConfigError, UsageError
from ...scopes.safe_text import visible
from .. import context, params
from ..context import Settings, with_settings
from ..io import write_new
from ..output import moment_and_distance, table
from ..params import PATH, Ref, duration, examples
from .local.evidence import console_files

if TYPE_CHECKING:
    from ...client import Client

PORT = click.option(
    "--port", type=click.IntRange(0, 65_535), default=0, help="On 127.0.0.1. Default: a free one."
)
LOGIN = click.option(
    "--login-for", "login_ms", type=duration, default="8h", show_default=True, help="How long a login counts."
)


@click.command(epilog=examples("console --allow-changes --port 8080"))
@PORT
@click.option("--allow-changes", is_flag=True, help="Permit ends and other changes. Default: read only.")
@click.option("--audit", type=PATH, help="Audit folder to read decisions from. Default: that of the home.")
@LOGIN
@with_settings
def console(settings: Settings, /, port: int, allow_changes: bool, audit: Path | None, login_ms: int) -> None:
    """Serve a console on loopback until Ctrl-C. A one-time link, printed here, logs a browser in."""
    folder = _audit(settings, audit)
    evidence = console_files(settings, [audit] if audit else []) if folder else {}
    terms = {"allow_changes": allow_changes, "audit": folder, "evidence": evidence}
    serve_console(settings, port=port, login_ms=login_ms, **terms)


def serve_console(settings: Settings, *, port: int, login_ms: int, **terms: Any) -> None:
    """Serve until the process is asked to end; ``terms`` are those of ``ConsoleTerms``.

    Raises ConfigError if a part of the console is not installed, or the port is in use.
    """
    try:
        from ...console.logins import CODE_MS, LINK_MS
        from ...console.parts import ConsoleTerms
        from ...console.serving import bind, serve
    except ImportError as error:
        raise ConfigError(f"{error.name} is not installed: pip install 'sessauth[console]'") from None

    connect = settings.async_client()
    bound = bind(port)
    minutes = LINK_MS // 60_000

    def show_code(code: str, approval: ApprovalRequest) -> None:
        record = approval.record
        document = {"code": code, "session_id": record.session_id.hex(), "approval_id": record.id.hex()}
        lines = [
            f"sign    {visible(record.action)} {visible(record.resource)}",
            f"        session {record.session_id.hex()}, approval {record.id.hex()}",
            f"        code {code}: type it in the page that asks for it, within {CODE_MS // 60_000} minutes",
        ]
        settings.show(document, lines)

    def announce(link: str) -> None:
        words = f"        once, within {minutes} minutes; Enter prints another"
        settings.show({"link": link, "minutes": minutes}, [f"log in  {link}", words])

    named = {"server": settings.address(), "show_code": show_code, **terms}
    serve(connect, bound, ConsoleTerms(**named), announce, login_ms=login_ms)


def _audit(settings: Settings, folder: Path | None) -> Path | None:
    if folder is None:
        folder = settings.audit_dir(None)
        return folder if folder.is_dir() else None
    if not folder.is_dir():
        raise ConfigError(f"audit: {folder} is no folder")
    return folder


_COLUMNS = (
    *("SESSION", "APPROVAL", "SIGNED", "SUBJECT", "PURPOSE", "ACTION", "RESOURCE", "GATEWAY", "UNTIL"),
    *("BUDGET", "SCOPE"),
)
_STATUSES = ("waiting", "pending", "granted", "denied", "used")
_approval = click.argument("approval_id", type=params.approval_id)


@click.group()
def approval() -> None:
    """Read the calls that wait for an approval, and grant or deny them."""


def _find(client: Client, session: Ref, approval: Ref) -> tuple[bytes, bytes]:
    session_id = context.session(client, session)
    return session_id, context.approval(client, session_id, approval)


def _show(settings: Settings, request: ApprovalRequest) -> None:
    settings.show(request.to_dict(), request.render().splitlines())


@approval.command("list", epilog=examples("approval list --session 5f0c"))
@click.option("--session", "session_id", type=params.session_id, default=b"", help="Of this session only.")
@click.option("--status", type=click.Choice(_STATUSES), default="waiting", show_default=True)
@click.option(
    "--public-key",
    type=params.approver_key,
    default=b"",
    help="Only approvals this key may still sign; 'approver-key show' prints it.",
)
@click.option("--limit", "page_size", type=click.IntRange(1, 1000), default=100, show_default=True)
@click.option("--page", "page_token", default="", help="Go on from where an earlier list stopped.")
@with_settings
def list_(settings: Settings, /, session_id: Ref, **filters: Any) -> None:
    """List approvals; a gateway sees those that it asked for."""
    with settings.client() as client:
        listed = client.list_approvals(session_id=context.session(client, session_id), **filters)
    now_ms = settings.clock.now_ms()
    rows = [
        [
            request.record.session_id.hex(),
            request.record.id.hex(),
            f"{len(request.record.statements)}/{request.record.threshold}",
            request.subject,
            request.purpose,
            request.record.action,
            request.record.resource,
            request.record.gateway,
            moment_and_distance(request.record.expires_at_ms, now_ms),
            "; ".join(request.budget_texts()),
            request.record.scope_text,
        ]
        for request in listed.approvals
    ]
    lines = table(_COLUMNS, rows) if rows else ["none"]
    if listed.next_page_token:
        lines.append(f"more: --page {listed.next_page_token}")
    settings.show(
        {
            "approvals": [request.to_dict() for request in listed.approvals],
            "next_page_token": listed.next_page_token,
        },
        lines,
    )


@approval.command("show", epilog=examples("approval show 5f0c 91ab"))
@params.session_argument
@_approval
@with_settings
def show(settings: Settings, session_id: Ref, approval_id: Ref) -> None:
    """Show all that an approver decides by and signs."""
    with settings.client() as client:
        request = client.get_approval(*_find(client, session_id, approval_id))
    _show(settings, request)


@approval.command(
    "grant",
    epilog=examples(
        "approval grant 5f0c 91ab --key approver.pem",
        "approval grant 5f0c 91ab --key approver.pem --ttl 10m --out call.approval",
    ),
)
@params.session_argument
@_approval
@click.option(
    "--key",
    "key_file",
    type=params.PATH,
    required=True,
    help="File with the approver's private key, mode 0600.",
)
@click.option(
    "--ttl",
    "ttl_ms",
    type=params.duration,
    default=DEFAULT_TTL_MS,
    show_default="1h",
    help="How long it counts; never longer than the request does.",
)
@click.option("--yes", is_flag=True, help="Sign without asking: the caller has read it.")
@click.option(
    "--out",
    type=params.PATH,
    help="Write the signed approval to a new file, for 'check --approval', instead of handing it in.",
)
@params.request_id_option
@with_settings
def grant(
    settings: Settings,
    session_id: Ref,
    approval_id: Ref,
    key_file: Path,
    ttl_ms: int,
    yes: bool,
    out: Path | None,
    request_id: str,
) -> None:
    """Show the requested call, ask, and sign it.

    The digest that is signed is computed from the text shown. Nothing else is signed.
    """
    approver = Approver(ApproverKey.load(key_file), settings.clock)
    with settings.client() as client:
        request = client.get_approval(*_find(client, session_id, approval_id))
        shown = request.render()
        _require_consent(settings, shown, yes=yes)
        signed = approver.grant(request, ttl_ms=ttl_ms)
        if out is None:
            request = client.grant_approval(request, signed, request_id=request_id)
        else:
            write_new(out, signed.text)
    document = {**request.to_dict(), "shown": shown}
    if out is not None:
        settings.show({**document, "out": str(out)}, [f"written  {out}"])
        return
    record = request.record
    settings.show(
        document,
        [f"signed {len(record.statements)} of {record.threshold}; it is {record.status.name.lower()}"],
    )


def _require_consent(settings: Settings, shown: str, *, yes: bool) -> None:
    """Show the text to be signed and ask for consent. Raises UsageError if there is no terminal to ask on."""
    # With --json stdout holds one document, which includes the text.
    if not settings.json:
        click.echo(shown)
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("there is no terminal to ask: read it with 'approval show', then give --yes")
    if settings.json:
        click.echo(shown, err=True)
    click.confirm("Sign that this call may happen, once?", abort=True, err=True)


@approval.command("deny", epilog=examples("approval deny 5f0c 91ab --reason 'not today'"))
@params.session_argument
@_approval
@params.reason_option
@params.request_id_option
@with_settings
def deny(settings: Settings, session_id: Ref, approval_id: Ref, reason: str, request_id: str) -> None:
    """Say no to a call, until its request expires."""
    with settings.client() as client:
        denied = client.deny_approval(*_find(client, session_id, approval_id), reason, request_id=request_id)
    _show(settings, denied)


@approval.command("ui", epilog=examples("approval ui --approver-key approver.pem"))
@click.option(
    "--approver-key",
    "key_file",
    type=params.PATH,
    required=True,
    help="File with the approver's private key, mode 0600; it stays here.",
)
@PORT
@LOGIN
@with_settings
def ui(settings: Settings, key_file: Path, port: int, login_ms: int) -> None:
    """Read and answer approvals in a browser on this machine, until Ctrl-C.

    The address of one approval is /approvals/SESSION/APPROVAL.
    """
    serve_console(
        settings, port=port, login_ms=login_ms, approver=ApproverKey.load(key_file), approvals_only=True
    )
