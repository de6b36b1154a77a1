"""Proofs that a holder has a bound token's secret, for one request (docs/token-format.md, 8.1 and 9.9)."""

from libc.stdint cimport uint64_t

from sessauth._fast.base.text cimport bytes_t
from sessauth._fast.nonces.table cimport ReplayTable, Table

cdef enum:
    PROOF_ED25519 = 1
    PROOF_MAC = 2

cdef enum:
    SIGNATURE_BYTES = 64
    # Label, kind, the last signature, verifier id, key id, request digest, time, nonce.
    COVERED_BYTES = 18 + 1 + 64 + 16 + 32 + 32 + 8 + 16
    # Verifier id and key id.
    NAME_BYTES = 48
    MAX_VERIFIER_KEYS = 2

# A proof's parts, in the bytes that it was read from. `tag` has the length of its kind.
cdef struct Proof:
    int kind
    bytes_t verifier_id
    bytes_t key_id
    uint64_t time_ms
    bytes_t nonce
    bytes_t tag

# A key of a host. Its id is the digest of `public`.
cdef struct VerifierKey:
    unsigned char id[32]
    unsigned char public[32]
    unsigned char secret[32]
    uint64_t not_before_ms
    uint64_t expires_at_ms

cdef class ProofKeys:
    cdef unsigned char verifier[16]
    cdef VerifierKey keys[MAX_VERIFIER_KEYS]
    cdef int count
    cdef ReplayTable _table
    # The struct in `_table`; NULL: none.
    cdef Table *table

# 1 for a Proof in canonical encoding with parts of the right lengths.
cdef bint parse_proof(bytes_t p, size_t n, Proof *out) noexcept nogil
# BLAKE2b-256 over the parts of a request that its holder knows.
cdef void digest_request(
    unsigned char *out, bytes_t action, size_t action_n, bytes_t resource, size_t resource_n, bytes_t arguments, size_t n
) noexcept nogil
# Write the bytes that a proof covers, COVERED_BYTES.
cdef void put_covered_bytes(
    unsigned char *out,
    int kind,
    bytes_t signature,
    bytes_t verifier_id,
    bytes_t key_id,
    bytes_t digest,
    uint64_t time_ms,
    bytes_t nonce,
) noexcept nogil
# Derive the key of MACs, 32 bytes, from X25519's shared secret.
cdef void put_mac_key(
    unsigned char *out,
    bytes_t shared,
    bytes_t proof_key,
    bytes_t verifier_key,
    bytes_t next_key,
    bytes_t verifier_id,
    bytes_t key_id,
) noexcept nogil
