"""Signed approvals in and out of the command line: by file or stdin."""

from __future__ import annotations

from pathlib import Path

from ..crypto.armor import APPROVAL_PREFIX
from ..errors import InvalidApproval, UsageError
from ..model.approval import SignedApproval
from .io import read_text, write_new


def read_approval(source: str) -> SignedApproval:
    """Return the signed approval in a file, or on stdin for ``-``.

    Raises UsageError for one given as the argument itself and for anything that is not one. No message
    repeats what was read.
    """
    if source.startswith(APPROVAL_PREFIX):
        raise UsageError("--approval: give a file that holds it, or - for stdin")
    try:
        return SignedApproval.from_text(read_text(source, "--approval"))
    except InvalidApproval as error:
        raise UsageError(f"--approval: {source}: {error}") from None


def write_approval(path: Path, signed: SignedApproval) -> None:
    """Write a signed approval to a new file with mode 0600. Raises UsageError if it exists."""
    write_new(path, signed.text)
