"""Signatures, key agreement and hashes of libsodium, callable without the GIL."""

from libc.stdint cimport uint64_t


cdef enum:
    SIGNATURE_BYTES = 64
    KEY_BYTES = 32
    DIGEST_BYTES = 32


# X25519, keyed and piecewise BLAKE2b, and SipHash of libsodium, callable without the GIL.

cdef enum:
    # A BLAKE2b state, and the padding that aligns it.
    HASH_ROOM = 384 + 64

cdef struct Hashing:
    unsigned char room[HASH_ROOM]

# Incremental BLAKE2b-256.
cdef void hash_begin(Hashing *hashing) noexcept nogil
cdef void hash_add(Hashing *hashing, const unsigned char *data, size_t n) noexcept nogil
cdef void hash_end(Hashing *hashing, unsigned char *out) noexcept nogil
# BLAKE2b-128 under a key of 32 bytes.
cdef void blake2b_16(unsigned char *out, const unsigned char *key, const unsigned char *data, size_t n) noexcept nogil
# SipHash-2-4 under a key of 16 bytes.
cdef uint64_t siphash(const unsigned char *data, size_t n, const unsigned char *key) noexcept nogil
