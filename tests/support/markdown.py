"""Reads the parts of Markdown that the document tests judge: headings, links, fenced blocks, code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n+)?^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.M | re.S
)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_PICTURE = re.compile(r"!\[[^\]]+\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^(#{1,6}) (.+)$", re.M)
_CODE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True, slots=True)
class Fence:
    """One fenced block: the text between its fences, and the comment right above it."""

    language: str
    body: str
    mark: str
    # The number of the line that opens it.
    line: int
    # True if only empty lines stand between it and the block before.
    follows: bool


@dataclass(frozen=True, slots=True)
class Document:
    """One Markdown file."""

    path: Path

    @property
    def text(self) -> str:
        """The whole text."""
        return self.path.read_text(encoding="utf-8")

    @property
    def prose(self) -> str:
        """The text without fenced blocks."""
        return _FENCE.sub("", self.text)

    def blocks(self, language: str) -> list[str]:
        """Return the fenced blocks of ``language`` ("" for those without one)."""
        return [fence.body for fence in self.fences() if fence.language == language]

    def fences(self) -> list[Fence]:
        """Return all fenced blocks, in order."""
        text, end, found = self.text, 0, []
        for match in _FENCE.finditer(text):
            found.append(
                Fence(
                    match["language"],
                    match["body"],
                    match["mark"] or "",
                    text.count("\n", 0, match.start("language")) + 1,
                    bool(found) and not text[end : match.start()].strip(),
                )
            )
            end = match.end()
        return found

    def headings(self, level: int) -> list[str]:
        """Return the headings of one level, in order."""
        return [title for marks, title in _HEADING.findall(self.prose) if len(marks) == level]

    def sections(self, level: int) -> dict[str, str]:
        """Return the text below each heading of ``level``, up to the next of the same or a higher one."""
        parts = re.split(rf"^#{{1,{level}}} (.+)$", self.prose, flags=re.M)
        titles = set(self.headings(level))
        return {title: body for title, body in zip(parts[1::2], parts[2::2], strict=True) if title in titles}

    def anchors(self) -> set[str]:
        """Return the anchors that a git host makes of the headings."""
        return {anchor(title) for _, title in _HEADING.findall(self.prose)}

    def links(self) -> list[str]:
        """Return the targets of all links outside of fenced blocks and code."""
        return _LINK.findall(_CODE.sub("", self.prose))

    def pictures(self) -> list[str]:
        """Return the targets of all pictures."""
        return _PICTURE.findall(self.prose)

    def inline_code(self) -> list[str]:
        """Return what stands in backticks outside of fenced blocks."""
        return _CODE.findall(self.prose)


def anchor(title: str) -> str:
    """Return a heading's anchor: lower case, no punctuation but ``-`` and ``_``, spaces to ``-``."""
    kept = re.sub(r"[^\w\- ]", "", title.lower())
    return kept.replace(" ", "-")
