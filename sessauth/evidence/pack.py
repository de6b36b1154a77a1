"""Makes an evidence pack: the log's excerpt, receipts, reports, keys and controls, signed as a whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..audit.keys import AuditKey
from ..errors import StateUnusable, UsageError
from . import controls, readme
from .pack_file import PackFile
from .question import MAX_SESSIONS
from .reader.crypto import MANIFEST_LABEL
from .reader.facts import Facts
from .reader.manifest import FORMAT, MANIFEST, SIGNATURE, PackQuestion, canonical
from .reader.stream import RecordPlace, record_of
from .scan import ScannedFile, ScannedStream, scan

MAX_BYTES: Final = 4 << 30
_CHUNK_LINES: Final = 1_000
# The chain in a line, without quotes; a line feed follows.
_CHAIN: Final = slice(-67, -3)


@dataclass(frozen=True, slots=True)
class SessionPapers:
    """The receipt's text and the report of a session, from the server; empty if there is none."""

    receipt: str = ""
    report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PackSources:
    """The sources of a pack.

    ``folders`` are audit folders, each with the public keys of its log. ``issuer_jwks`` is a JWK set.
    ``papers`` returns what the server has of a session, by its id in hex.
    """

    folders: Sequence[tuple[Path, Sequence[bytes]]]
    issuer_jwks: Mapping[str, Any]
    papers: Callable[[str], SessionPapers]
    made_by: str


def write_pack(
    path: Path,
    question: PackQuestion,
    sources: PackSources,
    key: AuditKey,
    made_at_ms: int,
    max_bytes: int = MAX_BYTES,
) -> None:
    """Write a pack to a new file, signed with ``key``.

    Raises UsageError if the file exists or becomes longer than ``max_bytes``, StateUnusable if an audit
    folder can't be read, and what ``sources.papers`` raises.
    """
    with PackFile(path, max_bytes) as pack:
        pack.add("README.txt", [readme.text(question, made_at_ms, key.public_key)])
        pack.add("controls.json", [_json(controls.document())])
        audit = [[public.hex() for public in keys] for _, keys in sources.folders]
        pack.add("keys.json", [_json({"audit": audit, "issuer": sources.issuer_jwks})])
        facts = Facts(question)
        hosts = [
            _add_log(pack, number, scan(folder, question), facts)
            for number, (folder, _) in enumerate(sources.folders)
        ]
        named = sorted(question.sessions | facts.sessions.keys())
        if len(named) > MAX_SESSIONS:
            raise UsageError(
                f"--from, --to: {len(named)} sessions were at work then; a pack has {MAX_SESSIONS} at most"
            )
        sessions = _add_sessions(pack, named, facts, sources)
        manifest = {
            "format": FORMAT,
            "made_at_ms": made_at_ms,
            "made_by": sources.made_by,
            "question": {
                "kind": question.kind,
                "root": question.root,
                "sessions": sorted(question.sessions),
                "purpose": question.purpose,
                "since_ms": question.since_ms,
                "until_ms": question.until_ms,
                "show": question.show,
            },
            "hosts": hosts,
            "sessions": sessions,
            "members": [
                {"name": each.name, "bytes": each.size, "sha256": each.sha256} for each in pack.members
            ],
            "signing_key": key.public_key.hex(),
        }
        data = canonical(manifest)
        pack.add(MANIFEST, [data])
        pack.add(SIGNATURE, [key.sign(MANIFEST_LABEL + data).hex().encode() + b"\n"])
        pack.finish()


def _add_log(
    pack: PackFile, host: int, streams: Sequence[ScannedStream], facts: Facts
) -> dict[str, list[dict[str, Any]]]:
    """Write the streams of one host; return their extents for the manifest."""
    stated, left_out = [], []
    for stream in streams:
        name = stream.stream.hex()
        if not stream.files:
            left_out.append({"stream": name, "process": stream.process})
            continue
        lines = closed = 0
        for file in stream.files:
            member = f"log/{host:03}/{name}-{file.number:06}.jsonl"
            pack.add(member, _excerpt(member, file, facts))
            lines += len(file.shown)
            closed += file.shown.count(0)
        first = stream.files[0].first
        extent = {"first": first, "lines": lines, "closed": closed}
        stated.append({"stream": name, "process": stream.process, **extent})
    return {"streams": stated, "left_out": left_out}


def _excerpt(member: str, file: ScannedFile, facts: Facts) -> Iterator[bytes]:
    """Yield the lines of a file: those that are shown, and of others their chains."""
    pieces: list[bytes] = []
    count = 0
    for count, (line, shown) in enumerate(zip(file.lines(), file.shown, strict=False), start=1):
        pieces.append(line if shown else line[_CHAIN] + b"\n")
        if shown:
            record = record_of(line[:-1])
            if record is not None:
                facts.take(RecordPlace(member, count, record["n"]), record["kind"], record)
        if len(pieces) >= _CHUNK_LINES:
            yield b"".join(pieces)
            pieces.clear()
    if count < len(file.shown):
        raise StateUnusable(f"{file.path} was cut while it was read", "CORRUPT")
    yield b"".join(pieces)


def _add_sessions(
    pack: PackFile, sessions: Iterable[str], facts: Facts, sources: PackSources
) -> list[dict[str, Any]]:
    """Write receipts and reports; return the sessions for the manifest."""
    found = {session: sources.papers(session) for session in sessions}
    receipts = {session: papers.receipt for session, papers in found.items() if papers.receipt}
    reports = {session: papers.report for session, papers in found.items() if papers.report}
    stated = {
        session: {"session": session, "receipt": "", "report": "", **facts.of(session).counts()}
        for session in found
    }
    for number, (session, text) in enumerate(receipts.items()):
        stated[session]["receipt"] = name = f"receipts/{number:06}.txt"
        pack.add(name, [text.encode("ascii") + b"\n"])
    for number, (session, report) in enumerate(reports.items()):
        stated[session]["report"] = name = f"reports/{number:06}.json"
        pack.add(name, [_json({"session": session, **report})])
    return list(stated.values())


def _json(document: Any) -> bytes:
    """Return a document for people and programs: ASCII, so that no text steers a terminal."""
    return json.dumps(document, indent=1, sort_keys=True).encode("ascii") + b"\n"


def require_signing_key(path: Path) -> AuditKey:
    """Return the key that signs a pack.

    Raises UsageError if there is none, KeyFolderError if it is no key.
    """
    if not path.exists():
        raise UsageError(
            f"--signing-key: {path} is not here or can't be read; name a key that the auditor will know, "
            "made with 'openssl genpkey -algorithm ed25519'"
        )
    return AuditKey.load(path)
