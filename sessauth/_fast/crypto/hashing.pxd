"""X25519, keyed BLAKE2b and SipHash of libsodium, callable without the GIL."""

from libc.stdint cimport uint64_t

# BLAKE2b-256 under a key of 32 bytes.
cdef void blake2b_mac(unsigned char *out, const unsigned char *key, const unsigned char *data, size_t n) noexcept nogil
# X25519. 0: the result is zero, which is not a key.
cdef bint agree(unsigned char *out, const unsigned char *secret, const unsigned char *public) noexcept nogil
cdef void agree_base(unsigned char *out, const unsigned char *secret) noexcept nogil
# SipHash-2-4 under a key of 16 bytes.
cdef uint64_t siphash(const unsigned char *data, size_t n, const unsigned char *key) noexcept nogil
