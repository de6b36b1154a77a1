"""Proofs that a holder has a bound token's secret, for one request (docs/token-format.md, 8.1 and 9.9)."""

from libc.stdint cimport uint64_t

cdef enum:
    PROOF_ED25519 = 1
    PROOF_MAC = 2

cdef enum:
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
