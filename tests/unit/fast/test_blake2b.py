"""BLAKE2b of the kernel, against that of the standard library."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessauth._fast.crypto.blake2b import blake2b

_DATA = random.Random(7).randbytes(1 << 20)


@pytest.mark.parametrize("key", [b"", b"k", bytes(range(32)), bytes(range(64))])
def test_it_agrees_at_every_length(key: bytes) -> None:
    """Digests of 0 to 5 blocks of data are those of the standard library."""
    for n in range(5 * 128 + 2):
        digest_bytes = 1 + n % 64
        model = hashlib.blake2b(_DATA[:n], digest_size=digest_bytes, key=key).digest()
        assert blake2b(_DATA[:n], digest_bytes=digest_bytes, key=key) == model, n


def test_it_agrees_on_long_data() -> None:
    """A megabyte is hashed as by the standard library."""
    assert blake2b(_DATA) == hashlib.blake2b(_DATA, digest_size=32).digest()


@given(st.lists(st.integers(0, 300), max_size=8), st.binary(max_size=64))
def test_pieces_make_no_difference(sizes: list[int], key: bytes) -> None:
    """The digest of parts is that of the parts joined."""
    parts = [_DATA[i : i + n] for i, n in enumerate(sizes)]
    assert blake2b(*parts, key=key) == hashlib.blake2b(b"".join(parts), digest_size=32, key=key).digest()


def test_sizes_out_of_range_are_refused() -> None:
    """A digest has 1 to 64 bytes, a key at most 64."""
    for digest_bytes in (-1, 0, 65):
        with pytest.raises(ValueError, match="1 to 64"):
            blake2b(b"", digest_bytes=digest_bytes)
    with pytest.raises(ValueError, match="at most 64"):
        blake2b(b"", key=bytes(65))
    with pytest.raises(TypeError):
        blake2b("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        blake2b(None)  # type: ignore[arg-type]
