"""The signature predicate at its edges; the shared vectors are judged elsewhere."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from sessauth._fast import _check as kernel
from tests.support.token_forger import key

_L = 2**252 + 27742317777372353535851937790883648493
_P = 2**255 - 19
MESSAGE = b"a message"


def test_it_signs_as_another_library_does() -> None:
    """Key and signature of a seed equal those that PyNaCl makes."""
    for number in range(20):
        seed = number.to_bytes(32, "little")
        public, secret = crypto_sign_seed_keypair(seed)
        assert kernel.public_key(seed) == public
        signature = kernel.sign(seed, MESSAGE)
        assert signature == crypto_sign(MESSAGE, secret)[:64]
        key_of_seed = kernel.SecretKey(seed)
        assert key_of_seed.public_key == public
        assert key_of_seed.sign(MESSAGE) == signature
        assert kernel.verify(public, MESSAGE, signature)


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_secret_key_is_made_of_a_seed_alone(size: int) -> None:
    """A pair of 64 bytes is refused: with another public key in it a signature would tell the secret."""
    with pytest.raises(ValueError, match="a seed has 32 bytes"):
        kernel.SecretKey(bytes(size))


@pytest.mark.parametrize("leak", [copy.copy, copy.deepcopy, pickle.dumps], ids=lambda leak: leak.__name__)
def test_a_secret_key_is_not_copied(leak: Callable[[object], object]) -> None:
    """It leaves the process by no pickle."""
    with pytest.raises(TypeError, match="not pickled"):
        leak(kernel.SecretKey(bytes(32)))


def test_every_bit_matters() -> None:
    """A flipped bit anywhere in key, message or signature makes it wrong."""
    pair = key("bits")
    parts = [pair.public, MESSAGE, pair.sign(MESSAGE)]
    assert kernel.verify(*parts)
    for index, part in enumerate(parts):
        for bit in range(8 * len(part)):
            flipped = bytearray(part)
            flipped[bit // 8] ^= 1 << bit % 8
            changed = [*parts[:index], bytes(flipped), *parts[index + 1 :]]
            assert not kernel.verify(*changed), (index, bit)


@pytest.mark.parametrize("y", [0, 1, _P - 1, _P, _P + 1, _P + 2, _P + 18, 2**255 - 1])
@pytest.mark.parametrize("sign", [0, 1])
def test_points_that_are_refused(y: int, sign: int) -> None:
    """Small-order and not canonical points are no keys and no R, whatever is signed."""
    point = (y | sign << 255).to_bytes(32, "little")
    for scalar in (0, 1, _L - 1):
        assert not kernel.verify(point, MESSAGE, point + scalar.to_bytes(32, "little"))
        assert not kernel.verify(key("any").public, MESSAGE, point + scalar.to_bytes(32, "little"))
    assert not kernel.acceptable_key(point)


def test_lengths() -> None:
    """Keys, signatures and seeds of other lengths are wrong, or refused where one signs."""
    pair = key("lengths")
    signature = pair.sign(MESSAGE)
    for n in (0, 31, 33, 64):
        assert not kernel.verify(bytes(n), MESSAGE, signature)
        assert not kernel.acceptable_key(bytes([2]) * n)
        with pytest.raises(ValueError, match="32 bytes"):
            kernel.sign(bytes(n), MESSAGE)
        with pytest.raises(ValueError, match="32 bytes"):
            kernel.public_key(bytes(n))
    for n in (0, 63, 65, 128):
        assert not kernel.verify(pair.public, MESSAGE, (signature * 2)[:n])
    assert kernel.acceptable_key(pair.public)
    assert len({kernel.generate_seed() for _ in range(50)}) == 50
