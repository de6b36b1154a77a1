"""The manifest of a pack: the question, the streams left out, and each member with its digest; signed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from . import archive
from .archive import PackMember
from .crypto import MANIFEST_LABEL, TrustedKeys, digest, verify
from .findings import EvidenceFault, EvidenceFinding, damaged

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.sig"
SHOWS: Final = ("matching", "signed", "all")
KINDS: Final = ("session", "purpose", "time")
MAX_SESSIONS: Final = 10_000
MAX_HOSTS: Final = 1_000
# Bounds that fit the largest pack: 200,000 members, each with a stream of its own.
_MAX_BYTES: Final = 64 << 20
_MAX_VALUES: Final = 4_000_000
_SIGNATURE_BYTES: Final = 129
_HEX: Final = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)


@dataclass(frozen=True, slots=True)
class PackQuestion:
    """The question of a pack: sessions by their ids in hex, and a span of time in ms since 1970.

    ``kind`` is session, purpose or time. ``root`` is the session of the question, the others descend from
    it; "" of other kinds. No sessions: all of them. ``until_ms`` is exclusive. ``show`` is
    matching (no other lines are shown), signed (those up to the next signature are shown too) or all.
    """

    kind: str
    root: str
    sessions: frozenset[str]
    purpose: str
    since_ms: int
    until_ms: int
    show: str

    def asks(self, session: str, at_ms: int) -> bool:
        """Return True if a record of a session at a time is of the question."""
        if not self.since_ms <= at_ms < self.until_ms:
            return False
        return self.kind == "time" or session in self.sessions


@dataclass(frozen=True, slots=True)
class MemberDigest:
    """Name, size in bytes and SHA-256 of a member, in hex."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PackManifest:
    """A manifest. ``sessions`` and ``hosts`` are unchecked: their readers check them."""

    made_at_ms: int
    question: PackQuestion
    members: tuple[MemberDigest, ...]
    hosts: Sequence[Mapping[str, Any]]
    sessions: Sequence[Mapping[str, Any]]
    signing_key: bytes


def canonical(document: Any) -> bytes:
    """Return the one encoding of a manifest: sorted keys, no spaces, ASCII, a line feed."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii") + b"\n"


def read(
    file: BinaryIO, members: Sequence[PackMember], trusted: TrustedKeys
) -> tuple[PackManifest, list[EvidenceFinding]]:
    """Return the manifest and findings about its signature. Raises UnreadablePack if there is none."""
    if [member.name for member in members[-2:]] != [MANIFEST, SIGNATURE]:
        raise damaged("the archive does not end with a manifest and its signature")
    data = archive.content(file, members[-2], _MAX_BYTES)
    signature = archive.content(file, members[-1], _SIGNATURE_BYTES)
    manifest = _parse(data)
    findings = [
        EvidenceFinding(kind, SIGNATURE, 0, -1, words)
        for kind, words in _signature_faults(data, signature, manifest.signing_key, trusted)
    ]
    return manifest, findings


def _signature_faults(
    data: bytes, text: bytes, key: bytes, trusted: TrustedKeys
) -> list[tuple[EvidenceFault, str]]:
    found: list[tuple[EvidenceFault, str]] = []
    if not trusted.audit:
        words = "no key of the log was given: whoever made the pack may have made its keys, too; give --key"
        found.append((EvidenceFault.NO_KEY, words))
    elif digest(key) not in {*trusted.audit, *trusted.signers}:
        words = f"the pack is signed by {key.hex()}, which is none of the keys that were given"
        found.append((EvidenceFault.UNTRUSTED_KEY, words))
    signature = bytes.fromhex(text[:-1].decode("ascii")) if re.fullmatch(rb"[0-9a-f]{128}\n", text) else b""
    if not verify(key, MANIFEST_LABEL + data, signature):
        words = "the signature of the manifest is wrong: it was altered, or signed by another key"
        found.append((EvidenceFault.BAD_SIGNATURE, words))
    return found


def _parse(data: bytes) -> PackManifest:
    try:
        # Each value needs far more memory than its bytes.
        if sum(map(data.count, (b",", b"[", b"{"))) > _MAX_VALUES:
            raise ValueError(f"it has more than {_MAX_VALUES} values")
        document = json.loads(data)
        if canonical(document) != data:
            raise ValueError("it is not in its one form")
        if type(document["format"]) is not int or document["format"] != FORMAT:
            raise ValueError(f"format {document['format']!r}; this version reads {FORMAT}")
        return _manifest(document)
    except KeyError as error:
        raise damaged(f"it lacks {error}", EvidenceFault.BAD_MANIFEST, MANIFEST) from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(f"{error}", EvidenceFault.BAD_MANIFEST, MANIFEST) from None


def _manifest(document: Mapping[str, Any]) -> PackManifest:
    entry = document["question"]
    question = PackQuestion(
        _one_of(entry["kind"], KINDS),
        _typed(entry["root"], str),
        frozenset(_hex(each, 16) for each in entry["sessions"]),
        _typed(entry["purpose"], str),
        _number(entry["since_ms"]),
        _number(entry["until_ms"]),
        _one_of(entry["show"], SHOWS),
    )
    if question.kind == "session" and question.root not in question.sessions:
        raise ValueError("its question does not name its own session")
    made_at_ms = _number(document["made_at_ms"])
    if not question.since_ms < question.until_ms <= made_at_ms:
        raise ValueError("its question is of a time that is none, or goes on behind its making")
    if (
        len(document["hosts"]) > MAX_HOSTS
        or max(len(document["sessions"]), len(entry["sessions"])) > MAX_SESSIONS
    ):
        raise ValueError(f"it has more than {MAX_HOSTS} hosts, or {MAX_SESSIONS} sessions")
    members = tuple(
        MemberDigest(_typed(each["name"], str), _number(each["bytes"]), _hex(each["sha256"], 32))
        for each in document["members"]
    )
    return PackManifest(
        made_at_ms,
        question,
        members,
        [_typed(each, dict) for each in document["hosts"]],
        [_typed(each, dict) for each in document["sessions"]],
        bytes.fromhex(_hex(document["signing_key"], 32)),
    )


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{value!r} is no {kind.__name__}")
    return value


def _number(value: Any) -> int:
    number: int = _typed(value, int)
    if not 0 <= number < 1 << 63:
        raise ValueError(f"{number} is out of range")
    return number


def _hex(value: Any, size: int) -> str:
    text: str = _typed(value, str)
    if len(text) != 2 * size or not _HEX.fullmatch(text):
        raise ValueError(f"{text!r} is not {2 * size} hex digits")
    return text


def _one_of(value: Any, words: Sequence[str]) -> str:
    if value not in words:
        raise ValueError(f"{value!r} is none of {', '.join(words)}")
    return str(value)
