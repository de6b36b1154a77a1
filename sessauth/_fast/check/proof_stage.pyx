"""Stage ``proof``: the holder of a bound token made this request, at this host and time.

An Ed25519 proof costs a verification. X25519 agrees on the key of a token's MACs once. It is stored with the chain,
so every later MAC costs two hashes. The nonce is consumed last, once all else allows: a call that is denied for
another reason consumes nothing (docs/token-format.md, section 9.9).
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

cdef extern from * nogil:
    """
    #include <stdint.h>
    /* Locked for the time of a copy. After a few attempts the caller continues without the lock. */
    static int sessauth_take(uint32_t *lock) {
        for (int turn = 0; turn < 64; turn++)
            if (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE) == 0)
                return 1;
        return 0;
    }
    static void sessauth_give(uint32_t *lock) { __atomic_store_n(lock, 0, __ATOMIC_RELEASE); }
    """
    bint take "sessauth_take"(uint32_t *lock)
    void give "sessauth_give"(uint32_t *lock)


# Verify the proof for a chain with a bound last block, except the nonce. False: the outcome is a denial.
cdef bint judge_proof(Chain chain, const CheckInput *input, CheckOutcome *out) noexcept nogil:
    cdef int reason
    if input.skip_proof:
        return True
    if input.proof.n == 0:
        reason = PROOF_REQUIRED
    elif input.proofs == NULL:
        reason = PROOF_UNAVAILABLE
    else:
        reason = _judge(chain, <ProofKeys> input.proofs, input)
    return reason == ALLOWED or deny_block(out, STAGE_PROOF, reason, chain.block_count - 1)


cdef int _judge(Chain chain, ProofKeys proofs, const CheckInput *input) noexcept nogil:
    cdef Proof proof
    cdef const VerifierKey *key
    cdef Block *block = &chain.blocks[chain.block_count - 1]
    # The library expects the signature before the message; a MAC has none.
    cdef unsigned char covered[SIGNATURE_BYTES + COVERED_BYTES]
    cdef unsigned char digest[32]
    cdef unsigned char tag[32]
    cdef unsigned char mac_key[32]
    if proofs.table == NULL or not _any_counts(proofs, input.now_ms):
        return PROOF_UNAVAILABLE
    if not parse_proof(input.proof.p, input.proof.n, &proof) or memcmp(proof.verifier_id, proofs.verifier, 16) != 0:
        return BAD_PROOF
    key = _key_of(proofs, proof.key_id, input.now_ms)
    if key == NULL or (proof.kind == PROOF_MAC and not block.proof_key):
        return BAD_PROOF
    if (
        proof.time_ms + PROOF_WINDOW_MS < input.now_ms
        or proof.time_ms > input.now_ms + PROOF_WINDOW_MS
        or proof.time_ms < proofs.table.made_at_ms
    ):
        return STALE_PROOF
    digest_request(
        digest,
        input.action.p, input.action.n,
        input.resource.p, input.resource.n,
        input.arguments.p, input.arguments.n,
    )
    put_covered_bytes(
        covered + SIGNATURE_BYTES, proof.kind, chain.base + block.signature, proof.verifier_id, proof.key_id, digest,
        proof.time_ms, proof.nonce,
    )
    if proof.kind == PROOF_ED25519:
        memcpy(covered, proof.tag, SIGNATURE_BYTES)
        return ALLOWED if verify_signed(covered, SIGNATURE_BYTES + COVERED_BYTES, chain.base + block.next_key) else BAD_PROOF
    if not _mac_key(chain, block, proofs, key, mac_key):
        return BAD_PROOF
    blake2b_mac(tag, mac_key, covered + SIGNATURE_BYTES, COVERED_BYTES)
    return ALLOWED if _same_tag(tag, proof.tag) else BAD_PROOF


cdef bint insert_nonce(Chain chain, const CheckInput *input, CheckOutcome *out) noexcept nogil:
    """Consume the nonce of a verified proof, unless `keep_nonce` is set."""
    cdef Proof proof
    cdef Block *block = &chain.blocks[chain.block_count - 1]
    cdef int reason = PROOF_UNAVAILABLE
    if block.ending != ENDING_BOUND or input.keep_nonce or input.skip_proof:
        return True
    if input.proofs != NULL and parse_proof(input.proof.p, input.proof.n, &proof):
        reason = table_insert(
            (<ProofKeys> input.proofs).table,
            chain.base + block.signature,
            proof.nonce,
            chain.base + block.next_key,
            proof.time_ms,
            input.now_ms,
        )
    return reason == ALLOWED or deny_block(out, STAGE_PROOF, reason, chain.block_count - 1)


# True if verifying the proof probably needs a public-key operation.
cdef bint proof_is_costly(Chain chain, const CheckInput *input) noexcept nogil:
    # An estimate without cost. A new host key also needs an agreement, once a token.
    if input.proof.n < 2:
        return False
    return input.proof.p[1] == PROOF_ED25519 or (chain.mac_keys != NULL and chain.mac_keys.next == 0)


cdef inline bint _counts(const VerifierKey *key, uint64_t now_ms) noexcept nogil:
    return key.not_before_ms <= now_ms < key.expires_at_ms


cdef bint _any_counts(ProofKeys proofs, uint64_t now_ms) noexcept nogil:
    cdef int i
    for i in range(proofs.count):
        if _counts(&proofs.keys[i], now_ms):
            return True
    return False


cdef const VerifierKey *_key_of(ProofKeys proofs, bytes_t key_id, uint64_t now_ms) noexcept nogil:
    """Return the host's key of an id if it is valid now, or NULL."""
    cdef int i
    for i in range(proofs.count):
        if memcmp(proofs.keys[i].id, key_id, 32) == 0 and _counts(&proofs.keys[i], now_ms):
            return &proofs.keys[i]
    return NULL


cdef bint _same_tag(const unsigned char *a, const unsigned char *b) noexcept nogil:
    """Compare tags in constant time."""
    cdef unsigned char difference = 0
    cdef int i
    for i in range(32):
        difference |= a[i] ^ b[i]
    return difference == 0


cdef bint _mac_key(
    Chain chain, const Block *block, ProofKeys proofs, const VerifierKey *key, unsigned char *out
) noexcept nogil:
    """Return the key of a chain's MACs under a host key: the stored one, or a new agreement. 0: none."""
    cdef MacKeys *stored = chain.mac_keys
    cdef unsigned char name[NAME_BYTES]
    cdef unsigned char shared[32]
    cdef int i
    memcpy(name, proofs.verifier, 16)
    memcpy(name + 16, key.id, 32)
    if take(&stored.lock):
        for i in range(2):
            if memcmp(stored.names[i], name, NAME_BYTES) == 0:
                memcpy(out, stored.keys[i], 32)
                give(&stored.lock)
                return True
        give(&stored.lock)
    if not agree(shared, key.secret, chain.base + block.proof_key):
        return False
    put_mac_key(
        out, shared, chain.base + block.proof_key, key.public, chain.base + block.next_key, proofs.verifier, key.id
    )
    if take(&stored.lock):
        # Replace the older of the two: a host has two keys at most, and a new one replaces an expired one.
        i = stored.next & 1
        stored.next += 1
        memcpy(stored.names[i], name, NAME_BYTES)
        memcpy(stored.keys[i], out, 32)
        give(&stored.lock)
    return True
