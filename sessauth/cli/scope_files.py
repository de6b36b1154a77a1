"""Files of scopes, one a line, and folders of them that name the ceiling of each purpose."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from ..errors import ScopeError, UsageError
from ..limits import MAX_SCOPES
from ..scopes.scope import Scope
from .io import read_text

SUFFIX: Final = ".scopes"
# A purpose that names a file: no separator, no leading dot, nothing that a shell or a system reads.
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,119}")


def read_scopes(source: str, option: str) -> list[str]:
    """Return the scopes in a file, or on stdin for ``-``; empty lines and those with ``#`` first are none.

    Raises:
        UsageError: if it can't be read, has no scope or too many, or a line is no scope; it names the line.
    """
    scopes = []
    for number, line in enumerate(read_text(source, option).splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            scopes.append(str(Scope.parse(text)))
        except ScopeError as error:
            raise UsageError(f"{option}: {source}, line {number}: {error}") from None
    if not scopes:
        raise UsageError(f"{option}: {source} holds no scope")
    if len(scopes) > MAX_SCOPES:
        raise UsageError(f"{option}: {source} holds more than {MAX_SCOPES} scopes")
    return scopes


def purpose_file(folder: Path, purpose: str, option: str) -> str:
    """Return the file of a purpose's ceiling in a folder: ``PURPOSE.scopes``.

    Raises:
        UsageError: if no purpose is given, or one that can't be a file's name.
    """
    if not _FILE_NAME.fullmatch(purpose) or purpose.endswith((".", " ")):
        raise UsageError(
            f"{option}: give a --purpose that can be a file's name: letters, digits, _ . - space"
        )
    return str(folder / f"{purpose}{SUFFIX}")
