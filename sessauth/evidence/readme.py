"""The text in a pack for the person who opens it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from .reader.manifest import PackQuestion

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


def text(question: PackQuestion, made_at_ms: int, public_key: bytes) -> bytes:
    """Return README.txt. It has no text that an agent wrote."""
    shown = _TEXT.format(
        question=_question(question),
        made=_moment(made_at_ms),
        key=public_key.hex(),
        closed=_CLOSED[question.show],
    )
    return shown.encode("ascii")


def _question(question: PackQuestion) -> str:
    span = f"from {_moment(question.since_ms)} until {_moment(question.until_ms)}"
    if question.kind == "time":
        return f"everything, {span}"
    if question.kind == "purpose":
        return f"{len(question.sessions)} sessions of one purpose (manifest.json has its text), {span}"
    below = len(question.sessions) - 1
    return f"session {question.root}{f' and {below} that descend from it' if below else ''}, {span}"


def _moment(at_ms: int) -> str:
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms"
