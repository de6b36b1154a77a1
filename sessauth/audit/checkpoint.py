"""Checkpoints: the signed lines of a stream. One covers every line before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .._fast import _check as kernel
from . import layout
from .keys import AuditKey

_LABEL: Final = b"sessauth/audit-checkpoint/v1\x00"
_NUMBERS: Final = frozenset({"n", "at_ms", "count"})
_FIELDS: Final = _NUMBERS | {"kind", "head", "key", "signature", "chain"}


def signed_message(stream: bytes, n: int, head: bytes, at_ms: int) -> bytes:
    """Return the signed bytes of a checkpoint.

    ``stream`` is the stream's id, 16 bytes; ``n`` the number of lines before the checkpoint; ``head`` the
    chain of the last of them, 32 bytes; ``at_ms`` the time, in ms since 1970.
    """
    return _LABEL + stream + n.to_bytes(8, "big") + head + at_ms.to_bytes(8, "big")


def checkpoint_body(key: AuditKey, stream: bytes, n: int, head: bytes, at_ms: int) -> bytes:
    """Return the body of a signed checkpoint; the arguments are those of :func:`signed_message`."""
    return layout.body(
        "checkpoint",
        {
            "at_ms": at_ms,
            "head": head.hex(),
            "count": n,
            "key": key.key_id.hex(),
            "signature": key.sign(signed_message(stream, n, head, at_ms)).hex(),
        },
    )


def checkpoint_fault(
    record: Mapping[str, Any], stream: bytes, n: int, head: bytes, keys: Mapping[bytes, bytes]
) -> str:
    """Return the fault of a checkpoint, "" if it is valid.

    ``n`` and ``head`` are those of the lines before it; ``keys`` are the public keys by id.
    """
    kinds = {name: int if name in _NUMBERS else str for name in _FIELDS}
    if {name: type(value) for name, value in record.items()} != kinds:
        return "it has not the fields of a checkpoint"
    try:
        key_id, signature = bytes.fromhex(record["key"]), bytes.fromhex(record["signature"])
    except ValueError:
        return "its key or its signature is no hex"
    if record["count"] != n:
        return f"it counts {record['count']} lines before it, there are {n}"
    if record["head"] != head.hex():
        return "it was made for other lines than those before it"
    if not 0 <= record["at_ms"] < 1 << 63:
        return "its time is none"
    public_key = keys.get(key_id)
    if public_key is None:
        return f"it names the key {key_id.hex()}, which is not trusted"
    if not kernel.verify(public_key, signed_message(stream, n, head, record["at_ms"]), signature):
        return "its signature is wrong"
    return ""
