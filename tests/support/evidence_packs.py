"""Small packs of evidence, made of a log of two sessions in two streams, and their parts to be changed."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sessauth.audit import layout
from sessauth.audit.layout import AuditKey, public_keys
from sessauth.audit.write.stream import AuditStream
from sessauth.clock import FixedClock
from sessauth.crypto.keys import public_jwk
from sessauth.evidence import question
from sessauth.evidence.pack import PackSources, SessionPapers, write_pack
from sessauth.evidence.reader import archive
from sessauth.evidence.reader.crypto import TrustedKeys, by_id
from sessauth.evidence.reader.manifest import PackQuestion, canonical
from sessauth.model.change import Change, end_session, narrow_session
from tests.support.audit_log import SESSION, START_MS, change, decision, open_stream
from tests.support.changes import opening, scopes
from tests.support.receipts import CLOSED, SERVICE

OTHER = bytes(range(50, 66))
CHILD = bytes(range(70, 86))
PURPOSE = 'ticket "4711"\n\x1b[2J'
END_MS = START_MS + 100_000
TEXT = "manifest.sig"


def write_log(folder: Path) -> None:
    """Write a log: two sessions and a child, their calls in two streams of several files, and an end."""
    clock = FixedClock(START_MS)
    control = open_stream(folder, clock, index=True, checkpoint_ms=100)
    worker = open_stream(folder, clock, process="worker-0", checkpoint_ms=100, rotate_bytes=4096)
    made = [
        change(0, opening("1", SESSION, "*:**", purpose=PURPOSE), 2),
        change(0, opening("2", OTHER, "*:**", purpose="other"), 3),
        change(0, opening("3", CHILD, "read:**", purpose="child", parent_id=SESSION), 4),
    ]
    _changes(control, made)
    for number in range(12):
        session = OTHER if number % 4 else SESSION
        calls = [decision(1000 * number + each, session=session.hex(), revision=4) for each in range(3)]
        worker.append(b"".join(layout.body("decision", record) for record in calls))
        _pass(clock, control, worker)
    late = decision(13_000, session=SESSION.hex(), revision=6, allowed=False, reason="SESSION_ENDED")
    claimed = decision(13_001, allowed=False, reason="BAD_SIGNATURE", claimed=SESSION.hex())
    del claimed["session"], claimed["blocks"]
    _changes(control, [_change(12_500, narrow_session("4", SESSION, scopes("read:**")), 5)])
    _changes(control, [_change(12_600, end_session("5", SESSION, "done"), 6)])
    worker.append(b"".join(layout.body("decision", record) for record in (late, claimed)))
    for _ in range(3):
        _pass(clock, control, worker)
    worker.close()
    _pass(clock, control, worker)
    _pass(clock, control, worker)
    control.close()


def _change(number: int, made: Change, revision: int) -> dict[str, Any]:
    return change(number, made, revision)


def _changes(stream: AuditStream, records: list[dict[str, Any]]) -> None:
    stream.append(b"".join(layout.body("change", record) for record in records))


def _pass(clock: FixedClock, *streams: AuditStream) -> None:
    clock.advance(1000)
    for stream in streams:
        stream.tick(clock.now_ms())


def sources(folder: Path) -> PackSources:
    """Return the sources of a pack: that folder, and what a server would say."""
    receipt = replace(
        CLOSED, session_id=SESSION, revision=6, ended_at_ms=START_MS + 12_600, made_at_ms=END_MS
    )
    receipt = replace(receipt, verifiers=(replace(CLOSED.verifiers[0], revision=6),))
    papers = {
        SESSION.hex(): SessionPapers(receipt.signed_by(SERVICE).text, {"usage": None}),
        OTHER.hex(): SessionPapers("", {"usage": None}),
    }
    keys = list(public_keys(folder / layout.PUBLIC_FILE).values())
    jwks = {"keys": [public_jwk(SERVICE.public_key)]}
    return PackSources([(folder, keys)], jwks, lambda session: papers.get(session, SessionPapers()), "test")


def session_question(
    folder: Path, show: str = "signed", since_ms: int = 0, until_ms: int = END_MS
) -> PackQuestion:
    """Return the question for the first session."""
    return question.of_session([folder], SESSION.hex(), since_ms, until_ms, show)


def make_pack(folder: Path, to: Path, wanted: PackQuestion, key: AuditKey | None = None) -> TrustedKeys:
    """Write a pack, signed by the key of its log unless another is given; return what to trust."""
    made = sources(folder)
    key = key or AuditKey.load(folder / layout.KEY_FILE)
    write_pack(to, wanted, made, key, END_MS)
    audit = [public for _, keys in made.folders for public in keys]
    return TrustedKeys(by_id(audit), by_id([SERVICE.public_key]), by_id([key.public_key]))


@dataclass(slots=True)
class PackParts:
    """The members of a pack, by name and in order."""

    members: list[tuple[str, bytes]] = field(default_factory=list)

    @classmethod
    def of(cls, data: bytes) -> PackParts:
        """Take a pack apart."""
        file = io.BytesIO(data)
        return cls([(member.name, archive.content(file, member, 1 << 30)) for member in archive.index(file)])

    def __getitem__(self, name: str) -> bytes:
        """Return the content of a member."""
        return dict(self.members)[name]

    def __setitem__(self, name: str, content: bytes) -> None:
        """Replace the content of a member."""
        self.members = [(each, content if each == name else old) for each, old in self.members]

    def copy(self) -> PackParts:
        """Return a copy."""
        return PackParts(list(self.members))

    def logs(self) -> list[str]:
        """Return the names of the log's members."""
        return [name for name, _ in self.members if name.startswith("log/")]

    def data(self) -> bytes:
        """Put the pack together."""
        pieces = [
            archive.header(name, len(content)) + content + bytes(archive.padding(len(content)))
            for name, content in self.members
        ]
        return b"".join(pieces) + bytes(2 * archive.BLOCK)

    def restated(self, **changed: Any) -> PackParts:
        """Return a copy whose manifest names the members as they are, with what is given in place."""
        document = {**json.loads(self["manifest.json"]), **changed}
        document["members"] = [
            {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in self.members
            if not name.startswith("manifest.")
        ]
        copy = self.copy()
        copy["manifest.json"] = canonical(document)
        return copy

    def signed(self, key: AuditKey) -> PackParts:
        """Return a copy that names its members as they are and is signed by a key."""
        copy = self.restated(signing_key=key.public_key.hex())
        message = b"sessauth/evidence-manifest/v1\x00" + copy["manifest.json"]
        copy["manifest.sig"] = key.sign(message).hex().encode() + b"\n"
        return copy
