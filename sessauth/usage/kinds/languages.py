"""Arguments whose values are programs: commands of a shell, code, queries of a database."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from ..argument_reader import ELEMENT, Path
from ..value_summary import ValueSummary

# Names of arguments that are run, in lower case without separators.
_NAMES: Final = re.compile(
    r"commands?(?:line)?|cmd(?:line)?|(?:shell|bash)(?:command)?|(?:source|python)?code|program|script|javascript"
    r"|expression|function|eval|sql(?:query)?|query|statements?"
)
# Arguments that are stored or shown: code in them is not run.
_STORED: Final = re.compile(
    r"contents?|filetext|(?:new|old)(?:string|text|str)|body|description|diff|patch|message|comment|text|title|notes?"
)
_SEPARATORS: Final = re.compile(r"[\s_.-]+")
# Words that begin a command, and hardly a sentence.
_PROGRAMS: Final = re.compile(
    r"apt|apt-get|awk|bash|bun|cargo|cd|chmod|chown|cmake|cp|curl|dd|df|docker|"
    r"du|exec|gcc|gh|git|grep|gunzip|gzip|helm|ifconfig|ip|jq|kubectl|ln|ls|"
    r"mkdir|mkfifo|mv|mysql|nc|ncat|netstat|nmap|node|npm|npx|nslookup|openssl|"
    r"perl|php|pip|pip3|pkill|pnpm|printenv|psql|pytest|python|python3|rm|rmdir|"
    r"rsync|ruff|scp|sed|sh|sqlite3|ssh|sudo|systemctl|tar|telnet|terraform|tr|"
    r"uname|unzip|uv|vim|wget|whoami|xargs|yarn|zsh"
)
# Programs whose names are words, too: an option, a path or a sign must follow.
_WORDS: Final = re.compile(
    r"cat|cut|date|deno|diff|dig|echo|env|eval|export|find|go|head|java|kill|"
    r"killall|less|make|mount|open|ping|poetry|powershell|ps|pwd|ruby|sleep|sort|"
    r"source|tail|tee|top|touch|uniq|wc|which|zip"
)
# What stands in a line of a shell and in no sentence.
_SHELL: Final = re.compile(r"&&|\|\||\$\(|`[^`]+`|\$\{?[A-Z_]{2,}|>\s*/|2>&1")
_NEXT: Final = re.compile(r"[|;]\s*([\w./-]+)")
_ARGUMENT: Final = re.compile(r"(?:^|\s)-{1,2}[A-Za-z]|[/~;|<>$*=]|\w\.\w")
_ASSIGNMENT: Final = re.compile(r"^(?:[A-Za-z_]\w*=\S*\s+)+")
_SQL: Final = re.compile(
    r"^\s*(?:select\b.*\b(?:from|\d)|insert\s+into\b|update\b.+\bset\b|delete\s+from\b|with\b.+\bas\s*\("
    r"|(?:create|drop|alter|truncate)\s+(?:table|view|index|database|schema|user|role)\b|grant\b.+\bon\b"
    r"|pragma\s+\w|merge\s+into\b)",
    re.I | re.S,
)
_CODE: Final = re.compile(
    r"^\s*(?:import\s+[\w.]+(?:\s+as\s+\w+|\s*,.*)?\s*(?:[#;].*)?$|import\s.*['\"]|from\s+[\w.]+\s+import\b"
    r"|def\s+\w+\(|print\(|(?:const|let|var)\s+\w+\s*=|function\s*\w*\(|async\s+(?:def|function|\()"
    r"|await\s+\w+[.(]|\(?[\w, ]*\)?\s*=>|document\.|window\.|console\.|require\(|#!/|return\s+\w+[.(])",
    re.M,
)
_MAX_CHARS: Final = 4096

# The action of tools that a catalogue pins as reading: what they run changes nothing.
READ: Final = "read"
PROGRAM: Final = "a program or a query"
"""The words for such a value in a report."""


def is_language(path: Path, summaries: Iterable[ValueSummary]) -> bool:
    """Return True if the texts of an argument are programs, by its name or by half of them."""
    name = _SEPARATORS.sub("", next((part for part in reversed(path) if part != ELEMENT), "")).lower()
    if _STORED.fullmatch(name):
        return False
    texts = {text for summary in summaries for text in _texts(summary)}
    return bool(texts) and (
        _NAMES.fullmatch(name) is not None or 2 * sum(map(is_program, texts)) >= len(texts)
    )


def _texts(summary: ValueSummary) -> set[str]:
    """Return the texts that are known; else what all of them begin with."""
    known = (*(summary.values or ()), *(summary.elements or ()))
    return {value for value in known if isinstance(value, str)} or (
        set() if summary.prefix is None else {summary.prefix}
    )


@lru_cache(4096)
def is_program(text: str) -> bool:
    """Return True if a text looks like a command, a query of a database or code, and like no sentence."""
    text = text[:_MAX_CHARS]
    command = _ASSIGNMENT.sub("", text.strip())
    first, space, rest = command.partition(" ")
    word = first.rpartition("/")[2]
    if space and (_PROGRAMS.fullmatch(word) or (_WORDS.fullmatch(word) and _ARGUMENT.search(rest))):
        return True
    if space and (_SHELL.search(command) or any(map(_PROGRAMS.fullmatch, _NEXT.findall(command)))):
        return True
    return bool(_SQL.search(text) or _CODE.search(text))
