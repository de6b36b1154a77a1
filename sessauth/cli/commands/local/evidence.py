"""``sessauth evidence``: one file for an auditor, and its verification without a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ....errors import StateError, UsageError
from ... import context as lookup
from ... import params
from ...context import Settings, with_settings
from ...output import printable
from ...params import Ref, audit_dirs_option, bound_option, examples

if TYPE_CHECKING:
    from ....audit.read.story import AuditHost
    from ....evidence.reader.crypto import TrustedKeys
    from ....evidence.reader.manifest import PackQuestion
    from ....evidence.reader.verify import EvidenceReport

_MAX_KEY_BYTES = 1 << 20


@click.group(
    "evidence", invoke_without_command=True, epilog=examples("evidence --session 5f0c --out web.pack")
)
@click.option("--session", "session_id", type=params.session_id, default=b"", help="Of this session.")
@click.option("--purpose", default="", help="Of all sessions with this purpose.")
@click.option("--from", "since_ms", type=params.moment, default=0, help="From this moment on.")
@click.option("--to", "until_ms", type=params.moment, default=0, help="Before this moment. Default: now.")
@click.option("--out", type=params.PATH, help="Write to this new file, mode 0600.")
@audit_dirs_option
@click.option(
    "--show",
    type=click.Choice(["matching", "signed", "all"]),
    default="signed",
    show_default=True,
    help="Records that are shown: those asked for; also those between them and the next signature; all.",
)
@click.option(
    "--signing-key",
    type=params.PATH,
    help="Private key that signs the pack, PKCS#8 PEM. Default: audit.key of the first audit folder.",
)
@click.option("--no-server", is_flag=True, help="Ask no server: the pack has neither receipts nor reports.")
@click.option(
    "--argument-values",
    is_flag=True,
    help="Reports show values of arguments, and scopes that were suggested from them.",
)
@click.option(
    "--max-bytes", type=click.IntRange(min=1), default=4 << 30, help="The longest pack.", show_default=True
)
@bound_option
@with_settings
@click.pass_context
def evidence(
    context: click.Context,
    settings: Settings,
    /,
    session_id: Ref,
    purpose: str,
    since_ms: int,
    until_ms: int,
    out: Path | None,
    folders: Sequence[Path],
    show: str,
    signing_key: Path | None,
    no_server: bool,
    argument_values: bool,
    max_bytes: int,
    bound_ms: int,
) -> None:
    """Write one file that shows an auditor the actions of sessions, and verify it.

    It has the records of the audit log, signed receipts of sessions that ended, reports of granted and used
    scopes, the public keys, and a map of controls. Exits with 1 if the file is not proven.
    """
    if context.invoked_subcommand is not None:
        return
    from ....audit import layout
    from ....evidence.pack import require_signing_key, write_pack
    from ...render import pack as view
    from ...render.audit import hosts_of
    from ...render.pack import pack_sources, trusted_keys

    if out is None:
        raise UsageError("--out: name the file to write")
    if bool(session_id) + bool(purpose) > 1 or not (session_id or purpose or since_ms or until_ms):
        raise UsageError("give --session or --purpose, or --from and --to alone: which sessions?")
    hosts = hosts_of(settings, folders)
    if not any(layout.files(host.folder) for host in hosts if host.folder.is_dir()):
        raise UsageError("--dir: there is no audit log; [audit] enabled = true has the server write one")
    key = require_signing_key(signing_key or hosts[0].folder / layout.KEY_FILE)
    now_ms = settings.clock.now_ms()
    with (
        settings.progress("writing") as progress,
        pack_sources(settings, hosts, no_server=no_server, argument_values=argument_values) as sources,
    ):
        question = _question(hosts, session_id, purpose, since_ms, min(until_ms or now_ms, now_ms), show)
        write_pack(out, question, sources, key, now_ms, max_bytes, progress)
    report = _verify(settings, out, trusted_keys(sources, key.public_key), bound_ms)
    written = [f"written  {printable(str(out))}, {out.stat().st_size} bytes"]
    document = {"out": str(out), "bytes": out.stat().st_size, **view.to_json(report)}
    settings.show(document, [*written, *view.to_lines(report)], ok=report.proven)


@evidence.command("verify", epilog=examples("evidence verify web.pack --key audit.pub"))
@click.argument("pack", type=params.PATH)
@click.option(
    "--key",
    "key_files",
    type=params.PATH,
    multiple=True,
    help="File with trusted public keys: the output of audit key or of keys jwks. Repeatable.",
)
@click.option(
    "--signer",
    "signer_files",
    type=params.PATH,
    multiple=True,
    help="File with public keys that sign packs, and no log: of an auditor's --signing-key. Repeatable.",
)
@params.heads_option
@click.option(
    "--log",
    "folders",
    type=params.PATH,
    multiple=True,
    help="An audit folder, or a folder of them, to compare the pack with: a copy of the log. Repeatable.",
)
@bound_option
@with_settings
def verify(
    settings: Settings,
    pack: Path,
    key_files: Sequence[Path],
    signer_files: Sequence[Path],
    heads: Sequence[bytes],
    folders: Sequence[Path],
    bound_ms: int,
) -> None:
    """Show, without a server, how much a pack proves.

    Exits with 1 if it was altered, and without a key of the log from elsewhere.
    """
    from ...render import pack as view

    trusted = replace(_keys(key_files, "--key"), signers=_keys(signer_files, "--signer").audit)
    report = _verify(settings, pack, trusted, bound_ms, heads, folders)
    settings.show(view.to_json(report), view.to_lines(report), ok=report.proven)


# A browser's download; a longer one is for the command.
_MAX_DOWNLOAD: Final = 256 << 20
_BOUND_MS: Final = 3_000


def console_files(settings: Settings, folders: Sequence[Path]) -> dict[str, Callable[[bytes, Path], None]]:
    """Return functions that write the files of evidence of a session, for the console.

    They are the pack that ``evidence`` writes by default, verified, and the lines of ``audit story``. Each
    writes a new file, and raises SessauthError, also for a pack that is not proven.
    """
    from ....audit import layout
    from ....audit.read.story import read_story
    from ....evidence.pack import require_signing_key, write_pack
    from ....evidence.reader.verify import verify_pack
    from ...render import audit, pack

    def make_pack(session_id: bytes, out: Path) -> None:
        hosts = audit.hosts_of(settings, folders)
        key = require_signing_key(hosts[0].folder / layout.KEY_FILE)
        now_ms = settings.clock.now_ms()
        question = _question(hosts, session_id, "", 0, now_ms, "signed")
        with pack.pack_sources(settings, hosts, no_server=False, argument_values=False) as sources:
            write_pack(out, question, sources, key, now_ms, _MAX_DOWNLOAD)
        report = verify_pack(out, pack.trusted_keys(sources, key.public_key), bound_ms=_BOUND_MS)
        if not report.proven:
            raise StateError(f"the pack has {len(report.findings)} findings")

    def write_story(session_id: bytes, out: Path) -> None:
        hosts = audit.hosts_of(settings, folders)
        found = read_story(hosts, session_id, _BOUND_MS)
        lines = audit.to_lines(found, audit.problems(found, audit.verify_hosts(hosts), (), _BOUND_MS))
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")

    return {"pack": make_pack, "story": write_story}


def _keys(files: Sequence[Path], option: str) -> TrustedKeys:
    from ....evidence.reader.crypto import NoKeys, read_keys
    from ...io import read_bytes

    texts = {
        str(file): read_bytes(str(file), option, _MAX_KEY_BYTES).decode("ascii", "replace") for file in files
    }
    try:
        return read_keys(texts)
    except NoKeys as error:
        raise UsageError(f"{option}: {printable(str(error))}") from None


def _question(
    hosts: Sequence[AuditHost], session_id: Ref, purpose: str, since_ms: int, until_ms: int, show: str
) -> PackQuestion:
    from ....evidence import question

    folders = [host.folder for host in hosts]
    if session_id:
        session = lookup.logged_session(session_id, *folders).hex()
        return question.of_session(folders, session, since_ms, until_ms, show)
    if purpose:
        return question.of_purpose(folders, purpose, since_ms, until_ms, show)
    return question.of_time(since_ms, until_ms, show)


def _verify(
    settings: Settings,
    pack: Path,
    trusted: TrustedKeys,
    bound_ms: int,
    heads: Sequence[bytes] = (),
    folders: Sequence[Path] = (),
) -> EvidenceReport:
    from ....evidence.reader.verify import verify_pack

    try:
        with settings.progress("verifying") as progress:
            return verify_pack(
                *(pack, trusted), heads=heads, folders=folders, bound_ms=bound_ms, on_progress=progress
            )
    except OSError as error:
        raise UsageError(f"can't read {printable(str(error.filename))}: {error.strerror}") from None
