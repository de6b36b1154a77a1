"""The annotated token of the document is the one that its bytes say."""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.hexdump import hexdump
from tests.support.vector_files import load

DOCUMENT = Path(__file__).parents[2] / "docs" / "token-format.md"
_BEGIN, _END = "<!-- hexdump: a token -->\n", "<!-- end of hexdump -->\n"


def _written() -> str:
    """The document with the block written anew from the first vector of ``making.json``."""
    token = bytes.fromhex(load("making.json")["vectors"][0]["token_hex"])
    before, rest = DOCUMENT.read_text(encoding="utf-8").split(_BEGIN)
    return f"{before}{_BEGIN}```text\n{hexdump('Token', token)}```\n{rest[rest.index(_END) :]}"


def test_the_annotated_token_is_what_its_bytes_say() -> None:
    """Each offset, byte, field and length of the document's example is that of the token."""
    assert DOCUMENT.read_text(encoding="utf-8") == _written()


if __name__ == "__main__":
    DOCUMENT.write_text(_written(), encoding="utf-8")
