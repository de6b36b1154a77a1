"""Makes an evidence pack: the log's excerpt, receipts, reports, keys and controls, signed as a whole.

An evidence pack is one file that shows an auditor the acts of some sessions. The auditor needs no access to
the service, only public keys from elsewhere (docs/evidence.md).

Parts:

- ``question.py``: the sessions and the time that a pack is about, as the auditor states them.
- ``pack.py``: the lines of audit folders that a question shows, the members of a pack in order, the map of
  controls, the text for the person who opens it, and the container.
- ``reader/``: verifies packs. It is an independent reading by the documents alone, and imports nothing else
  of the package.

Order of events:

1. The container is created as a new file with mode 0600.
2. Fixed members come first: ``README.txt``, ``controls.json``, and ``keys.json`` with the public keys.
3. The log of each host follows, file by file. A line that the question shows is written whole; any other line
   is reduced to its chain, so that the excerpt still links without disclosing it.
4. The lines that are shown name further sessions. Receipts and reports of all named sessions are added.
5. The manifest has the question, the extent of each stream and the digest of every member. The audit key
   signs it, and the file is synced.

What must never happen: an existing file is replaced; a line that the question does not show is disclosed; a
pack that could not be written in full is left behind; the pack and its manifest disagree.

Read next: ``reader/verify.py``, which states the order in which a pack is verified.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from ..audit import layout
from ..audit.layout import AuditKey
from ..audit.write.stream import StreamHead, last_line
from ..clock import utc_text
from ..errors import StateUnusable, UsageError
from .question import MAX_SESSIONS
from .reader import archive as form
from .reader.crypto import MANIFEST_LABEL
from .reader.facts import Facts
from .reader.manifest import FORMAT, MANIFEST, SIGNATURE, MemberDigest, PackQuestion, canonical
from .reader.stream import SLACK_MS, RecordPlace, record_of

# Quotes inside a JSON text are escaped, so the later patterns match none.
_LINE: Final = re.compile(rb'\{"n":([0-9]{1,16}),"kind":"([a-z_]{1,32})"(?:,"at_ms":([0-9]{1,16}))?')
_SESSION: Final = re.compile(rb'"(?:session|claimed)":"([0-9a-f]{32})"')
_BLOCKS: Final = re.compile(rb'"blocks":\[("[0-9a-f",]*")\]')
_CHAIN_ID: Final = re.compile(rb'\{"id":("[0-9a-f]{64}")')
_TAIL_BYTES: Final = layout.TAIL_BYTES + 1
_ANCHOR: Final = re.compile(rb'"stream":"([0-9a-f]{32})".*?"count":([0-9]{1,16})')
_CHAINED: Final = re.compile(rb',"chain":"[0-9a-f]{64}"\}\n')
# Lines of no question, those that are always shown, those that end a segment too, and those of the question.
_OTHER, _ALWAYS, _SIGNED, _MATCH = range(4)
_SORTS: Final = {b"begin": _ALWAYS, b"end": _ALWAYS, b"stream": _ALWAYS, b"checkpoint": _SIGNED}
# Streams that grow while they are read are read again.
_ROUNDS: Final = 20


@dataclass(slots=True)
class ScannedFile:
    """One file, up to ``size`` bytes. ``shown`` has a 1 for each line that the pack shows, else a 0."""

    number: int
    path: Path
    size: int
    first: int = 0
    shown: bytearray = field(default_factory=bytearray)
    # Ids of a token's blocks by the line of their chain.
    chains: dict[int, bytes] = field(default_factory=dict)
    _sorts: bytearray = field(default_factory=bytearray)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines with their line feeds. Raises StateUnusable if the file can't be read."""
        try:
            with self.path.open("rb") as file:
                left = self.size
                for line in file:
                    left -= len(line)
                    if left < 0:
                        return
                    yield line
        except OSError as error:
            raise StateUnusable(f"can't read {self.path}: {error.strerror}", "WRONG_MODE") from None


@dataclass(slots=True)
class ScannedStream:
    """The files of one stream that a pack has, in order; none: it was left out."""

    stream: bytes
    process: str
    files: list[ScannedFile] = field(default_factory=list)
    count: int = 0
    # The last line that was read ends a file, and another file follows it.
    goes_on: bool = False
    # The extents of other streams that it names.
    anchors: dict[str, int] = field(default_factory=dict)


def scan(folder: Path, question: PackQuestion) -> list[ScannedStream]:
    """Return all streams of a folder, those of another time without files. Raises StateUnusable."""
    scanned: dict[str, ScannedStream] = {}
    try:
        for _ in range(_ROUNDS):
            found = {stream.hex(): (stream, files) for stream, files in layout.files(folder).items()}
            due = [name for name in found if _is_short(name, scanned)]
            if not due:
                break
            for name in due:
                scanned[name] = _scan_stream(folder, *found[name], question)
    except OSError as error:
        message = f"can't read the audit folder {folder}: {error.strerror}"
        raise StateUnusable(message, "WRONG_MODE") from None
    return [scanned[name] for name in sorted(scanned)]


def _is_short(name: str, scanned: Mapping[str, ScannedStream]) -> bool:
    """Return True if a stream was not read, or another one that was read later names more lines of it."""
    stream = scanned.get(name)
    if stream is None:
        return True
    named = max((each.anchors.get(name, 0) for each in scanned.values()), default=0)
    return bool(stream.files) and (stream.goes_on or stream.count < named)


def _scan_stream(
    folder: Path, stream: bytes, files: Mapping[int, Path], question: PackQuestion
) -> ScannedStream:
    begins = {number: _begin(path) for number, path in files.items()}
    process = str(begins[min(begins)][1])
    result = ScannedStream(stream, process)
    first, last = min(files), max(files)
    head = last_line(last, files[last])
    if begins[first][0] >= question.until_ms + SLACK_MS or _latest(head) < question.since_ms - SLACK_MS:
        return result
    # A file without a begin, which a killed process leaves, has no time and stands for none before it.
    started = [number for number in files if 0 < begins[number][0] <= question.since_ms - SLACK_MS]
    chosen = [
        number
        for number in sorted(files)
        if number >= max(started, default=first) and begins[number][0] < question.until_ms + SLACK_MS
    ]
    tokens: set[bytes] = set()
    # Files after the time of the question are left out.
    left_out = chosen[-1] != last
    while chosen:
        for number in chosen:
            path = files[number]
            file = ScannedFile(number, path, os.stat(path).st_size)
            _read_lines(file, question, tokens, result)
            result.files.append(file)
        if left_out or not result.goes_on:
            break
        # Its process went on in the meantime: the new lines are fewer than another round would read.
        files = {
            number: path
            for number, path in layout.files(folder).get(stream, {}).items()
            if number > chosen[-1]
        }
        chosen = [
            number for number in sorted(files) if _begin(files[number])[0] < question.until_ms + SLACK_MS
        ]
        left_out = len(chosen) < len(files)
    result.goes_on = result.goes_on and not left_out
    for file in result.files:
        for line, blocks in file.chains.items():
            if blocks in tokens:
                file._sorts[line] = _MATCH
        _choose(file, question.show)
    return result


def _read_lines(file: ScannedFile, question: PackQuestion, tokens: set[bytes], stream: ScannedStream) -> None:
    """Note the kinds of a file's lines, and those that are asked for."""
    whole = 0
    for number, line in enumerate(file.lines()):
        if not line.endswith(b"\n"):
            # A killed process may leave half a line, and a running one writes it now.
            break
        whole += len(line)
        match = _LINE.match(line)
        kind = match[2] if match else b""
        # A line that is no record is shown, so that the reader finds it.
        is_record = match is not None and _CHAINED.match(line, len(line) - _TAIL_BYTES) is not None
        file._sorts.append(_SORTS.get(kind, _OTHER) if is_record else _ALWAYS)
        if match is None:
            continue
        if not number:
            file.first = int(match[1])
        if kind != b"checkpoint":
            stream.goes_on = kind == b"end" and b'"next":-1' not in line
        stream.count = int(match[1]) + 1
        if kind == b"stream":
            anchor = _ANCHOR.search(line)
            if anchor:
                named = stream.anchors.get(anchor[1].decode(), 0)
                stream.anchors[anchor[1].decode()] = max(named, int(anchor[2]))
        elif kind == b"chain":
            file.chains[number] = b",".join(_CHAIN_ID.findall(line))
        elif kind == b"expired":
            # It explains the missing files, so it must be proven.
            file._sorts[number] = _MATCH
        elif kind not in _SORTS and _is_match(kind, line, int(match[3] or 0), question):
            file._sorts[number] = _MATCH
            blocks = _BLOCKS.search(line) if kind == b"decision" else None
            if blocks:
                tokens.add(blocks[1])
    file.size = whole


def _is_match(kind: bytes, line: bytes, at_ms: int, question: PackQuestion) -> bool:
    if kind in (b"decision", b"change"):
        found = _SESSION.search(line)
        if found:
            return question.asks(found[1].decode(), at_ms)
        if kind == b"decision" and question.kind != "time":
            return False
    # A record of no session concerns all of them: keys, credentials, the brake, lost records.
    return question.since_ms <= at_ms < question.until_ms


def _choose(file: ScannedFile, show: str) -> None:
    """Fill in ``shown``. A segment ends with a checkpoint, which signs all lines before it."""
    start, sorts = 0, file._sorts
    for number, sort in enumerate(sorts):
        if sort == _SIGNED or number == len(sorts) - 1:
            segment = sorts[start : number + 1]
            if show == "all" or (show == "signed" and _MATCH in segment):
                file.shown += b"\1" * len(segment)
            else:
                file.shown += bytes(sort != _OTHER for sort in segment)
            start = number + 1


def _begin(path: Path) -> tuple[int, object]:
    """Return time and process in the begin of a file; 0 and "" if it has none."""
    with path.open("rb") as file:
        record = layout.parse(file.readline(65_536)) or {}
    at_ms = record.get("at_ms")
    return (at_ms if isinstance(at_ms, int) else 0), record.get("process", "")


def _latest(head: StreamHead | None) -> int:
    """Return the time of the last line of a stream; a time far ahead if it has none."""
    match = _LINE.match(head.line) if head is not None else None
    return int(match[3]) if match and match[3] else 1 << 62


def control_map() -> dict[str, Any]:
    """Return the map for a pack: ``lists`` with title, source and rows."""
    text = resources.files(__package__).joinpath("controls.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


_TEXT: Final = """\
Evidence of sessions, made by sessauth
======================================

Question   {question}
Made       {made}
Signed by  {key} (Ed25519)

Verify it first, with keys that you did not get with this file:

    sessauth evidence verify PACK --key audit.pub --key keys.json

The command needs no server and no network. Whoever made the pack made this text, too: nothing here is
proven unless that command says so.

Files
-----
manifest.json  the question, and name, size and SHA-256 of every other file
manifest.sig   the signature of manifest.json
keys.json      public keys of the logs ("audit", one list for each host) and of the service ("issuer")
log/           the audit log of each host, 000 onwards. A line is either a record as it was written, or
               the hash of one that the question does not ask for: 64 hex digits
receipts/      signed statements that a session is over, and which verifiers know it
reports/       what each session was granted, and what it used of it
controls.json  public lists of controls, and the tests of sessauth that hold each

What the log can show
---------------------
Each record carries a hash over itself and the record before. So no record can be changed, removed, moved
or added without another hash at the next signature of the log, and these signatures were made when the
records were written. {closed}
Neither tokens nor arguments of calls are in it: of arguments there is a digest under a key that is not here.

What no pack can show: calls that asked no verifier, and records that were never written. The log states
how many were lost, and what share of allowed calls was recorded.
"""
_CLOSED: Final = {
    "all": "Every record of its time is here.",
    "signed": """\
Where the question does not ask for
the records up to such a signature, only their hashes are here: that none of them is of the question
is the word of the signer. Each can be shown later, and compared with its hash.""",
    "matching": """\
Of all records but those that the
question asks for only the hashes are here: that the records shown are those of the log, and that none
is left out, is the word of the signer. Each can be shown later, and compared with its hash.""",
}


def readme_text(question: PackQuestion, made_at_ms: int, public_key: bytes) -> bytes:
    """Return README.txt. It has no text that an agent wrote."""
    shown = _TEXT.format(
        question=_question(question),
        made=utc_text(made_at_ms),
        key=public_key.hex(),
        closed=_CLOSED[question.show],
    )
    return shown.encode("ascii")


def _question(question: PackQuestion) -> str:
    span = f"from {utc_text(question.since_ms)} until {utc_text(question.until_ms)}"
    if question.kind == "time":
        return f"everything, {span}"
    if question.kind == "purpose":
        return f"{len(question.sessions)} sessions of one purpose (manifest.json has its text), {span}"
    below = len(question.sessions) - 1
    return f"session {question.root}{f' and {below} that descend from it' if below else ''}, {span}"


MODE: Final = 0o600


class PackFile:
    """A new file of mode 0600, as a context manager; it is removed if writing fails."""

    def __init__(self, path: Path, max_bytes: int, on_progress: Callable[[int], None] | None = None) -> None:
        """Create it. Raises UsageError if it exists or can't be created."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._file = os.fdopen(os.open(path, flags, MODE), "w+b")
        except OSError as error:
            raise UsageError(f"--out: can't create {path}: {error.strerror}") from None
        self._path = path
        self._max_bytes = max_bytes
        self._on_progress = on_progress
        self._done = False
        self.members: list[MemberDigest] = []

    def add(self, name: str, pieces: Iterable[bytes]) -> None:
        """Write one member. Raises UsageError if the pack becomes too long, or can't be written."""
        try:
            self._add(name, pieces)
        except OSError as error:
            raise UsageError(f"--out: can't write {self._path}: {error.strerror}") from None

    def _add(self, name: str, pieces: Iterable[bytes]) -> None:
        at = self._file.tell()
        self._file.write(form.header(name, 0))
        hashed, size = hashlib.sha256(), 0
        for piece in pieces:
            size += len(piece)
            if at + size > self._max_bytes or size > form.MAX_MEMBER_BYTES:
                raise UsageError(
                    f"--max-bytes: the pack is longer than {self._max_bytes} bytes; ask less, or permit more"
                )
            hashed.update(piece)
            self._file.write(piece)
        self._file.write(bytes(form.padding(size)))
        end = self._file.tell()
        # The size is known only now.
        self._file.seek(at)
        self._file.write(form.header(name, size))
        self._file.seek(end)
        self.members.append(MemberDigest(name, size, hashed.hexdigest()))
        if self._on_progress is not None:
            self._on_progress(len(self.members))

    def finish(self) -> None:
        """Write the end mark and wait for the disk."""
        try:
            self._file.write(bytes(2 * form.BLOCK))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise UsageError(f"--out: can't write {self._path}: {error.strerror}") from None
        self._done = True

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; remove it unless it is finished."""
        with contextlib.suppress(OSError):
            # A close tries to write the rest again.
            self._file.close()
        if not self._done:
            with contextlib.suppress(OSError):
                self._path.unlink()


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
    ``papers`` returns the server's receipt and report of a session, by its id in hex.
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
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Write a pack to a new file, signed with ``key``.

    ``on_progress`` is called after each member with the number of those that were written. Raises UsageError
    if the file exists or becomes longer than ``max_bytes``, StateUnusable if an audit folder can't be read,
    and what ``sources.papers`` raises.
    """
    with PackFile(path, max_bytes, on_progress) as pack:
        pack.add("README.txt", [readme_text(question, made_at_ms, key.public_key)])
        pack.add("controls.json", [_json(control_map())])
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
