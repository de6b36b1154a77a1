"""The arguments of a call: one form for holder, gateway and approver.

    verifier.check(token, "read", "files/a", {"path": "README.md", "lines": 20})
    encode({"path": "README.md", "lines": 20})                # b'{"lines":20,"path":"README.md"}'

A call's arguments have three forms everywhere. Bytes, the JSON text, are checked as they are; so is the same
text as a str. A mapping is checked in the form of :func:`encode`. Proofs of holders and signatures of
approvers cover these bytes, so all of them need the same ones. See docs/token-format.md, section 8.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from .._fast import _check as kernel
from .._fast.codec.errors import FormError
from ..errors import UsageError

Arguments: TypeAlias = bytes | str | Mapping[str, Any]
"""A JSON object as bytes or as a str, or its values.

Values are str, bool, None, int, float, Decimal, lists, tuples and mappings.
"""


def encode(arguments: Arguments) -> bytes:
    """Return the bytes of ``arguments`` that are checked, proven and signed.

    Bytes are returned as they are and a str as UTF-8; neither is read. A mapping is written in the canonical
    form: an int in decimal, a float as ECMAScript writes it, a Decimal with all its digits.

    Raises:
        UsageError: for values that JSON can't say (NaN, an infinity, a lone surrogate) or that are beyond the
            limits of a request's JSON. ``check`` raises nothing for these, which agents choose: it denies.
        TypeError: for another type, also of a value or of a member's name.
    """
    try:
        return kernel.encode_arguments(arguments)
    except FormError as error:
        raise UsageError(f"arguments: {error}") from None


def canonical(arguments: Arguments) -> bytes:
    """Return the canonical form of ``arguments``, JSON included.

    Members are sorted, white space is removed, escapes are as short as they can be, and a number keeps its
    spelling. It is for gateways that forward parsed values, where the client's bytes are lost: holder,
    gateway and approver then each take the canonical form. It is checked like the JSON that it is made of.
    Raises UsageError for JSON that a check would deny as malformed, and as :func:`encode`; TypeError as
    :func:`encode`.
    """
    try:
        return kernel.canonical(arguments)
    except FormError as error:
        raise UsageError(f"arguments: {error}") from None


def text_bytes(value: str | bytes) -> bytes:
    """Return a token, proof, action or resource as bytes.

    A lone surrogate, which an agent may send, is no UTF-8. It is encoded too, so that a check denies it.
    """
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
