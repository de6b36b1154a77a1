"""The container of a pack: a tar archive of one form only, so that no byte of it is free.

Each header is exactly the one that :func:`header` makes of name and size. Padding is zeros. Two empty blocks
are the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol

from .findings import damaged

BLOCK: Final = 512
MAX_MEMBER_BYTES: Final = (1 << 33) - 1
MAX_MEMBERS: Final = 200_000
# A line of the log is far shorter: texts of agents are cut when they are recorded.
MAX_LINE_BYTES: Final = 16 << 20
_CHUNK: Final = 1 << 20
_NAME: Final = re.compile(
    r"README\.txt|controls\.json|keys\.json|manifest\.json|manifest\.sig"
    r"|log/[0-9]{3}/[0-9a-f]{32}-[0-9]{6}\.jsonl|receipts/[0-9]{6}\.txt|reports/[0-9]{6}\.json",
    re.ASCII,
)


class Hash(Protocol):
    """A hash that is being computed."""

    def update(self, data: bytes, /) -> None:
        """Add bytes."""


@dataclass(frozen=True, slots=True)
class PackMember:
    """One file of the pack: its name, the offset of its content, and its size in bytes."""

    name: str
    offset: int
    size: int


def header(name: str, size: int) -> bytes:
    """Return the one header of a member (ustar): mode 0644, no owner, no time."""
    numbers = b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"00000000000\0"
    fields = name.encode("ascii").ljust(100, b"\0") + numbers + b" " * 8 + b"0" + bytes(100) + b"ustar\x0000"
    block = fields.ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padding(size: int) -> int:
    """Return the number of zeros after a content of ``size`` bytes."""
    return -size % BLOCK


def is_name(name: str) -> bool:
    """Return True if a pack may have a member of this name."""
    return _NAME.fullmatch(name) is not None


def index(file: BinaryIO) -> list[PackMember]:
    """Return the members of a pack. Raises UnreadablePack if it is no archive of the one form."""
    end = file.seek(0, 2)
    members: list[PackMember] = []
    at = 0
    while True:
        file.seek(at)
        block = file.read(BLOCK)
        if len(block) < BLOCK:
            raise damaged(f"the archive ends at byte {at}, without its end mark")
        if not any(block):
            break
        name, size = _fields(block)
        # int() reads a sign too.
        if size < 0 or not is_name(name) or block != header(name, size):
            raise damaged(f"the header at byte {at} is none of a pack")
        member = PackMember(name, at + BLOCK, size)
        at = member.offset + size + padding(size)
        file.seek(member.offset + size)
        if at > end or any(file.read(padding(size))):
            raise damaged(f"the archive is cut, or not empty, behind {name}")
        members.append(member)
        if len(members) > MAX_MEMBERS:
            raise damaged(f"the archive has more than {MAX_MEMBERS} members")
    file.seek(at)
    # One byte more than the end mark, if there is one.
    if file.read(2 * BLOCK + 1) != bytes(2 * BLOCK):
        raise damaged(f"the end mark at byte {at} is cut, or bytes follow it")
    return members


def content(file: BinaryIO, member: PackMember, limit: int) -> bytes:
    """Return the content of a small member. Raises UnreadablePack if it is longer than ``limit`` bytes."""
    if member.size > limit:
        raise damaged(f"more than {limit} bytes", member=member.name)
    file.seek(member.offset)
    return file.read(member.size)


def lines(file: BinaryIO, member: PackMember, hashed: Hash) -> Iterator[bytes]:
    """Yield the lines of a member without their line feeds, and add its bytes to ``hashed``.

    Raises UnreadablePack for a line that is too long, or has no end.
    """
    file.seek(member.offset)
    left, tail = member.size, b""
    while left:
        chunk = file.read(min(_CHUNK, left))
        if not chunk:
            raise damaged("the archive is shorter than it was", member=member.name)
        left -= len(chunk)
        hashed.update(chunk)
        parts = (tail + chunk).split(b"\n")
        tail = parts.pop()
        if len(tail) > MAX_LINE_BYTES:
            raise damaged(f"a line of more than {MAX_LINE_BYTES} bytes", member=member.name)
        yield from parts
    if tail:
        raise damaged("the last line has no end", member=member.name)


def _fields(block: bytes) -> tuple[str, int]:
    """Return name and size in a header; ("", 0) if they are none."""
    try:
        return block[:100].rstrip(b"\0").decode("ascii"), int(block[124:135], 8)
    except ValueError:
        return "", 0
