"""BLAKE2b (RFC 7693) in pieces, callable without the GIL."""

from libc.stdint cimport uint64_t

cdef enum:
    BLOCK_BYTES = 128

cdef struct Blake2b:
    uint64_t h[8]
    # Bytes of compressed blocks.
    uint64_t compressed
    # The last block is compressed at the end, so up to a whole one waits.
    size_t waiting
    size_t digest_bytes
    unsigned char block[BLOCK_BYTES]

# A digest has 1 to 64 bytes, a key at most 64; without a key `key_bytes` is 0.
cdef void blake2b_begin(
    Blake2b *state, size_t digest_bytes, const unsigned char *key, size_t key_bytes
) noexcept nogil
# Compress the block of the key now, so that copies of the state needn't. At least one byte must follow.
cdef void blake2b_compress_key(Blake2b *state) noexcept nogil
cdef void blake2b_add(Blake2b *state, const unsigned char *data, size_t n) noexcept nogil
cdef void blake2b_end(Blake2b *state, unsigned char *out) noexcept nogil
