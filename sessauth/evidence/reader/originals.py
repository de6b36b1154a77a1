"""Compares a pack with a copy of the audit log: what it closes, and what it leaves out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from hashlib import blake2b, sha256
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO, Final

from . import archive
from .archive import PackMember
from .crypto import CHAIN_LABEL
from .facts import opens_unnamed
from .findings import EvidenceFault, EvidenceFinding
from .manifest import PackQuestion
from .stream import ALWAYS_SHOWN, Record, is_match, record_of

_NAME: Final = re.compile(r"[0-9a-f]{32}-[0-9]{6}\.jsonl", re.ASCII)
_TAIL: Final = 76


def compare(
    file: BinaryIO, members: Sequence[PackMember], question: PackQuestion, folders: Sequence[Path]
) -> Iterator[EvidenceFinding]:
    """Yield a finding for each difference between the pack and the audit folders, and below them.

    The folders may have more than the pack: other times, and later lines. Raises OSError if one can't be
    read.
    """
    found = {
        path.name: path
        for folder in folders
        for path in folder.rglob("*.jsonl")
        if _NAME.fullmatch(path.name)
    }
    in_pack = {member.name.rpartition("/")[2]: member for member in members if member.name.startswith("log/")}
    chains = _TokenChains()
    for name, member in in_pack.items():
        path = found.pop(name, None)
        if path is None:
            words = "the audit folders that were given do not have this file"
            yield EvidenceFinding(EvidenceFault.MISSING_FILE, member.name, 0, -1, words)
        else:
            yield from _compare_file(file, member, question, path, chains)
    yield from chains.hidden()
    for path in found.values():
        with path.open("rb") as original:
            for number, line in enumerate(original, start=1):
                record = record_of(line[:-1])
                if record is not None and _is_due(question, record):
                    words = f"a record of the question is in a file that is not in the pack: {path}"
                    yield EvidenceFinding(EvidenceFault.HIDDEN, "", number, record["n"], words)
                    break


class _TokenChains:
    """Records of tokens' blocks that a pack does not show, and the tokens of the question's calls."""

    def __init__(self) -> None:
        self._closed: dict[tuple[str, str], EvidenceFinding] = {}
        self._used: set[tuple[str, str]] = set()

    def take(self, member: str, number: int, record: Record, *, shown: bool, due: bool) -> None:
        """Take a record of the log."""
        stream = member.rpartition("-")[0]
        blocks = record.get("blocks")
        if not isinstance(blocks, list) or not blocks:
            return
        if record["kind"] == "chain" and not shown:
            ids = [str(block.get("id")) for block in blocks if isinstance(block, dict)]
            words = "the pack does not show the blocks of a token that calls of the question were made with"
            place = EvidenceFinding(EvidenceFault.HIDDEN, member, number, record["n"], words)
            self._closed[stream, ",".join(ids)] = place
        elif record["kind"] == "decision" and due:
            self._used.add((stream, ",".join(map(str, blocks))))

    def hidden(self) -> Iterator[EvidenceFinding]:
        """Yield a finding for each such record of a token of the question."""
        yield from (finding for of, finding in self._closed.items() if of in self._used)


def _compare_file(
    file: BinaryIO, member: PackMember, question: PackQuestion, path: Path, chains: _TokenChains
) -> Iterator[EvidenceFinding]:
    with path.open("rb") as original:
        before = b""
        pairs = zip_longest(archive.lines(file, member, sha256()), original)
        for number, (packed, line) in enumerate(pairs, start=1):
            raw = b"" if line is None else line.removesuffix(b"\n")
            record = record_of(raw)
            due = record is not None and _is_due(question, record)
            if packed is None:
                # Lines that were written later are of a later time.
                if record is not None and due:
                    words = f"{path} goes on with a record of the question: this was cut, or made too early"
                    yield EvidenceFinding(EvidenceFault.HIDDEN, member.name, number, record["n"], words)
                    return
                continue
            shown = packed[:1] == b"{"
            n = -1 if record is None else record["n"]
            if record is None or packed != (raw if shown else _chain(raw, before)):
                words = (
                    f"the line is another one in {path}"
                    if line is not None
                    else f"{path} ends before this line"
                )
                yield EvidenceFinding(EvidenceFault.CHANGED, member.name, number, n, words)
                return
            if not shown and (due or record["kind"] in ALWAYS_SHOWN):
                words = "the pack does not show this record, which is of the question"
                yield EvidenceFinding(EvidenceFault.HIDDEN, member.name, number, n, words)
            chains.take(member.name, number, record, shown=shown, due=due)
            before = raw[-66:-2]


def _is_due(question: PackQuestion, record: Record) -> bool:
    kind = record["kind"]
    return is_match(question, kind, record) or opens_unnamed(question, kind, record)


def _chain(raw: bytes, before: bytes) -> bytes:
    """Return the chain of a line, computed behind the chain of the line before it; both in hex."""
    head = CHAIN_LABEL + bytes.fromhex(before.decode("ascii"))
    return blake2b(head + raw[:-_TAIL], digest_size=32).hexdigest().encode()
