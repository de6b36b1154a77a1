"""The only caller of the signature library.

First come Ed25519 and BLAKE2b-256, then X25519, keyed and incremental BLAKE2b, and SipHash. libsodium comes with
PyNaCl. Its functions are called through the addresses that cffi exposes, so the build needs no header and no second
copy of the library is loaded. The predicate of docs/token-format.md, section 3.3, is libsodium's own. Known answers are
checked at import.

No function takes a public key beside a secret: with a mismatched pair a signer leaks its secret
(RUSTSEC-2022-0093).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t, uintptr_t
from libc.string cimport memcmp, memcpy, memset
from nacl._sodium import ffi, lib


# Importing this calls sodium_init(), without which libsodium stays on its slow reference code.
from nacl.bindings import randombytes

ctypedef int (*sign_open_t)(
    unsigned char *, unsigned long long *, const unsigned char *, unsigned long long, const unsigned char *
) noexcept nogil
ctypedef int (*sign_t)(
    unsigned char *, unsigned long long *, const unsigned char *, unsigned long long, const unsigned char *
) noexcept nogil
ctypedef int (*seed_keypair_t)(unsigned char *, unsigned char *, const unsigned char *) noexcept nogil
ctypedef int (*blake2b_t)(
    unsigned char *,
    size_t,
    const unsigned char *,
    unsigned long long,
    const unsigned char *,
    size_t,
    const unsigned char *,
    const unsigned char *,
) noexcept nogil


cdef uintptr_t _address(str name) except? 0:
    return int(ffi.cast("uintptr_t", ffi.addressof(lib, name)))


cdef sign_open_t _sign_open = <sign_open_t> <uintptr_t> _address("crypto_sign_open")
cdef sign_t _sign = <sign_t> <uintptr_t> _address("crypto_sign")
cdef seed_keypair_t _seed_keypair = <seed_keypair_t> <uintptr_t> _address("crypto_sign_seed_keypair")
cdef blake2b_t _blake2b = <blake2b_t> <uintptr_t> _address("crypto_generichash_blake2b_salt_personal")

# The y coordinates of the points of small order in every encoding, the sign bit cleared.
_SMALL_ORDER = (
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
)
cdef unsigned char _small_order[7][32]
for _i, _point in enumerate(_SMALL_ORDER):
    for _j, _byte in enumerate(bytes.fromhex(_point)):
        _small_order[_i][_j] = _byte


# `signed` is signature ‖ message, `n` its length. 1: right.
cdef bint verify_signed(const unsigned char *signed, size_t n, const unsigned char *public_key) noexcept nogil:
    cdef unsigned long long length = 0
    # With a null first argument libsodium verifies without a copy of the message.
    return n >= SIGNATURE_BYTES and _sign_open(NULL, &length, signed, n, public_key) == 0


cdef bint acceptable(const unsigned char *public_key) noexcept nogil:
    cdef unsigned char y[32]
    cdef int i
    memcpy(y, public_key, 32)
    y[31] &= 0x7F
    if y[31] == 0x7F and y[0] >= 0xED:
        for i in range(1, 31):
            if y[i] != 0xFF:
                break
        else:
            return 0
    for i in range(7):
        if memcmp(y, _small_order[i], 32) == 0:
            return 0
    return 1


cdef void blake2b_256(unsigned char *out, const unsigned char *data, size_t n) noexcept nogil:
    _blake2b(out, DIGEST_BYTES, data, n, NULL, 0, NULL, NULL)


def verify(bytes public_key not None, bytes message not None, bytes signature not None):
    """Return True if a signature (64 bytes) of a message is valid under a public key (32 bytes).

    Other lengths are invalid. Verifies without the GIL.
    """
    if PyBytes_GET_SIZE(public_key) != KEY_BYTES or PyBytes_GET_SIZE(signature) != SIGNATURE_BYTES:
        return False
    cdef bytes signed = signature + message
    cdef const unsigned char *data = <const unsigned char *> PyBytes_AS_STRING(signed)
    cdef const unsigned char *key = <const unsigned char *> PyBytes_AS_STRING(public_key)
    cdef size_t n = PyBytes_GET_SIZE(signed)
    cdef bint right
    with nogil:
        right = verify_signed(data, n, key)
    return right


cdef class SecretKey:
    """The key of a seed (32 bytes), with the public key that is derived from it once: half of a signature's time.

    Raises ValueError for a seed of another length.
    """

    cdef unsigned char _pair[64]

    def __cinit__(self, bytes seed not None):
        cdef unsigned char public[32]
        if PyBytes_GET_SIZE(seed) != KEY_BYTES:
            raise ValueError("a seed has 32 bytes")
        _seed_keypair(public, self._pair, <const unsigned char *> PyBytes_AS_STRING(seed))

    @property
    def public_key(self):
        """The public key, 32 bytes."""
        return PyBytes_FromStringAndSize(<char *> self._pair + KEY_BYTES, KEY_BYTES)

    def sign(self, bytes message not None):
        """Return the signature (64 bytes) of a message."""
        cdef unsigned long long length = 0
        cdef bytes signed = PyBytes_FromStringAndSize(NULL, SIGNATURE_BYTES + PyBytes_GET_SIZE(message))
        _sign(
            <unsigned char *> PyBytes_AS_STRING(signed),
            &length,
            <const unsigned char *> PyBytes_AS_STRING(message),
            PyBytes_GET_SIZE(message),
            self._pair,
        )
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(signed), SIGNATURE_BYTES)

    def __reduce__(self):
        """Refuse to be pickled or copied."""
        raise TypeError("a SecretKey is not pickled")


def sign(bytes seed not None, bytes message not None):
    """Return the signature (64 bytes) of a message under the key of a seed (32 bytes).

    The public key is derived from the seed. Raises ValueError for a seed of another length.
    """
    return SecretKey(seed).sign(message)


def public_key(bytes seed not None):
    """Return the public key (32 bytes) of a seed (32 bytes); ValueError for another length."""
    return SecretKey(seed).public_key


def generate_seed():
    """Return a fresh seed (32 bytes) from the system's random source."""
    return randombytes(KEY_BYTES)


def digest(bytes data not None):
    """Return the BLAKE2b-256 (RFC 7693, no key) of data, 32 bytes."""
    cdef unsigned char out[32]
    blake2b_256(out, <const unsigned char *> PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return PyBytes_FromStringAndSize(<char *> out, DIGEST_BYTES)


def acceptable_key(bytes key not None):
    """Return True for a key of 32 bytes that is canonical and not of small order."""
    return PyBytes_GET_SIZE(key) == KEY_BYTES and acceptable(<const unsigned char *> PyBytes_AS_STRING(key))


def _test_signatures():
    # RFC 8032, section 7.1, test 2; and the identity point, under which a lax library accepts one signature for every
    # message.
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    key = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    identity = bytes([1]) + bytes(31)
    right = (
        public_key(seed) == key
        and verify(key, b"\x72", sign(seed, b"\x72"))
        and not verify(key, b"\x73", sign(seed, b"\x72"))
        and not verify(identity, b"any", identity + bytes(32))
        and digest(b"")[:4].hex() == "0e5751c0"
    )
    if not right:
        raise ImportError("libsodium, as PyNaCl loaded it, gives wrong answers: reinstall pynacl")


_test_signatures()


# Key agreement, and keyed and incremental hashes.

# Without it libsodium stays on its slow reference code.
from nacl.bindings import sodium_init

ctypedef int (*scalarmult_t)(unsigned char *, const unsigned char *, const unsigned char *) noexcept nogil
ctypedef int (*scalarmult_base_t)(unsigned char *, const unsigned char *) noexcept nogil
ctypedef int (*blake2b_init_t)(
    void *, const unsigned char *, size_t, size_t, const unsigned char *, const unsigned char *
) noexcept nogil
ctypedef int (*blake2b_update_t)(void *, const unsigned char *, unsigned long long) noexcept nogil
ctypedef int (*blake2b_final_t)(void *, unsigned char *, size_t) noexcept nogil
ctypedef int (*siphash_t)(
    unsigned char *, const unsigned char *, unsigned long long, const unsigned char *
) noexcept nogil

cdef scalarmult_t _scalarmult = <scalarmult_t> _address("crypto_scalarmult")
cdef scalarmult_base_t _scalarmult_base = <scalarmult_base_t> _address("crypto_scalarmult_base")
cdef blake2b_init_t _init = <blake2b_init_t> _address("crypto_generichash_blake2b_init_salt_personal")
cdef blake2b_update_t _update = <blake2b_update_t> _address("crypto_generichash_blake2b_update")
cdef blake2b_final_t _final = <blake2b_final_t> _address("crypto_generichash_blake2b_final")
cdef siphash_t _siphash = <siphash_t> _address("crypto_shorthash_siphash24")


cdef inline void *_state(Hashing *hashing) noexcept nogil:
    """Return the aligned state, at a multiple of 64."""
    return <void *> ((<uintptr_t> hashing.room + 63) & ~(<uintptr_t> 63))


cdef void hash_begin(Hashing *hashing) noexcept nogil:
    _init(_state(hashing), NULL, 0, 32, NULL, NULL)


cdef void hash_add(Hashing *hashing, const unsigned char *data, size_t n) noexcept nogil:
    _update(_state(hashing), data, n)


cdef void hash_end(Hashing *hashing, unsigned char *out) noexcept nogil:
    _final(_state(hashing), out, 32)


# BLAKE2b-256 under a key of 32 bytes.
cdef void blake2b_mac(unsigned char *out, const unsigned char *key, const unsigned char *data, size_t n) noexcept nogil:
    _blake2b(out, 32, data, n, key, 32, NULL, NULL)


cdef void blake2b_16(unsigned char *out, const unsigned char *key, const unsigned char *data, size_t n) noexcept nogil:
    _blake2b(out, 16, data, n, key, 32, NULL, NULL)


# X25519. 0: the result is zero, which is not a key.
cdef bint agree(unsigned char *out, const unsigned char *secret, const unsigned char *public) noexcept nogil:
    cdef unsigned char any_bit = 0
    cdef int i
    if _scalarmult(out, secret, public) != 0:
        memset(out, 0, 32)
        return False
    # The library checks this too. An attacker can choose the key, so it is checked again.
    for i in range(32):
        any_bit |= out[i]
    return any_bit != 0


cdef void agree_base(unsigned char *out, const unsigned char *secret) noexcept nogil:
    _scalarmult_base(out, secret)


cdef uint64_t siphash(const unsigned char *data, size_t n, const unsigned char *key) noexcept nogil:
    cdef uint64_t out = 0
    _siphash(<unsigned char *> &out, data, n, key)
    return out


cdef int _test_hashes() except -1:
    # RFC 7748, section 6.1: the secret that Bob and Alice share, and his public key. BLAKE2b-256 of "abc". The vector of
    # fifteen bytes in the paper on SipHash.
    cdef unsigned char out[32]
    cdef Hashing hashing
    cdef bytes secret = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    cdef bytes public = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    cdef bytes numbers = bytes(range(32))
    right = lib.crypto_generichash_statebytes() == 384 and agree(out, secret, public)
    right = right and out[:4].hex() == "4a5d9d5b"
    agree_base(out, secret)
    right = right and out[:4].hex() == "de9edb7d" and not agree(out, secret, bytes(32))
    hash_begin(&hashing)
    hash_add(&hashing, b"a", 1)
    hash_add(&hashing, b"bc", 2)
    hash_end(&hashing, out)
    right = right and out[:4].hex() == "bddd813c"
    blake2b_mac(out, numbers, b"abc", 3)
    right = right and out[:4].hex() == "d63a32d3"
    if not right or siphash(numbers, 15, numbers) != 0xA129CA6149BE45E5:
        raise ImportError("libsodium, as PyNaCl loaded it, gives wrong answers: reinstall pynacl")
    return 0


sodium_init()
_test_hashes()
