"""Ed25519 and BLAKE2b of libsodium, callable without the GIL."""

cdef enum:
    SIGNATURE_BYTES = 64
    KEY_BYTES = 32
    DIGEST_BYTES = 32
