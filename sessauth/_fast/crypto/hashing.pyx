"""Key agreement and keyed hashes of libsodium.

Called as in ``ed25519``, through the addresses that PyNaCl's cffi exposes. Known answers are checked at import.
"""

from libc.stdint cimport uint64_t, uintptr_t
from libc.string cimport memset

from nacl._sodium import lib

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
