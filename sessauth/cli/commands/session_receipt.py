"""``sessauth session receipt`` and ``verify-closed``: the proof that a session is over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ...model.receipt import MAX_TEXT_CHARS, ReceiptState, SignedReceipt, verify
from .. import lookup, params
from ..context import Settings, with_settings
from ..io import read_bytes, read_text, read_token, require_one_stdin, write_new
from ..output import printable
from ..params import Ref
from ..render import receipt as receipt_view


@click.command("receipt")
@params.session_argument
@click.option("--out", type=params.PATH, help="Also write the signed receipt to a new file, mode 0600.")
@with_settings
def receipt(settings: Settings, session_id: Ref, out: Path | None) -> None:
    """Have the server make the receipt of a session that ended.

    Exits with 1 unless it says CLOSED. Its statements are taken from the server; verify-closed checks a
    receipt against public keys.
    """
    with settings.client() as client:
        signed = client.get_receipt(lookup.session(client, session_id))
    content = signed.unverified
    if out is not None:
        write_new(out, signed.text)
    settings.show(
        receipt_view.to_json(signed, content),
        receipt_view.to_lines(content),
        ok=content.state is ReceiptState.CLOSED,
    )


@click.command("verify-closed")
@click.option("--receipt", "receipt_file", metavar="FILE|-", required=True, help="The signed receipt.")
@click.option(
    "--keys", "keys_file", metavar="FILE|-", required=True, help="The service's keys: output of keys jwks."
)
@click.option(
    "--session", "session_id", type=params.whole_session, default=b"", help="It must be of this one."
)
@click.option(
    "--token-file", "token_files", metavar="FILE|-", multiple=True, help="A token to hold against it."
)
@with_settings
def verify_closed(
    settings: Settings, receipt_file: str, keys_file: str, session_id: bytes, token_files: Sequence[str]
) -> None:
    """Say, without a server, whether a receipt proves that a session is over.

    Exits with 0 if a key of the service signed it, it says CLOSED, and each token given is of its session and
    refused by it; with 1 if not.
    """
    from ...verifier.receipt_check import CoverageKind, check_token_against

    require_one_stdin(
        (receipt_file, keys_file, *token_files),
        "--receipt, --keys, --token-file: only one can be read from stdin",
    )
    text = read_bytes(receipt_file, "receipt", MAX_TEXT_CHARS + 2).decode("ascii", "replace").strip()
    signed, keys = SignedReceipt.from_text(text), read_text(keys_file, "keys")
    content = verify(signed, keys, session_id=session_id)
    tokens = [(file, check_token_against(content, read_token(file), keys)) for file in token_files]
    refused = CoverageKind.REFUSED
    closed = content.state is ReceiptState.CLOSED and all(token.coverage is refused for _, token in tokens)
    document: dict[str, Any] = {
        "closed": closed,
        **receipt_view.to_json(signed, content),
        "tokens": [
            {
                "file": file,
                "coverage": token.coverage.value,
                "session_id": token.session_id.hex(),
                "reason": token.reason.name if token.reason else "",
            }
            for file, token in tokens
        ],
    }
    lines = ["VERIFIED: signed by a key of the service", *receipt_view.to_lines(content)]
    for file, token in tokens:
        why = f" ({token.reason.name} at revision {content.revision})" if token.coverage is refused else ""
        lines.append(f"token {printable(file)}: {token.coverage.value}{why}")
    settings.show(document, lines, ok=closed)
