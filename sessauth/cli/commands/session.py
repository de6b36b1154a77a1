"""``sessauth session``: open, change and watch sessions, and see how they were used.

- ``open``, ``get``, ``list``, ``keep-alive``, ``narrow``, ``facts``: their life. ``end`` is in
  ``cut_off.py``.
- ``receipt`` and ``verify-closed``: the proof that a session is over.
- ``report`` and ``census``: the use that verifiers observed.
- ``watch``: prints the events of sessions as they happen.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...errors import UsageError
from ...model.receipt import MAX_TEXT_CHARS, ReceiptState, SignedReceipt, verify
from ...model.session import Session
from ...scopes.parts import Approval
from ...scopes.value import quoted
from ...usage.tighten import Fit
from .. import context, io, params
from ..context import Settings, with_settings
from ..io import read_bytes, read_text, read_token, require_one_stdin, text_of, write_new
from ..output import json_fields, moment, moment_and_distance, printable, warn
from ..params import FILE, Ref, examples
from ..render import session as session_view
from ..render import usage
from .cut_off import bans, end, lift_ban

if TYPE_CHECKING:
    from ...client import Client, SessionEvent


@click.group()
def session() -> None:
    """Open, change and end sessions, and see how they were used."""


@session.command("receipt", epilog=examples("session receipt 5f0c --out web.receipt"))
@params.session_argument
@click.option("--out", type=params.PATH, help="Also write the signed receipt to a new file, mode 0600.")
@with_settings
def receipt(settings: Settings, session_id: Ref, out: Path | None) -> None:
    """Have the server make the receipt of a session that ended.

    Exits with 1 unless it says CLOSED. Its statements are taken from the server; verify-closed checks a
    receipt against public keys.
    """
    with settings.client() as client:
        signed = client.get_receipt(context.session(client, session_id))
    content = signed.unverified
    if out is not None:
        write_new(out, signed.text)
    settings.show(
        session_view.receipt_json(signed, content),
        session_view.receipt_lines(content),
        ok=content.state is ReceiptState.CLOSED,
    )


@session.command(
    "verify-closed",
    epilog=examples("session verify-closed --receipt web.receipt --keys keys.json --token-file deploy.token"),
)
@click.option(
    "--receipt", "receipt_file", metavar="FILE|-", type=FILE, required=True, help="The signed receipt."
)
@click.option(
    "--keys",
    "keys_file",
    metavar="FILE|-",
    type=FILE,
    required=True,
    help="The service's keys: output of keys jwks.",
)
@click.option(
    "--session", "session_id", type=params.whole_session, default=b"", help="It must be of this one."
)
@click.option(
    "--token-file",
    "token_files",
    metavar="FILE|-",
    type=FILE,
    multiple=True,
    help="A token to hold against it.",
)
@with_settings
def verify_closed(
    settings: Settings, receipt_file: str, keys_file: str, session_id: bytes, token_files: Sequence[str]
) -> None:
    """Say, without a server, whether a receipt proves that a session is over.

    Exits with 0 if a key of the service signed it, it says CLOSED, and each token given is of its session and
    refused by it; with 1 if not.
    """
    from ...verifier.receipt_check import CoverageKind, check_token_against

    require_one_stdin(
        (receipt_file, keys_file, *token_files),
        "--receipt, --keys, --token-file: only one can be read from stdin",
    )
    text = read_bytes(receipt_file, "receipt", MAX_TEXT_CHARS + 2).decode("ascii", "replace").strip()
    signed, keys = SignedReceipt.from_text(text), read_text(keys_file, "keys")
    content = verify(signed, keys, session_id=session_id)
    tokens = [(file, check_token_against(content, read_token(file), keys)) for file in token_files]
    refused = CoverageKind.REFUSED
    closed = content.state is ReceiptState.CLOSED and all(token.coverage is refused for _, token in tokens)
    document: dict[str, Any] = {
        "closed": closed,
        **session_view.receipt_json(signed, content),
        "tokens": [
            {
                "file": file,
                "coverage": token.coverage.value,
                "session_id": token.session_id.hex(),
                "reason": token.reason.name if token.reason else "",
            }
            for file, token in tokens
        ],
    }
    lines = ["VERIFIED: signed by a key of the service", *session_view.receipt_lines(content)]
    for file, token in tokens:
        why = f" ({token.reason.name} at revision {content.revision})" if token.coverage is refused else ""
        lines.append(f"token {printable(file)}: {token.coverage.value}{why}")
    settings.show(document, lines, ok=closed)


@session.command(
    "report", epilog=examples("session report 5f0c", "session report --purpose deploy --scopes-only")
)
@click.argument("session_id", type=params.session_id, required=False)
@click.option("--purpose", default="", help="All sessions with this purpose, together.")
@click.option(
    "--fit",
    type=click.Choice([fit.value for fit in Fit]),
    default=Fit.KINDS.value,
    show_default=True,
    help="How close to the observed calls the suggested scopes stay.",
)
@click.option(
    "--new",
    type=click.Choice(["deny", "approval"]),
    default="deny",
    show_default=True,
    help="Calls that no suggestion has: denied, or asked about by scopes for tokens.",
)
@click.option(
    "--approver",
    "approvers",
    type=params.approver_key,
    multiple=True,
    help="With --new approval: an approver's public key; any one of them may approve.",
)
@click.option("--scopes-only", is_flag=True, help="Print the suggested scopes and nothing else, one a line.")
@click.option("--layer", default="", metavar="ID", help="With --scopes-only: of this list of granted scopes.")
@click.option("--html", type=params.PATH, help="Write the report as a page to this file, too.")
@with_settings
def report(
    settings: Settings,
    /,
    session_id: Ref | None,
    purpose: str,
    fit: str,
    new: str,
    approvers: Sequence[bytes],
    scopes_only: bool,
    layer: str,
    html: Path | None,
) -> None:
    """Show the granted and the used authority of a session, and suggest one that would have been enough."""
    if bool(session_id) == bool(purpose):
        raise UsageError("give SESSION_ID, or --purpose")
    if (new == "approval") != bool(approvers):
        raise UsageError("give --new approval and --approver together: somebody must be asked")
    approval = Approval(1, tuple(approvers)) if approvers else None
    with settings.client() as client:
        if session_id:
            reports = [client.get_report(context.session(client, session_id))]
        else:
            pages = context.pages(client.list_reports, purpose=purpose)
            reports = [each for page in pages for each in page.reports]
    whole = usage.joined(reports, settings.clock.now_ms(), purpose or None)
    if html is not None:
        if whole is None:
            raise UsageError(f"--html: {usage.NO_USAGE}")
        usage.write_html(whole, html, Fit(fit))
    if scopes_only:
        scopes = usage.suggested(whole, Fit(fit), layer, approval)
        for line in usage.cautions(reports, whole, layer, Fit(fit)) if whole else ():
            click.echo(f"sessauth: {line}", err=True)
        settings.show({"scopes": scopes}, scopes)
        return
    document = usage.to_json(reports, whole, Fit(fit), approval)
    settings.show(document, usage.to_lines(reports, whole, Fit(fit), approval))


@session.command("census", epilog=examples("session census 5f0c"))
@params.session_argument
@with_settings
def census(settings: Settings, session_id: Ref) -> None:
    """Show every block of a session's tokens that any verifier saw, with its first and last use."""
    with settings.client() as client:
        whole_id = context.session(client, session_id)
        blocks = client.get_census(whole_id)
    settings.show(usage.census_json(whole_id, blocks), usage.census_lines(blocks))


@session.command(
    "watch", epilog=examples("session watch", "session watch --session 5f0c --children --for 10m")
)
@click.option("--session", "session_ids", type=params.session_id, multiple=True, help="Only this session.")
@click.option("--children", "include_children", is_flag=True, help="Also all descendants of the --session.")
@click.option("--kinds", default="", help="Only these kinds: ended,lapsed,used_after_end.")
@click.option("--subject", default="")
@click.option("--purpose", default="")
@click.option("--owner", default="")
@click.option(
    "--after",
    "after_revision",
    type=click.IntRange(0),
    help="Go on after this revision. Default: from now on.",
)
@click.option("--heartbeats", is_flag=True, help="Say every few seconds that nothing was kept back.")
@click.option("--count", type=click.IntRange(1), help="End after so many events.")
@click.option(
    "--for", "for_ms", type=params.duration, default=0, help="End after so long: 30s, 10m; an hour at most."
)
@with_settings
def watch(
    settings: Settings, /, session_ids: Sequence[Ref], kinds: str, count: int | None, **filters: Any
) -> None:
    """Print the events of sessions as they happen, one line each.

    A connection that breaks is made again, and nothing is said twice.
    """
    from ...client import EventKind

    shown = 0
    with (
        settings.client() as client,
        client.watch_sessions(
            [context.session(client, each) for each in session_ids],
            kinds=[kind for kind in kinds.replace(" ", "").split(",") if kind],
            **filters,
        ) as watched,
    ):
        for event in watched:
            click.echo(json.dumps(to_json(event)) if settings.json else to_line(event))
            shown += event.kind is not EventKind.SYNCED
            if shown == count:
                return


def to_json(event: SessionEvent) -> dict[str, Any]:
    """Return an event as JSON values, without empty ones."""
    document = json_fields(event, cause=event.cause.name if event.cause else "")
    return {name: value for name, value in document.items() if value or name == "revision"}


def to_line(event: SessionEvent) -> str:
    """Return an event as a line; texts that others chose are quoted."""
    parts = [moment(event.at_ms), event.kind.name, event.session_id.hex()]
    parts += [f"{name}={value}" for name, value in _details(event) if value]
    return printable(" ".join(part for part in parts if part))


def _details(event: SessionEvent) -> list[tuple[str, str]]:
    return [
        ("revision", str(event.revision)),
        ("cause", event.cause.name if event.cause else ""),
        ("by", _quoted(event.actor)),
        ("reason", _quoted(event.reason)),
        ("subject", _quoted(event.subject)),
        ("purpose", _quoted(event.purpose)),
        ("ends_too" if event.cause else "holds_for", ",".join(each.hex() for each in event.inherited_by)),
        ("observe", "its ceiling refuses nothing" if event.observe else ""),
        ("enforce", "its ceiling is enforced from now on" if event.enforce else ""),
        ("blocks", ",".join(each.hex() for each in event.block_ids)),
        ("verifier", _quoted(event.verifier)),
        ("times", str(event.count or "")),
        ("verified", "no" if event.claimed else ""),
        ("missed", str(event.missed or "")),
    ]


def _quoted(text: str) -> str:
    return quoted(text) if text else ""


def _show(settings: Settings, shown: Session) -> None:
    settings.show(session_view.to_json(shown), session_view.to_lines(shown, settings.clock.now_ms()))


_expected_epoch = click.option(
    "--expected-epoch", type=click.IntRange(0), default=0, help="Refuse if the session has moved on."
)
_identity_token = click.option(
    "--identity-token",
    "identity_token_file",
    metavar="FILE|-",
    type=FILE,
    default="",
    help="A file with the token of an identity provider, which proves a login.",
)
_identity_proof = click.option(
    "--identity-proof",
    "identity_proof_file",
    metavar="FILE|-",
    type=FILE,
    default="",
    help="A file with the proof (DPoP) of the key that the identity token is bound to.",
)
_facts = click.option("--fact", "facts", type=params.fact, multiple=True, help="name=text, or name:=JSON.")
_visible = click.option(
    "--visible-fact",
    "visible_facts",
    type=params.fact,
    multiple=True,
    help="A fact that holders' blocks may test.",
)


def _facts_of(facts: Sequence[tuple[str, Any]], visible: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return the client's parameters for ``--fact`` and ``--visible-fact``."""
    return {"facts": dict([*facts, *visible]), "visible_facts": {name for name, _ in visible}}


def _opening(
    client: Client,
    facts: Sequence[tuple[str, Any]],
    visible_facts: Sequence[tuple[str, Any]],
    labels: Sequence[tuple[str, str]],
    parent_id: Ref,
    issuer_key_ids: Sequence[Ref],
    identity_token_file: str,
    identity_proof_file: str,
    **options: Any,
) -> dict[str, Any]:
    """Return the options of ``session open`` as parameters of ``Client.open_session``."""
    return {
        **options,
        **_facts_of(facts, visible_facts),
        "labels": dict(labels),
        "parent_id": context.session(client, parent_id),
        "issuer_key_ids": [context.key(client, key) for key in issuer_key_ids],
        **_identity(identity_token_file, identity_proof_file),
    }


def _identity(token_file: str, proof_file: str) -> dict[str, str]:
    """Return the client's parameters for ``--identity-token`` and ``--identity-proof``."""
    if proof_file and not token_file:
        raise UsageError("--identity-proof: is that of a token; give --identity-token too")
    return {
        "identity_token": io.read_identity(token_file, "--identity-token"),
        "identity_proof": io.read_identity(proof_file, "--identity-proof"),
    }


def _ceiling_of(scopes: Sequence[str], file: str, folder: Path | None, purpose: str) -> list[str]:
    """Return the scopes of options and file; without either, of the purpose's file in the folder.

    Raises UsageError if there is none.
    """
    if scopes or file:
        return [*scopes, *(io.read_scopes(file, "--ceiling-file") if file else ())]
    if folder is None:
        raise UsageError("give --ceiling, --ceiling-file, or --ceilings with the purpose's file")
    return io.read_scopes(io.purpose_file(folder, purpose, "--ceilings"), "--ceilings")


@session.command(
    "open",
    epilog=examples(
        "session open --subject ci:deploy --ceiling 'deploy:cluster/web/**' --ttl 10m",
        "session open --identity-token id.jwt --ceiling 'read:tickets/**' --mint agent.token --audience desk",
    ),
)
@click.option("--subject", default="", help="Who acts. Required, unless an identity token proves it.")
@click.option("--purpose", default="", help="What for.")
@click.option("--ceiling", multiple=True, help="A scope; no call may ever go beyond them.")
@click.option("--ceiling-file", default="", type=FILE, help="Scopes, one a line; - for stdin.")
@click.option(
    "--ceilings",
    type=params.PATH,
    envvar="SESSAUTH_CEILINGS",
    help="A folder of ceilings: the scopes are those of PURPOSE.scopes.",
)
@_facts
@_visible
@click.option("--label", "labels", type=params.label, multiple=True, help="name=value, to find it by.")
@click.option(
    "--ttl", "ttl_ms", type=params.duration, default=0, help="Longest life, as 1h. Default: the server's."
)
@click.option(
    "--lease", "lease_ms", type=params.duration, default=0, help="It ends unless kept alive this often."
)
@click.option(
    "--parent", "parent_id", type=params.session_id, default=b"", help="Session to open this one under."
)
@click.option("--owner", default="", help="Principal that may mint for it. Default: the caller.")
@click.option(
    "--issuer-key",
    "issuer_key_ids",
    type=params.key_id,
    multiple=True,
    help="Only this key may root its tokens.",
)
@click.option(
    "--observe",
    is_flag=True,
    help="Record the calls that the ceiling would refuse, and refuse nothing. Operators only.",
)
@_identity_token
@_identity_proof
@click.option("--mint", "token_file", type=params.PATH, help="Mint a token too, into this new file.")
@click.option("--scope", "scopes", multiple=True, help="With --mint: the token's. Default: the ceiling.")
@click.option("--audience", multiple=True, help="With --mint: a verifier that the token is meant for.")
@click.option(
    "--token-ttl", "token_ttl_ms", type=params.duration, default=0, help="With --mint: its life, as 15m."
)
@click.option("--strict", is_flag=True, help="Refuse a ceiling with findings of scope lint.")
@click.option("--quiet", is_flag=True, help="Print the session's id and nothing else.")
@params.request_id_option
@with_settings
def open_(
    settings: Settings,
    /,
    quiet: bool,
    ceiling: Sequence[str],
    ceiling_file: str,
    ceilings: Path | None,
    token_file: Path | None,
    scopes: Sequence[str],
    audience: Sequence[str],
    token_ttl_ms: int,
    strict: bool,
    **options: Any,
) -> None:
    """Open a session, and with --mint also its first token: both, or neither."""
    identity_token_file = options["identity_token_file"]
    require_one_stdin(
        (ceiling_file, identity_token_file, options["identity_proof_file"]),
        "--ceiling-file, --identity-token, --identity-proof: only one can be read from stdin",
    )
    if not (options["subject"] or identity_token_file):
        raise UsageError("--subject: is required, unless --identity-token has the token that proves it")
    if options["parent_id"] and identity_token_file:
        raise UsageError("--parent: the parent is the login's session; leave it out beside --identity-token")
    options["ceiling"] = _ceiling_of(ceiling, ceiling_file, ceilings, options["purpose"])
    if token_file is None and (scopes or audience or token_ttl_ms):
        raise UsageError("--scope, --audience and --token-ttl are those of a token: give --mint FILE")
    facts = dict([*options["facts"], *options["visible_facts"]])
    findings = io.scope_warnings(options["ceiling"], "--ceiling", facts, strict=strict)
    findings += io.scope_warnings(scopes, "--scope", facts, strict=strict)
    with settings.client() as client:
        terms = _opening(client, **options)
        if token_file is None:
            opened = client.open_session(**terms)
        else:
            scopes = scopes or options["ceiling"]
            # First, since a file that can't be written must open nothing.
            write_new(token_file, "", "--mint")
            try:
                opened, token = client.open_and_mint(scopes, audience, mint={"ttl_ms": token_ttl_ms}, **terms)
            except BaseException:
                token_file.unlink(missing_ok=True)
                raise
            findings += token.warnings
            token_file.write_text(text_of(token) + "\n", encoding="ascii")
    for finding in findings:
        warn(finding)
    if opened.observe:
        warn(f"observe mode: {session_view.OBSERVE_MODE}; 'sessauth session narrow --enforce' ends that")
    if quiet:
        settings.show(session_view.to_json(opened), [opened.id.hex()])
    else:
        _show(settings, opened)


@session.command("get", epilog=examples("session get 5f0c"))
@params.session_argument
@with_settings
def get(settings: Settings, session_id: Ref) -> None:
    """Show one session."""
    with settings.client() as client:
        _show(settings, client.get_session(context.session(client, session_id)))


@session.command("list", epilog=examples("session list", "session list --status active --subject ci:deploy"))
@click.option("--all", "ended_too", is_flag=True, help="Ended ones too.")
@click.option(
    "--status",
    metavar="ACTIVE|SUSPENDED|ENDED",
    type=click.Choice([each.name for each in session_view.STATUSES], case_sensitive=False),
)
@click.option("--subject", default="")
@click.option("--owner", default="")
@click.option("--parent", "parent_id", type=params.session_id, default=b"")
@click.option("--label", "labels", type=params.label, multiple=True, help="name=value; all must fit.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@with_settings
def list_(
    settings: Settings,
    /,
    ended_too: bool,
    status: str | None,
    parent_id: Ref,
    labels: Sequence[tuple[str, str]],
    limit: int,
    **filters: Any,
) -> None:
    """List sessions that fit all the filters: the living first, the newest first."""
    with settings.client() as client:
        filters |= {"parent_id": context.session(client, parent_id), "labels": dict(labels)}
        listed = session_view.find(client, filters, status, ended_too=ended_too, limit=limit)
    settings.show(listed.to_json(), listed.to_lines(settings.clock.now_ms(), short_ids=sys.stdout.isatty()))


@session.command(
    "keep-alive",
    epilog=examples("session keep-alive 5f0c", "session keep-alive 5f0c --identity-token id.jwt"),
)
@params.session_argument
@_identity_token
@_identity_proof
@with_settings
def keep_alive(
    settings: Settings, session_id: Ref, identity_token_file: str, identity_proof_file: str
) -> None:
    """Renew a session's lease, or with a fresh token of its login the lease of the login's session."""
    require_one_stdin(
        (identity_token_file, identity_proof_file),
        "--identity-token, --identity-proof: only one can be read from stdin",
    )
    identity = _identity(identity_token_file, identity_proof_file)
    with settings.client() as client:
        whole_id = context.session(client, session_id)
        deadline = client.keep_alive(whole_id, **identity)
    settings.show(
        {"session_id": whole_id.hex(), "lease_deadline_ms": deadline},
        [f"lease lapses {moment_and_distance(deadline, settings.clock.now_ms())}"],
    )


@session.command(
    "narrow",
    epilog=examples(
        "session narrow 5f0c --ceiling 'deploy:cluster/web/staging'",
        "session narrow 5f0c --ceiling-file enough.scopes --enforce",
    ),
)
@params.session_argument
@click.option("--ceiling", multiple=True, help="A scope; every call must match one of them too.")
@click.option("--ceiling-file", default="", type=FILE, help="Scopes, one a line; - for stdin.")
@click.option("--enforce", is_flag=True, help="End observe mode: the ceiling is enforced from now on.")
@click.option("--strict", is_flag=True, help="Refuse a ceiling with findings of scope lint.")
@_expected_epoch
@params.request_id_option
@with_settings
def narrow(settings: Settings, /, session_id: Ref, ceiling_file: str, strict: bool, **options: Any) -> None:
    """Narrow a session, or end its observe mode, for every token of it at once."""
    if ceiling_file:
        options["ceiling"] = (*options["ceiling"], *io.read_scopes(ceiling_file, "--ceiling-file"))
    if not options["ceiling"] and not options["enforce"]:
        raise UsageError("give --ceiling or --ceiling-file, or --enforce to end observe mode")
    findings = io.scope_warnings(options["ceiling"], "--ceiling", strict=strict)
    with settings.client() as client:
        _show(settings, client.narrow(context.session(client, session_id), **options))
    for finding in findings:
        warn(finding)


@session.command("facts", epilog=examples("session facts 5f0c --fact case=c-1 --fact level:=3"))
@params.session_argument
@_facts
@_visible
@click.option("--remove", multiple=True, help="Name of a fact to remove.")
@_expected_epoch
@params.request_id_option
@with_settings
def facts(
    settings: Settings,
    /,
    session_id: Ref,
    facts: Sequence[tuple[str, Any]],
    visible_facts: Sequence[tuple[str, Any]],
    remove: Sequence[str],
    **options: Any,
) -> None:
    """Set and remove facts; without either, show the session."""
    with settings.client() as client:
        whole_id = context.session(client, session_id)
        if facts or visible_facts or remove:
            stated = _facts_of(facts, visible_facts)
            changed = client.update_facts(whole_id, **stated, remove=remove, **options)
        else:
            changed = client.get_session(whole_id)
    _show(settings, changed)


def _change(name: str, doc: str) -> Callable[..., Any]:
    @session.command(name, help=doc, epilog=examples(f"session {name} 5f0c --reason 'asks too often'"))
    @params.session_argument
    @params.reason_option
    @_expected_epoch
    @params.request_id_option
    @with_settings
    def change(settings: Settings, /, session_id: Ref, reason: str, **options: Any) -> None:
        with settings.client() as client:
            whole_id = context.session(client, session_id)
            _show(settings, getattr(client, name)(whole_id, reason, **options))

    return change


suspend = _change("suspend", "Deny every call of a session until it is resumed.")
resume = _change("resume", "Let a suspended session go on.")


session.add_command(end)
session.add_command(bans)
session.add_command(lift_ban)
