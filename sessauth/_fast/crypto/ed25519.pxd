"""Ed25519 and BLAKE2b of libsodium, callable without the GIL."""

cdef enum:
    SIGNATURE_BYTES = 64
    KEY_BYTES = 32
    DIGEST_BYTES = 32

# `signed` is signature ‖ message, `n` its length. 1: right.
cdef bint verify_signed(const unsigned char *signed, size_t n, const unsigned char *public_key) noexcept nogil
cdef bint acceptable(const unsigned char *public_key) noexcept nogil
cdef void blake2b_256(unsigned char *out, const unsigned char *data, size_t n) noexcept nogil
